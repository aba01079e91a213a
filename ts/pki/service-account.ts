/**
 * The key pair that service account tokens are signed with: of its own, never a CA's.
 *
 * With a CA's key, whoever may verify tokens could not be told from whoever may issue certificates.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import path from 'node:path';
import type { Cluster } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';
import type { Ledger } from './ledger.js';
import { type Authority, generatePrivateKey } from './x509.js';

/**
 * Makes `sa.key` and `sa.pub`, or reads them.
 *
 * @throws K8sAnsError `pki-sa-lost` when the private key is gone: a new one would void every token.
 */
export async function ensureServiceAccountKeys(
  cluster: Cluster,
  home: ClusterHome,
  authorities: ReadonlyArray<Authority>,
  ledger: Ledger,
): Promise<void> {
  const keyFile = path.join(home.pki, 'sa.key');
  const publicFile = path.join(home.pki, 'sa.pub');
  const [storedKey, storedPublic] = await Promise.all([readTextIfExists(keyFile), readTextIfExists(publicFile)]);
  if (storedKey === undefined && storedPublic !== undefined) {
    throw environmentError('The private key of the service accounts is missing, although its public key exists.', {
      code: 'pki-sa-lost',
      where: keyFile,
      next: `Put it back from a backup of this folder or from a master. To make a new pair instead, remove ${publicFile}: every service account token then becomes invalid.`,
    });
  }
  const pem = storedKey ?? (await generatePrivateKey(cluster.pki.keyBits));
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw environmentError('The private key of the service accounts cannot be read as PEM.', {
      code: 'pki-sa-unusable',
      where: keyFile,
      next: 'Put it back from a backup of this folder or from a master.',
    });
  }
  const publicKey = createPublicKey(key);
  if (authorities.some((authority) => authority.x509.publicKey.equals(publicKey))) {
    throw environmentError("The private key of the service accounts is a CA's key.", {
      code: 'pki-sa-unusable',
      where: keyFile,
      next: 'Give the service accounts a key of their own: remove sa.key and sa.pub, and run again.',
    });
  }
  if (storedKey === undefined) {
    await writeSecret(keyFile, pem);
    ledger.created('pki/sa.key');
  } else ledger.kept('pki/sa.key');

  const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  if (storedPublic === publicPem) {
    ledger.kept('pki/sa.pub');
    return;
  }
  await writeSecret(publicFile, publicPem);
  if (storedPublic === undefined) ledger.created('pki/sa.pub');
  else ledger.replaced('it did not belong to sa.key', 'pki/sa.pub');
}
