/**
 * The tar archive inside a sealed file: plain files alone, in the ustar format, and read just as strictly as written.
 *
 * Names are relative paths with forward slashes; links, devices, folders and extended headers do not occur and are
 * refused, since whoever knows the passphrase of a file may have made it with another program.
 */
import { Header } from 'tar';
import { usageError } from '../types/errors.js';

const BLOCK = 512;

export interface ArchiveFile {
  /** Relative, with forward slashes. */
  readonly path: string;
  readonly size: number;
  readonly mtime: Date;
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Why a path cannot be in an archive, or undefined. */
export function pathFault(path: string): string | undefined {
  if (path === '' || path.length > 240) return 'it is empty or too long';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  if (/[\u0000-\u001f\u007f\\]/.test(path)) return 'it holds a control character or a backslash';
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'it is absolute';
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) return 'it leads out of its folder';
  return undefined;
}

function refusedEntry(path: string, why: string) {
  return usageError(`The archive holds ${JSON.stringify(path)}, which is refused: ${why}. Nothing was taken from it.`, {
    code: 'state-archive',
    next: 'The file was not written by `k8s-ans state export`. Do not use it.',
  });
}

/**
 * The bytes of the archive.
 *
 * @throws K8sAnsError `state-path` for a path that the format cannot hold, `state-changed` for a file that changed its
 *   size while it was read
 */
export async function* writeArchive(
  files: AsyncIterable<ArchiveFile> | Iterable<ArchiveFile>,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const { path, size, mtime, content } of files) {
    const block = Buffer.alloc(BLOCK);
    const header = new Header({ path, mode: 0o600, uid: 0, gid: 0, size, mtime, type: 'File' });
    if (pathFault(path) !== undefined || header.encode(block, 0)) {
      throw usageError(`The name of ${JSON.stringify(path)} does not fit the archive.`, {
        code: 'state-path',
        where: path,
        next: 'Give the file a shorter name, of plain characters.',
      });
    }
    yield block;
    let length = 0;
    for await (const part of content) {
      length += part.length;
      yield Buffer.from(part.buffer, part.byteOffset, part.length);
    }
    if (length !== size) {
      throw usageError(`${path} changed while it was read.`, {
        code: 'state-changed',
        where: path,
        next: 'See that nothing else writes into the cluster home, and export again.',
      });
    }
    yield Buffer.alloc(padding(size));
  }
  yield Buffer.alloc(2 * BLOCK);
}

/** A file of an archive that is being read; its content has to be read before the next one comes. */
export interface ReadFile {
  readonly path: string;
  readonly size: number;
  readonly content: AsyncIterable<Buffer>;
}

/**
 * The files of an archive, one after another. Content that was not read is passed over.
 *
 * @throws K8sAnsError `state-archive` for anything but plain files with harmless names, each once
 */
export async function* readArchive(source: AsyncIterable<Buffer>): AsyncGenerator<ReadFile, void, undefined> {
  const bytes = new ByteReader(source);
  try {
    const seen = new Set<string>();
    for (;;) {
      const block = await bytes.take(BLOCK);
      if (isEmpty(block)) break;
      const { path, size } = readHeader(block);
      // File systems that do not tell A from a would write one file over the other.
      const folded = path.normalize('NFC').toLowerCase();
      if (seen.has(folded)) throw refusedEntry(path, 'it is there twice');
      seen.add(folded);
      let left = size;
      const content = (async function* () {
        while (left > 0) {
          const part = await bytes.some(left);
          left -= part.length;
          yield part;
        }
      })();
      yield { path, size, content };
      for await (const _ of content);
      while (left > 0) left -= (await bytes.some(left)).length;
      await bytes.take(padding(size));
    }
    if (!isEmpty(await bytes.take(BLOCK))) throw refusedEntry('', 'its end is broken');
    if (!(await bytes.atEnd())) throw refusedEntry('', 'something follows its end');
  } finally {
    await bytes.close();
  }
}

function readHeader(block: Buffer): { path: string; size: number } {
  const header = new Header(block, 0);
  const path = header.path ?? '';
  if (!header.cksumValid) throw refusedEntry(path, 'its header is broken');
  if (header.type !== 'File') throw refusedEntry(path, `it is no plain file (${header.type})`);
  if (header.linkpath) throw refusedEntry(path, 'it is a link');
  const fault = pathFault(path);
  if (fault !== undefined) throw refusedEntry(path, fault);
  const { size } = header;
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) throw refusedEntry(path, 'it has no size');
  return { path, size };
}

function padding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function isEmpty(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

/** Reads a stream of buffers byte by byte, so to speak. */
class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** At least one byte and at most `limit`. */
  async some(limit: number): Promise<Buffer> {
    if (await this.atEnd()) throw refusedEntry('', 'it ends in the middle');
    const part = this.#rest.subarray(0, limit);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  /** Exactly so many bytes. */
  async take(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = length; left > 0; ) {
      const part = await this.some(left);
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Lets go of the source, also in the middle. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  async atEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#source.next();
      if (next.done) return true;
      this.#rest = next.value;
    }
    return false;
  }
}
