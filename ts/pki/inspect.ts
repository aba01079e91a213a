/** What certificates a cluster has and when they expire. Reads only. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { environmentError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { listCertificates } from './store.js';
import { type CertificateFacts, readCertificate } from './x509.js';

export interface InspectedCertificate extends CertificateFacts {
  /** In the cluster home, e.g. `pki/hosts/k8smaster01/apiserver.crt`. */
  readonly path: string;
  /** Whole days until it expires, rounded down; negative once it has. */
  readonly daysLeft: number;
}

/**
 * Every certificate in the PKI folder, sorted by path; CAs first.
 *
 * @throws K8sAnsError `pki-missing` if there is none, `pki-unreadable` for a file that is no certificate.
 */
export async function inspectPki(home: ClusterHome, now: Date = new Date()): Promise<InspectedCertificate[]> {
  // The bundles hold copies of the CAs.
  const bases = (await listCertificates(home)).filter((base) => !base.startsWith('trust/'));
  if (bases.length === 0) {
    throw environmentError('This cluster has no certificates on this machine yet.', {
      code: 'pki-missing',
      where: home.pki,
      next: 'Run k8s-ans deploy, which makes them, or bring the folder of the machine that did.',
    });
  }
  const certificates = await Promise.all(
    bases.map(async (base): Promise<InspectedCertificate> => {
      const file = path.join(home.pki, `${base}.crt`);
      const pem = await readFile(file, 'utf8');
      try {
        const facts = readCertificate(pem);
        const daysLeft = Math.floor((facts.notAfter.getTime() - now.getTime()) / (24 * 60 * 60 * 1000));
        return { path: `pki/${base}.crt`, ...facts, daysLeft };
      } catch (error) {
        throw environmentError('This file is not a certificate in PEM.', {
          code: 'pki-unreadable',
          where: file,
          next: 'Remove it and deploy again (a leaf certificate is then issued anew), or put it back from a backup.',
          cause: error,
        });
      }
    }),
  );
  return certificates.sort((a, b) => Number(b.isAuthority) - Number(a.isAuthority) || (a.path < b.path ? -1 : 1));
}
