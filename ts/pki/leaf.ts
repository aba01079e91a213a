/** Leaf certificates: kept while they fit the plan, issued again when they do not. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import type { Ledger } from './ledger.js';
import type { CertificateRequest } from './plan.js';
import { pairFiles, readPair, type StoredPair, writePair } from './store.js';
import { type Authority, type CertificateFacts, generatePrivateKey, issueLeaf, readCertificate } from './x509.js';

/** A certificate and its key, PEM. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

/** How a leaf is issued. */
export interface Issuing {
  readonly authority: Authority;
  /** What stands behind the certificate in its file, PEM: see chain.ts. */
  readonly chain?: string | undefined;
  /** Serial number of a certificate that is to be issued again although it fits. */
  readonly renew?: string | undefined;
  readonly now: Date;
  readonly signal?: AbortSignal | undefined;
}

/** The pair for the request: the stored one if it fits, else a new one with a new key. */
export async function ensureLeaf(
  cluster: Cluster,
  home: ClusterHome,
  request: CertificateRequest,
  issuing: Issuing,
  ledger: Ledger,
): Promise<Pair> {
  const { authority, chain = '', renew, now, signal } = issuing;
  const files = pairFiles(request.path);
  const stored = await readPair(home, request.path);
  const fault =
    misfit(stored, request, authority, now) ?? (isSerial(stored, renew) ? 'it was to be renewed' : undefined);
  if (fault === undefined) {
    const { certificate, key } = stored as Pair;
    const whole = firstOf(certificate) + chain;
    if (certificate === whole) {
      ledger.kept(...files);
      return { certificate, key };
    }
    const pair = { certificate: whole, key };
    await writePair(home, request.path, pair);
    ledger.replaced('what leads to its CA changed', files[0]);
    return pair;
  }
  signal?.throwIfAborted();
  const key = await generatePrivateKey(cluster.pki.keyBits);
  signal?.throwIfAborted();
  const validity = { now, days: cluster.pki.certificateDays };
  const pair = { certificate: issueLeaf(authority, createPrivateKey(key), request, validity) + chain, key };
  await writePair(home, request.path, pair);
  if (stored.certificate === undefined && stored.key === undefined) ledger.created(...files);
  else ledger.replaced(fault, ...files);
  return pair;
}

/** The certificate itself, as this project writes it: without what stands behind it. */
function firstOf(pem: string): string {
  return `${/^-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/s.exec(pem)?.[0] ?? pem.trimEnd()}\n`;
}

function isSerial(stored: StoredPair, serial: string | undefined): boolean {
  return serial !== undefined && readCertificate(stored.certificate as string).serial === serial;
}

/** Why the stored pair cannot serve the request; undefined if it can. */
export function misfit(
  stored: StoredPair,
  request: CertificateRequest,
  authority: Authority,
  now: Date,
): string | undefined {
  if (stored.certificate === undefined && stored.key === undefined) return 'missing';
  if (stored.certificate === undefined) return 'its certificate was missing';
  if (stored.key === undefined) return 'its key was missing';
  let facts: CertificateFacts;
  let x509: X509Certificate;
  try {
    facts = readCertificate(stored.certificate);
    x509 = new X509Certificate(stored.certificate);
    if (!x509.checkPrivateKey(createPrivateKey(stored.key))) return 'its key belonged to another certificate';
  } catch {
    return 'its certificate or key could not be read';
  }
  if (!x509.checkIssued(authority.x509) || !x509.verify(authority.x509.publicKey)) {
    return `it was not signed by the ${request.issuer} CA`;
  }
  const changes = [
    facts.commonName !== request.commonName || differ(facts.organizations, request.organizations) ? 'subject' : [],
    differ(facts.dnsNames, request.dnsNames) || differ(facts.addresses, request.addresses) ? 'alternative names' : [],
    differ(facts.usages, request.usages) ? 'usages' : [],
  ].flat();
  if (changes.length > 0) return `its ${changes.join(' and ')} changed`;
  if (facts.notAfter <= now) return `it expired on ${facts.notAfter.toISOString()}`;
  return undefined;
}

function differ(a: ReadonlyArray<string>, b: ReadonlyArray<string>): boolean {
  return [...a].sort().join('\n') !== [...b].sort().join('\n');
}
