/** The add-ons' passwords: each made once, and kept in a file of its own below `pki/addons`. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { compare, hash } from 'bcryptjs';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';

/** The one user of the registry. */
export const REGISTRY_USER = 'admin';

/** Path in the cluster home of what the registry reads. */
export const REGISTRY_HTPASSWD = 'pki/addons/registry.htpasswd';

/** Elasticsearch's accounts, and what Kibana encrypts what it keeps there with, which has to have 32 characters. */
const LOGGING = ['elastic', 'kibana-system', 'log-writer', 'kibana-encryption'];

/** 24 bytes are 32 characters of base64url; bcrypt takes 72 at most. */
const PASSWORD_BYTES = 24;
/** As Apache's htpasswd -B makes it at least; a random password needs no more. */
const ROUNDS = 10;

/** Path in the cluster home of a password's file. */
export function passwordFile(name: string): string {
  return `pki/addons/${name}.password`;
}

/** Sees that the add-ons that are switched on have their passwords. One that a person writes into a file is taken. */
export async function ensurePasswords(cluster: Cluster, home: ClusterHome, ledger: Ledger): Promise<void> {
  const { registry, logging } = cluster.addons;
  if (registry.enabled) await ensureHtpasswd(home, await ensurePassword(home, 'registry', ledger), ledger);
  if (logging.enabled) for (const name of LOGGING) await ensurePassword(home, name, ledger);
}

async function ensurePassword(home: ClusterHome, name: string, ledger: Ledger): Promise<string> {
  const file = passwordFile(name);
  const stored = (await readTextIfExists(path.join(home.root, file)))?.trim();
  if (stored) {
    ledger.kept(file);
    return stored;
  }
  const password = randomBytes(PASSWORD_BYTES).toString('base64url');
  await writeSecret(path.join(home.root, file), `${password}\n`);
  ledger.created(file);
  return password;
}

/**
 * Brings the registry's file to its password. bcrypt is the one form that distribution reads:
 * https://distribution.github.io/distribution/about/configuration/#htpasswd
 */
async function ensureHtpasswd(home: ClusterHome, password: string, ledger: Ledger): Promise<void> {
  const file = path.join(home.root, REGISTRY_HTPASSWD);
  const before = await readTextIfExists(file);
  const [user, digest = ''] = before?.trim().split(':') ?? [];
  if (user === REGISTRY_USER && (await compare(password, digest))) {
    ledger.kept(REGISTRY_HTPASSWD);
    return;
  }
  await writeSecret(file, `${REGISTRY_USER}:${await hash(password, ROUNDS)}\n`);
  if (before === undefined) ledger.created(REGISTRY_HTPASSWD);
  else ledger.replaced('the password changed', REGISTRY_HTPASSWD);
}
