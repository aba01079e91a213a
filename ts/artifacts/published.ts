/** Published files (sources upstream, mirror, directory): digests, downloads, extraction, into the cache. */
import { chmod, copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Architecture } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import type { UpstreamFile } from './catalog.js';
import { extractBinaries } from './extract.js';
import { download, fetchText, type Limits } from './fetch.js';
import { fileSize, makeFolder, readFolder, sha256File } from './files.js';
import type { ArtifactLock } from './lock.js';
import { cachedFile, downloadFolder, extractedFolder, publishedPlaces } from './places.js';
import type { OnProgress } from './progress.js';
import { type ChosenSource, directoryCandidates, namedCandidates, sourceUrl } from './source.js';
import { digestFromRelease, digestFromSums, verifySignature } from './verify.js';

/** How often a download says how far it is, in milliseconds. */
const stepMs = 200;

export type PublishedSource = Exclude<ChosenSource, { kind: 'build' }>;

export interface PublishedOptions {
  readonly source: PublishedSource;
  readonly lock: ArtifactLock;
  readonly cache: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  readonly limits?: Partial<Limits> | undefined;
  /** True: check signatures with cosign, where the publisher signs. */
  readonly signatures: boolean;
}

/** A file in the cache whose digest was checked. */
export interface VerifiedFile {
  readonly path: string;
  readonly sha256: string;
}

/** The digest of a published file, and who says it. */
export interface Digest {
  readonly sha256: string;
  /** `catalog`, or the URL or path of the checksum file. */
  readonly from: string;
}

/**
 * The digest a file must have: artifacts.lock's, else the catalog's, else the publisher's own.
 *
 * Throws `lock-differs` where catalog and lock disagree, `artifact-no-digest` where nobody states one.
 */
export async function expectedDigest(file: UpstreamFile, options: PublishedOptions): Promise<Digest> {
  const { lock, source } = options;
  const locked = lock.locked(file.architecture, file.id, file.url);
  if (locked !== undefined) {
    if (file.sha256 !== undefined) lock.freezeFile(file.architecture, file.id, { ...locked, sha256: file.sha256 });
    return { sha256: locked.sha256, from: locked.from };
  }
  if (file.sha256 !== undefined) return { sha256: file.sha256, from: 'catalog' };
  const stated =
    source.kind === 'directory' ? await digestInFolder(source.path, file) : await digestOnline(file, options);
  if (stated !== undefined) return stated;
  throw environmentError(`nobody states a sha256 for ${file.name}, and nothing is installed without one`, {
    code: 'artifact-no-digest',
    where: source.kind === 'directory' ? source.path : sourceUrl(source, file.checksum ?? file.url),
    next: undigested(file, source),
  });
}

function undigested({ checksum }: UpstreamFile, source: PublishedSource): string {
  if (source.kind === 'directory') {
    const published =
      checksum === undefined ? '' : `the publisher's checksum file (${path.posix.basename(checksum)}) or `;
    return `Put ${published}a SHA256SUMS of your own beside it.`;
  }
  return checksum === undefined
    ? 'Its publisher states none. Use the version that the catalog has a digest of, or a directory with a SHA256SUMS of your own.'
    : 'The checksum file does not name it. Use another version or source.';
}

/** The verified binaries of a published file, by name. Freezes file and binaries in the lock. */
export async function publishedBinaries(
  file: UpstreamFile,
  options: PublishedOptions,
): Promise<Map<string, VerifiedFile>> {
  const { source, lock, cache, signal } = options;
  if (source.kind === 'directory' && (await firstFile(directoryCandidates(source.path, file))) === undefined) {
    return looseBinaries(source.path, file, options);
  }
  const here = await frozenBinaries(file, options);
  if (here !== undefined) return here;
  const digest = await expectedDigest(file, options);
  const cached = await fetchFile(file, digest, options);
  const signed = await checkSignature(file, cached.path, options);
  lock.freezeFile(file.architecture, file.id, { url: file.url, ...digest, ...(signed && { signed }) });
  const members = file.binaries.flatMap(({ name, member }) => (member === undefined ? [] : [{ name, member }]));
  const found = new Map<string, VerifiedFile>();
  if (members.length === 0) {
    await chmod(cached.path, 0o755);
    for (const { name } of file.binaries) found.set(name, cached);
  } else {
    const folder = extractedFolder(cache, digest.sha256, members);
    const content = await extractBinaries(cached.path, members, folder, signal);
    for (const [name, { path, sha256 }] of content.files) found.set(name, { path, sha256 });
  }
  for (const [name, { sha256 }] of found) {
    lock.freezeBinary(file.architecture, name, { version: file.version, origin: 'upstream', sha256 });
  }
  return found;
}

/**
 * The binaries of a published file that the lock has and the cache holds, or undefined. The archive that they came in
 * need not be there, as where a bundle brought them.
 */
async function frozenBinaries(
  file: UpstreamFile,
  { lock, cache, signatures }: PublishedOptions,
): Promise<Map<string, VerifiedFile> | undefined> {
  const published = lock.locked(file.architecture, file.id, file.url);
  // Throws where the catalog says otherwise.
  if (published !== undefined && file.sha256 !== undefined) {
    lock.freezeFile(file.architecture, file.id, { ...published, sha256: file.sha256 });
  }
  if (signatures && file.cosign !== undefined && published?.signed !== true) return undefined;
  const found = new Map<string, VerifiedFile>();
  for (const { name } of file.binaries) {
    const frozen = lock.binary(file.architecture, name);
    if (frozen?.origin !== 'upstream' || frozen.version !== file.version) return undefined;
    const there = await cachedFile(publishedPlaces(file, name, frozen.sha256, lock, cache), frozen.sha256);
    if (there === undefined) return undefined;
    found.set(name, there);
  }
  return found;
}

/**
 * An image archive in a directory source, `NAME.tar`, or undefined: then hosts pull the image.
 *
 * Throws `artifact-no-digest` if the archive is there and no digest is.
 */
export async function imageInFolder(
  root: string,
  name: string,
  architecture: Architecture,
  options: PublishedOptions,
): Promise<VerifiedFile | undefined> {
  const found = await firstFile(namedCandidates(root, architecture, `${name}.tar`));
  if (found === undefined) return undefined;
  const sha256 = options.lock.image(architecture, name)?.sha256 ?? (await sumBeside(found));
  if (sha256 === undefined) throw noSum(found);
  return copyToCache(found, sha256, options);
}

async function fetchFile(file: UpstreamFile, digest: Digest, options: PublishedOptions): Promise<VerifiedFile> {
  const { source, cache, signal, onProgress, lock } = options;
  const folder = downloadFolder(cache, digest.sha256, file.name);
  const there = (await readFolder(folder))?.files.get(file.name);
  if (there !== undefined) return there;
  const from = await firstFile(source.kind === 'directory' ? directoryCandidates(source.path, file) : []);
  if (from !== undefined) return copyToCache(from, digest.sha256, options, file.name);
  const name = `${file.name} (${file.architecture})`;
  const url = sourceUrl(source, file.url);
  const begun = Date.now();
  let said = begun;
  onProgress({ kind: 'start', name, message: `downloading ${url}` });
  const waiting = path.join(cache, 'downloads', 'waiting', digest.sha256);
  const vouchedBy =
    lock.locked(file.architecture, file.id, file.url) !== undefined
      ? 'artifacts.lock'
      : digest.from === 'catalog'
        ? 'the catalog'
        : digest.from;
  await download({
    url,
    file: waiting,
    sha256: digest.sha256,
    vouchedBy,
    signal,
    limits: options.limits,
    onBytes: (done, total) => {
      if (done !== total && Date.now() - said < stepMs) return;
      said = Date.now();
      onProgress({ kind: 'step', name, message: `downloading ${url}`, done, total });
    },
  });
  const content = await makeFolder(folder, signal, async (temporary) => {
    await rename(waiting, path.join(temporary, file.name));
    return { files: [{ name: file.name }], remarks: { url } };
  });
  onProgress({ kind: 'done', name, message: `downloaded ${url}`, seconds: (Date.now() - begun) / 1000 });
  const made = content.files.get(file.name);
  if (made === undefined) throw new Error(`${folder} lacks ${file.name}`);
  return made;
}

/** Binaries that lie in a directory by their own names. */
async function looseBinaries(
  root: string,
  file: UpstreamFile,
  options: PublishedOptions,
): Promise<Map<string, VerifiedFile>> {
  const found = new Map<string, VerifiedFile>();
  for (const { name } of file.binaries) {
    const candidates = namedCandidates(root, file.architecture, name);
    const from = await firstFile(candidates);
    if (from === undefined) {
      throw environmentError(`${root} has neither ${file.name} nor ${name} for ${file.architecture}`, {
        code: 'artifact-missing',
        where: root,
        next: `Put ${file.name} there: by its name, as ${file.architecture}/${file.name}, or in upstream's layout, HOST/PATH.`,
      });
    }
    const locked = options.lock.binary(file.architecture, name);
    const known = locked?.origin === 'upstream' && locked.version === file.version ? locked.sha256 : undefined;
    const sha256 = known ?? (await sumBeside(from));
    if (sha256 === undefined) throw noSum(from);
    const copied = await copyToCache(from, sha256, options);
    await chmod(copied.path, 0o755);
    options.lock.freezeBinary(file.architecture, name, { version: file.version, origin: 'upstream', sha256 });
    found.set(name, copied);
  }
  return found;
}

async function copyToCache(
  from: string,
  sha256: string,
  options: PublishedOptions,
  name = path.basename(from),
): Promise<VerifiedFile> {
  const folder = downloadFolder(options.cache, sha256, name);
  const there = (await readFolder(folder))?.files.get(name);
  if (there !== undefined) return there;
  const content = await makeFolder(folder, options.signal, async (temporary) => {
    const copy = path.join(temporary, name);
    await copyFile(from, copy);
    const actual = await sha256File(copy, options.signal);
    if (actual !== sha256) {
      throw environmentError(`${from} has the sha256 ${actual}, but it must be ${sha256}; it is not used`, {
        code: 'artifact-altered',
        where: from,
        next: 'The file was altered, or is of another version. Replace it by the published one.',
      });
    }
    return { files: [{ name }], remarks: { path: from } };
  });
  const made = content.files.get(name);
  if (made === undefined) throw new Error(`${folder} lacks ${name}`);
  return made;
}

async function digestOnline(file: UpstreamFile, options: PublishedOptions): Promise<Digest | undefined> {
  if (file.checksum === undefined) return undefined;
  const url = sourceUrl(options.source, file.checksum);
  const text = await fetchText(url, options.signal, options.limits);
  const read = file.checksumFormat === 'github-release' ? digestFromRelease : digestFromSums;
  const sha256 = read(text, file.name);
  return sha256 === undefined ? undefined : { sha256, from: url };
}

async function digestInFolder(root: string, file: UpstreamFile): Promise<Digest | undefined> {
  const { checksum } = file;
  if (checksum !== undefined) {
    const name = path.posix.basename(new URL(checksum).pathname);
    const published = await firstFile(directoryCandidates(root, { ...file, url: checksum, name }));
    const read = file.checksumFormat === 'github-release' ? digestFromRelease : digestFromSums;
    const sha256 = published === undefined ? undefined : read(await readFile(published, 'utf8'), file.name);
    if (sha256 !== undefined && published !== undefined) return { sha256, from: published };
  }
  const found = await firstFile(directoryCandidates(root, file));
  const sha256 = found === undefined ? undefined : await sumBeside(found);
  return sha256 === undefined || found === undefined ? undefined : { sha256, from: path.dirname(found) };
}

/** The digest that a checksum file beside a file states for it. */
async function sumBeside(file: string): Promise<string | undefined> {
  const name = path.basename(file);
  for (const sums of [`${file}.sha256`, `${file}.sha256sum`, path.join(path.dirname(file), 'SHA256SUMS')]) {
    const text = await readFile(sums, 'utf8').catch(() => undefined);
    const sha256 = text === undefined ? undefined : digestFromSums(text, name);
    if (sha256 !== undefined) return sha256;
  }
  return undefined;
}

async function checkSignature(file: UpstreamFile, blob: string, options: PublishedOptions): Promise<boolean> {
  const { source, signal, lock, env, limits } = options;
  if (!options.signatures || file.cosign === undefined || source.kind === 'directory') return false;
  if (lock.locked(file.architecture, file.id, file.url)?.signed === true) return true;
  const folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-cosign-'));
  try {
    const signatureFile = path.join(folder, 'blob.sig');
    const certificateFile = path.join(folder, 'blob.cert');
    await writeFile(signatureFile, await fetchText(sourceUrl(source, file.cosign.signature), signal, limits));
    await writeFile(certificateFile, await fetchText(sourceUrl(source, file.cosign.certificate), signal, limits));
    const { identity, issuer } = file.cosign;
    await verifySignature({ file: blob, url: file.url, signatureFile, certificateFile, identity, issuer }, env, signal);
    return true;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function firstFile(candidates: ReadonlyArray<string>): Promise<string | undefined> {
  for (const candidate of candidates) if ((await fileSize(candidate)) !== undefined) return candidate;
  return undefined;
}

function noSum(file: string): Error {
  return environmentError(`nobody states a sha256 for ${file}, and nothing is installed without one`, {
    code: 'artifact-no-digest',
    where: file,
    next: `Put the digest into SHA256SUMS beside it (\`sha256sum ${path.basename(file)}\` where you trust the file).`,
  });
}
