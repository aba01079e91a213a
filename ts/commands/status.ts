/** `k8s-ans status`: how the cluster does. */
import { InvalidArgumentError } from 'commander';
import type { Register } from '../cli/register.js';
import { planOf } from '../report/plan.js';
import { loadCluster } from '../spec/load.js';
import { locateCluster } from '../spec/locate.js';
import { driftOf } from '../status/drift.js';
import { judgeCluster } from '../status/judge.js';
import { type Observation, readObservations } from '../status/observe.js';
import { formatDrift, formatStatus } from '../status/text.js';
import type { CommandContext } from '../types/console.js';
import { ExitCode } from '../types/errors.js';
import { finishRun } from './run/finish.js';
import { addPlaybookOptions, type ClusterPlaybookOptions, refuseOperands } from './run/playbook-options.js';
import { runSession } from './run/session.js';
import { inShadow, VARIABLES_ALONE, WHOLE_HOME } from './run/shadow.js';
import { checkDrift, lookAtHosts } from './run/status.js';

interface StatusOptions extends ClusterPlaybookOptions {
  readonly drift: boolean;
  readonly days: number;
}

const DEFAULT_DAYS = 14;

export const register: Register = (program, run) => {
  addPlaybookOptions(program.command('status'))
    .description(
      'show how the cluster does: etcd, API, nodes, add-ons, certificates, drift; exit code 1 when it is not well',
    )
    .option('--no-drift', 'do not compare the files on the hosts with the spec, which takes most of the time')
    .option('--days <n>', 'a certificate that ends within so many days is a problem', parseDays, DEFAULT_DAYS)
    .action((operands: string[], options: StatusOptions) => run((context) => status(context, options, operands)));
};

function parseDays(value: string): number {
  if (!/^\d{1,5}$/.test(value)) throw new InvalidArgumentError('Give a whole number of days, e.g. 14.');
  return Number(value);
}

async function status(
  context: CommandContext,
  options: StatusOptions,
  operands: ReadonlyArray<string>,
): Promise<ExitCode> {
  const { console } = context;
  refuseOperands(context, operands, 'status');
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const { days } = options;
  const text = { color: console.color, verbose: console.verbosity > 0 };
  const again = `k8s-ans status${options.cluster ? ` --cluster ${options.cluster}` : ''}`;

  let observations: Observation[] = [];
  let seen = new Date();
  let compared: string[] = [];
  let driftError: string | undefined;
  // No lock: it changes nothing, and a cluster that is being changed may be looked at.
  const session = { command: 'status', cluster, home, lock: false, check: true, kept: false };
  const done = await runSession(context, session, async (current) => {
    await inShadow(
      current,
      async (shadow) => {
        observations = readObservations(await lookAtHosts(shadow, options.limit), shadow.events);
        // What was seen is judged by the time at which it was seen: the comparison may take longer than a lease lives.
        seen = new Date();
        // Shown before the comparison, which takes longer and says nothing of whether the cluster works.
        console.print(`\n${formatStatus(judgeCluster({ cluster, observations, days, now: seen }), text)}`);
        if (!options.drift) return;
        compared = observations.flatMap(({ host, findings }) => (findings ? [host] : []));
        driftError = await checkDrift(shadow, compared, again);
      },
      options.drift ? WHOLE_HOME : VARIABLES_ALONE,
    );
  });
  if (done.error !== undefined) finishRun(context, done, again);
  const drift = options.drift ? driftOf(planOf(done.report, []), compared, driftError) : undefined;
  if (drift) console.print(`\n${formatDrift(drift, console.color)}`);
  const found = judgeCluster({ cluster, observations, drift, days, now: seen });
  console.result('status', found);
  return found.healthy ? ExitCode.done : ExitCode.runFailed;
}
