/** Brings a bundle's artifacts into the cache, from where every command takes them, later ones too. */
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import {
  type ArtifactLock,
  type Catalog,
  cachedFile,
  componentsFor,
  everyChoice,
  type LockedArtifact,
  loadCatalog,
  lockedArtifacts,
  makeFolder,
  type OnProgress,
} from '../artifacts/index.js';
import { environmentError } from '../types/errors.js';
import { artifactPath, type Description, modeOf } from './format.js';
import { type CheckedBundle, readBundle } from './read.js';

export interface UnpackOptions {
  readonly cache: string;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  readonly catalog?: Catalog | undefined;
}

/** How often the reading says how far it is, in bytes. */
const stepBytes = 64 << 20;

/**
 * Checks a bundle whole, and only then puts what the cache lacks of it there.
 *
 * Throws what `readBundle` throws; the cache is then as it was.
 */
export async function unpackBundle(file: string, options: UnpackOptions): Promise<CheckedBundle> {
  const { cache, signal, onProgress } = options;
  const staging = path.join(cache, `bundle.new-${process.pid}`);
  await rm(staging, { recursive: true, force: true });
  const begun = Date.now();
  onProgress({ kind: 'start', name: 'bundle', message: `checking ${file}` });
  const lacking = new Map<string, LockedArtifact>();
  let said = 0;
  try {
    const bundle = await readBundle(file, {
      signal,
      onBytes: (done) => {
        if (done - said < stepBytes) return;
        said = done;
        onProgress({ kind: 'step', name: 'bundle', message: `checking ${file}`, done });
      },
      onFront: async (description, lock) => {
        for (const artifact of await lackingArtifacts(description, lock, options)) {
          lacking.set(artifactPath(artifact.architecture, artifact.kind, artifact.name), artifact);
        }
      },
      onArtifact: async (place, content) => {
        if (!lacking.has(place)) return;
        const target = path.join(staging, place);
        await mkdir(path.dirname(target), { recursive: true });
        await pipeline(content, createWriteStream(target, { mode: modeOf(place) }));
      },
    });
    await place(bundle, lacking, staging, options);
    onProgress({ kind: 'done', name: 'bundle', message: `checked ${file}`, seconds: (Date.now() - begun) / 1000 });
    return bundle;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** What the bundle's lock names and the cache has not. */
async function lackingArtifacts(
  { kubernetes }: Description,
  lock: ArtifactLock,
  { cache, catalog = loadCatalog() }: UnpackOptions,
): Promise<LockedArtifact[]> {
  // Whichever add-ons it was made with.
  const components = componentsFor(catalog, kubernetes, everyChoice(catalog));
  const lacking: LockedArtifact[] = [];
  for (const architecture of lock.architectures) {
    for (const artifact of lockedArtifacts(components, architecture, lock, cache)) {
      if (artifact.places.length === 0) continue;
      if ((await cachedFile(artifact.places, artifact.sha256)) === undefined) lacking.push(artifact);
    }
  }
  return lacking;
}

/** Makes the folders of the cache out of what was staged, each whole. */
async function place(
  { description, digests, file }: CheckedBundle,
  lacking: ReadonlyMap<string, LockedArtifact>,
  staging: string,
  { signal }: UnpackOptions,
): Promise<void> {
  const folders = new Map<string, Array<readonly [string, LockedArtifact]>>();
  for (const entry of lacking) {
    const folder = path.dirname(entry[1].places[0] ?? '');
    folders.set(folder, [...(folders.get(folder) ?? []), entry]);
  }
  for (const [folder, entries] of folders) {
    const made = await makeFolder(folder, signal, async (temporary) => {
      const files: { name: string; ref?: string }[] = [];
      for (const [place, { kind, places, version }] of entries) {
        const name = path.basename(places[0] ?? place);
        await rename(path.join(staging, place), path.join(temporary, name));
        files.push(kind === 'image' ? { name, ref: version } : { name });
      }
      const { architecture, component } = entries[0]?.[1] as LockedArtifact;
      const built = description.builds[architecture]?.[component.name];
      return { files, remarks: built ?? { bundle: path.basename(file) } };
    });
    for (const [place, { name, places }] of entries) {
      const there = made.files.get(path.basename(places[0] ?? place))?.sha256;
      if (there === digests.get(place)) continue;
      throw environmentError(`the cache holds another ${name} of the same build: ${there}, not ${digests.get(place)}`, {
        code: 'bundle-cache-differs',
        where: folder,
        next: 'The same build gives the same bytes: find out which one is right. With the folder deleted, the bundle is taken.',
      });
    }
  }
}
