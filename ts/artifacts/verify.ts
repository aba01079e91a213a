/** What publishers say of their files: checksum files and signatures. */
import { execa } from 'execa';
import { environmentError } from '../types/errors.js';
import { lastLines } from './toolchain.js';

/**
 * The sha256 that a checksum text has for a file, or undefined.
 *
 * Takes the forms that publishers use: the digest alone, `sha256sum` lines (text and binary mode), and the BSD form
 * `SHA256 (NAME) = DIGEST`.
 */
export function digestFromSums(text: string, name: string): string | undefined {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const alone = lines.filter((line) => line !== '');
  const only = alone[0];
  if (alone.length === 1 && only !== undefined && /^[0-9a-f]{64}$/i.test(only)) return only.toLowerCase();
  for (const line of alone) {
    const sum = /^([0-9a-f]{64})\s+\*?(.+)$/i.exec(line);
    if (sum?.[1] !== undefined && sum[2] !== undefined && baseName(sum[2]) === name) return sum[1].toLowerCase();
    const bsd = /^SHA256 \((.+)\) = ([0-9a-f]{64})$/i.exec(line);
    if (bsd?.[1] !== undefined && bsd[2] !== undefined && baseName(bsd[1]) === name) return bsd[2].toLowerCase();
  }
  return undefined;
}

/**
 * The sha256 that GitHub states for a release's asset, or undefined.
 *
 * Source: `digest` of a release asset in https://docs.github.com/en/rest/releases/releases.
 */
export function digestFromRelease(text: string, name: string): string | undefined {
  let release: unknown;
  try {
    release = JSON.parse(text);
  } catch {
    return undefined;
  }
  const assets = (release as { assets?: { name?: string; digest?: string | null }[] } | null)?.assets;
  const digest = Array.isArray(assets) ? assets.find((asset) => asset.name === name)?.digest : undefined;
  return /^sha256:([0-9a-f]{64})$/.exec(digest ?? '')?.[1];
}

/** Whether `cosign` is on PATH. */
export async function hasCosign(env: NodeJS.ProcessEnv): Promise<boolean> {
  const result = await execa('cosign', ['version'], { env, extendEnv: false, reject: false, stdin: 'ignore' });
  return !result.failed;
}

export interface SignedBlob {
  readonly file: string;
  readonly url: string;
  readonly signatureFile: string;
  readonly certificateFile: string;
  readonly identity: string;
  readonly issuer: string;
}

/**
 * Verifies a keyless signature with cosign, as
 * https://kubernetes.io/docs/tasks/administer-cluster/verify-signed-artifacts/ does.
 *
 * Throws an environment error `artifact-unsigned` if cosign does not accept it.
 */
export async function verifySignature(blob: SignedBlob, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<void> {
  const result = await execa(
    'cosign',
    [
      'verify-blob',
      blob.file,
      '--signature',
      blob.signatureFile,
      '--certificate',
      blob.certificateFile,
      '--certificate-identity',
      blob.identity,
      '--certificate-oidc-issuer',
      blob.issuer,
    ],
    { env, extendEnv: false, reject: false, stdin: 'ignore', cancelSignal: signal },
  );
  signal.throwIfAborted();
  if (!result.failed) return;
  throw environmentError(`cosign does not accept the signature of ${blob.url}: ${lastLines(result.stderr, 4)}`, {
    code: 'artifact-unsigned',
    where: blob.url,
    next: `The file must be signed by ${blob.identity}. Do not use it before you know why it is not.`,
  });
}

function baseName(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}
