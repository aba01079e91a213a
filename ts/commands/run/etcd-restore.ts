/** The restore run: the whole etcd cluster from a snapshot, then what `deploy` does. */
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { bumpFor, lastRestored, rememberRestored } from '../../backup/revisions.js';
import { listSnapshots, type SoundSnapshot } from '../../backup/store.js';
import type { Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import type { ClusterHome } from '../../types/home.js';
import { convergeCluster } from './deploy.js';
import { beginOperation, endOperation, pendingOperation, refusePending } from './operation.js';
import { type FinishedRun, type RunSession, runSession } from './session.js';

export interface RestoreOptions {
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  readonly snapshot: SoundSnapshot;
  /** Revisions of the living cluster. */
  readonly seen: ReadonlyArray<number>;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
}

const COMMAND = 'etcd restore';
/** The plays before which nothing of the cluster has been changed: its data is still the old. */
const HARMLESS = new Set(['preflight', 'certificates', 'hostprep', 'artifacts', 'snapshot']);

const journal = z.object({ id: z.string(), bump: z.number() });

/** What an operation's subject is: the snapshot itself, wherever its file lies. */
export function restoreSubject(snapshot: Pick<SoundSnapshot, 'sha256'>): string {
  return `sha256:${snapshot.sha256.slice(0, 16)}`;
}

/** A name that no restore had before, and that tells when it was. */
export function restoreId(now: Date): string {
  return now
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:]/g, '');
}

/** The file names of the old data (ansible/plugins/modules/etcd_restore.py). */
const aside = (id: string): string => `member.before-restore-${id}`;

export interface FinishedRestore {
  readonly run: FinishedRun;
  readonly id: string;
  /** Where the old data is on each member. */
  readonly kept: ReadonlyArray<string>;
}

/**
 * Whether the restore from this snapshot has begun and not ended: the person has agreed then.
 *
 * @throws K8sAnsError `operation-pending` when another operation has
 */
export async function isPendingRestore(home: ClusterHome, snapshot: SoundSnapshot): Promise<boolean> {
  const pending = await pendingOperation(home);
  if (pending?.command === COMMAND && pending.subject === restoreSubject(snapshot)) return true;
  await refusePending(home);
  return false;
}

/** Restores. What ended the run is in the value returned. */
export async function restoreEtcd(context: CommandContext, options: RestoreOptions): Promise<FinishedRestore> {
  const { cluster, home, snapshot, again } = options;
  const revision = snapshot.about?.revision;
  const bump = bumpFor(revision, [...options.seen, ...(await knownRevisions(cluster, home))]);
  let id = restoreId(new Date());
  const session = { command: COMMAND, cluster, home, lock: true, check: false };
  const run = await runSession(context, session, async (current) => {
    const start = { command: COMMAND, subject: restoreSubject(snapshot), again, data: { id, bump } };
    const { operation, resumed } = await beginOperation(home, start);
    const decided = journal.parse(operation.data);
    id = decided.id;
    // Before the first change: a restored cluster may run although this command was killed.
    await rememberRestored(home.backups, id, (revision ?? 0) + decided.bump);
    if (resumed) context.console.info(`Going on with the restore that was begun at ${operation.since}.`);
    try {
      await convergeCluster(current, {
        cluster,
        home,
        again,
        playbook: 'etcd_restore',
        extraVars: [await writeVariables(current, decided, snapshot)],
      });
    } catch (error) {
      const touched = current.events.some((event) => event.event === 'play_start' && !HARMLESS.has(event.phase));
      // Nothing to finish: the cluster runs as before, and other commands may work on it.
      if (!resumed && !touched) await endOperation(home);
      throw error;
    }
    await endOperation(home);
  });
  const { dataDir, walDir } = cluster.etcd;
  return { run, id, kept: [dataDir, walDir].map((folder) => path.posix.join(folder, aside(id))) };
}

/** What was seen of the cluster's revisions before. */
async function knownRevisions({ name }: Cluster, { backups }: ClusterHome): Promise<number[]> {
  const snapshots = await listSnapshots(backups, name);
  return [...snapshots.map(({ revision }) => revision), (await lastRestored(backups)) ?? 0];
}

async function writeVariables(
  session: RunSession,
  { id, bump }: z.infer<typeof journal>,
  snapshot: SoundSnapshot,
): Promise<string> {
  const file = path.join(session.folder.root, 'etcd-restore.json');
  const values = {
    etcd_restore_id: id,
    etcd_restore_snapshot: snapshot.file,
    etcd_restore_sha256: snapshot.sha256,
    etcd_restore_bump_revision: bump,
  };
  await writeFileAtomic(file, `${JSON.stringify(values)}\n`, { mode: 0o600 });
  return file;
}
