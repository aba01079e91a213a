/** Where a run's artifacts come from, and why. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Architecture, ArtifactSource } from '../types/cluster.js';
import { environmentError, usageError } from '../types/errors.js';
import { type Component, canBeBuilt, isOnlyPulled, type UpstreamFile } from './catalog.js';
import { answers } from './fetch.js';
import type { ArtifactLock } from './lock.js';
import { hasGo } from './toolchain.js';

export type ChosenSource =
  | { readonly kind: 'upstream'; readonly reason: string }
  | { readonly kind: 'mirror'; readonly url: string; readonly reason: string }
  | { readonly kind: 'directory'; readonly path: string; readonly reason: string }
  | { readonly kind: 'build'; readonly reason: string };

/** How long `auto` waits for upstream's hosts, in milliseconds. */
export const probeMs = 5000;

/**
 * Chooses the source of a run. `auto` stays with what artifacts.lock says; without that it takes upstream if all of
 * its hosts answer, else `build` if this machine has Go.
 *
 * Throws an environment error `artifacts-no-source` if none is usable, a usage error for a directory that is none.
 */
export async function chooseSource(
  wanted: ArtifactSource,
  components: ReadonlyArray<Component>,
  lock: ArtifactLock,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
  probe: typeof answers = answers,
): Promise<ChosenSource> {
  const spec = 'cluster.yaml says so';
  if (wanted.kind === 'mirror') return { kind: 'mirror', url: wanted.url, reason: spec };
  if (wanted.kind === 'directory') return { kind: 'directory', path: await folder(wanted.path), reason: spec };
  if (wanted.kind !== 'auto') return { kind: wanted.kind, reason: spec };
  if (lock.source !== undefined) return { kind: lock.source, reason: 'artifacts.lock says so' };
  const silent = await silentHosts(components, signal, probe);
  if (silent.length === 0) return { kind: 'upstream', reason: 'its hosts answer' };
  const unreached = `${silent.join(' and ')} cannot be reached`;
  const unpinned = components.filter((component) => !canBeBuilt(component) && !isOnlyPulled(component));
  if (unpinned.length === 0 && (await hasGo(env))) {
    return { kind: 'build', reason: `${unreached}, and this machine has Go` };
  }
  const why =
    unpinned.length > 0
      ? `the catalog pins no Go modules for ${unpinned.map(({ name, version }) => `${name} ${version}`).join(', ')}`
      : 'this machine has no Go to build with';
  throw environmentError(`there is no source for the artifacts: ${unreached}, and ${why}`, {
    code: 'artifacts-no-source',
    next: 'Run `k8s-ans doctor --fix` to have Go, or name a mirror or directory under artifacts.source in cluster.yaml.',
  });
}

/**
 * Whether source `auto` would build: artifacts.lock says so, or it says nothing and upstream cannot be reached.
 */
export async function autoBuilds(
  components: ReadonlyArray<Component>,
  lock: ArtifactLock,
  signal: AbortSignal,
  probe: typeof answers = answers,
): Promise<boolean> {
  if (lock.source !== undefined) return lock.source === 'build';
  return (await silentHosts(components, signal, probe)).length > 0;
}

/** A sentence for people: which source, and why. */
export function describeSource(source: ChosenSource): string {
  const what = {
    upstream: () => 'from upstream',
    mirror: () => `from the mirror ${(source as { url: string }).url}`,
    directory: () => `from the folder ${(source as { path: string }).path}`,
    build: () => 'built on this machine from pinned Go modules',
  }[source.kind]();
  return `Artifacts are taken ${what}: ${source.reason}.`.replace('are taken built', 'are built');
}

/** The URL of a file in a source; `directory` has none. A mirror holds it under MIRROR/HOST/PATH. */
export function sourceUrl(source: ChosenSource, url: string): string {
  if (source.kind !== 'mirror') return url;
  return `${source.url.replace(/\/+$/, '')}/${upstreamPath(url)}`;
}

/** HOST/PATH of an upstream URL. */
export function upstreamPath(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}

/** Where a directory may hold an upstream file, best first: upstream's layout, by architecture, by name. */
export function directoryCandidates(root: string, file: Pick<UpstreamFile, 'url' | 'name' | 'architecture'>): string[] {
  return [
    path.join(root, upstreamPath(file.url)),
    path.join(root, file.architecture, file.name),
    path.join(root, file.name),
  ];
}

/** Where a directory may hold a single binary or image archive by its name. */
export function namedCandidates(root: string, architecture: Architecture, name: string): string[] {
  return [path.join(root, architecture, name), path.join(root, name)];
}

async function silentHosts(
  components: ReadonlyArray<Component>,
  signal: AbortSignal,
  probe: typeof answers,
): Promise<string[]> {
  // One file of each host; checksum files are small, and of the others only the head is read.
  const urls = new Map<string, string>();
  for (const component of components) {
    for (const { checksum, url } of component.files('amd64')) {
      const asked = checksum ?? url;
      urls.set(new URL(asked).host, asked);
    }
  }
  const results = await Promise.all(
    [...urls].map(async ([host, url]) => ((await probe(url, probeMs, signal)) ? undefined : host)),
  );
  return results.filter((host) => host !== undefined);
}

async function folder(given: string): Promise<string> {
  const found = await stat(given).catch(() => undefined);
  if (found?.isDirectory()) return path.resolve(given);
  throw usageError(`artifacts.source names the folder ${given}, and there is no such folder`, {
    code: 'artifacts-no-directory',
    where: given,
    next: 'Correct the path; a relative one counts from the folder of cluster.yaml.',
  });
}
