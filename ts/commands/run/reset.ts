/** The reset run: which hosts, what came of each, and what of this machine goes with the cluster. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { removeDeployed } from '../../spec/deployed.js';
import type { Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { runError, usageError } from '../../types/errors.js';
import type { RunEvent } from '../../types/events.js';
import type { ClusterHome } from '../../types/home.js';
import { writeInventory } from './deploy.js';
import { playbookError } from './finish.js';
import { beginOperation, endOperation, pendingOperation } from './operation.js';
import { type FinishedRun, type RunSession, runSession } from './session.js';

const note = z.object({ what: z.string(), why: z.string() });

/** What the host_reset module says of a host (ansible/plugins/modules/host_reset.py). */
const resetSchema = z.object({
  basis: z.enum(['ledger', 'known', 'nothing']),
  stopped: z.array(z.string()).default([]),
  unmounted: z.array(z.string()).default([]),
  removed: z.array(z.string()).default([]),
  restored: z.array(z.string()).default([]),
  left: z.array(note).default([]),
  failed: z.array(note).default([]),
  reboot: z.array(z.string()).default([]),
});

export interface HostReset extends z.infer<typeof resetSchema> {
  readonly host: string;
}

export interface ResetOptions {
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  /** The hosts that are reset. */
  readonly hosts: ReadonlyArray<string>;
  /** Whether these are all of the cluster's. */
  readonly whole: boolean;
  readonly check: boolean;
  /** Drop an operation that is pending: a cluster that goes has nothing to finish. */
  readonly abandon: boolean;
  /** Remove the cluster's keys and all that is rendered from this machine as well. */
  readonly forget: boolean;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
}

/**
 * The hosts that the command line names; none named: all.
 *
 * @throws K8sAnsError `unknown-host`, or `host-in-use` for a master or etcd member without the whole cluster (exit code 2)
 */
export function hostsToReset(cluster: Cluster, named: ReadonlyArray<string>): { hosts: string[]; whole: boolean } {
  const all = cluster.hosts.map(({ name }) => name);
  const unknown = named.filter((name) => !all.includes(name));
  if (unknown.length > 0) {
    throw usageError(`${cluster.name} has no host ${unknown.join(', ')}.`, {
      code: 'unknown-host',
      next: `Its hosts are ${all.join(', ')}.`,
    });
  }
  const hosts = named.length === 0 ? all : all.filter((name) => named.includes(name));
  if (hosts.length === all.length) return { hosts, whole: true };
  const serving = [...cluster.etcdHosts, ...cluster.masters].find(({ name }) => hosts.includes(name));
  if (serving !== undefined) {
    const etcd = cluster.etcdHosts.includes(serving);
    throw usageError(
      `${serving.name} is ${etcd ? 'a member of the etcd cluster' : 'a master'} of ${cluster.name}: reset alone, it would leave the others without it.`,
      {
        code: 'host-in-use',
        next: `\`k8s-ans node remove ${serving.name}\` takes it out in order, and resets it. \`k8s-ans reset\` without a host resets the whole cluster.`,
      },
    );
  }
  return { hosts, whole: false };
}

/** Resets the hosts. What ended the run is in the value returned. */
export async function resetCluster(
  context: CommandContext,
  options: ResetOptions,
): Promise<{ readonly run: FinishedRun; readonly resets: ReadonlyArray<HostReset> }> {
  const { cluster, home, check } = options;
  let events: ReadonlyArray<RunEvent> = [];
  const run = await runSession(context, { command: 'reset', cluster, home, lock: true, check }, async (session) => {
    events = session.events;
    if (!check) await begin(options);
    await writeInventory(session);
    const result = await session.playbook('reset', {
      check,
      limit: options.hosts.join(','),
      passThrough: context.passThrough ?? [],
    });
    const silent = hostsThat(session.events, 'unreachable');
    const broken = hostsThat(session.events, 'failed');
    // Without statistics the playbook itself broke off, and the hosts may be half-way.
    if (result.outcome !== 'done' && (broken.length > 0 || silent.length === 0)) throw incomplete(session, options);
    if (!check) {
      // From now on the spec may be changed in everything. A host that was down is still cleaned by the next reset.
      if (options.whole) await removeDeployed(home);
      await endOperation(home);
    }
    if (silent.length > 0) throw unreachable(silent, options);
    if (!check && options.forget) await forget(session);
  });
  return { run, resets: readResets(events) };
}

/** From here on no other command works on the cluster until the reset is through. */
async function begin(options: ResetOptions): Promise<void> {
  const { home } = options;
  const start = {
    command: 'reset',
    subject: options.whole ? options.cluster.name : options.hosts.join(' '),
    again: options.again,
    data: {},
  };
  const pending = await pendingOperation(home);
  if (options.abandon && options.whole && pending !== undefined && pending.command !== start.command) {
    await endOperation(home);
  }
  await beginOperation(home, start);
}

/** What came of every host that was reached. */
export function readResets(events: ReadonlyArray<RunEvent>): HostReset[] {
  return events.flatMap((event) => {
    if (event.event !== 'result' || event.reset === undefined) return [];
    const parsed = resetSchema.safeParse(event.reset);
    return parsed.success ? [{ host: event.host, ...parsed.data }] : [];
  });
}

function hostsThat(events: ReadonlyArray<RunEvent>, status: 'failed' | 'unreachable'): string[] {
  return [
    ...new Set(events.flatMap((event) => (event.event === 'result' && event.status === status ? [event.host] : []))),
  ];
}

function incomplete(session: RunSession, options: ResetOptions): Error {
  const resets = readResets(session.events).filter(({ failed }) => failed.length > 0);
  if (resets.length === 0) return playbookError(session, options.again);
  const silent = hostsThat(session.events, 'unreachable');
  const reasons = resets.flatMap(({ host, failed }) => failed.map(({ what, why }) => `  ${host}: ${what}: ${why}`));
  const down = silent.length > 0 ? `\n  not reached: ${silent.join(', ')}` : '';
  return runError(
    `not all could be taken back on ${resets.map(({ host }) => host).join(', ')}\n${reasons.join('\n')}${down}`,
    {
      code: 'reset-incomplete',
      where: session.folder.log,
      next: `Mend the cause, then run \`${options.again}\` again: it does what is left.`,
    },
  );
}

function unreachable(hosts: ReadonlyArray<string>, options: ResetOptions): Error {
  const kept = options.forget ? ' The keys on this machine were kept for them.' : '';
  return runError(
    `${hosts.join(', ')} could not be reached and ${hosts.length === 1 ? 'was' : 'were'} not reset.${kept}`,
    {
      code: 'host-unreachable',
      next: `When ${hosts.length === 1 ? 'it answers' : 'they answer'}, run \`${options.again}\` again: hosts that are reset already are left as they are.`,
    },
  );
}

/** Removes what only makes sense as long as the cluster is there. The spec and the reports of past runs stay. */
async function forget(session: RunSession): Promise<void> {
  const { home } = session;
  const gone = [home.pki, home.kubeconfig, home.lock, home.inventory, home.groupVars, home.environment];
  await session.step(
    'keys',
    async () => {
      for (const file of gone) await rm(file, { recursive: true, force: true });
    },
    () => `${gone.map((file) => path.basename(file)).join(', ')} removed from this machine`,
  );
}
