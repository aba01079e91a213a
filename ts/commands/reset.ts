/** `k8s-ans reset`: takes a cluster's hosts back to what they were. */
import pc from 'picocolors';
import type { Register } from '../cli/register.js';
import { formatTotals } from '../report/summary.js';
import { loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import { K8sAnsError, usageError } from '../types/errors.js';
import { agreeToDestroy } from './run/agree.js';
import { finishRun, runResult } from './run/finish.js';
import { hostsToReset, type ResetOptions, resetCluster } from './run/reset.js';
import { formatResets, losses } from './run/reset-text.js';

interface ResetFlags {
  readonly cluster?: string;
  readonly check?: boolean;
  readonly forget?: boolean;
  readonly abandon?: boolean;
}

export const register: Register = (program, run) => {
  program
    .command('reset')
    .description('take hosts back to what they were before the cluster: all of them, or the workers named')
    .argument('[hosts...]', 'workers to reset; none: the whole cluster')
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--check', 'change nothing, and say what would be done')
    .option('--forget', "remove the cluster's keys and certificates from this machine as well, for good")
    .option(
      '--abandon',
      'drop an operation that is pending (an upgrade, say): the cluster goes, and nothing is to be finished',
    )
    .action((hosts: string[], flags: ResetFlags) => run((context) => reset(context, hosts, flags)));
};

async function reset(context: CommandContext, operands: ReadonlyArray<string>, flags: ResetFlags): Promise<void> {
  const { console } = context;
  const named = operands.slice(0, operands.length - (context.passThrough?.length ?? 0));
  const home = await locateCluster(context, flags.cluster);
  const cluster = await loadCluster(home);
  const { hosts, whole } = hostsToReset(cluster, named);
  const { check = false, forget = false, abandon = false } = flags;
  if (!whole && (forget || abandon)) {
    throw usageError(`--${forget ? 'forget' : 'abandon'} goes with the whole cluster alone.`, {
      code: 'usage',
      next: 'Leave it out, or name no host.',
    });
  }
  const options: ResetOptions = {
    cluster,
    home,
    hosts,
    whole,
    check,
    abandon,
    forget,
    again: againCommand(named, flags),
  };
  if (!check) await agreeToDestroy(context, { losses: losses(options), name: whole ? cluster.name : hosts.join(' ') });

  const { run: finished, resets } = await resetCluster(context, options);
  if (resets.length > 0) console.info(`\n${formatResets(resets, check)}`);
  const result = { ...runResult(finished), resets };
  if (finished.error instanceof K8sAnsError) Object.assign(finished.error, { resets });
  finishRun(context, finished, options.again);
  const colors = pc.createColors(console.color);
  const what = check ? 'nothing was changed' : whole ? `${cluster.name} is gone` : `${hosts.join(', ')} reset`;
  console.info(`${colors.green('✔')} ${what}. ${colors.dim(formatTotals(finished.report))}`);
  console.result('reset', result);
}

function againCommand(named: ReadonlyArray<string>, flags: ResetFlags): string {
  return [
    'k8s-ans reset',
    ...named,
    ...(flags.cluster === undefined ? [] : ['--cluster', flags.cluster]),
    ...(flags.forget ? ['--forget'] : []),
  ].join(' ');
}
