/** Reads a bundle whole, and checks every byte of it. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type ReadFile, readArchive } from '../archive/tar.js';
import { ArtifactLock } from '../artifacts/index.js';
import { environmentError, K8sAnsError, usageError } from '../types/errors.js';
import {
  bundleHeader,
  contradictions,
  DESCRIPTION,
  type Description,
  inOrder,
  LARGEST_TEXT,
  LOCK,
  parseDescription,
  parseSums,
  SBOM,
  SUMS,
} from './format.js';

/** A bundle of which every byte is as it was written. */
export interface CheckedBundle {
  readonly file: string;
  readonly description: Description;
  readonly lock: ArtifactLock;
  /** Digests by path, in the bundle's order; without SHA256SUMS itself. */
  readonly digests: ReadonlyMap<string, string>;
  /** Of the whole file: what to compare with the one that was printed when it was made. */
  readonly sha256: string;
  /** Of the whole file, in bytes. */
  readonly size: number;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bytes read so far. */
  readonly onBytes?: ((done: number) => void) | undefined;
  /** Called with what the bundle is once that is known, before its artifacts come. */
  readonly onFront?: ((description: Description, lock: ArtifactLock) => Promise<void>) | undefined;
  /**
   * Takes an artifact's content, as it comes: its digest is known to be right only when `readBundle` has returned.
   * What it does not read is passed over.
   */
  readonly onArtifact?: ((path: string, content: AsyncIterable<Buffer>) => Promise<void>) | undefined;
}

/**
 * Reads a bundle from the first byte to the last.
 *
 * @throws K8sAnsError `bundle-missing` (exit code 2), `bundle-broken` (4) with every file that is not as it was
 *   written, as far as the bundle can be read at all
 */
export async function readBundle(file: string, options: ReadOptions = {}): Promise<CheckedBundle> {
  const fault = (path: string, why: string): K8sAnsError => broken(file, [path === '' ? why : `${path}: ${why}`]);
  const whole = createHash('sha256');
  const counted = { bytes: 0 };
  const files = readArchive(bytesOf(file, whole, counted, options), fault);
  try {
    const front = await readFront(files, fault);
    const { digests, description, lock, faults } = front;
    await options.onFront?.(description, lock);
    for (const path of front.left) {
      const found = await nextFile(files, path, digests, fault);
      const hash = createHash('sha256');
      const content = hashed(found.content, hash);
      await options.onArtifact?.(path, content);
      for await (const _ of content);
      differs(faults, path, hash.digest('hex'), digests);
    }
    const more = await files.next();
    if (!more.done) throw fault(more.value.path, `it is unexpected: ${SUMS} does not name it`);
    faults.push(...contradictions(digests, description, lock));
    if (faults.length > 0) throw broken(file, faults);
    return { file, description, lock, digests, sha256: whole.digest('hex'), size: counted.bytes };
  } finally {
    await files.return();
  }
}

interface Front {
  readonly digests: ReadonlyMap<string, string>;
  readonly description: Description;
  readonly lock: ArtifactLock;
  /** The paths that come after it. */
  readonly left: ReadonlyArray<string>;
  /** Of files that can be read and are not as they were written. */
  readonly faults: string[];
}

type Files = AsyncGenerator<ReadFile, void, undefined>;
type Fault = (path: string, why: string) => K8sAnsError;

/** SHA256SUMS and the files of text. */
async function readFront(files: Files, fault: Fault): Promise<Front> {
  const first = await files.next();
  if (first.done || first.value.path !== SUMS) throw fault('', `it is no bundle: its first file is not ${SUMS}`);
  checkHeader(first.value, fault);
  const digests = parseSums((await readText(first.value, fault)).toString('utf8'));
  if (typeof digests === 'string') throw fault(SUMS, digests);
  const faults: string[] = [];
  const texts = new Map<string, string>();
  const order = inOrder(digests.keys());
  for (const path of [DESCRIPTION, LOCK, SBOM]) {
    if (!digests.has(path)) throw fault(path, `it is missing in ${SUMS}`);
    const bytes = await readText(await nextFile(files, path, digests, fault), fault);
    differs(faults, path, createHash('sha256').update(bytes).digest('hex'), digests);
    texts.set(path, bytes.toString('utf8'));
  }
  // What follows is judged by these: they have to be right.
  if (faults[0] !== undefined) throw fault('', faults.join('; '));
  const description = parseDescription(texts.get(DESCRIPTION) ?? '');
  if (typeof description === 'string') throw fault(DESCRIPTION, description);
  let lock: ArtifactLock;
  try {
    lock = ArtifactLock.parse(LOCK, texts.get(LOCK) ?? '');
  } catch (error) {
    throw fault(LOCK, error instanceof K8sAnsError ? error.message : String(error));
  }
  return { digests, description, lock, left: order.slice(3), faults };
}

/** The next file, which has to be this one. */
async function nextFile(
  files: Files,
  path: string,
  digests: ReadonlyMap<string, string>,
  fault: Fault,
): Promise<ReadFile> {
  const next = await files.next();
  if (next.done) throw fault(path, 'it is missing');
  const found = next.value;
  if (found.path !== path) {
    throw digests.has(found.path)
      ? fault(path, `it is missing: ${found.path} stands in its place`)
      : fault(found.path, `it is unexpected: ${SUMS} does not name it`);
  }
  checkHeader(found, fault);
  return found;
}

/** Owner, time and mode are no secret hiding place: they have one value only. */
function checkHeader({ path, size, block }: ReadFile, fault: Fault): void {
  if (bundleHeader(path, size)?.equals(block) !== true) throw fault(path, 'its header is not as it was written');
}

async function readText({ path, size, content }: ReadFile, fault: Fault): Promise<Buffer> {
  if (size > LARGEST_TEXT) throw fault(path, `it is larger than ${LARGEST_TEXT} bytes`);
  const parts: Buffer[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}

function differs(faults: string[], path: string, actual: string, digests: ReadonlyMap<string, string>): void {
  const wanted = digests.get(path);
  if (actual !== wanted) faults.push(`${path}: it has the sha256 ${actual}, but ${SUMS} says ${wanted}`);
}

async function* hashed(content: AsyncIterable<Buffer>, hash: ReturnType<typeof createHash>): AsyncGenerator<Buffer> {
  for await (const part of content) {
    hash.update(part);
    yield part;
  }
}

async function* bytesOf(
  file: string,
  whole: ReturnType<typeof createHash>,
  counted: { bytes: number },
  { signal, onBytes }: ReadOptions,
): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, ...(signal && { signal }) })) {
      const part = chunk as Buffer;
      if (counted.bytes === 0) refuseCompressed(file, part);
      counted.bytes += part.length;
      whole.update(part);
      onBytes?.(counted.bytes);
      yield part;
    }
  } catch (error) {
    signal?.throwIfAborted();
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw usageError(`the bundle ${file} cannot be read: ${code}`, {
      code: 'bundle-missing',
      where: file,
      next: 'Correct the path. `k8s-ans artifacts bundle` writes such a file.',
    });
  }
}

/** People compress what they carry; it is read as it was written. */
function refuseCompressed(file: string, start: Buffer): void {
  const zstd = start.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
  if (!zstd && !start.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b]))) return;
  throw usageError(`${file} is compressed`, {
    code: 'bundle-compressed',
    where: file,
    next: zstd ? 'Decompress it first: `unzstd FILE`.' : 'Decompress it first: `gunzip FILE`.',
  });
}

/** How many faults are told. */
const MOST_FAULTS = 10;

function broken(file: string, faults: ReadonlyArray<string>): K8sAnsError {
  const more = faults.length > MOST_FAULTS ? [`and ${faults.length - MOST_FAULTS} more`] : [];
  const list = [...faults.slice(0, MOST_FAULTS), ...more].map((one) => `\n  ${one}`).join('');
  return environmentError(`the bundle ${file} is broken and nothing of it is used:${list}`, {
    code: 'bundle-broken',
    where: file,
    next: 'Copy it again and compare `sha256sum` on both sides; if it was made like this, make it anew with `k8s-ans artifacts bundle`.',
  });
}
