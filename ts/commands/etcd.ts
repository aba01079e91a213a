/** `k8s-ans etcd backup | restore`: snapshots of the cluster's data, and the cluster from one of them. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import Table from 'cli-table3';
import { InvalidArgumentError } from 'commander';
import semver from 'semver';
import { BUMP_REVISION } from '../backup/revisions.js';
import { listSnapshots, readSnapshot, type SoundSnapshot, type StoredSnapshot } from '../backup/store.js';
import type { Register } from '../cli/register.js';
import { plural } from '../report/format.js';
import { loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { Cluster } from '../types/cluster.js';
import type { CommandContext } from '../types/console.js';
import { usageError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { agreeToDestroy } from './run/agree.js';
import { writeInventory } from './run/deploy.js';
import { type Backup, backupEtcd, DEFAULT_KEEP } from './run/etcd-backup.js';
import { type EtcdMember, livingRevision, lookAtMembers } from './run/etcd-members.js';
import { isPendingRestore, restoreEtcd } from './run/etcd-restore.js';
import { finishRun, runResult } from './run/finish.js';
import { runSession } from './run/session.js';

interface ClusterOption {
  readonly cluster?: string;
}

interface BackupOptions extends ClusterOption {
  readonly output?: string;
  readonly keep: number;
}

interface RestoreOptions extends ClusterOption {
  readonly fromCluster?: string;
}

export const register: Register = (program, run) => {
  const etcd = program.command('etcd').description("the cluster's data: take snapshots of it, restore it from one");

  const backup = etcd
    .command('backup')
    .description('take a snapshot, fetch it to this machine, prove it, and keep the newest of them')
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--output <folder>', "where to (default: backups/ in the cluster's home)")
    .option('--keep <number>', "how many of the cluster's snapshots stay there", atLeastOne, DEFAULT_KEEP)
    .action((options: BackupOptions) => run((context) => takeBackup(context, options)));

  backup
    .command('list')
    .description('list the snapshots on this machine, the newest first')
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--output <folder>', "where they are (default: backups/ in the cluster's home)")
    // The parent has these options as well, and takes them wherever they stand.
    .action((_options, command) => run((context) => listBackups(context, command.optsWithGlobals())));

  etcd
    .command('restore')
    .description('restore the whole etcd cluster from a snapshot, also when members or hosts are lost')
    .argument('<snapshot>', "a file, or the name of one in backups/ of the cluster's home")
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--from-cluster <name>', 'the cluster that the snapshot is of, where that is another one')
    .action((snapshot: string, options: RestoreOptions) => run((context) => restore(context, snapshot, options)));
};

function atLeastOne(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new InvalidArgumentError('Give a whole number from 1, e.g. 7.');
  return Number(text);
}

function folderOf(context: CommandContext, home: ClusterHome, output: string | undefined): string {
  return output === undefined ? home.backups : path.resolve(context.cwd, output);
}

const clusterWords = ({ cluster }: ClusterOption): string => (cluster ? ` --cluster ${cluster}` : '');

async function takeBackup(context: CommandContext, options: BackupOptions): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const output = folderOf(context, home, options.output);
  const again = `k8s-ans etcd backup${clusterWords(options)}`;
  let backup: Backup | undefined;
  const done = await runSession(
    context,
    { command: 'etcd backup', cluster, home, lock: true, check: false },
    async (session) => {
      await writeInventory(session);
      backup = await backupEtcd(session, { output, keep: options.keep, again });
    },
  );
  finishRun(context, done, again);
  if (backup === undefined) return;
  const { snapshot, removed } = backup;
  console.info(`Snapshot: ${snapshot.file}`);
  console.info(`  ${describe(snapshot)}`);
  if (removed.length > 0) console.info(`  ${plural(removed.length, 'older one')} removed, ${options.keep} are kept.`);
  console.result('etcd-backup', { ...runResult(done), snapshot, removed: removed.map(({ file }) => file) });
}

async function listBackups(context: CommandContext, options: Partial<BackupOptions>): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const folder = folderOf(context, home, options.output);
  const snapshots = await listSnapshots(folder, cluster.name);
  if (snapshots.length === 0) console.print(`No snapshot of ${cluster.name} in ${folder}.`);
  else console.print(table(snapshots, console.color));
  console.result('etcd-backups', { folder, snapshots });
}

function table(snapshots: ReadonlyArray<StoredSnapshot>, color: boolean): string {
  const made = new Table({
    head: ['snapshot', 'time', 'revision', 'keys', 'size', 'kubernetes', 'from'],
    style: { compact: true, ...(color ? {} : { head: [], border: [] }) },
    colAligns: ['left', 'left', 'right', 'right', 'right', 'left', 'left'],
  });
  for (const { file, time, revision, keys, size, kubernetes, member } of snapshots) {
    made.push([path.basename(file), time, revision, keys, mebibytes(size), kubernetes, member]);
  }
  return made.toString();
}

async function restore(context: CommandContext, name: string, options: RestoreOptions): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const snapshot = await readSnapshot(locateSnapshot(context, home, name));
  refuseUnfit(snapshot, cluster, options.fromCluster);
  const from = options.fromCluster === undefined ? '' : ` --from-cluster ${options.fromCluster}`;
  const again = `k8s-ans etcd restore ${name}${clusterWords(options)}${from}`;
  const seen: number[] = [];
  if (!(await isPendingRestore(home, snapshot))) {
    const members = await lookAtMembers(context, cluster, home);
    seen.push(livingRevision(members) ?? 0);
    const losses = consequences(cluster, snapshot, members).join('\n');
    await agreeToDestroy(context, { losses, name: cluster.name });
  }
  const done = await restoreEtcd(context, { cluster, home, snapshot, seen, again });
  finishRun(context, done.run, again);
  console.info(`✔ ${cluster.name} is restored to revision ${snapshot.about?.revision ?? 'of the snapshot'}.`);
  console.info(`  The old data is kept on each member until the next restore: ${done.kept.join(' and ')}`);
  console.result('etcd-restore', { ...runResult(done.run), id: done.id, snapshot, kept: done.kept });
}

function locateSnapshot({ cwd }: CommandContext, home: ClusterHome, name: string): string {
  const given = path.resolve(cwd, name);
  const places = [given, path.join(home.backups, name), path.join(home.backups, `${name}.db`)];
  return places.find((place) => existsSync(place)) ?? given;
}

/** @throws K8sAnsError (exit code 2) for a snapshot that is whole but does not belong into this cluster as it is */
function refuseUnfit({ file, about }: SoundSnapshot, cluster: Cluster, from: string | undefined): void {
  if (about === undefined) return;
  if (about.cluster !== (from ?? cluster.name)) {
    throw usageError(`The snapshot is of the cluster ${about.cluster}, not of ${from ?? cluster.name}.`, {
      code: 'snapshot-of-another-cluster',
      where: file,
      next: `If it is meant to replace ${cluster.name}, say so with --from-cluster ${about.cluster}.`,
    });
  }
  const taken = semver.parse(about.kubernetes);
  if (taken !== null && semver.gt(`${taken.major}.${taken.minor}.0`, `${cluster.kubernetes.minor}.0`)) {
    throw usageError(
      `The snapshot was taken under Kubernetes ${about.kubernetes}; ${cluster.kubernetes.version} may not read all of it.`,
      {
        code: 'snapshot-newer',
        where: file,
        next: `Write kubernetes.version: ${about.kubernetes} in cluster.yaml, then restore.`,
      },
    );
  }
}

/** What the person has to know before saying yes. */
function consequences(cluster: Cluster, { file, about }: SoundSnapshot, members: ReadonlyArray<EtcdMember>): string[] {
  const living = livingRevision(members);
  const lines = [`etcd of ${cluster.name} is going to be restored from ${file}`];
  if (about === undefined)
    lines.push('  There is no description beside it: nothing tells of which cluster and time it is.');
  else lines.push(`  ${describe(about)}`);
  if (living === undefined) lines.push('  No member of the living cluster answers.');
  if (living !== undefined) {
    const since = about === undefined ? undefined : living - about.revision;
    // Beyond that, an earlier restore has raised the revisions.
    const counted = since !== undefined && since >= 0 && since < BUMP_REVISION;
    lines.push(
      `  The living cluster is at revision ${living}${counted ? `: ${plural(since, 'change')} since the snapshot will be lost` : ''}.`,
    );
  }
  return [
    ...lines,
    '  What was made since is gone, what was deleted is back, and pods that the snapshot does not know are stopped.',
    '  The API does not answer until it is done; pods that the snapshot knows go on running.',
  ];
}

function describe(about: Omit<StoredSnapshot, 'file'>): string {
  const { member, time, revision, keys, size, hash, etcd, kubernetes } = about;
  const made = `taken at ${time} from ${member}`;
  const versions = `etcd ${etcd}${kubernetes ? `, Kubernetes ${kubernetes}` : ''}`;
  return `${made}: revision ${revision}, ${plural(keys, 'key')}, ${mebibytes(size)}, hash ${hash}; ${versions}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1048576).toFixed(1)} MiB`;
}
