/**
 * The certificate authorities: made once, then only read.
 *
 * A CA is never made again while something signed by it exists: hosts and people trust the one that they know.
 * An organisation's own CA can be used by placing its certificate and key in the folder before the first run.
 */
import { createPrivateKey } from 'node:crypto';
import path from 'node:path';
import type { Cluster } from '../types/cluster.js';
import { environmentError, type K8sAnsError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import type { Ledger } from './ledger.js';
import { AUTHORITY_FILES, type AuthorityName, certificatePlan } from './plan.js';
import { listCertificates, pairFiles, readPair, writePair } from './store.js';
import { type Authority, authorityFrom, generatePrivateKey, issueAuthority, readCertificate } from './x509.js';

/** Where a copy of each CA certificate lies on the hosts; said when the one on this machine is lost. */
const HOST_COPY: Readonly<Record<AuthorityName, string>> = {
  kubernetes: '/etc/kubernetes/cert/ca.crt on every host',
  etcd: '/etc/etcd/cert/ca.crt on every etcd member',
  'front-proxy': '/etc/kubernetes/cert/front-proxy-ca.crt on every master',
};

/** The common name of the first CA that this project makes; those of its rotations end in `-2`, `-3`, and so on. */
export function authorityCommonName(name: AuthorityName): string {
  return `${name}-ca`;
}

/** True for the common name of a CA that this project made under this name. */
export function isAuthorityCommonName(name: AuthorityName, commonName: string): boolean {
  const own = authorityCommonName(name);
  return commonName === own || (commonName.startsWith(`${own}-`) && /^\d+$/.test(commonName.slice(own.length + 1)));
}

/**
 * Reads the pair at `base` as a CA.
 *
 * @throws K8sAnsError `pki-ca-unusable` when it is not whole or cannot sign
 */
export async function readAuthority(
  home: ClusterHome,
  name: AuthorityName,
  base: string,
  now: Date,
): Promise<Authority> {
  const { certificate, key } = await readPair(home, base);
  if (certificate === undefined || key === undefined) {
    throw unusable(home, `${base}.${key === undefined ? 'key' : 'crt'}`, name, 'this file of it is missing');
  }
  return usable(home, name, base, certificate, key, now);
}

/**
 * Reads the authority, or makes it if nothing of it exists.
 *
 * @throws K8sAnsError `pki-ca-lost` when its key or certificate is missing beside certificates that it signed;
 *   `pki-ca-unusable` when what is there cannot sign.
 */
export async function ensureAuthority(
  cluster: Cluster,
  home: ClusterHome,
  name: AuthorityName,
  ledger: Ledger,
  now: Date,
): Promise<Authority> {
  const base = AUTHORITY_FILES[name];
  const [certificateFile, keyFile] = pairFiles(base);
  const stored = await readPair(home, base);
  if (stored.certificate !== undefined && stored.key !== undefined) {
    const authority = usable(home, name, base, stored.certificate, stored.key, now);
    ledger.kept(certificateFile, keyFile);
    return authority;
  }
  // The key is written before the certificate, so a certificate alone is never the trace of an interrupted run.
  if (stored.certificate !== undefined) throw lost(home, name, 'key', 'its certificate exists');
  const signedByIt = await firstSignedBy(cluster, home, name);
  if (signedByIt !== undefined) {
    throw lost(home, name, stored.key === undefined ? 'key' : 'certificate', `pki/${signedByIt}.crt was signed by it`);
  }

  const key = stored.key ?? (await generatePrivateKey(cluster.pki.keyBits));
  let certificate: string;
  try {
    certificate = issueAuthority(
      rsaKey(key),
      { commonName: authorityCommonName(name), unit: cluster.name },
      { now, days: cluster.pki.caDays },
    );
  } catch {
    // The cause is left out: nothing about a key belongs into a message.
    throw unusable(home, `${base}.key`, name, 'its key is not an RSA private key in PEM');
  }
  await writePair(home, base, { certificate, key });
  ledger.created(certificateFile);
  if (stored.key === undefined) ledger.created(keyFile);
  else ledger.kept(keyFile);
  return authorityFrom(certificate, key);
}

function rsaKey(pem: string): ReturnType<typeof createPrivateKey> {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== 'rsa') throw new Error('not RSA');
  return key;
}

function usable(
  home: ClusterHome,
  name: AuthorityName,
  base: string,
  certificate: string,
  key: string,
  now: Date,
): Authority {
  let authority: Authority;
  try {
    authority = authorityFrom(certificate, key);
  } catch {
    throw unusable(home, base, name, 'its certificate or key cannot be read as PEM');
  }
  if (authority.key.asymmetricKeyType !== 'rsa') throw unusable(home, `${base}.key`, name, 'its key is not RSA');
  if (!authority.x509.checkPrivateKey(authority.key)) {
    throw unusable(home, base, name, 'its key does not belong to its certificate');
  }
  if (!authority.x509.ca) throw unusable(home, `${base}.crt`, name, 'its certificate is not that of a CA');
  if (new Date(authority.x509.validTo) <= now) {
    throw unusable(home, `${base}.crt`, name, `its certificate expired on ${authority.x509.validTo}`);
  }
  return authority;
}

/** A certificate in the folder that the authority of this name signed, also of hosts no longer in the spec. */
async function firstSignedBy(cluster: Cluster, home: ClusterHome, name: AuthorityName): Promise<string | undefined> {
  const own = new Set<string>(Object.values(AUTHORITY_FILES));
  const planned = new Map(certificatePlan(cluster).map((request) => [request.path, request.issuer]));
  for (const base of await listCertificates(home)) {
    if (own.has(base)) continue;
    // By the plan first: an organisation's own CA has another common name than ours.
    if (planned.get(base) === name) return base;
    const { certificate } = await readPair(home, base);
    try {
      if (certificate && isAuthorityCommonName(name, readCertificate(certificate).issuerCommonName)) return base;
    } catch {
      // Unreadable: it is issued again, whoever signed it.
    }
  }
  return undefined;
}

function lost(home: ClusterHome, name: AuthorityName, part: 'key' | 'certificate', proof: string): K8sAnsError {
  const base = AUTHORITY_FILES[name];
  const file = path.join(home.pki, `${base}.${part === 'key' ? 'key' : 'crt'}`);
  const remedy =
    part === 'key'
      ? `Put ${file} back from a backup of this folder. Without one, the cluster keeps running until its certificates expire, but none can be issued: move ${home.pki} away and deploy with a new PKI, which every host and client must then be given`
      : `Put ${file} back from a backup or from a host (${HOST_COPY[name]})`;
  return environmentError(`The ${part} of the ${name} CA is missing, although ${proof}. It is not made again.`, {
    code: 'pki-ca-lost',
    where: file,
    next: `${remedy}.`,
  });
}

function unusable(home: ClusterHome, file: string, name: AuthorityName, reason: string): K8sAnsError {
  return environmentError(`The ${name} CA cannot be used: ${reason}.`, {
    code: 'pki-ca-unusable',
    where: path.join(home.pki, file),
    next: 'Put the right files back from a backup of this folder; a CA is never replaced by itself.',
  });
}
