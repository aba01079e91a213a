/** `k8s-ans node`: hosts come and go while the cluster runs. */
import { type Command, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import type { Register } from '../cli/register.js';
import { formatTotals } from '../report/summary.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { HostRole } from '../types/cluster.js';
import type { CommandContext } from '../types/console.js';
import { addNode } from './node/add.js';
import { parseLabel, parseTaint } from './node/hosts.js';
import { removeNode } from './node/remove.js';
import { addBundleOption } from './run/bundle.js';
import { finishRun, runResult } from './run/finish.js';
import type { FinishedRun } from './run/session.js';

interface NodeOptions {
  readonly cluster?: string;
  readonly limit?: string;
}

interface AddCommandOptions extends NodeOptions {
  readonly address?: string;
  readonly roles?: ReadonlyArray<HostRole>;
  readonly user?: string;
  readonly port?: number;
  readonly label: ReadonlyArray<string>;
  readonly taint: ReadonlyArray<string>;
  readonly bundle?: string;
}

interface RemoveCommandOptions extends NodeOptions {
  readonly dead?: boolean;
  readonly timeout: number;
}

export const register: Register = (program, run) => {
  const node = program.command('node').description('add hosts to the running cluster, and remove them');

  addBundleOption(shared(node.command('add')))
    .description('add a host: worker, master or etcd member; again after a failure, it goes on')
    .argument('<name>', "the host's name, also its node's")
    .option('--address <address>', 'the IPv4 address at which the others and this machine reach it')
    .option('--roles <roles>', 'masters, nodes, etcd, separated by commas (default: nodes)', roles)
    .option('--user <user>', "its SSH user, where it is not the spec's")
    .option('--port <port>', "its SSH port, where it is not the spec's", port)
    .option('--label <key=value>', 'a label of its node; may be repeated', collect, [])
    .option('--taint <key[=value]:effect>', 'a taint of its node; may be repeated', collect, [])
    .action((name: string, options: AddCommandOptions) => run((context) => add(context, name, options)));

  shared(node.command('remove'))
    .description('remove a host: its pods move away, the others do without it, and it is cleaned')
    .argument('<name>', "the host's name")
    .option('--dead', 'the host is lost and does not answer: nothing is done on it')
    .option('--timeout <duration>', 'how long its pods may take to move away, e.g. 90s or 10m', duration, 300)
    .action((name: string, options: RemoveCommandOptions) => run((context) => remove(context, name, options)));
};

function shared(command: Command): Command {
  return command
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--limit <hosts>', "only these of the other hosts, as ansible-playbook's --limit, e.g. 'all,!k8snode07'");
}

function collect(value: string, before: ReadonlyArray<string>): string[] {
  return [...before, value];
}

function port(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > 65535) throw new InvalidArgumentError('It is not a port.');
  return number;
}

function roles(text: string): HostRole[] {
  const known: ReadonlyArray<string> = ['masters', 'nodes', 'etcd'];
  const found = [...new Set(text.split(',').map((part) => part.trim()))];
  const wrong = found.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new InvalidArgumentError(`"${wrong}" is none of ${known.join(', ')}.`);
  return found as HostRole[];
}

/** Seconds of a text such as `90`, `90s`, `5m` or `1h`. */
export function duration(text: string): number {
  const match = /^(\d+)(s|m|h)?$/.exec(text);
  const seconds =
    match === null ? 0 : Number(match[1]) * { s: 1, m: 60, h: 3600 }[(match[2] ?? 's') as 's' | 'm' | 'h'];
  if (seconds < 1 || seconds > 86_400) throw new InvalidArgumentError('Write it as 90s, 5m or 1h, at most a day.');
  return seconds;
}

async function add(context: CommandContext, name: string, options: AddCommandOptions): Promise<void> {
  const home = await locateCluster(context, options.cluster);
  const wanted = {
    name,
    address: options.address,
    roles: options.roles,
    user: options.user,
    port: options.port,
    labels: Object.fromEntries(options.label.map(parseLabel)),
    taints: options.taint.map(parseTaint),
  };
  const again = addLine(name, options);
  const done = await addNode(context, { home, wanted, limit: options.limit, again, bundle: options.bundle });
  finish(context, done, again, 'node-add', `${name} is part of ${done.report.cluster}.`);
}

async function remove(context: CommandContext, name: string, options: RemoveCommandOptions): Promise<void> {
  const home = await locateCluster(context, options.cluster);
  const dead = options.dead === true;
  const again = commandLine('remove', name, options) + (dead ? ' --dead' : '');
  const done = await removeNode(context, {
    home,
    name,
    dead,
    timeoutSeconds: options.timeout,
    limit: options.limit,
    again,
  });
  finish(context, done, again, 'node-remove', `${name} is no longer part of ${done.report.cluster}.`);
}

/** All that was given: until preflight has passed, the spec knows nothing of it. */
function addLine(name: string, options: AddCommandOptions): string {
  const words = [
    ...(options.address === undefined ? [] : ['--address', options.address]),
    ...(options.roles === undefined ? [] : ['--roles', options.roles.join(',')]),
    ...(options.user === undefined ? [] : ['--user', options.user]),
    ...(options.port === undefined ? [] : ['--port', String(options.port)]),
    ...options.label.flatMap((label) => ['--label', label]),
    ...options.taint.flatMap((taint) => ['--taint', taint]),
    ...(options.bundle === undefined ? [] : ['--bundle', options.bundle]),
  ];
  return [commandLine('add', name, options), ...words].join(' ');
}

/** The command that goes on; the journal has the rest. */
function commandLine(command: string, name: string, { cluster, limit }: NodeOptions): string {
  return `k8s-ans node ${command} ${name}${cluster ? ` --cluster ${cluster}` : ''}${limit ? ` --limit '${limit}'` : ''}`;
}

function finish(context: CommandContext, run: FinishedRun, again: string, kind: string, text: string): void {
  finishRun(context, run, again);
  const colors = pc.createColors(context.console.color);
  context.console.info(`${colors.green('✔')} ${text} ${colors.dim(formatTotals(run.report))}`);
  context.console.result(kind, runResult(run));
}
