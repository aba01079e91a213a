/** The Go programs in a file of a bundle: the file itself, or those in an image's archive. */
import { open } from 'node:fs/promises';
import { list, Parser, type ReadEntry } from 'tar';
import { type GoBuildInfo, goBuildInfo } from './go-build-info.js';

/** The Go program that a file is; none for a program of another kind. */
export async function programOf(file: string): Promise<GoBuildInfo[]> {
  const handle = await open(file);
  try {
    const found = await goBuildInfo(async (offset, length) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead);
    });
    return found === undefined ? [] : [found];
  } finally {
    await handle.close();
  }
}

/** The largest program that is looked at, in bytes: it is held in memory. */
const LARGEST_PROGRAM = 512 << 20;

/**
 * The Go programs in the layers of an OCI archive, by path.
 *
 * A blob that is no layer is no tar file and holds none. Sources of fact: image-layout.md of
 * https://github.com/opencontainers/image-spec; layers are tar files, gzipped or not, which the reader tells apart.
 */
export async function programsInArchive(archive: string): Promise<GoBuildInfo[]> {
  const found = new Map<string, Buffer>();
  await list({
    file: archive,
    onReadEntry: (blob) => {
      if (!/^(?:\.\/)?blobs\/sha256\/[0-9a-f]{64}$/.test(blob.path)) return;
      const layer = new Parser({
        onReadEntry: (entry) => {
          if (entry.type === 'File' && entry.size >= 64 && entry.size <= LARGEST_PROGRAM) collect(entry, found);
          else entry.resume();
        },
      });
      // Configuration and manifests are JSON: what the reader says of them is no fault.
      layer.on('warn', () => undefined);
      layer.on('error', () => undefined);
      blob.on('data', (chunk: Buffer) => layer.write(chunk));
      blob.on('end', () => layer.end());
    },
  });
  const programs: GoBuildInfo[] = [];
  for (const path of [...found.keys()].sort()) {
    const content = found.get(path) ?? Buffer.alloc(0);
    const program = await goBuildInfo(async (offset, length) => content.subarray(offset, offset + length));
    if (program !== undefined) programs.push(program);
  }
  return programs;
}

/** Keeps an entry's content if it begins as an ELF file does. */
function collect(entry: ReadEntry, found: Map<string, Buffer>): void {
  const parts: Buffer[] = [];
  let elf: boolean | undefined;
  entry.on('data', (chunk: Buffer) => {
    elf ??= chunk.subarray(0, 4).equals(Buffer.from('\x7fELF', 'latin1'));
    if (elf) parts.push(chunk);
  });
  entry.on('end', () => {
    if (elf === true) found.set(entry.path, Buffer.concat(parts));
  });
}
