/**
 * What hosts trust: `trust/{ca,etcd-ca,front-proxy-ca}.crt`, beside the CAs that sign.
 *
 * Outside a rotation a bundle holds the CA that signs and nothing else. During one it holds the old and the new CA, in
 * that order whichever of them signs, so that its bytes do not change (and nothing restarts) when the new one takes
 * over.
 */
import path from 'node:path';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';
import { AUTHORITY_FILES, type AuthorityName } from './plan.js';
import { readPair } from './store.js';

/** Base path of a CA that is about to sign: trusted already. */
export function nextPath(name: AuthorityName): string {
  return `next/${AUTHORITY_FILES[name]}`;
}

/** Base path of a CA that signs no more: still trusted. */
export function previousPath(name: AuthorityName): string {
  return `previous/${AUTHORITY_FILES[name]}`;
}

/** Base path of a bundle. */
export function trustPath(name: AuthorityName): string {
  return `trust/${AUTHORITY_FILES[name]}`;
}

/** Writes the bundle of the authority, if it is not what it should be, and returns it. */
export async function ensureTrust(
  home: ClusterHome,
  name: AuthorityName,
  certificate: string,
  ledger: Ledger,
): Promise<string> {
  const [previous, next] = await Promise.all([readPair(home, previousPath(name)), readPair(home, nextPath(name))]);
  const members = [previous.certificate, certificate, next.certificate].filter((pem) => pem !== undefined);
  // Killed while the new CA took over, the folder holds one certificate under two names.
  const bundle = [...new Set(members.map((pem) => `${pem.trimEnd()}\n`))].join('');
  const file = `pki/${trustPath(name)}.crt`;
  const stored = await readTextIfExists(path.join(home.root, file));
  if (stored === bundle) {
    ledger.kept(file);
    return bundle;
  }
  await writeSecret(path.join(home.root, file), bundle);
  if (stored === undefined) ledger.created(file);
  else ledger.replaced('the CAs to trust changed', file);
  return bundle;
}
