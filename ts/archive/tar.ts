/**
 * Tar archives of plain files alone, in the ustar format, read just as strictly as they are written.
 *
 * Names are relative paths with forward slashes; links, devices, folders and extended headers do not occur and are
 * refused, since another program may have made the archive. What an archive is for says how a fault is told.
 */
import { Header } from 'tar';

const BLOCK = 512;

export interface ArchiveFile {
  /** Relative, with forward slashes. */
  readonly path: string;
  readonly size: number;
  readonly mtime: Date;
  /** Default: 0600. */
  readonly mode?: number;
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** How faults are told, each as an error to throw. */
export interface WriteFaults {
  /** The format cannot hold the path. */
  unfit(path: string): Error;
  /** A file changed its size while it was read. */
  changed(path: string): Error;
}

/** Tells why an archive is refused. `path` is empty for what is not about one entry. */
export type ReadFault = (path: string, why: string) => Error;

/** Why a path cannot be in an archive, or undefined. */
export function pathFault(path: string): string | undefined {
  if (path === '' || path.length > 240) return 'it is empty or too long';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  if (/[\u0000-\u001f\u007f\\]/.test(path)) return 'it holds a control character or a backslash';
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'it is absolute';
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) return 'it leads out of its folder';
  return undefined;
}

/** The header of a plain file, or undefined where the format cannot hold its path. */
export function headerBlock({ path, size, mtime, mode = 0o600 }: Omit<ArchiveFile, 'content'>): Buffer | undefined {
  const block = Buffer.alloc(BLOCK);
  const header = new Header({ path, mode, uid: 0, gid: 0, size, mtime, type: 'File' });
  return pathFault(path) !== undefined || header.encode(block, 0) ? undefined : block;
}

/** The bytes of the archive. Throws what `faults` says. */
export async function* writeArchive(
  files: AsyncIterable<ArchiveFile> | Iterable<ArchiveFile>,
  faults: WriteFaults,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const file of files) {
    const block = headerBlock(file);
    if (block === undefined) throw faults.unfit(file.path);
    yield block;
    let length = 0;
    for await (const part of file.content) {
      length += part.length;
      yield Buffer.from(part.buffer, part.byteOffset, part.length);
    }
    if (length !== file.size) throw faults.changed(file.path);
    yield Buffer.alloc(padding(file.size));
  }
  yield Buffer.alloc(2 * BLOCK);
}

/** A file of an archive that is being read; its content has to be read before the next one comes. */
export interface ReadFile {
  readonly path: string;
  readonly size: number;
  /** Its header as it stands in the archive. */
  readonly block: Buffer;
  readonly content: AsyncIterable<Buffer>;
}

/**
 * The files of an archive, one after another. Content that was not read is passed over.
 *
 * Throws what `fault` says for anything but plain files with harmless names, each once, and nothing besides them.
 */
export async function* readArchive(
  source: AsyncIterable<Buffer>,
  fault: ReadFault,
): AsyncGenerator<ReadFile, void, undefined> {
  const bytes = new ByteReader(source, fault);
  try {
    const seen = new Set<string>();
    for (;;) {
      const block = await bytes.take(BLOCK);
      if (isEmpty(block)) break;
      const { path, size } = readHeader(block, fault);
      // File systems that do not tell A from a would write one file over the other.
      const folded = path.normalize('NFC').toLowerCase();
      if (seen.has(folded)) throw fault(path, 'it is there twice');
      seen.add(folded);
      let left = size;
      const content = (async function* () {
        while (left > 0) {
          const part = await bytes.some(left);
          left -= part.length;
          yield part;
        }
      })();
      yield { path, size, block, content };
      for await (const _ of content);
      while (left > 0) left -= (await bytes.some(left)).length;
      if (!isEmpty(await bytes.take(padding(size)))) throw fault(path, 'something follows its content');
    }
    if (!isEmpty(await bytes.take(BLOCK))) throw fault('', 'its end is broken');
    if (!(await bytes.atEnd())) throw fault('', 'something follows its end');
  } finally {
    await bytes.close();
  }
}

function readHeader(block: Buffer, refused: ReadFault): { path: string; size: number } {
  const header = new Header(block, 0);
  const path = header.path ?? '';
  if (!header.cksumValid) throw refused(path, 'its header is broken');
  if (header.type !== 'File') throw refused(path, `it is no plain file (${header.type})`);
  if (header.linkpath) throw refused(path, 'it is a link');
  const fault = pathFault(path);
  if (fault !== undefined) throw refused(path, fault);
  const { size } = header;
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) throw refused(path, 'it has no size');
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
  readonly #fault: ReadFault;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>, fault: ReadFault) {
    this.#source = source[Symbol.asyncIterator]();
    this.#fault = fault;
  }

  /** At least one byte and at most `limit`. */
  async some(limit: number): Promise<Buffer> {
    if (await this.atEnd()) throw this.#fault('', 'it ends in the middle');
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
