/** Looks at a cluster's artifacts without installing any: list, lock and verify. */
import path from 'node:path';
import type { Architecture } from '../types/cluster.js';
import { usageError } from '../types/errors.js';
import { cacheRoot } from '../types/package.js';
import { type Component, clusterComponents, loadCatalog } from './catalog.js';
import { readFolder } from './files.js';
import { ArtifactLock } from './lock.js';
import { firstThere, isThere, lockedArtifacts } from './places.js';
import type { PrepareOptions } from './prepare.js';
import { expectedDigest, publishedBinaries } from './published.js';
import { chooseSource, describeSource } from './source.js';
import { hasCosign } from './verify.js';

/** One published file, as `artifacts list` shows it. */
export interface ListedFile {
  readonly component: string;
  readonly version: string;
  readonly architecture: Architecture;
  /** The file's name, or an image's reference. */
  readonly file: string;
  /** Binaries in it; empty for an image. */
  readonly binaries: ReadonlyArray<string>;
  /** Where upstream publishes it; an image's reference. */
  readonly url: string;
  /** null: open, `artifacts lock` takes it. */
  readonly sha256: string | null;
  /** `catalog`, `lock` or `open`. */
  readonly state: 'catalog' | 'lock' | 'open';
}

/** The published files of the components with the digests that are known for them. */
export function listFiles(
  components: ReadonlyArray<Component>,
  architectures: ReadonlyArray<Architecture>,
  lock: ArtifactLock | undefined,
): ListedFile[] {
  return architectures.flatMap((architecture) =>
    components.flatMap((component): ListedFile[] => {
      const { name, version, image } = component;
      const files = component.files(architecture).map((file): ListedFile => {
        const locked = lock?.locked(architecture, file.id, file.url)?.sha256;
        const sha256 = locked ?? file.sha256 ?? null;
        const state = locked !== undefined ? 'lock' : sha256 === null ? 'open' : 'catalog';
        const binaries = file.binaries.map((binary) => binary.name);
        const { url } = file;
        return { component: name, version, architecture, file: file.name, binaries, url, sha256, state };
      });
      if (image === undefined) return files;
      const sha256 = component.imageDigest(architecture) ?? null;
      const state = sha256 === null ? 'open' : 'catalog';
      const { ref } = image;
      return [...files, { component: name, version, architecture, file: ref, binaries: [], url: ref, sha256, state }];
    }),
  );
}

/** What `lockFiles` froze. */
export interface LockedFiles {
  /** Files whose digest was taken from the publisher now. */
  readonly taken: ReadonlyArray<{ readonly url: string; readonly sha256: string; readonly from: string }>;
  readonly written: boolean;
  /** False: cosign is not on this machine. */
  readonly signatures: boolean;
}

/**
 * Freezes the digest of every published file: the catalog's, and for open ones the publisher's own. With cosign on
 * PATH, files that are signed are downloaded and their signatures checked.
 *
 * Throws a usage error for source `build`, whose digests are frozen by building; otherwise as `prepareArtifacts`.
 */
export async function lockFiles(options: PrepareOptions): Promise<LockedFiles> {
  const { cluster, home, architectures, signal, onProgress } = options;
  const env = options.env ?? process.env;
  const components = clusterComponents(options.catalog ?? loadCatalog(), cluster);
  const lock = await ArtifactLock.read(home.lock, cluster.kubernetes.version);
  const source = await chooseSource(cluster.artifacts.source, components, lock, env, signal, options.probe);
  if (source.kind === 'build') {
    throw usageError(`nothing is published to take digests from: artifacts are built (${source.reason})`, {
      code: 'lock-built',
      next: 'Run `k8s-ans artifacts fetch`, which builds them and freezes what was built.',
    });
  }
  onProgress({ kind: 'note', name: 'source', message: describeSource(source) });
  const signatures = await hasCosign(env);
  if (!signatures) {
    onProgress({
      kind: 'note',
      name: 'signatures',
      message: 'cosign is not on PATH: digests are taken over HTTPS, signatures are not checked.',
    });
  }
  const cache = options.cache ?? cacheRoot(env);
  const published = { source, lock, cache, env, signal, onProgress, limits: options.limits, signatures };
  const taken: { url: string; sha256: string; from: string }[] = [];
  for (const architecture of architectures) {
    for (const file of components.flatMap((component) => component.files(architecture))) {
      const before = lock.locked(architecture, file.id, file.url);
      const digest = await expectedDigest(file, published);
      if (signatures && file.cosign !== undefined && source.kind !== 'directory')
        await publishedBinaries(file, published);
      else lock.freezeFile(architecture, file.id, { url: file.url, ...digest });
      if (before === undefined && digest.from !== 'catalog') taken.push({ url: file.url, ...digest });
    }
  }
  lock.source = 'upstream';
  return { taken, written: await lock.write(), signatures };
}

/** The state of one binary or image archive in the cache. */
export interface ArtifactState {
  readonly architecture: Architecture;
  readonly name: string;
  readonly sha256: string;
  readonly path: string;
  readonly state: 'ok' | 'missing' | 'altered';
}

/** Computes the digest of everything in the cache that the lock names. */
export async function verifyCache(
  components: ReadonlyArray<Component>,
  architectures: ReadonlyArray<Architecture>,
  lock: ArtifactLock,
  cache: string,
): Promise<ArtifactState[]> {
  const states: ArtifactState[] = [];
  for (const architecture of architectures) {
    for (const artifact of lockedArtifacts(components, architecture, lock, cache)) {
      const { name, sha256 } = artifact;
      if (sha256 === undefined) continue;
      const place = (await firstThere(artifact.places)) ?? artifact.places[0];
      if (place === undefined) continue;
      const found = (await readFolder(path.dirname(place), true))?.files.get(path.basename(place));
      const state = found?.sha256 === sha256 ? 'ok' : (await isThere(place)) ? 'altered' : 'missing';
      states.push({ architecture, name, sha256, path: place, state });
    }
  }
  return states;
}
