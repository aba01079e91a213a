/**
 * Replacing a CA, on the control machine: which stage a CA is in is told by the files alone.
 *
 * - trust: `next/` holds the new CA. The old one signs, both are trusted.
 * - reissue: `previous/` holds the old CA. The new one signs, both are trusted.
 * - none: neither folder holds it.
 *
 * Every step can be killed between two files and done again. `ensurePki` derives bundles, leaves and kubeconfigs from
 * what it finds, so each step is followed by it.
 */
import { createPrivateKey } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import { authorityCommonName, readAuthority } from './authority.js';
import { AUTHORITY_FILES, type AuthorityName } from './plan.js';
import { pairFiles, readPair, writePair } from './store.js';
import { nextPath, previousPath } from './trust.js';
import { type CertificateFacts, generatePrivateKey, issueAuthority, readCertificate } from './x509.js';

export type RotationStage = 'none' | 'trust' | 'reissue';

/** The stage that the authority is in. */
export async function rotationStage(home: ClusterHome, name: AuthorityName): Promise<RotationStage> {
  const [next, previous] = await Promise.all([readPair(home, nextPath(name)), readPair(home, previousPath(name))]);
  // The certificate of a pair is written last and removed first: without it, the step was not done.
  if (next.certificate !== undefined) return previous.certificate === undefined ? 'trust' : 'reissue';
  return previous.certificate === undefined ? 'none' : 'reissue';
}

/**
 * Makes the new CA beside the old one. A pair that lies in `next/` already is taken: an organisation's own, or that of
 * a run which was interrupted.
 *
 * @throws K8sAnsError `pki-ca-unusable` when what lies there cannot sign.
 */
export async function prepareNext(
  cluster: Cluster,
  home: ClusterHome,
  name: AuthorityName,
  now: Date = new Date(),
): Promise<void> {
  const base = nextPath(name);
  const stored = await readPair(home, base);
  if (stored.certificate !== undefined) {
    await readAuthority(home, name, base, now);
    return;
  }
  const current = await readAuthority(home, name, AUTHORITY_FILES[name], now);
  const key = stored.key ?? (await generatePrivateKey(cluster.pki.keyBits));
  const certificate = issueAuthority(
    createPrivateKey(key),
    { commonName: nextCommonName(name, readCertificate(current.certificate)), unit: cluster.name },
    { now, days: cluster.pki.caDays },
  );
  await writePair(home, base, { certificate, key });
}

/**
 * A subject that the old CA has not: verifiers look an issuer up by its subject, and with two of the same name some of
 * them try only the first.
 */
function nextCommonName(name: AuthorityName, current: CertificateFacts): string {
  const own = authorityCommonName(name);
  if (current.commonName === own) return `${own}-2`;
  const count = current.commonName.startsWith(`${own}-`)
    ? Number(current.commonName.slice(own.length + 1))
    : Number.NaN;
  // An organisation's own CA is followed by the first of ours.
  return Number.isInteger(count) ? `${own}-${count + 1}` : own;
}

/** Lets the new CA sign; the old one stays trusted, and its key is kept for the way back. */
export async function promoteNext(home: ClusterHome, name: AuthorityName): Promise<void> {
  await exchange(home, name, nextPath(name), previousPath(name));
}

/** The way back: lets the old CA sign again, and keeps trusting the new one. */
export async function demote(home: ClusterHome, name: AuthorityName): Promise<void> {
  await exchange(home, name, previousPath(name), nextPath(name));
}

/** Puts the pair `from` in the signer's place, and the signer into `to`. */
async function exchange(home: ClusterHome, name: AuthorityName, from: string, to: string): Promise<void> {
  const base = AUTHORITY_FILES[name];
  const incoming = await readPair(home, from);
  if (incoming.certificate === undefined || incoming.key === undefined) return;
  const current = await readPair(home, base);
  const kept = await readPair(home, to);
  if (kept.certificate === undefined && current.certificate !== undefined && current.key !== undefined) {
    await writePair(home, to, { certificate: current.certificate, key: current.key });
  }
  await writePair(home, base, { certificate: incoming.certificate, key: incoming.key });
  await removePair(home, from);
}

/** Drops the old CA: from now on only the new one is trusted. Its key is gone with it. */
export async function retirePrevious(home: ClusterHome, name: AuthorityName): Promise<void> {
  await removePair(home, previousPath(name));
}

/** Drops a new CA that does not sign. */
export async function discardNext(home: ClusterHome, name: AuthorityName): Promise<void> {
  await removePair(home, nextPath(name));
}

async function removePair(home: ClusterHome, base: string): Promise<void> {
  for (const file of pairFiles(base)) await rm(path.join(home.root, file), { force: true });
}
