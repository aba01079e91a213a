/** Writes a cluster's state into one sealed file. */
import { createReadStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { loadSpec } from '../../spec/load.js';
import { type ArchiveFile, writeArchive } from '../../state/archive.js';
import { type Content, contentsOf, MANIFEST_NAME, MANIFEST_VERSION, type Manifest } from '../../state/contents.js';
import { deriveKey, makeHeader, type SealOptions, seal } from '../../state/seal.js';
import { environmentError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { packageVersion } from '../../types/package.js';
import { SECRET_FILE_MODE } from '../../types/secrets.js';
import { references } from './references.js';

export interface ExportOptions extends SealOptions {
  readonly home: ClusterHome;
  /** Where to write; it is replaced, in one step. */
  readonly file: string;
  readonly passphrase: string;
  /** Whether the etcd snapshots in the home go along. */
  readonly backups: boolean;
  readonly signal: AbortSignal;
  readonly now?: Date;
}

export interface Exported {
  readonly manifest: Manifest;
  /** Size of the file written. */
  readonly bytes: number;
  /** What the other machine will lack or has to have elsewhere, a sentence each. */
  readonly remarks: ReadonlyArray<string>;
}

/** Exports the home. The caller holds its run lock, so that all files are of one moment. */
export async function exportState(options: ExportOptions): Promise<Exported> {
  const { home, file, passphrase, backups, signal, now = new Date() } = options;
  const { spec, cluster } = await loadSpec(home);
  const referred = references(spec, cluster, home.root);
  const contents = await contentsOf(
    home,
    referred.filter(({ inside }) => inside).map(({ file: name }) => name),
    { backups },
  );
  const manifest: Manifest = {
    kind: 'k8s-ans-state',
    version: MANIFEST_VERSION,
    cluster: cluster.name,
    tool: packageVersion(),
    exported: now.toISOString(),
    backups,
    files: contents.map(({ path, size }) => ({ path, size })),
  };
  const header = makeHeader(options);
  const key = await deriveKey(passphrase, header);
  const bytes = await writeWhole(file, seal(writeArchive(archiveFiles(manifest, contents, now)), key, header), signal);
  const has = (name: string): boolean => contents.some(({ path }) => path === name);
  return {
    manifest,
    bytes,
    remarks: [
      ...(has('pki/ca.key') ? [] : ['The home has no certificate authority: this cluster was not deployed from here.']),
      ...referred.flatMap(({ field, written, inside, portable }) => {
        if (inside && portable) return [];
        if (inside) {
          return [`${field} is written as an absolute path (${written}): change it where the home lies elsewhere.`];
        }
        return [`${field} (${written}) is not in the file: take it to the other machine, to the same path.`];
      }),
    ],
  };
}

function* archiveFiles(manifest: Manifest, contents: ReadonlyArray<Content>, now: Date): Generator<ArchiveFile> {
  const text = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  yield { path: MANIFEST_NAME, size: text.length, mtime: now, content: [text] };
  for (const { path, file, size, mtime } of contents) {
    yield { path, size, mtime, content: createReadStream(file) };
  }
}

/** Writes a private file in one step: whole, or not at all. */
async function writeWhole(file: string, content: AsyncIterable<Buffer>, signal: AbortSignal): Promise<number> {
  const draft = `${file}.partial-${process.pid}`;
  const handle = await open(draft, 'wx', SECRET_FILE_MODE).catch((cause: NodeJS.ErrnoException) => {
    throw environmentError(`The file cannot be written: ${cause.message}.`, {
      code: 'state-unwritable',
      where: file,
      next: 'Name a file in a folder that is there and that you may write to.',
      cause,
    });
  });
  try {
    let bytes = 0;
    try {
      for await (const part of content) {
        signal.throwIfAborted();
        await handle.writeFile(part);
        bytes += part.length;
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
    return bytes;
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}
