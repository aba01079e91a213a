/**
 * The form of a bundle: a plain tar file that other programs open, of which every byte is checked.
 *
 * Its first file is SHA256SUMS, with the digest of every other one, as `sha256sum --check` takes it. Then come
 * bundle.json, artifacts.lock and sbom.cdx.json, then the artifacts by path. Owners, times and modes are fixed, and
 * nothing is compressed (zlib's output differs between its versions), so that the same content gives the same bytes.
 */
import { z } from 'zod';
import { headerBlock } from '../archive/tar.js';
import type { ArtifactLock } from '../artifacts/index.js';
import type { Architecture } from '../types/cluster.js';

export const SUMS = 'SHA256SUMS';
export const DESCRIPTION = 'bundle.json';
export const LOCK = 'artifacts.lock';
export const SBOM = 'sbom.cdx.json';
/** What comes before the artifacts, in this order. */
export const FRONT: ReadonlyArray<string> = [DESCRIPTION, LOCK, SBOM];

/** The most that a file of text in a bundle may have, in bytes: it is held in memory. */
export const LARGEST_TEXT = 16 << 20;

const epoch = new Date(0);

const descriptionSchema = z.strictObject({
  kind: z.literal('k8s-ans-bundle'),
  version: z.literal(1),
  kubernetes: z.string(),
  architectures: z.array(z.enum(['amd64', 'arm64'])).min(1),
  /** Architecture → component → how it was built, for artifacts of source `build`. */
  builds: z.partialRecord(z.enum(['amd64', 'arm64']), z.record(z.string(), z.record(z.string(), z.string()))),
});

/** What a bundle says of itself. */
export type Description = z.infer<typeof descriptionSchema>;

/** The path of a binary or of an image's archive in the bundle. */
export function artifactPath(architecture: Architecture, kind: 'binary' | 'image', name: string): string {
  return kind === 'binary' ? `${architecture}/bin/${name}` : `${architecture}/images/${name}.tar`;
}

/** The header that a file of this path and size has in every bundle; undefined where the path does not fit. */
export function bundleHeader(path: string, size: number): Buffer | undefined {
  return headerBlock({ path, size, mode: modeOf(path), mtime: epoch });
}

/** Binaries can be run from an opened bundle. */
export function modeOf(path: string): number {
  return path.includes('/bin/') ? 0o755 : 0o644;
}

/** All files have the same time. */
export const timeOf = (): Date => epoch;

/** The paths of a bundle in their order, but for SHA256SUMS. */
export function inOrder(paths: Iterable<string>): string[] {
  const rank = (path: string): number => (FRONT.includes(path) ? FRONT.indexOf(path) : FRONT.length);
  return [...paths].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0));
}

/** The text of SHA256SUMS. */
export function formatSums(digests: ReadonlyMap<string, string>): string {
  return inOrder(digests.keys())
    .map((path) => `${digests.get(path)}  ${path}\n`)
    .join('');
}

/** Digests by path, or why the text is no SHA256SUMS of a bundle: each of its bytes has a meaning. */
export function parseSums(text: string): Map<string, string> | string {
  const digests = new Map<string, string>();
  for (const [index, line] of text.split('\n').slice(0, -1).entries()) {
    const found = /^([0-9a-f]{64}) {2}(\w[\w.+~-]*(?:\/\w[\w.+~-]*)*)$/.exec(line);
    if (found?.[1] === undefined || found[2] === undefined) return `its line ${index + 1} is no digest and path`;
    digests.set(found[2], found[1]);
  }
  return formatSums(digests) === text ? digests : 'its lines are not in order, or a path is there twice';
}

/** The text of bundle.json. */
export function formatDescription(description: Description): string {
  return `${JSON.stringify(descriptionSchema.parse(description), null, 2)}\n`;
}

/** Reads bundle.json; a string says why it is none. */
export function parseDescription(text: string): Description | string {
  try {
    const version = z.object({ version: z.number() }).safeParse(JSON.parse(text)).data?.version ?? 1;
    if (version > 1) return `it is of version ${version} of the format, and this k8s-ans knows version 1`;
    const result = descriptionSchema.safeParse(JSON.parse(text));
    return result.success ? result.data : z.prettifyError(result.error);
  } catch {
    return 'it is no JSON';
  }
}

/** The digests that the lock demands of the artifacts, by path; undefined: of an image that a registry publishes. */
export function lockedPaths(lock: ArtifactLock): Map<string, string | undefined> {
  const paths = new Map<string, string | undefined>();
  for (const architecture of lock.architectures) {
    const { binaries, images } = lock.entries(architecture);
    for (const [name, { sha256 }] of Object.entries(binaries)) {
      paths.set(artifactPath(architecture, 'binary', name), sha256);
    }
    for (const [name, { sha256 }] of Object.entries(images)) {
      paths.set(artifactPath(architecture, 'image', name), sha256);
    }
  }
  return paths;
}

/** What does not go together in a bundle whose files all have their digests, as sentences. */
export function contradictions(
  digests: ReadonlyMap<string, string>,
  description: Description,
  lock: ArtifactLock,
): string[] {
  const wanted = lockedPaths(lock);
  const found: string[] = [];
  if (description.kubernetes !== lock.kubernetes) {
    found.push(`${DESCRIPTION} says Kubernetes ${description.kubernetes}, ${LOCK} ${lock.kubernetes}`);
  }
  if (String(description.architectures) !== String(lock.architectures)) {
    found.push(`${DESCRIPTION} says ${description.architectures.join(', ')}, ${LOCK} ${lock.architectures.join(', ')}`);
  }
  for (const [path, sha256] of wanted) {
    const digest = digests.get(path);
    if (digest === undefined) found.push(`${path} is missing, and ${LOCK} names it`);
    else if (sha256 !== undefined && digest !== sha256) {
      found.push(`${path} has the sha256 ${digest}, but ${LOCK} says ${sha256}`);
    }
  }
  for (const path of digests.keys()) {
    if (!FRONT.includes(path) && !wanted.has(path)) found.push(`${path} is unexpected: ${LOCK} does not name it`);
  }
  for (const name of FRONT) if (!digests.has(name)) found.push(`${name} is missing`);
  return found;
}
