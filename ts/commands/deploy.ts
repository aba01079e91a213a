/** `k8s-ans deploy`: brings up the cluster, or brings it to what its spec says. */
import pc from 'picocolors';
import type { Register } from '../cli/register.js';
import { formatTotals } from '../report/summary.js';
import { loadCluster } from '../spec/load.js';
import { locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import type { ClusterHome } from '../types/home.js';
import { addBundleOption, openBundle } from './run/bundle.js';
import { type DeployOptions, deployCluster } from './run/deploy.js';
import { finishRun, runResult } from './run/finish.js';
import { addChangeOptions, type ClusterPlaybookOptions, refuseOperands } from './run/playbook-options.js';
import type { FinishedRun } from './run/session.js';

export const register: Register = (program, run) => {
  addBundleOption(addChangeOptions(program.command('deploy')))
    .description('deploy the cluster, or bring it to what its spec says; can be run again after any failure')
    .action((operands: string[], options: DeployCommandOptions) =>
      run(async (context) => {
        refuseOperands(context, operands, 'deploy');
        const home = await locateCluster(context, options.cluster);
        const cluster = await loadCluster(home);
        const bundle = await openBundle(context, options.bundle, cluster.kubernetes.version);
        await deploy(context, { ...options, bundle, home, cluster, again: againCommand(options) });
      }),
    );
};

interface DeployCommandOptions extends ClusterPlaybookOptions {
  readonly bundle?: string;
}

function againCommand({ cluster, bundle }: DeployCommandOptions): string {
  return `k8s-ans deploy${cluster ? ` --cluster ${cluster}` : ''}${bundle ? ` --bundle ${bundle}` : ''}`;
}

/** Deploys with all that is shown to the person; `lab deploy` does the same. Throws what ended the run. */
export async function deploy(context: CommandContext, options: DeployOptions): Promise<FinishedRun> {
  const { console } = context;
  const { cluster, home } = options;
  console.info(`Deploying ${cluster.name}: Kubernetes ${cluster.kubernetes.version} on ${cluster.hosts.length} hosts.`);
  const run = await deployCluster(context, options);
  finishRun(context, run, options.again);
  console.info(doneText(run, home, options.check === true, console.color));
  console.result('deploy', { ...runResult(run), kubeconfig: home.kubeconfig });
  return run;
}

function doneText(run: FinishedRun, home: ClusterHome, check: boolean, color: boolean): string {
  const colors = pc.createColors(color);
  const { report } = run;
  const what = check
    ? `Checked ${report.cluster}: nothing was changed.`
    : report.totals.changed > 0
      ? `${report.cluster} is up.`
      : `${report.cluster} is up, and nothing had to be changed.`;
  return [
    `${colors.green('✔')} ${what} ${colors.dim(formatTotals(report))}`,
    `  export KUBECONFIG=${home.kubeconfig}`,
  ].join('\n');
}
