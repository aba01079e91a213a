/** `k8s-ans state export|import`: the cluster's state in one encrypted file, to manage it from another machine. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Register } from '../cli/register.js';
import { acquireRunLock } from '../playbook/lock.js';
import { formatBytes, plural } from '../report/format.js';
import { displayPath } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { Manifest } from '../state/contents.js';
import type { CommandContext } from '../types/console.js';
import { usageError } from '../types/errors.js';
import { pendingOperation } from './run/operation.js';
import { exportState } from './state/export.js';
import { importState } from './state/import.js';
import { readPassphrase } from './state/passphrase.js';

interface ExportOptions {
  readonly cluster?: string;
  readonly passphraseFile?: string;
  readonly withBackups?: boolean;
  readonly force?: boolean;
}

interface ImportOptions {
  readonly dir?: string;
  readonly passphraseFile?: string;
  readonly force?: boolean;
}

const passphraseHelp = 'read the passphrase from this file (default: K8S_ANS_PASSPHRASE, else it is asked for)';

export const register: Register = (program, run) => {
  const state = program
    .command('state')
    .description('the state of a cluster in one encrypted file, to go on managing it from another machine');
  state
    .command('export')
    .description('write keys, spec, lock and history of a cluster into one encrypted file')
    .argument('<file>', 'the file to write')
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--passphrase-file <file>', passphraseHelp)
    .option('--with-backups', "take the etcd snapshots in the cluster's home along")
    .option('--force', 'replace a file that is there')
    .action((file: string, options: ExportOptions) => run((context) => exportCommand(context, file, options)));
  state
    .command('import')
    .description("make a cluster's home of such a file")
    .argument('<file>', 'the file that the export wrote')
    .option('--dir <folder>', "the cluster's home to make (default: inventory/NAME)")
    .option('--passphrase-file <file>', passphraseHelp)
    .option('--force', 'move a home that is there out of the way')
    .action((file: string, options: ImportOptions) => run((context) => importCommand(context, file, options)));
};

async function exportCommand(context: CommandContext, name: string, options: ExportOptions): Promise<void> {
  const { console, cwd, signal } = context;
  const home = await locateCluster(context, options.cluster);
  const file = path.resolve(cwd, name);
  if (existsSync(file) && options.force !== true) {
    throw usageError('The file is there already.', {
      code: 'file-exists',
      where: file,
      next: 'Choose another name, or replace it with --force.',
    });
  }
  const passphrase = await readPassphrase(context, { passphraseFile: options.passphraseFile, choose: true });
  const lock = await acquireRunLock(home, 'k8s-ans state export');
  try {
    const backups = options.withBackups === true;
    const { manifest, bytes, remarks } = await exportState({ home, file, passphrase, backups, signal });
    for (const remark of remarks) console.warn(remark);
    console.print(
      `Wrote ${displayPath(file)} (${formatBytes(bytes)}): the cluster ${manifest.cluster}, ${summary(manifest)}.`,
    );
    console.print('Whoever has the file and its passphrase has the cluster. Keep the two apart.');
    console.result('state-export', { file, bytes, remarks, ...manifest });
  } finally {
    await lock.release();
  }
}

async function importCommand(context: CommandContext, name: string, options: ImportOptions): Promise<void> {
  const { console, cwd, signal } = context;
  const file = path.resolve(cwd, name);
  const chosen = options.dir === undefined ? undefined : path.resolve(cwd, options.dir);
  if (chosen !== undefined && !path.relative(chosen, cwd).startsWith('..')) {
    throw usageError('The home is put into place as a whole, and cannot take the place of the current folder.', {
      code: 'state-into-cwd',
      where: chosen,
      next: 'Leave --dir out for inventory/NAME here, or name another folder.',
    });
  }
  const passphrase = await readPassphrase(context, { passphraseFile: options.passphraseFile, choose: false });
  const imported = await importState({
    file,
    passphrase,
    target: (cluster) => chosen ?? path.join(cwd, 'inventory', cluster),
    force: options.force === true,
    signal,
  });
  const { home, manifest, aside, missing } = imported;
  if (aside !== undefined) console.info(`What was there is now ${displayPath(aside)}.`);
  for (const { field, file: needed } of missing) {
    console.warn(`The spec names a file that this machine has not: ${field}, ${needed}`);
  }
  const pending = await pendingOperation(home);
  console.print(
    `Imported the cluster ${manifest.cluster} to ${displayPath(home.root)}: ${summary(manifest)}, ` +
      `as of ${manifest.exported} (k8s-ans ${manifest.tool}).`,
  );
  console.print(
    pending === undefined
      ? `See that it is as it was: k8s-ans plan --cluster ${displayPath(home.root)}`
      : `An operation is pending: finish it with \`${pending.again}\`.`,
  );
  console.print('Manage it from one machine: the home it was exported from does not learn what is done from here.');
  console.result('state-import', {
    home: home.root,
    aside: aside ?? null,
    missing: missing.map(({ field, file: needed }) => ({ field, file: needed })),
    pending: pending?.again ?? null,
    ...manifest,
  });
}

function summary({ files, backups }: Manifest): string {
  const below = (folder: string): number => files.filter(({ path: name }) => name.startsWith(`${folder}/`)).length;
  return [
    plural(files.length, 'file'),
    `${plural(below('runs'), 'run')} in its history`,
    ...(backups ? [`${plural(below('backups'), 'file')} of backups`] : []),
  ].join(', ');
}
