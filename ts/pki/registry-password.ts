/** The registry's password: made once, kept in a file of its own, and as the htpasswd file that the registry reads. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { compare, hash } from 'bcryptjs';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';

/** The one user of the registry. */
export const REGISTRY_USER = 'admin';

/** Paths in the cluster home. */
export const REGISTRY_PASSWORD = 'pki/addons/registry.password';
export const REGISTRY_HTPASSWD = 'pki/addons/registry.htpasswd';

/** 24 bytes are 32 characters of base64url; bcrypt takes 72 at most. */
const PASSWORD_BYTES = 24;
/** As Apache's htpasswd -B makes it at least; a random password needs no more. */
const ROUNDS = 10;

/**
 * Brings both files to each other, where the cluster has a registry. A password that a person writes into the file is
 * taken; bcrypt is the one form that distribution reads
 * (https://distribution.github.io/distribution/about/configuration/#htpasswd).
 */
export async function ensureRegistryPassword(cluster: Cluster, home: ClusterHome, ledger: Ledger): Promise<void> {
  if (!cluster.addons.registry.enabled) return;
  const [passwordFile, htpasswdFile] = [REGISTRY_PASSWORD, REGISTRY_HTPASSWD].map((name) =>
    path.join(home.root, name),
  ) as [string, string];
  const stored = (await readTextIfExists(passwordFile))?.trim();
  const password = stored || randomBytes(PASSWORD_BYTES).toString('base64url');
  if (stored) ledger.kept(REGISTRY_PASSWORD);
  else {
    await writeSecret(passwordFile, `${password}\n`);
    ledger.created(REGISTRY_PASSWORD);
  }
  const before = await readTextIfExists(htpasswdFile);
  const [user, digest = ''] = before?.trim().split(':') ?? [];
  if (user === REGISTRY_USER && (await compare(password, digest))) {
    ledger.kept(REGISTRY_HTPASSWD);
    return;
  }
  await writeSecret(htpasswdFile, `${REGISTRY_USER}:${await hash(password, ROUNDS)}\n`);
  if (before === undefined) ledger.created(REGISTRY_HTPASSWD);
  else ledger.replaced('the password changed', REGISTRY_HTPASSWD);
}
