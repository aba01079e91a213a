/** Where the cache holds what a lock names. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Architecture } from '../types/cluster.js';
import { buildFolder } from './build.js';
import type { Component, UpstreamFile } from './catalog.js';
import { fileSize, readFolder } from './files.js';
import type { ArtifactLock } from './lock.js';

/** Where a published file lies in the cache once it is verified. */
export function downloadFolder(cache: string, sha256: string, name: string): string {
  return path.join(cache, 'downloads', `${sha256}-${name}`);
}

/** Where an archive's binaries lie in the cache. */
export function extractedFolder(
  cache: string,
  sha256: string,
  members: ReadonlyArray<{ readonly name: string; readonly member: string | undefined }>,
): string {
  const wanted = members.map(({ name, member }) => `${name}=${member}`).join('\n');
  const key = createHash('sha256').update(wanted).digest('hex').slice(0, 8);
  return path.join(cache, 'extracted', `${sha256}-${key}`);
}

/** Where the archive of an image that a registry publishes lies in the cache. */
export function imageFolder(cache: string, architecture: Architecture, digest: string): string {
  return path.join(cache, 'images', `${digest.replace(/^sha256:/, '')}-${architecture}`);
}

/** What a lock names of one component: a binary, or an image's archive. */
export interface LockedArtifact {
  readonly kind: 'binary' | 'image';
  readonly architecture: Architecture;
  readonly component: Component;
  readonly name: string;
  /** As in the lock: `upstream`, `build:KEY`, and for images `registry` or `archive`. */
  readonly origin: string;
  /** The binary's version, or the image's reference. */
  readonly version: string;
  /** undefined: an image from a registry, of which the lock has another digest. */
  readonly sha256: string | undefined;
  /** Where the cache may hold it, best first. */
  readonly places: ReadonlyArray<string>;
}

/** What the lock names of the components, in their order. */
export function lockedArtifacts(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  lock: ArtifactLock,
  cache: string,
): LockedArtifact[] {
  return components.flatMap((component): LockedArtifact[] => {
    const common = { architecture, component };
    const binaries = component.binaries.flatMap(({ name }): LockedArtifact[] => {
      const locked = lock.binary(architecture, name);
      if (locked === undefined) return [];
      const { origin, version, sha256 } = locked;
      const file = component.files(architecture).find((one) => one.binaries.some((binary) => binary.name === name));
      const places = origin.startsWith('build:')
        ? [path.join(builtFolder(cache, component, architecture, origin), name)]
        : file === undefined
          ? []
          : publishedPlaces(file, name, sha256, lock, cache);
      return [{ ...common, kind: 'binary', name, origin, version, sha256, places }];
    });
    const image = component.image && lock.image(architecture, component.image.name);
    if (component.image === undefined || image === undefined) return binaries;
    const { name } = component.image;
    const { origin, ref, sha256, digest } = image;
    const folder = origin.startsWith('build:')
      ? builtFolder(cache, component, architecture, origin)
      : sha256 !== undefined
        ? downloadFolder(cache, sha256, `${name}.tar`)
        : digest !== undefined
          ? imageFolder(cache, architecture, digest)
          : undefined;
    const places = folder === undefined ? [] : [path.join(folder, `${name}.tar`)];
    return [...binaries, { ...common, kind: 'image', name, origin, version: ref, sha256, places }];
  });
}

function builtFolder(cache: string, component: Component, architecture: Architecture, origin: string): string {
  return buildFolder(cache, component, architecture, origin.slice('build:'.length));
}

/** Where the cache may hold a binary of a published file. */
export function publishedPlaces(
  file: UpstreamFile,
  name: string,
  sha256: string,
  lock: ArtifactLock,
  cache: string,
): string[] {
  const archive = lock.locked(file.architecture, file.id, file.url)?.sha256;
  const packed = file.binaries.some((one) => one.member !== undefined);
  return [
    ...(packed && archive !== undefined ? [path.join(extractedFolder(cache, archive, file.binaries), name)] : []),
    ...(packed ? [] : [path.join(downloadFolder(cache, sha256, file.name), file.name)]),
    // Taken from a directory by its own name.
    path.join(downloadFolder(cache, sha256, name), name),
  ];
}

/** The first of the places that holds a complete file, with this digest if one is given. */
export async function cachedFile(
  places: ReadonlyArray<string>,
  sha256?: string,
): Promise<{ readonly path: string; readonly sha256: string } | undefined> {
  for (const place of places) {
    const found = (await readFolder(path.dirname(place)))?.files.get(path.basename(place));
    if (found !== undefined && (sha256 === undefined || found.sha256 === sha256)) return found;
  }
  return undefined;
}

/** The first of the places where something lies, whatever it is. */
export async function firstThere(places: ReadonlyArray<string>): Promise<string | undefined> {
  for (const place of places) if (await isThere(place)) return place;
  return undefined;
}

/** Whether a file is there. */
export async function isThere(file: string): Promise<boolean> {
  return (await fileSize(file)) !== undefined;
}
