/** Makes a cluster's home of a sealed file: all of it, or nothing. */
import { chmod, type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { acquireRunLock } from '../../playbook/lock.js';
import { renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { renderHtml } from '../../report/html.js';
import { parseSpec } from '../../spec/load.js';
import { SpecError } from '../../spec/problems.js';
import { resolveCluster } from '../../spec/resolve.js';
import type { Spec } from '../../spec/schema.js';
import { readArchive } from '../../state/archive.js';
import {
  MANIFEST_NAME,
  MANIFEST_VERSION,
  type Manifest,
  manifestFault,
  manifestSchema,
  SPEC_NAME,
} from '../../state/contents.js';
import { deriveKey, HEADER_BYTES, parseHeader, type SealHeader, unseal } from '../../state/seal.js';
import type { Cluster } from '../../types/cluster.js';
import { type K8sAnsError, usageError } from '../../types/errors.js';
import { type ClusterHome, clusterHome } from '../../types/home.js';
import { REPORT_VERSION, type RunReport } from '../../types/report.js';
import { SECRET_FILE_MODE, SECRET_FOLDER_MODE } from '../../types/secrets.js';
import { type Reference, references } from './references.js';

export interface ImportOptions {
  readonly file: string;
  readonly passphrase: string;
  /** The home to make, by the cluster's name. */
  readonly target: (name: string) => string;
  /** Whether a home that is there is moved aside. */
  readonly force: boolean;
  readonly signal: AbortSignal;
  readonly now?: Date;
}

export interface Imported {
  readonly home: ClusterHome;
  readonly manifest: Manifest;
  readonly cluster: Cluster;
  /** Where the home that was there has gone. */
  readonly aside: string | undefined;
  /** What the spec names and this machine has not. */
  readonly missing: ReadonlyArray<Reference>;
}

/** A spec and a manifest are small; nothing else is held in memory. */
const MAX_TEXT = 16 * 1024 * 1024;

/**
 * Imports a state file.
 *
 * It is read twice: the first time to authenticate and check all of it, with nothing written; the second time into a
 * folder beside the home, which is renamed into place when it is complete.
 *
 * @throws K8sAnsError `state-no-state-file`, `state-format`, `state-refused`, `state-archive`, `state-home-exists`
 */
export async function importState(options: ImportOptions): Promise<Imported> {
  const { file, signal } = options;
  const handle = await open(file, 'r').catch((cause: NodeJS.ErrnoException) => {
    throw usageError(`The file cannot be read: ${cause.code === 'ENOENT' ? 'it is not there' : cause.message}.`, {
      code: 'state-unreadable',
      where: file,
      next: 'Name the file that `k8s-ans state export` wrote.',
      cause,
    });
  });
  try {
    const header = await readHeader(handle, file);
    const key = await deriveKey(options.passphrase, header);
    const sealed: Sealed = { handle, header, key, file };
    const { manifest, spec } = await check(sealed, signal);
    const root = path.resolve(options.target(manifest.cluster));
    return await writeHome(sealed, options, { manifest, spec, root });
  } finally {
    await handle.close();
  }
}

interface Sealed {
  readonly handle: FileHandle;
  readonly header: SealHeader;
  readonly key: Buffer;
  readonly file: string;
}

async function readHeader(handle: FileHandle, file: string): Promise<SealHeader> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await handle.read(bytes, 0, HEADER_BYTES, 0);
  return parseHeader(bytes.subarray(0, bytesRead), file);
}

/** The files of the archive, from the start. */
function filesOf({ handle, header, key, file }: Sealed) {
  const stream = handle.createReadStream({ start: HEADER_BYTES, autoClose: false, highWaterMark: 256 * 1024 });
  return readArchive(unseal(stream, key, header, file));
}

interface Checked {
  readonly manifest: Manifest;
  readonly spec: Spec;
}

/** Reads the whole file: what comes back is authentic, complete, and fit to be written. */
async function check(sealed: Sealed, signal: AbortSignal): Promise<Checked> {
  let manifest: Manifest | undefined;
  let specText = '';
  let next = 0;
  for await (const { path: name, size, content } of filesOf(sealed)) {
    signal.throwIfAborted();
    if (manifest === undefined) {
      manifest = parseManifest(name, await textOf(content, size), sealed.file);
      continue;
    }
    const expected = manifest.files[next];
    if (expected?.path !== name || expected.size !== size) {
      throw archiveError(sealed.file, `${name} is not what its list of files says`);
    }
    next += 1;
    if (name === SPEC_NAME) specText = await textOf(content, size);
  }
  if (manifest === undefined || next !== manifest.files.length) {
    throw archiveError(sealed.file, 'files of its list are not in it');
  }
  const parsed = parseSpec(specText, `${sealed.file}: ${SPEC_NAME}`);
  if (!parsed.ok) throw new SpecError(`${sealed.file}: ${SPEC_NAME}`, parsed.problems);
  if (parsed.spec.name !== manifest.cluster) throw archiveError(sealed.file, 'its spec is that of another cluster');
  return { manifest, spec: parsed.spec };
}

function parseManifest(name: string, text: string, file: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw archiveError(file, 'it does not begin with a list of its files');
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (name === MANIFEST_NAME && typeof version === 'number' && version > MANIFEST_VERSION) {
    throw usageError('The file was exported by a newer release of k8s-ans.', {
      code: 'state-format',
      where: file,
      next: 'Import it with that release or a newer one.',
    });
  }
  const parsed = manifestSchema.safeParse(value);
  if (name !== MANIFEST_NAME || !parsed.success) throw archiveError(file, 'it does not begin with a list of its files');
  const fault = manifestFault(parsed.data);
  if (fault !== undefined) throw archiveError(file, fault);
  return parsed.data;
}

function archiveError(file: string, why: string): K8sAnsError {
  return usageError(`The content of the file is refused: ${why}. Nothing was taken from it.`, {
    code: 'state-archive',
    where: file,
    next: 'The file was not written by `k8s-ans state export`. Do not use it.',
  });
}

async function textOf(content: AsyncIterable<Buffer>, size: number): Promise<string> {
  if (size > MAX_TEXT) return '';
  const parts: Buffer[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

interface Plan extends Checked {
  /** Of the home to make. */
  readonly root: string;
}

async function writeHome(sealed: Sealed, options: ImportOptions, plan: Plan): Promise<Imported> {
  const { manifest, spec, root } = plan;
  const exists = await isTaken(root);
  if (exists && !options.force) throw existsError(root);
  const staging = path.join(path.dirname(root), `.${path.basename(root)}.importing`);
  await mkdir(staging, { recursive: true, mode: SECRET_FOLDER_MODE });
  const draft = clusterHome(staging);
  // Of two imports at once the second is refused; what a killed one left is cleared away.
  const lock = await acquireRunLock(draft, 'k8s-ans state import');
  try {
    await empty(draft);
    const cluster = resolveCluster(spec, root);
    await unpack(sealed, draft, options.signal);
    await writeRendered(draft, renderCluster(cluster));
    await renderReports(draft);
    const aside = exists ? await moveAside(root, options.now ?? new Date()) : undefined;
    try {
      await rename(staging, root);
    } catch (error) {
      if (aside !== undefined) await rename(aside, root);
      throw error;
    }
    const home = clusterHome(root);
    // The lock went along under its new name.
    await rm(home.runLock, { force: true });
    return { home, manifest, cluster, aside, missing: await missingReferences(spec, cluster, root) };
  } catch (error) {
    await lock.release();
    await rm(staging, { recursive: true, force: true });
    throw error;
  }
}

/** A folder that is there and empty is as good as none. */
async function isTaken(root: string): Promise<boolean> {
  try {
    return (await readdir(root)).length > 0;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return false;
    if (code === 'ENOTDIR') return true;
    throw error;
  }
}

function existsError(root: string): K8sAnsError {
  return usageError('There is something at the place of the home already; nothing was changed.', {
    code: 'state-home-exists',
    where: root,
    next: 'Choose another folder with --dir, or have it moved aside with --force.',
  });
}

async function empty(draft: ClusterHome): Promise<void> {
  const lock = path.basename(draft.runLock);
  for (const name of await readdir(draft.root)) {
    if (name !== lock) await rm(path.join(draft.root, name), { recursive: true, force: true });
  }
  await chmod(draft.root, SECRET_FOLDER_MODE);
}

/** The second reading: writes every file, private whatever it was. Each chunk is authenticated again. */
async function unpack(sealed: Sealed, draft: ClusterHome, signal: AbortSignal): Promise<void> {
  for await (const { path: name, content } of filesOf(sealed)) {
    signal.throwIfAborted();
    if (name === MANIFEST_NAME) continue;
    const file = path.join(draft.root, ...name.split('/'));
    await mkdir(path.dirname(file), { recursive: true, mode: SECRET_FOLDER_MODE });
    const handle = await open(file, 'wx', SECRET_FILE_MODE);
    try {
      for await (const part of content) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

/** The pages of the runs are made again of their reports. */
async function renderReports(draft: ClusterHome): Promise<void> {
  const ids = (await readdir(draft.runs).catch(() => [])).sort();
  for (const id of ids) {
    const folder = path.join(draft.runs, id);
    const page = pageOf(await readFile(path.join(folder, 'report.json'), 'utf8'));
    if (page === undefined) continue;
    const handle = await open(path.join(folder, 'report.html'), 'wx', SECRET_FILE_MODE);
    await handle.writeFile(page);
    await handle.close();
  }
  const last = ids.at(-1);
  if (last !== undefined) await symlink(last, path.join(draft.runs, 'latest'));
}

/** The page of a report; undefined where this release does not read it. A run's report is not worth the import. */
function pageOf(text: string): string | undefined {
  try {
    const report = JSON.parse(text) as RunReport;
    return report.version === REPORT_VERSION ? renderHtml(report) : undefined;
  } catch {
    return undefined;
  }
}

/** Moves a home out of the way, unless a command works on it. */
async function moveAside(root: string, now: Date): Promise<string> {
  const isFolder = (await stat(root)).isDirectory();
  const lock = isFolder ? await acquireRunLock(clusterHome(root), 'k8s-ans state import') : undefined;
  const stamp = now
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:]/g, '');
  const aside = `${root}.before-import-${stamp}`;
  try {
    await rename(root, aside);
  } catch (error) {
    await lock?.release();
    throw error;
  }
  if (isFolder) await rm(clusterHome(aside).runLock, { force: true });
  return aside;
}

async function missingReferences(spec: Spec, cluster: Cluster, root: string): Promise<Reference[]> {
  const all = references(spec, cluster, root);
  const there = await Promise.all(
    all.map(({ file }) =>
      stat(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return all.filter((_, index) => !there[index]);
}
