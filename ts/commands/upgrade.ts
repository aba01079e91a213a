/** `k8s-ans upgrade`: moves a running cluster to another Kubernetes version. */
import { confirm, isCancel } from '@clack/prompts';
import Table from 'cli-table3';
import { InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import { loadCatalog } from '../artifacts/index.js';
import type { Register } from '../cli/register.js';
import { formatTotals } from '../report/summary.js';
import { loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { Cluster } from '../types/cluster.js';
import type { CommandContext } from '../types/console.js';
import { ExitCode, K8sAnsError } from '../types/errors.js';
import { addBundleOption, openBundle } from './run/bundle.js';
import { finishRun, runResult } from './run/finish.js';
import { refuseOperands } from './run/playbook-options.js';
import { type FinishedUpgrade, upgradeCluster } from './run/upgrade.js';
import type { Look } from './upgrade/look.js';
import { versionsByHost } from './upgrade/steps.js';
import { checkTarget } from './upgrade/target.js';

interface Options {
  readonly cluster?: string;
  readonly to: string;
  readonly check?: boolean;
  readonly batch: string;
  readonly drainTimeout: number;
  readonly bundle?: string;
}

export const register: Register = (program, run) => {
  addBundleOption(program.command('upgrade'))
    .description('move a running cluster to another Kubernetes version; can be run again after any failure')
    .requiredOption('--to <version>', 'the version, such as 1.36.4; an older patch version goes back')
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--batch <number|share>', 'workers at a time, such as 3 or 20%', batch, '1')
    .option('--drain-timeout <seconds>', 'how long a host may take to be rid of its pods', whole, 300)
    .option('--check', 'change nothing, and say what would be done')
    .argument('[ansible-arguments...]', 'after --: passed to ansible-playbook as they are')
    .action((operands: string[], options: Options) =>
      run(async (context) => {
        refuseOperands(context, operands, 'upgrade');
        await upgrade(context, options);
      }),
    );
};

async function upgrade(context: CommandContext, options: Options): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const catalog = loadCatalog();
  const target = checkTarget(options.to, cluster.kubernetes.version, catalog);
  const check = options.check === true;
  const again = againCommand(options, target);
  const bundle = await openBundle(context, options.bundle, target);
  console.info(`Upgrading ${cluster.name} to Kubernetes ${target}: ${cluster.hosts.length} hosts.`);
  const finished = await upgradeCluster(context, {
    home,
    cluster,
    target,
    catalog,
    check,
    batch: options.batch,
    drainTimeout: options.drainTimeout,
    again,
    bundle,
    agree: (look) => agree(context, look, check),
  });
  const { run, look, steps } = finished;
  finishRun(context, run, again);
  if (look === undefined) return;
  const hosts = versionsByHost(cluster, look);
  console.info(doneText(finished, look, cluster, check, console.color));
  console.result('upgrade', {
    ...runResult(run),
    from: look.from,
    to: target,
    nothing: finished.nothing,
    check,
    steps,
    versions: hosts,
    removedApis: look.removed_apis,
  });
}

function againCommand(options: Options, target: string): string {
  return [
    `k8s-ans upgrade --to ${target}`,
    ...(options.cluster ? [`--cluster ${options.cluster}`] : []),
    ...(options.batch === '1' ? [] : [`--batch ${options.batch}`]),
    ...(options.drainTimeout === 300 ? [] : [`--drain-timeout ${options.drainTimeout}`]),
    ...(options.bundle === undefined ? [] : [`--bundle ${options.bundle}`]),
  ].join(' ');
}

/** Warns of APIs that clients call and the target lacks, and asks whether to go on. */
async function agree(context: CommandContext, look: Look, check: boolean): Promise<void> {
  const { console } = context;
  for (const { api, removed_release } of look.later_removed_apis) {
    console.info(`Clients call ${api}, which ends with Kubernetes ${removed_release}.`);
  }
  if (look.removed_apis.length === 0) return;
  for (const { api, removed_release } of look.removed_apis) {
    console.warn(`clients still call ${api}, which Kubernetes ${removed_release} and later do not serve`);
  }
  if (check || context.yes) return;
  const refused = (message: string): K8sAnsError =>
    new K8sAnsError(message, {
      code: 'upgrade-apis-in-use',
      exitCode: ExitCode.preflightRefused,
      next: "Find the callers in the API servers' audit log (annotation k8s.io/deprecated), bring them to a newer API version, or say --yes to go on without them.",
    });
  if (!console.interactive || process.stdin.isTTY !== true) {
    throw refused(`clients still call APIs that ${look.target} lacks; nothing was changed`);
  }
  const answer = await confirm({ message: 'These clients will fail after the upgrade. Go on?', initialValue: false });
  if (isCancel(answer)) throw new K8sAnsError('interrupted', { code: 'interrupted', exitCode: ExitCode.interrupted });
  if (!answer) throw refused('nothing was changed');
}

function doneText(
  { run, steps, nothing }: FinishedUpgrade,
  look: Look,
  cluster: Cluster,
  check: boolean,
  color: boolean,
): string {
  const colors = pc.createColors(color);
  if (nothing) return `${colors.green('✔')} ${cluster.name} runs ${look.target} already: there is nothing to do.`;
  if (check) {
    const lines = steps.map((step, index) => `  ${index + 1}. ${step}`);
    return [`${cluster.name} would go from ${look.from} to ${look.target}:`, ...lines, 'Nothing was changed.'].join(
      '\n',
    );
  }
  return [
    versionTable(cluster, look, color),
    `${colors.green('✔')} ${cluster.name} runs ${look.target}. ${colors.dim(formatTotals(run.report))}`,
  ].join('\n');
}

function versionTable(cluster: Cluster, look: Look, color: boolean): string {
  const table = new Table({
    head: ['host', 'API server', 'kubelet'],
    style: { compact: true, ...(color ? {} : { head: [], border: [] }) },
  });
  const way = (versions: { from: string; to: string } | undefined): string => {
    if (versions === undefined) return '';
    return versions.from === versions.to ? versions.to : `${versions.from} → ${versions.to}`;
  };
  for (const { host, apiServer, kubelet } of versionsByHost(cluster, look)) {
    table.push([host, way(apiServer), way(kubelet)]);
  }
  return table.toString();
}

function batch(text: string): string {
  if (!/^([1-9]\d*|([1-9]\d?|100)%)$/.test(text))
    throw new InvalidArgumentError('Use a number such as 3, or a share such as 20%.');
  return text;
}

function whole(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('It is not a whole number of seconds.');
  return Number(text);
}
