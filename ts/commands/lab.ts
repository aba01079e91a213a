/** `k8s-ans lab`: a cluster's hosts as containers on this machine, and the cluster on them. */
import path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { Register } from '../cli/register.js';
import type { Convergence } from '../lab/hosts.js';
import { type Lab, labDown, labExec, labUp, openLab } from '../lab/index.js';
import { listNodes, type NodeRow } from '../lab/nodes.js';
import { guideSubnet, type LabPlan } from '../lab/plan.js';
import { labHome } from '../lab/state.js';
import { plainTable as table } from '../report/table.js';
import { readDeployed, removeDeployed } from '../spec/deployed.js';
import { loadCluster } from '../spec/load.js';
import type { CommandContext } from '../types/console.js';
import { type ExitCode, K8sAnsError, usageError } from '../types/errors.js';
import { clusterHome } from '../types/home.js';
import { deploy } from './deploy.js';
import { mustBuild } from './doctor/build.js';
import { doctor } from './doctor.js';
import { endOperation } from './run/operation.js';

interface LabOptions {
  readonly name: string;
  readonly masters?: number;
  readonly nodes?: number;
  readonly spares?: number;
  readonly subnet?: string;
}

export const register: Register = (program, run) => {
  const lab = program
    .command('lab')
    .description('hosts as containers on this machine, to try, test and break things on');

  withHosts(lab.command('up'))
    .description('make the hosts of a lab, or what is missing of it')
    .action((options: LabOptions) =>
      run(async (context) => {
        const made = await up(context, options);
        context.console.info(`Deploy to them: k8s-ans deploy --cluster ${options.name}`);
        context.console.result('lab-up', labResult(made));
      }),
    );

  withHosts(lab.command('deploy'))
    .description('all in one: mend this machine, make the hosts, deploy the cluster')
    .action((options: LabOptions) => run((context) => labDeploy(context, options)));

  named(lab.command('exec'))
    .description('run a command on a host over SSH, or a shell')
    .argument('<host>', 'name or address of the host')
    .argument('[command...]', 'the command, after --')
    .action((host: string, command: string[], options: LabOptions) =>
      run(async (context) => {
        const code = await labExec(context, await openLab(context, options.name), host, command);
        if (code === 0) return;
        throw new K8sAnsError(`the command on ${host} ended with exit code ${code}`, {
          code: 'lab-exec',
          // The command's own exit code is the caller's, as with ssh.
          exitCode: code as ExitCode,
        });
      }),
    );

  named(lab.command('down'))
    .description('remove the hosts, and stop the engine if the lab started it; the image stays in the cache')
    .option('--purge', "remove the cluster's home as well: its keys, certificates and reports")
    .action((options: LabOptions & { purge?: boolean }) =>
      run(async (context) => {
        const result = await labDown(context, options);
        // The cluster went with its hosts; what is kept of its home makes another one on new hosts.
        const home = clusterHome(labHome(context.cwd, options.name).root);
        await removeDeployed(home);
        await endOperation(home);
        const engine = result.engineStopped ? ' Its engine is stopped.' : '';
        context.console.info(
          result.hosts.length === 0
            ? `The lab "${options.name}" has no hosts.${engine}`
            : `Removed ${result.hosts.length} hosts of the lab "${options.name}".${engine}`,
        );
        context.console.result('lab-down', result);
      }),
    );
};

function named(command: Command): Command {
  return command.option('--name <name>', "the lab's name; its home is inventory/NAME", 'lab');
}

function withHosts(command: Command): Command {
  return named(command)
    .option('--masters <number>', 'number of masters (default: as many as it has, or 3)', whole)
    .option('--nodes <number>', 'number of nodes (default: as many as it has, or 2)', whole)
    .option(
      '--spares <number>',
      'hosts that run and are not in the spec, for `node add` (default: as it has, or 0)',
      whole,
    )
    .option('--subnet <network>', `the lab's network (default: the one it has, or ${guideSubnet})`);
}

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

async function up(context: CommandContext, options: LabOptions): Promise<Lab & Convergence> {
  const lab = await labUp(context, options, (plan) => refuseLostHosts(context, options.name, plan));
  const done = [
    [lab.made, 'made'],
    [lab.started, 'started again'],
    [lab.kept, 'running already'],
    [lab.removed, 'removed'],
  ] as const;
  const parts = done.filter(([names]) => names.length > 0).map(([names, what]) => `${names.length} ${what}`);
  context.console.info(`The lab "${lab.plan.name}" is up: ${parts.join(', ')}.`);
  context.console.print(
    table(
      ['Host', 'Address', 'Group'],
      lab.plan.hosts.map(({ name, address, role }) => [name, address, role]),
    ),
  );
  return lab;
}

/** A lab gets no smaller under its cluster: a host leaves the cluster first. */
async function refuseLostHosts(context: CommandContext, name: string, plan: LabPlan): Promise<void> {
  const deployed = await readDeployed(clusterHome(labHome(context.cwd, name).root));
  const lost = (deployed?.cluster.hosts ?? []).filter(
    (host) => !plan.hosts.some((planned) => planned.name === host.name && planned.address === host.address),
  );
  if (lost.length === 0) return;
  const names = lost.map((host) => host.name).join(', ');
  throw usageError(`the lab's cluster has hosts that such a lab has not: ${names}`, {
    code: 'lab-hosts-in-use',
    next:
      `Take them out with \`k8s-ans node remove HOST --cluster ${name}\` first, ` +
      `or begin anew after \`k8s-ans lab down --name ${name}\`.`,
  });
}

/** One command from a fresh machine to a cluster. */
async function labDeploy(context: CommandContext, options: LabOptions): Promise<void> {
  await doctor(context, { scopes: ['run', 'lab'], fix: true, quiet: true });
  const lab = await up(context, options);
  const home = clusterHome(lab.home.root);
  const cluster = await loadCluster(home);
  if (await mustBuild(context, cluster.artifacts.source, cluster.kubernetes.version, home.lock)) {
    await doctor(context, { scopes: ['build'], fix: true, quiet: true });
  }
  const name = options.name === 'lab' ? '' : ` --name ${options.name}`;
  const finished = await deploy(context, { cluster, home, again: `k8s-ans lab deploy${name}` });
  context.console.print(nodeTable(await listNodes(home.kubeconfig, context.signal)));
  context.console.print(
    [
      `Report:     ${path.relative(context.cwd, finished.folder.html)}`,
      `Kubeconfig: ${path.relative(context.cwd, home.kubeconfig)}`,
      `A shell on the first master: k8s-ans lab exec${name} ${lab.plan.hosts[0]?.name}`,
      `All of it goes away with: k8s-ans lab down${name}`,
    ].join('\n'),
  );
}

function nodeTable(nodes: ReadonlyArray<NodeRow>): string {
  return table(
    ['Node', 'Status', 'Roles', 'Version', 'Address', 'Runtime'],
    nodes.map((node) => [
      ...[node.name, node.ready ? 'Ready' : 'NotReady', node.roles, node.version, node.address, node.runtime],
    ]),
  );
}

function labResult(lab: Lab & Convergence): Record<string, unknown> {
  return {
    name: lab.plan.name,
    home: lab.home.root,
    engine: lab.engine,
    hosts: lab.plan.hosts,
    made: lab.made,
    started: lab.started,
    kept: lab.kept,
    removed: lab.removed,
  };
}
