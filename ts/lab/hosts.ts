/** The lab's containers: made, kept, started again, made anew, removed, until they are what the plan says. */
import { createHash, randomUUID } from 'node:crypto';
import { execa } from 'execa';
import type { CommandContext } from '../types/console.js';
import { environmentError } from '../types/errors.js';
import { docker, type Engine, tryDocker } from './docker.js';
import type { MachineFacts } from './machine.js';
import {
  configLabel,
  hostArgs,
  type LabPlan,
  labLabel,
  networkArgs,
  overlapping,
  type PlannedHost,
  type Route,
} from './plan.js';

/** A container of the lab, as the engine has it. */
interface Existing {
  readonly name: string;
  readonly state: string;
  readonly config: string;
}

/** What was done with each host. */
export interface Convergence {
  readonly kept: string[];
  readonly started: string[];
  readonly made: string[];
  readonly removed: string[];
}

async function existing(context: CommandContext, engine: Engine, lab: string): Promise<Existing[]> {
  const format = `{{.Names}}\t{{.State}}\t{{.Label "${configLabel}"}}`;
  const text = await docker(engine, ['ps', '-a', '--filter', `label=${labLabel}=${lab}`, '--format', format], context);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', state = '', config = ''] = line.split('\t');
      return { name, state, config };
    });
}

/**
 * Makes the lab's network, or keeps the one that is there.
 *
 * @throws K8sAnsError `lab-network` if the subnet is in use on this machine.
 */
export async function ensureNetwork(context: CommandContext, engine: Engine, plan: LabPlan): Promise<void> {
  const { name, subnet } = plan.network;
  const format = '{{range .IPAM.Config}}{{.Subnet}}{{end}}\t{{.Id}}';
  const found = await tryDocker(engine, ['network', 'inspect', '--format', format, name], context);
  if (found.exitCode === 0) {
    if (found.stdout.split('\t')[0] === subnet) return;
    await removeHosts(
      context,
      engine,
      (await existing(context, engine, plan.name)).map((host) => host.name),
    );
    await docker(engine, ['network', 'rm', name], context);
  }
  const clash = overlapping(subnet, await routes());
  if (clash !== undefined) {
    throw environmentError(`the network ${subnet} is in use on this machine: ${clash.destination} on ${clash.device}`, {
      code: 'lab-network',
      where: clash.device,
      next: 'Give the lab another one: `--subnet 172.24.9.0/24`.',
    });
  }
  await docker(engine, networkArgs(plan.name, plan.network), context);
}

/** The machine's IPv4 routes; none where it has no `ip` (macOS: the engine's networks are in a VM). */
async function routes(): Promise<Route[]> {
  const result = await execa('ip', ['-4', '-j', 'route', 'show', 'table', 'all'], { reject: false, stdin: 'ignore' });
  if (result.exitCode !== 0) return [];
  return (JSON.parse(result.stdout || '[]') as Array<{ dst?: string; dev?: string; type?: string }>)
    .filter((route) => route.type === undefined || route.type === 'unicast')
    .map((route) => ({ destination: route.dst ?? 'default', device: route.dev ?? '' }));
}

/** Brings the lab's containers in line with the plan. Safe to interrupt and to run again. */
export async function ensureHosts(
  context: CommandContext,
  engine: Engine,
  plan: LabPlan,
  image: string,
  facts: MachineFacts,
  authorizedKey: string,
): Promise<Convergence> {
  const there = await existing(context, engine, plan.name);
  const done: Convergence = { kept: [], started: [], made: [], removed: [] };
  const extra = there.filter((container) => !plan.hosts.some((host) => host.container === container.name));
  await removeHosts(
    context,
    engine,
    extra.map((container) => container.name),
  );
  done.removed.push(...extra.map((container) => container.name));

  await Promise.all(
    plan.hosts.map(async (host) => {
      const config = configHash(plan, host, image, facts, authorizedKey);
      const container = there.find((candidate) => candidate.name === host.container);
      if (container?.config === config && container.state === 'running') {
        done.kept.push(host.name);
        return;
      }
      // One that was made but never ran may lack what an interrupted `docker run` left out.
      if (container?.config === config && container.state === 'exited') {
        await docker(engine, ['start', host.container], context);
        done.started.push(host.name);
        return;
      }
      if (container !== undefined) await removeHosts(context, engine, [host.container]);
      const identity = {
        machineId: randomUUID().replaceAll('-', ''),
        productUuid: randomUUID(),
        authorizedKey,
      };
      await docker(engine, hostArgs(plan, host, identity, image, facts.privilege, config), context);
      done.made.push(host.name);
    }),
  );
  return done;
}

/** A hash of what a host's container is made from: one with another hash is made anew. */
function configHash(
  plan: LabPlan,
  host: PlannedHost,
  image: string,
  facts: MachineFacts,
  authorizedKey: string,
): string {
  const identity = { machineId: '', productUuid: '', authorizedKey };
  return createHash('sha256')
    .update(JSON.stringify(hostArgs(plan, host, identity, image, facts.privilege, '')))
    .digest('hex')
    .slice(0, 16);
}

/** Removes containers with their volumes. */
export async function removeHosts(
  context: CommandContext,
  engine: Engine,
  containers: ReadonlyArray<string>,
): Promise<void> {
  if (containers.length === 0) return;
  await docker(engine, ['rm', '--force', '--volumes', ...containers], context);
}

/** Removes every container and network of the lab `name`, whatever was planned. */
export async function removeLab(context: CommandContext, engine: Engine, name: string): Promise<string[]> {
  const containers = (await existing(context, engine, name)).map((container) => container.name);
  await removeHosts(context, engine, containers);
  const filter = `label=${labLabel}=${name}`;
  const networks = await docker(engine, ['network', 'ls', '-q', '--filter', filter], context);
  for (const network of networks.split('\n').filter((id) => id !== '')) {
    await docker(engine, ['network', 'rm', network], context);
  }
  return containers;
}

/** Names of all labs on the engine. */
export async function labsOn(context: CommandContext, engine: Engine): Promise<string[]> {
  const format = `{{.Label "${labLabel}"}}`;
  const text = await docker(engine, ['ps', '-a', '--filter', `label=${labLabel}`, '--format', format], context);
  return [...new Set(text.split('\n').filter((name) => name !== ''))].sort();
}
