/** Writes a bundle: what a lock names, from the cache, in one file. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type ArchiveFile, writeArchive } from '../archive/tar.js';
import {
  type ArtifactLock,
  type Component,
  cachedFile,
  type LockedArtifact,
  lockedArtifacts,
  readFolder,
} from '../artifacts/index.js';
import type { Architecture } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import {
  artifactPath,
  DESCRIPTION,
  type Description,
  formatDescription,
  formatSums,
  inOrder,
  LOCK,
  modeOf,
  SBOM,
  SUMS,
  timeOf,
} from './format.js';
import { programOf, programsInArchive } from './programs.js';
import { type BilledFile, billOfMaterials } from './sbom.js';

export interface WriteOptions {
  /** The file to write; one that is there is replaced once the new one is whole. */
  readonly file: string;
  readonly components: ReadonlyArray<Component>;
  readonly architectures: ReadonlyArray<Architecture>;
  readonly lock: ArtifactLock;
  readonly cache: string;
  readonly signal: AbortSignal;
}

export interface WrittenBundle {
  readonly file: string;
  readonly size: number;
  /** Of the whole file. */
  readonly sha256: string;
  /** Digests by path. */
  readonly digests: ReadonlyMap<string, string>;
}

/** Where an artifact's content lies, and what it has to be. */
interface Source {
  readonly artifact: LockedArtifact;
  readonly file: string;
  readonly sha256: string;
}

/**
 * Writes the bundle of everything that the lock names for the architectures.
 *
 * The same lock gives the same bytes. The content is streamed, and its digests are compared as it passes.
 *
 * @throws K8sAnsError `bundle-incomplete` (exit code 4) where the cache lacks something or holds it altered
 */
export async function writeBundle(options: WriteOptions): Promise<WrittenBundle> {
  const { file, components, lock, cache, signal } = options;
  const architectures = lock.architectures.filter((name) => options.architectures.includes(name));
  const sources = new Map<string, Source>();
  for (const architecture of architectures) {
    for (const artifact of lockedArtifacts(components, architecture, lock, cache)) {
      const there = await cachedFile(artifact.places, artifact.sha256);
      if (there === undefined) throw incomplete(artifact.name, architecture, artifact.places[0] ?? cache);
      const place = artifactPath(architecture, artifact.kind, artifact.name);
      sources.set(place, { artifact, file: there.path, sha256: there.sha256 });
    }
  }
  const builds = await buildsOf([...sources.values()]);
  const bill = await billed(sources, builds);
  const texts = new Map<string, Buffer>([
    [
      DESCRIPTION,
      Buffer.from(
        formatDescription({ kind: 'k8s-ans-bundle', version: 1, kubernetes: lock.kubernetes, architectures, builds }),
      ),
    ],
    [LOCK, Buffer.from(lock.text(architectures))],
    [SBOM, Buffer.from(billOfMaterials(lock.kubernetes, bill))],
  ]);
  const digests = new Map<string, string>();
  for (const [name, text] of texts) digests.set(name, createHash('sha256').update(text).digest('hex'));
  for (const [place, { sha256 }] of sources) digests.set(place, sha256);
  texts.set(SUMS, Buffer.from(formatSums(digests)));

  const draft = `${file}.new-${process.pid}`;
  const whole = createHash('sha256');
  let size = 0;
  const handle = await open(draft, 'w', 0o644);
  try {
    const faults = {
      unfit: (place: string) => new Error(`${place} does not fit the format`),
      changed: (place: string) => incomplete(place, undefined, sources.get(place)?.file ?? place),
    };
    for await (const part of writeArchive(archiveFiles(texts, sources, inOrder(digests.keys()), signal), faults)) {
      whole.update(part);
      size += part.length;
      await handle.writeFile(part);
    }
    await handle.sync();
    await handle.close();
    await rename(draft, file);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(draft, { force: true });
    throw error;
  }
  return { file, size, sha256: whole.digest('hex'), digests };
}

async function* archiveFiles(
  texts: ReadonlyMap<string, Buffer>,
  sources: ReadonlyMap<string, Source>,
  order: ReadonlyArray<string>,
  signal: AbortSignal,
): AsyncGenerator<ArchiveFile> {
  for (const place of [SUMS, ...order]) {
    const common = { path: place, mode: modeOf(place), mtime: timeOf() };
    const text = texts.get(place);
    const source = sources.get(place);
    if (text !== undefined) yield { ...common, size: text.length, content: [text] };
    else if (source !== undefined) {
      const { size } = await stat(source.file);
      yield { ...common, size, content: checkedContent(place, source, signal) };
    }
  }
}

/** The content of a file in the cache, refused at its end when it is not what the lock names. */
async function* checkedContent(place: string, { file, sha256, artifact }: Source, signal: AbortSignal) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal })) {
    hash.update(chunk as Buffer);
    yield chunk as Buffer;
  }
  if (hash.digest('hex') !== sha256) throw incomplete(place, artifact.architecture, file);
}

/** How the artifacts of source `build` were built, as the cache's folders remark. */
async function buildsOf(sources: ReadonlyArray<Source>): Promise<Description['builds']> {
  const builds: Description['builds'] = {};
  for (const { artifact, file } of sources) {
    if (!artifact.origin.startsWith('build:')) continue;
    const content = await readFolder(path.dirname(file));
    if (content === undefined) throw incomplete(artifact.name, artifact.architecture, file);
    const { architecture, component } = artifact;
    builds[architecture] = { ...builds[architecture], [component.name]: { ...content.remarks } };
  }
  return builds;
}

async function billed(sources: ReadonlyMap<string, Source>, builds: Description['builds']): Promise<BilledFile[]> {
  const files: BilledFile[] = [];
  for (const place of inOrder(sources.keys())) {
    const { artifact, file, sha256 } = sources.get(place) as Source;
    const { architecture, component, kind, name } = artifact;
    const published = component
      .files(architecture)
      .find((one) => artifact.origin === 'upstream' && one.binaries.some((binary) => binary.name === name));
    files.push({
      path: place,
      sha256,
      name,
      version: kind === 'image' ? component.version : artifact.version,
      architecture,
      image: kind === 'image' ? artifact.version : undefined,
      url: published?.url,
      toolchain: builds[architecture]?.[component.name]?.toolchain,
      programs: kind === 'image' ? await programsInArchive(file) : await programOf(file),
    });
  }
  return files;
}

function incomplete(name: string, architecture: Architecture | undefined, where: string): Error {
  const what = architecture === undefined ? name : `${name} (${architecture})`;
  return environmentError(`the cache lacks ${what}, or holds it altered`, {
    code: 'bundle-incomplete',
    where,
    next: 'Run `k8s-ans artifacts fetch`, which brings it again, then the command anew.',
  });
}
