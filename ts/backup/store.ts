/** A folder of snapshots on this machine: what is in it, what is kept, and how one gets into it. */
import { createReadStream } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { environmentError, type K8sAnsError, usageError } from '../types/errors.js';
import { SECRET_FILE_MODE, SECRET_FOLDER_MODE } from '../types/secrets.js';
import { parseSidecar, type Sidecar, sidecarPath } from './sidecar.js';
import { checkSnapshot, faultTexts } from './snapshot.js';

/** A snapshot with what is known of it. */
export interface StoredSnapshot extends Sidecar {
  readonly file: string;
}

/** A snapshot that was read to its end and is whole. */
export interface SoundSnapshot {
  readonly file: string;
  readonly size: number;
  readonly sha256: string;
  /** Undefined: no sidecar is beside it. */
  readonly about: Sidecar | undefined;
}

/** Folders in which snapshots arrive; one that is older than a day was left by a command that was killed. */
const DRAFT = '.draft-';
const DRAFT_AGE_MS = 24 * 3600 * 1000;

/** The snapshots of a cluster in a folder, the newest first. Files without a readable sidecar are not counted. */
export async function listSnapshots(folder: string, cluster: string): Promise<StoredSnapshot[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const found = await Promise.all(
    names
      .filter((name) => name.endsWith('.db'))
      .map(async (name) => {
        const file = path.join(folder, name);
        const about = await readSidecar(file);
        return about?.cluster === cluster ? [{ ...about, file }] : [];
      }),
  );
  return found.flat().sort((a, b) => b.time.localeCompare(a.time) || b.file.localeCompare(a.file));
}

/** What the retention rule does not keep: all but the newest `keep`. Pure. */
export function outdated<T>(newestFirst: ReadonlyArray<T>, keep: number): T[] {
  return newestFirst.slice(Math.max(1, keep));
}

/** Removes what the rule does not keep, of this cluster's snapshots only; returns it. */
export async function prune(folder: string, cluster: string, keep: number): Promise<StoredSnapshot[]> {
  const gone = outdated(await listSnapshots(folder, cluster), keep);
  for (const { file } of gone) {
    await rm(file, { force: true });
    await rm(sidecarPath(file), { force: true });
  }
  return gone;
}

/**
 * A new private folder inside `folder` in which a snapshot can arrive.
 *
 * @throws K8sAnsError `backup-folder` when it cannot be made
 */
export async function openDraft(folder: string): Promise<string> {
  const draft = path.join(folder, `${DRAFT}${process.pid}`);
  try {
    await mkdir(folder, { recursive: true, mode: SECRET_FOLDER_MODE });
    for (const name of await readdir(folder)) {
      if (!name.startsWith(DRAFT)) continue;
      const old = path.join(folder, name);
      if (old === draft || Date.now() - (await stat(old)).mtimeMs > DRAFT_AGE_MS) await rm(old, { recursive: true });
    }
    await mkdir(draft, { mode: SECRET_FOLDER_MODE });
  } catch (cause) {
    throw environmentError(`Snapshots cannot be kept there: ${(cause as Error).message}.`, {
      code: 'backup-folder',
      where: folder,
      next: 'Mend the folder, or give another one with --output.',
      cause,
    });
  }
  return draft;
}

/** Moves the snapshot that arrived in a draft folder to its place, and takes the folder away. */
export async function closeDraft(draft: string, snapshot: SoundSnapshot): Promise<string> {
  const folder = path.dirname(draft);
  const file = path.join(folder, path.basename(snapshot.file));
  await chmod(snapshot.file, SECRET_FILE_MODE);
  await flush(snapshot.file);
  // The snapshot last: where it is, its sidecar is too.
  await rename(sidecarPath(snapshot.file), sidecarPath(file));
  await rename(snapshot.file, file);
  await flush(folder);
  await rm(draft, { recursive: true, force: true });
  return file;
}

async function flush(target: string): Promise<void> {
  const handle = await open(target, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The sidecar of a snapshot file, or undefined. */
async function readSidecar(file: string): Promise<Sidecar | undefined> {
  const text = await readFile(sidecarPath(file), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : parseSidecar(text);
}

/**
 * Reads a snapshot to its end and makes sure that it is whole, and that it is the one its sidecar describes.
 *
 * @throws K8sAnsError (exit code 2) `snapshot-missing` or `snapshot-unusable`
 */
export async function readSnapshot(file: string): Promise<SoundSnapshot> {
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) {
    throw usageError('There is no such snapshot.', {
      code: 'snapshot-missing',
      where: file,
      next: '`k8s-ans etcd backup list` names those that are there.',
    });
  }
  const check = await checkSnapshot(createReadStream(file), found.size);
  if (!check.ok) throw unusable(file, faultTexts[check.fault]);
  const about = await readSidecar(file);
  if (about !== undefined && about.sha256 !== check.sha256) {
    throw unusable(file, `is not the one that ${path.basename(sidecarPath(file))} describes: their sha256 differ`);
  }
  return { file, size: check.size, sha256: check.sha256, about };
}

function unusable(file: string, what: string): K8sAnsError {
  return usageError(`${path.basename(file)} ${what}. Nothing was changed.`, {
    code: 'snapshot-unusable',
    where: file,
    next: 'Take another snapshot: `k8s-ans etcd backup list` names those that are there.',
  });
}
