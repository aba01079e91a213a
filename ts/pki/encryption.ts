/**
 * Encryption at rest: the API server's EncryptionConfiguration.
 *
 * https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/: the first provider encrypts, all of them decrypt.
 * Decoding is strict since 1.31.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import type { Cluster } from '../types/cluster.js';
import { environmentError, usageError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';

const KEY_BYTES = 32;

const keys = z.object({ keys: z.array(z.object({ name: z.string(), secret: z.string() })).min(1) });
const provider = z.record(z.enum(['secretbox', 'aescbc', 'aesgcm', 'identity']), z.unknown());
const configuration = z.object({
  apiVersion: z.literal('apiserver.config.k8s.io/v1'),
  kind: z.literal('EncryptionConfiguration'),
  resources: z
    .array(
      z.object({ resources: z.array(z.string()), providers: z.array(z.partialRecord(provider.keyType, z.unknown())) }),
    )
    .length(1),
});

type Provider = Partial<Record<'secretbox' | 'aescbc' | 'aesgcm' | 'identity', unknown>>;

/**
 * Makes `encryption-config.yaml`, or keeps it while its first provider is the spec's.
 *
 * When the spec's provider changes, the new one comes first and the old ones stay behind it, so that what is stored
 * stays readable. Until every API server has the new file, a master that has it not cannot read what was written by
 * one that has.
 *
 * The key is random, or the one in `encryption.key` (base64 of 32 bytes), which `init --from-environment` leaves there.
 *
 * @throws K8sAnsError `pki-encryption-key` or `pki-encryption-unusable`; the key is in no message.
 */
export async function ensureEncryptionConfig(cluster: Cluster, home: ClusterHome, ledger: Ledger): Promise<void> {
  const file = path.join(home.pki, 'encryption-config.yaml');
  const name = 'pki/encryption-config.yaml';
  const wanted = cluster.encryption.provider === 'none' ? 'identity' : cluster.encryption.provider;
  const text = await readTextIfExists(file);
  if (text === undefined) {
    const first = wanted === 'identity' ? [] : [withKey(wanted, 'key1', await firstKey(home))];
    await writeSecret(file, render([...first, { identity: {} }]));
    ledger.created(name);
    return;
  }
  const stored = read(text, file);
  if (Object.keys(stored[0] ?? {})[0] === wanted) {
    ledger.kept(name);
    return;
  }
  const secrets = stored.filter((entry) => !('identity' in entry));
  const same = secrets.filter((entry) => wanted in entry);
  const others = secrets.filter((entry) => !(wanted in entry));
  const first =
    wanted === 'identity'
      ? [{ identity: {} }, ...secrets]
      : [...(same.length > 0 ? same : [withKey(wanted, 'key1', newKey())]), ...others, { identity: {} }];
  await writeSecret(file, render(first));
  ledger.replaced(`the spec's provider changed to ${cluster.encryption.provider}`, name);
}

function withKey(kind: 'secretbox' | 'aescbc' | 'aesgcm', name: string, secret: string): Provider {
  return { [kind]: { keys: [{ name, secret }] } };
}

function newKey(): string {
  return randomBytes(KEY_BYTES).toString('base64');
}

async function firstKey(home: ClusterHome): Promise<string> {
  const file = path.join(home.pki, 'encryption.key');
  const text = (await readTextIfExists(file))?.trim();
  if (text === undefined) return newKey();
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== KEY_BYTES || bytes.toString('base64') !== text) {
    throw usageError(`The encryption key is not the base64 of ${KEY_BYTES} bytes.`, {
      code: 'pki-encryption-key',
      where: file,
      next: 'Write ENCRYPTION_KEY of the imported environment.sh there as it stands, or remove the file for a new key.',
    });
  }
  return text;
}

function render(providers: ReadonlyArray<Provider>): string {
  return stringify(
    {
      apiVersion: 'apiserver.config.k8s.io/v1',
      kind: 'EncryptionConfiguration',
      resources: [{ resources: ['secrets'], providers }],
    },
    { lineWidth: 0, aliasDuplicateObjects: false },
  );
}

function read(text: string, file: string): Provider[] {
  try {
    const [resource] = configuration.parse(parse(text)).resources;
    for (const entry of resource?.providers ?? []) {
      for (const [kind, value] of Object.entries(entry)) if (kind !== 'identity') keys.parse(value);
    }
    return resource?.providers ?? [];
  } catch {
    // No cause: the parser's message quotes the line, and with it the key.
    throw environmentError('The encryption configuration cannot be read.', {
      code: 'pki-encryption-unusable',
      where: file,
      next: 'Put it back from a backup of this folder or from a master: without its keys the stored Secrets are lost.',
    });
  }
}
