/** The PKI of a cluster: made once, kept ever after, mended where it no longer fits. */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, SECRET_FOLDER_MODE, tighten, writeSecret } from '../types/secrets.js';
import { ensureAuthority } from './authority.js';
import { ensureChain } from './chain.js';
import { ensureEncryptionConfig } from './encryption.js';
import { renderKubeconfig } from './kubeconfig.js';
import { ensureLeaf, type Issuing, type Pair } from './leaf.js';
import { Ledger, type PkiResult } from './ledger.js';
import { ensurePasswords } from './passwords.js';
import { AUTHORITY_NAMES, type AuthorityName, certificatePlan, kubeconfigPlan } from './plan.js';
import { ensureServiceAccountKeys } from './service-account.js';
import { ensureTrust } from './trust.js';
import type { Authority } from './x509.js';

export interface EnsureOptions {
  /** Stops between two files; what is written stays, and the next run goes on from it. */
  readonly signal?: AbortSignal;
  /**
   * Leaves to issue again although they fit: base path and the serial number of the certificate that is to go. One
   * that has another serial number by now was issued by the run that is gone on with.
   */
  readonly renew?: ReadonlyMap<string, string>;
  /** For tests. */
  readonly now?: Date;
}

/**
 * Brings the PKI folder and the kubeconfigs of the cluster home to what the cluster needs.
 *
 * Run again it touches nothing. A missing leaf, one that no longer fits the plan (names, subject, usages, CA), one
 * that expired and one whose key does not match are issued again with a new key. CAs and the service account key are
 * never replaced here (rotation.ts replaces a CA). The caller holds the run lock.
 *
 * @throws K8sAnsError `pki-ca-lost`, `pki-ca-unusable`, `pki-sa-lost`, `pki-sa-unusable`, `pki-encryption-key`,
 *   `pki-encryption-unusable`.
 */
export async function ensurePki(cluster: Cluster, home: ClusterHome, options: EnsureOptions = {}): Promise<PkiResult> {
  const { signal, renew, now = new Date() } = options;
  const ledger = new Ledger();
  signal?.throwIfAborted();
  await mkdir(home.pki, { recursive: true, mode: SECRET_FOLDER_MODE });
  await clean(home, ledger);

  const authorities = new Map<AuthorityName, Authority>();
  const trust = new Map<AuthorityName, string>();
  await all(
    AUTHORITY_NAMES.map(async (name) => {
      const signer = await ensureAuthority(cluster, home, name, ledger, now);
      authorities.set(name, signer);
      trust.set(name, await ensureTrust(home, name, signer.certificate, ledger));
    }),
  );
  const authority = (name: AuthorityName): Authority => authorities.get(name) as Authority;

  const chain = await ensureChain(home, authority('kubernetes'), ledger, now);
  signal?.throwIfAborted();
  const pairs = new Map<string, Pair>();
  await all([
    ...certificatePlan(cluster).map(async (request) => {
      const issuing: Issuing = {
        authority: authority(request.issuer),
        chain: request.issuer === 'kubernetes' && request.usages.includes('server') ? chain : undefined,
        renew: renew?.get(request.path),
        now,
        signal,
      };
      pairs.set(request.path, await ensureLeaf(cluster, home, request, issuing, ledger));
    }),
    ensureServiceAccountKeys(cluster, home, [...authorities.values()], ledger),
    ensureEncryptionConfig(cluster, home, ledger),
    ensurePasswords(cluster, home, ledger),
  ]);

  signal?.throwIfAborted();
  await all(
    kubeconfigPlan(cluster).map(async (request) => {
      const pair = pairs.get(request.certificate) as Pair;
      const text = renderKubeconfig({
        cluster: cluster.name,
        user: request.user,
        server: request.server,
        authority: trust.get('kubernetes') as string,
        ...pair,
      });
      await ensureText(home, request.path, text, ledger);
    }),
  );
  return ledger.result();
}

async function ensureText(home: ClusterHome, name: string, text: string, ledger: Ledger): Promise<void> {
  const file = path.join(home.root, name);
  const stored = await readTextIfExists(file);
  if (stored === text) {
    ledger.kept(name);
    return;
  }
  await writeSecret(file, text);
  if (stored === undefined) ledger.created(name);
  else ledger.replaced('its certificate, CA or server changed', name);
}

/** Removes what a killed run left half-written, and takes others' permissions away. */
async function clean(home: ClusterHome, ledger: Ledger): Promise<void> {
  const inPki = await readdir(home.pki, { recursive: true });
  const inRoot = (await readdir(home.root)).filter((name) => name.startsWith('kubeconfig'));
  const names = ['pki', ...inPki.map((name) => path.join('pki', name)), ...inRoot];
  for (const name of names) {
    const target = path.join(home.root, name);
    // write-file-atomic's temporary name: the target's, a dot and a number.
    if (/(\.(crt|key|pub|conf|yaml|password|htpasswd)|kubeconfig)\.\d+$/.test(name) && (await stat(target)).isFile()) {
      await rm(target);
      ledger.removed(name);
    } else if (await tighten(target)) ledger.tightened(name);
  }
}

/** Like Promise.all, but no task goes on in the background after the first failure was thrown. */
async function all(tasks: ReadonlyArray<Promise<void>>): Promise<void> {
  const results = await Promise.allSettled(tasks);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
