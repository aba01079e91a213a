/**
 * How far a restored revision has to be beyond the snapshot's.
 *
 * Clients keep objects and watches by revision. Were a revision to come again with other content, they would take what
 * they hold for newer than what is there (https://etcd.io/docs/v3.6/op-guide/recovery/). So the restored cluster begins
 * beyond every revision that was ever seen of the cluster, also when a snapshot is restored twice.
 */
import path from 'node:path';
import { z } from 'zod';
import { readTextIfExists, writeSecret } from '../types/secrets.js';

/** More than any cluster writes after the last revision that was seen of it. */
export const BUMP_REVISION = 1_000_000_000;

const record = z.object({ version: z.literal(1), id: z.string(), time: z.string(), revision: z.number() });

/**
 * What to add to the snapshot's revision. Pure.
 *
 * @param snapshot the snapshot's revision; undefined: not known
 * @param seen revisions that were seen of the cluster
 */
export function bumpFor(snapshot: number | undefined, seen: ReadonlyArray<number>): number {
  return Math.max(BUMP_REVISION, Math.max(0, ...seen) + BUMP_REVISION - (snapshot ?? 0));
}

const recordPath = (folder: string): string => path.join(folder, 'last-restore.json');

/** The revision with which the last restore of the cluster began, or undefined. */
export async function lastRestored(folder: string): Promise<number | undefined> {
  const text = await readTextIfExists(recordPath(folder));
  if (text === undefined) return undefined;
  try {
    return record.parse(JSON.parse(text)).revision;
  } catch {
    return undefined;
  }
}

/** Remembers the revision with which a restored cluster begins. */
export async function rememberRestored(folder: string, id: string, revision: number): Promise<void> {
  const value = { version: 1, id, time: new Date().toISOString(), revision };
  await writeSecret(recordPath(folder), `${JSON.stringify(value, null, 2)}\n`);
}
