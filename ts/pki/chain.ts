/**
 * The bridge for clients that trust the old CA alone: the new CA's key, certified by the old CA.
 *
 * API servers send it along with their own certificate. A client that trusts the new CA does not need it; one that read
 * its CA file when it started, before the rotation (a pod, a copy of a kubeconfig), finds through it a path to the CA
 * that it knows. It gives nobody trust that trusts the new CA alone, so it can stay after the rotation, until it expires.
 */
import { X509Certificate } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';
import { readPair } from './store.js';
import { previousPath } from './trust.js';
import { type Authority, authorityFrom, issueCross } from './x509.js';

/** The file, beside the CAs. Only the kubernetes CA has one: all clients of the others are this project's. */
const FILE = 'pki/chain/ca.crt';

/** The bridge to the signer (PEM), made while the old CA is there; undefined where there is none. */
export async function ensureChain(
  home: ClusterHome,
  signer: Authority,
  ledger: Ledger,
  now: Date,
): Promise<string | undefined> {
  const target = path.join(home.root, FILE);
  const stored = await readTextIfExists(target);
  if (stored !== undefined && leadsTo(stored, signer, now)) {
    ledger.kept(FILE);
    return stored;
  }
  const previous = await readPair(home, previousPath('kubernetes'));
  const bridge =
    previous.certificate === undefined || previous.key === undefined
      ? undefined
      : issueCross(authorityFrom(previous.certificate, previous.key), signer, now);
  if (bridge !== undefined && leadsTo(bridge, signer, now)) {
    await writeSecret(target, bridge);
    if (stored === undefined) ledger.created(FILE);
    else ledger.replaced('another CA signs', FILE);
    return bridge;
  }
  if (stored !== undefined) {
    await rm(target);
    ledger.removed(FILE);
  }
  return undefined;
}

function leadsTo(bridge: string, signer: Authority, now: Date): boolean {
  try {
    const certificate = new X509Certificate(bridge);
    return certificate.publicKey.equals(signer.x509.publicKey) && new Date(certificate.validTo) > now;
  } catch {
    return false;
  }
}
