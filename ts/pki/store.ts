/** Pairs of files in the PKI folder: a certificate and its key. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';

/** The parts of a pair that exist, as PEM. */
export interface StoredPair {
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

/** Names of a pair's files in the cluster home: `pki/BASE.crt` and `pki/BASE.key`. */
export function pairFiles(base: string): [certificate: string, key: string] {
  return [`pki/${base}.crt`, `pki/${base}.key`];
}

export async function readPair(home: ClusterHome, base: string): Promise<StoredPair> {
  const [certificate, key] = await Promise.all([
    readTextIfExists(path.join(home.pki, `${base}.crt`)),
    readTextIfExists(path.join(home.pki, `${base}.key`)),
  ]);
  return { certificate, key };
}

/**
 * Writes the key, then the certificate. Interrupted in between, the folder holds a key without its certificate
 * (or with the certificate of another key): the next run sees that and issues the pair again.
 */
export async function writePair(
  home: ClusterHome,
  base: string,
  pair: { readonly certificate: string; readonly key: string },
): Promise<void> {
  await writeSecret(path.join(home.pki, `${base}.key`), pair.key);
  await writeSecret(path.join(home.pki, `${base}.crt`), pair.certificate);
}

/** Base paths of all certificates in the PKI folder, sorted; none if the folder is missing. */
export async function listCertificates(home: ClusterHome): Promise<string[]> {
  let entries: string[];
  try {
    entries = await readdir(home.pki, { recursive: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return entries
    .filter((entry) => entry.endsWith('.crt'))
    .map((entry) => entry.slice(0, -'.crt'.length).split(path.sep).join('/'))
    .sort();
}
