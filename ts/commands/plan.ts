/** `k8s-ans plan`: what deploy would do, from a run of it in check mode. */
import type { Register } from '../cli/register.js';
import { planOf } from '../report/plan.js';
import { formatPlan } from '../report/plan-text.js';
import { refuseForbiddenChanges } from '../spec/changes.js';
import { draftSpec, setVersion } from '../spec/edit.js';
import { loadCluster } from '../spec/load.js';
import { locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import { ExitCode } from '../types/errors.js';
import type { LocalChange } from '../types/plan.js';
import { addBundleOption, openBundle } from './run/bundle.js';
import { convergeCluster } from './run/deploy.js';
import { finishRun, runResult } from './run/finish.js';
import { pendingOperation } from './run/operation.js';
import { addPlaybookOptions, type ClusterPlaybookOptions, refuseOperands } from './run/playbook-options.js';
import { runSession } from './run/session.js';
import { inShadow } from './run/shadow.js';

interface PlanOptions extends ClusterPlaybookOptions {
  readonly to?: string | undefined;
  readonly bundle?: string | undefined;
}

export const register: Register = (program, run) => {
  addBundleOption(addPlaybookOptions(program.command('plan')))
    .description('say what deploy would do, and change nothing: exit code 5 when there is something to do, 0 when not')
    .option('--tags <tags>', "only these phases, as ansible-playbook's --tags")
    .option('--to <version>', 'as if the spec named this Kubernetes version: what an upgrade to it comes to')
    .option('--diff', 'show the contents of new files as well')
    .option('--no-diff', 'show no differences')
    .action((operands: string[], options: PlanOptions) => run((context) => plan(context, options, operands)));
};

async function plan(context: CommandContext, options: PlanOptions, operands: ReadonlyArray<string>): Promise<ExitCode> {
  const { console } = context;
  refuseOperands(context, operands, 'plan');
  const home = await locateCluster(context, options.cluster);
  const { to } = options;
  const cluster =
    to === undefined
      ? await loadCluster(home)
      : (await draftSpec(home, (document) => setVersion(document, to.replace(/^v/, '')))).cluster;
  const again = [
    'k8s-ans plan',
    ...(options.cluster ? [`--cluster ${options.cluster}`] : []),
    ...(options.bundle ? [`--bundle ${options.bundle}`] : []),
  ].join(' ');
  const bundle = await openBundle(context, options.bundle, cluster.kubernetes.version);
  const pending = await pendingOperation(home);
  if (pending) {
    console.warn(
      `\`${pending.command} ${pending.subject}\` is not finished: deploy is refused until \`${pending.again}\` has been run.`,
    );
  }
  let local: LocalChange[] = [];
  // The lock is taken: what is seen while another command changes the cluster is true of no moment.
  const done = await runSession(
    context,
    { command: 'plan', cluster, home, lock: true, check: true },
    async (session) => {
      // What deploy would refuse is no plan; a pending operation is in the middle of such a change.
      if (pending === undefined) {
        await refuseForbiddenChanges(home, cluster, to === undefined ? [] : ['kubernetes.version']);
      }
      local = await inShadow(session, (shadow) =>
        convergeCluster(shadow, {
          ...options,
          bundle,
          home: shadow.home,
          cluster,
          again,
          check: true,
          diff: options.diff !== false,
        }),
      );
    },
  );
  finishRun(context, done, again);
  const found = planOf(done.report, local);
  const diffs = { true: 'all', false: 'none', undefined: 'changed' } as const;
  console.print(`\n${formatPlan(found, { diffs: diffs[`${options.diff}`], color: console.color })}`);
  console.result('plan', { ...runResult(done), plan: found });
  return found.changes ? ExitCode.changesPending : ExitCode.done;
}
