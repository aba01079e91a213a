/** The backup step: one snapshot of etcd, fetched to this machine, proved, and kept by a rule. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { closeDraft, listSnapshots, openDraft, prune, readSnapshot, type StoredSnapshot } from '../../backup/store.js';
import { plural } from '../../report/format.js';
import type { Console } from '../../types/console.js';
import { runError } from '../../types/errors.js';
import { type EtcdMember, readMembers } from './etcd-members.js';
import { playbookError } from './finish.js';
import type { RunSession } from './session.js';

/** How many snapshots of a cluster are kept on this machine, unless told otherwise. */
export const DEFAULT_KEEP = 7;

export interface BackupOptions {
  /** Where to; by default `backups/` in the cluster's home. */
  readonly output?: string | undefined;
  /** How many of the cluster's snapshots stay there, this one included. */
  readonly keep?: number | undefined;
  /** The command line that begins anew after a failure. */
  readonly again: string;
}

export interface Backup {
  readonly snapshot: StoredSnapshot;
  /** Older ones that the rule took away. */
  readonly removed: ReadonlyArray<StoredSnapshot>;
  readonly members: ReadonlyArray<EtcdMember>;
}

/**
 * Takes a snapshot within a session that is open already, as `upgrade` does before it begins. The inventory has to be
 * written.
 *
 * @throws K8sAnsError when no snapshot was made; older ones stay as they are
 */
export async function backupEtcd(session: RunSession, options: BackupOptions): Promise<Backup> {
  const { cluster, home, context, folder } = session;
  const output = options.output ?? home.backups;
  const draft = await openDraft(output);
  try {
    const from = session.events.length;
    const variables = path.join(folder.root, 'etcd-backup.json');
    await writeFileAtomic(variables, `${JSON.stringify({ etcd_backup_dir: draft })}\n`, { mode: 0o600 });
    const { outcome } = await session.playbook('etcd_backup', { extraVars: [variables] });
    if (outcome !== 'done') throw playbookError(session, options.again);
    const members = readMembers(cluster, session.events.slice(from));
    warn(context.console, members);
    return await session.step(
      'snapshot',
      async () => {
        const snapshot = await keepArrived(draft, cluster.name);
        const removed = await prune(output, cluster.name, options.keep ?? DEFAULT_KEEP);
        return { snapshot, removed, members };
      },
      ({ snapshot }) => `revision ${snapshot.revision}, ${plural(snapshot.keys, 'key')}, verified`,
    );
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function warn(console: Console, members: ReadonlyArray<EtcdMember>): void {
  for (const { member, answers, reason } of members) {
    if (!answers) console.warn(`${member}: its etcd does not answer: ${reason ?? 'no reason given'}`);
  }
  if (!members.some(({ healthy }) => healthy)) {
    console.warn('etcd has no quorum: the snapshot holds what the one member has that it was taken from.');
  }
}

/** Reads what was fetched once more to its end, and puts it in its place. */
async function keepArrived(draft: string, cluster: string): Promise<StoredSnapshot> {
  const [arrived] = await listSnapshots(draft, cluster);
  if (arrived === undefined) {
    throw runError('The playbook ended well, but no snapshot arrived.', {
      code: 'backup-missing',
      where: draft,
      next: 'Run the command again with -vv, and report what the log says.',
    });
  }
  const sound = await readSnapshot(arrived.file);
  return { ...arrived, file: await closeDraft(draft, sound) };
}
