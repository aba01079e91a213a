/** The lab: a cluster's hosts as containers on this machine, reached over SSH like servers. */
import { setMaxListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { execa } from 'execa';
import type { CommandContext } from '../types/console.js';
import { environmentError, usageError } from '../types/errors.js';
import { docker, type Engine, tryDocker } from './docker.js';
import { ensureEngine, findEngine, ownEngine, reachable, stopEngine } from './engine.js';
import { type Convergence, ensureHosts, ensureNetwork, labsOn, removeLab } from './hosts.js';
import { baseRecipe, ensureImage, imageName } from './image.js';
import { probeMachine, raiseSysctls, restoreSysctls } from './machine.js';
import { guideSubnet, type LabPlan, type PlannedHost, planLab } from './plan.js';
import { ensureSpec, specHosts } from './spec.js';
import { ensureKey, pinHostKeys, sshArgs, waitForSsh } from './ssh.js';
import { type LabHome, type LabState, labHome, readState, writeState } from './state.js';

export interface LabUpOptions {
  readonly name?: string | undefined;
  /** Left out: as many as the lab has, or 3 and 2. */
  readonly masters?: number | undefined;
  readonly nodes?: number | undefined;
  /** Left out: as many as the lab has, or none. */
  readonly spares?: number | undefined;
  readonly subnet?: string | undefined;
}

/** A running lab. */
export interface Lab {
  readonly home: LabHome;
  readonly engine: Engine;
  readonly image: string;
  readonly plan: LabPlan;
}

/**
 * Makes the lab, or what is missing of it: engine, image, network, key, hosts, cluster.yaml. Returns when every host
 * answers over SSH.
 *
 * @param judge refuses a plan by throwing, before anything is made or removed
 * @throws K8sAnsError with exit code 4 for whatever this machine lacks.
 */
export async function labUp(
  context: CommandContext,
  options: LabUpOptions = {},
  judge: (plan: LabPlan) => Promise<void> = async () => {},
): Promise<Lab & Convergence> {
  const name = options.name ?? 'lab';
  const home = labHome(context.cwd, name);
  // Every host's commands listen to it at the same time; that is no leak.
  setMaxListeners(0, context.signal);
  const before = await readState(home);
  const count = (role: PlannedHost['role']): number | undefined =>
    before?.plan.hosts.filter((host) => host.role === role).length;
  const plan = planLab({
    name,
    masters: options.masters ?? count('masters') ?? 3,
    nodes: options.nodes ?? count('nodes') ?? 2,
    spares: options.spares ?? count('spares') ?? 0,
    subnet: options.subnet ?? before?.plan.network.subnet ?? guideSubnet,
  });
  await judge(plan);

  const engine = await ensureEngine(context);
  const image = await ensureImage(context, engine);
  const facts = await probeMachine(context, engine, image);
  const authorizedKey = await ensureKey(home, `k8s-ans-lab-${name}`);
  // Recorded before anything is made, so that `lab down` finds what an interrupted run made.
  const state: LabState = { version: 1, engine, image, plan, specHosts: before?.specHosts };
  await writeState(home, state);
  await raiseSysctls(context, engine, image, facts);
  await ensureNetwork(context, engine, plan);
  const done = await ensureHosts(context, engine, plan, image, facts, authorizedKey);
  await pinHostKeys(context, engine, plan.hosts, home);
  await waitForSsh(context, engine, plan.hosts, home);
  await ensureSpec(context, home, plan, facts, before?.specHosts);
  await writeState(home, { ...state, specHosts: specHosts(plan) });
  return { home, engine, image, plan, ...done };
}

/**
 * The lab that `lab up` made.
 *
 * @throws K8sAnsError `lab-missing`, `lab-engine` if its engine does not answer.
 */
export async function openLab(context: CommandContext, name = 'lab'): Promise<Lab> {
  const home = labHome(context.cwd, name);
  const state = await readState(home);
  if (state === undefined) {
    throw usageError(`there is no lab "${name}"`, {
      code: 'lab-missing',
      where: home.state,
      next: `Run \`k8s-ans lab up --name ${name}\`.`,
    });
  }
  if (!(await reachable(state.engine, context.signal))) {
    throw environmentError(`the engine of the lab "${name}" does not answer`, {
      code: 'lab-engine',
      where: state.engine.host ?? 'the default Docker engine',
      next: `Run \`k8s-ans lab up --name ${name}\`.`,
    });
  }
  return { home, engine: state.engine, image: state.image, plan: state.plan };
}

/** The host `name` of a lab. @throws K8sAnsError `lab-host-unknown` */
export function labHost(lab: Pick<Lab, 'plan'>, name: string): PlannedHost {
  const host = lab.plan.hosts.find((candidate) => candidate.name === name || candidate.address === name);
  if (host === undefined) {
    throw usageError(`the lab has no host "${name}"`, {
      code: 'lab-host-unknown',
      next: `Its hosts are ${lab.plan.hosts.map((candidate) => candidate.name).join(', ')}.`,
    });
  }
  return host;
}

/**
 * Runs a command on a host over SSH, with this terminal; without a command, a login shell.
 *
 * @returns the command's exit code (255: ssh itself failed).
 */
export async function labExec(
  context: CommandContext,
  lab: Pick<Lab, 'home' | 'plan'>,
  hostName: string,
  command: ReadonlyArray<string>,
): Promise<number> {
  const host = labHost(lab, hostName);
  const terminal = process.stdin.isTTY && process.stdout.isTTY ? ['-t'] : [];
  const args = [
    ...terminal,
    ...sshArgs(lab.home, host.address),
    ...(command.length === 0 ? [] : ['--', remoteCommand(command)]),
  ];
  const result = await execa('ssh', args, { stdio: 'inherit', reject: false, cancelSignal: context.signal });
  if (context.signal.aborted) throw context.signal.reason;
  return result.exitCode ?? 255;
}

/** The words of a command as one line for the remote shell. One word alone is taken for a line already. */
export function remoteCommand(words: ReadonlyArray<string>): string {
  if (words.length === 1) return words[0] as string;
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

export interface LabDownOptions {
  readonly name?: string | undefined;
  /** Removes the cluster home as well: keys, certificates, reports. */
  readonly purge?: boolean | undefined;
}

/** What `lab down` removed. */
export interface LabDownResult {
  readonly hosts: ReadonlyArray<string>;
  readonly engineStopped: boolean;
}

/**
 * Removes the lab's hosts, volumes and network, gives the machine its kernel parameters back, and stops the engine if
 * the lab started it and nothing else is on it. The image stays in the cache.
 */
export async function labDown(context: CommandContext, options: LabDownOptions = {}): Promise<LabDownResult> {
  const name = options.name ?? 'lab';
  const home = labHome(context.cwd, name);
  const state = await readState(home);
  const engine = await downEngine(context, state);
  let hosts: string[] = [];
  let engineStopped = false;
  if (engine !== undefined) {
    hosts = await removeLab(context, engine, name);
    if ((await labsOn(context, engine)).length === 0) {
      const image = state?.image ?? imageName(await baseRecipe(), process.arch);
      if ((await tryDocker(engine, ['image', 'inspect', image], context)).exitCode === 0) {
        await restoreSysctls(context, engine, image);
      }
    }
    engineStopped = engine.own && (await stopEngine(context, engine));
    if (engine.own && !engineStopped) context.console.info('The engine has other containers: it is left running.');
  }
  await rm(home.state, { force: true });
  await rm(home.knownHosts, { force: true });
  if (options.purge === true) await rm(home.root, { recursive: true, force: true });
  return { hosts, engineStopped };
}

/** The engine that has the lab. One of our own that was stopped hard is started again, to clean up what it has. */
async function downEngine(context: CommandContext, state: LabState | undefined): Promise<Engine | undefined> {
  if (state === undefined) return findEngine(context);
  if (await reachable(state.engine, context.signal)) return state.engine;
  if (state.engine.own && state.engine.host === ownEngine(context.env).host) return ensureEngine(context);
  context.console.warn(`The lab's engine does not answer: ${state.engine.host ?? 'the default Docker engine'}`);
  return undefined;
}

/** What tests and drills do to a host. Each takes the lab and the host's name. */
export const faults = {
  /** Shuts the host down as a power button does: systemd stops its units. */
  stop: (context: CommandContext, lab: Lab, host: string) =>
    docker(lab.engine, ['stop', '-t', '30', labHost(lab, host).container], context),
  /** Ends it at once, as a power cut does. */
  kill: (context: CommandContext, lab: Lab, host: string) =>
    docker(lab.engine, ['kill', labHost(lab, host).container], context),
  /** Boots it again, and waits until it answers over SSH. */
  start: async (context: CommandContext, lab: Lab, host: string) => {
    const found = labHost(lab, host);
    await docker(lab.engine, ['start', found.container], context);
    await waitForSsh(context, lab.engine, [found], lab.home);
  },
  /** Pulls its network cable. */
  disconnect: (context: CommandContext, lab: Lab, host: string) =>
    docker(lab.engine, ['exec', labHost(lab, host).container, 'ip', 'link', 'set', 'eth0', 'down'], context),
  /** Plugs it in again; the default route went with the link. */
  connect: (context: CommandContext, lab: Lab, host: string) =>
    docker(
      lab.engine,
      [
        ...['exec', labHost(lab, host).container, 'sh', '-c'],
        `ip link set eth0 up && ip route replace default via ${lab.plan.network.nowhere} dev eth0`,
      ],
      context,
    ),
} as const;
