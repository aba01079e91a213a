/** The certificates that hosts use, and how long they last. Pure. */
import { X509Certificate } from 'node:crypto';
import type { CertificateStatus } from '../types/status.js';

const DAY_MS = 24 * 60 * 60 * 1000;

/** What is left of a lifetime when its end is near, whatever its length: a certificate of a week is not always near. */
const LAST_PART = 0.2;

/** Reads the certificates of a host; what is no certificate is left out. */
export function readCertificates(
  host: string,
  found: ReadonlyArray<{ readonly file: string; readonly pem: string }>,
  days: number,
  now: Date,
): CertificateStatus[] {
  return found.flatMap(({ file, pem }) => {
    const certificate = parse(pem);
    if (certificate === undefined) return [];
    const notBefore = new Date(certificate.validFrom).getTime();
    const notAfter = new Date(certificate.validTo).getTime();
    const left = (notAfter - now.getTime()) / DAY_MS;
    const soon = Math.min(days, ((notAfter - notBefore) / DAY_MS) * LAST_PART);
    return {
      host,
      file,
      subject: certificate.subject.split('\n').reverse().join(', '),
      notAfter: new Date(notAfter).toISOString(),
      daysLeft: Math.floor(left),
      state: left <= 0 ? 'expired' : left < soon ? 'soon' : 'ok',
    };
  });
}

function parse(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
