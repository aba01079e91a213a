/** `node remove`: a host leaves the running cluster. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type LeavingHost, renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import { factsWithout, readDeployed, writeDeployed } from '../../spec/deployed.js';
import { draftSpec, removeHost, writeDraft } from '../../spec/edit.js';
import { loadCluster } from '../../spec/load.js';
import type { Cluster, Host } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError } from '../../types/errors.js';
import type { ResultEvent } from '../../types/events.js';
import type { ClusterHome } from '../../types/home.js';
import { agreeToDestroy } from '../run/agree.js';
import { convergeCluster, writeInventory } from '../run/deploy.js';
import { playbookError } from '../run/finish.js';
import { beginOperation, endOperation, type Operation, pendingOperation, refusePending } from '../run/operation.js';
import { type FinishedRun, type RunSession, runSession } from '../run/session.js';
import { etcdNotice, refuseRemoval, unknownHost } from './hosts.js';

export interface RemoveOptions {
  readonly home: ClusterHome;
  readonly name: string;
  /** The host is lost and cannot be reached. */
  readonly dead: boolean;
  /** How long its pods may take to move away. */
  readonly timeoutSeconds: number;
  readonly limit?: string | undefined;
  /** The command line that goes on. */
  readonly again: string;
}

const operationName = 'node remove';

/**
 * Removes a host: its pods move away, the others are told to do without it, etcd and the API forget it, and the host
 * itself is cleaned. Refused before the second step, all stays as it was; from then on the journal has the host, and
 * the same command goes on.
 */
export async function removeNode(context: CommandContext, options: RemoveOptions): Promise<FinishedRun> {
  const { home, name } = options;
  const pending = resumable(await pendingOperation(home), name);
  const before = await loadCluster(home);
  const standing = before.hosts.find((host) => host.name === name);
  const host = standing ?? pending?.host;
  if (host === undefined) throw unknownHost(before, name);
  if (standing !== undefined) {
    const refusal = refuseRemoval(before, standing);
    if (refusal !== undefined) throw refusal;
  }
  const draft = await draftSpec(home, (document) => {
    removeHost(document, name);
  });
  const master = pending?.master ?? before.masters.some((one) => one.name === name);
  const leaving: LeavingHost = { host, dead: options.dead, master, timeoutSeconds: options.timeoutSeconds };
  if (pending === undefined) {
    await agreeToDestroy(context, { losses: describe(before, leaving), name });
  } else context.console.info(`Going on with the removal of ${name}.`);

  const session = { command: `node remove ${name}`, cluster: draft.cluster, home, lock: true, check: false };
  const done = await runSession(context, session, async (current) => {
    const step = async (playbook: string): Promise<void> => runStep(current, playbook, options);
    if (pending === undefined) {
      await refusePending(home);
      await refuseForbiddenChanges(home, before);
    }
    await writeInventory(current, { leaving });
    try {
      await leave(current, leaving, options);
    } catch (error) {
      // Nothing has begun yet that would have to be ended.
      if (pending === undefined) await writeRendered(home, renderCluster(before));
      throw error;
    }
    await beginOperation(home, {
      command: operationName,
      subject: name,
      again: options.again,
      data: { host, master },
    });
    await writeDraft(home, draft);
    await convergeCluster(current, { ...options, cluster: draft.cluster, leaving });
    await step('forget');
    if (!leaving.dead) await step('reset');
    await rm(path.join(home.pki, 'hosts', name), { recursive: true, force: true });
    await recordAsGone(home, name);
    await writeInventory(current);
    await endOperation(home);
  });
  const notice = etcdNotice(draft.cluster);
  if (done.error === undefined && notice !== undefined) context.console.warn(notice);
  return done;
}

/** A run that left hosts out (`--limit`) has recorded the others alone. */
async function recordAsGone(home: ClusterHome, name: string): Promise<void> {
  const record = await readDeployed(home);
  if (record !== undefined) await writeDeployed(home, factsWithout(record.cluster, name), record.state);
}

interface Pending {
  readonly host: Host;
  readonly master: boolean;
}

function resumable(operation: Operation | undefined, name: string): Pending | undefined {
  if (operation?.command !== operationName || operation.subject !== name) return undefined;
  return operation.data as unknown as Pending;
}

function describe(cluster: Cluster, { host, dead, master }: LeavingHost): string {
  const member = cluster.etcdHosts.some(({ name }) => name === host.name);
  const what = [master ? 'a master' : 'a worker', ...(member ? ['an etcd member'] : [])].join(' and ');
  const own = dead
    ? 'It is lost: nothing is done on the host itself, and its pods are made anew on others.'
    : `Its pods move to others, and everything that k8s-ans put on the host is taken away, the data under ${cluster.paths.data}, ${cluster.runtime.dataDir}${member ? ` and ${cluster.etcd.dataDir}` : ''} too.`;
  return `${host.name} (${host.address}) is ${what} of ${cluster.name}. ${own}`;
}

/** Asks whether the host may leave, and moves its pods away. @throws K8sAnsError with what speaks against it */
async function leave(session: RunSession, leaving: LeavingHost, options: RemoveOptions): Promise<void> {
  const from = session.events.length;
  const result = await session.playbook('leave', { limit: withLeaving(options) });
  if (result.outcome === 'done') return;
  const failure = session.events
    .slice(from)
    .find((event): event is ResultEvent => event.event === 'result' && event.status === 'failed');
  throw leaveError(failure, leaving) ?? playbookError(session, options.again);
}

const refusals: Readonly<Record<string, { code: string; next: string }>> = {
  'ansible.builtin.fail': { code: 'node-unreachable', next: 'Do what is said above, then run the command again.' },
  'k8s_ans.cluster.etcd_member': {
    code: 'quorum-would-be-lost',
    next: 'Nothing was changed. Do what is said above, then run the command again.',
  },
  'k8s_ans.cluster.probes': {
    code: 'masters-unhealthy',
    next: 'Nothing was changed. Bring that API server back (k8s-ans deploy, k8s-ans status), then run the command again.',
  },
};

/** What a task of the playbook `leave` says, as an error; undefined where none of them failed. */
export function leaveError(failure: ResultEvent | undefined, { host }: LeavingHost): K8sAnsError | undefined {
  if (failure === undefined) return undefined;
  const said = failure.msg ?? 'the task failed';
  if (failure.module === 'k8s_ans.cluster.drain') {
    return new K8sAnsError(said, {
      code: 'drain-blocked',
      exitCode: ExitCode.runFailed,
      where: host.name,
      next: 'Give those pods room elsewhere or loosen their budgets, or allow more time with --timeout, then run the command again.',
    });
  }
  const refusal = refusals[failure.module ?? ''];
  if (refusal === undefined) return undefined;
  const where = failure.module === 'k8s_ans.cluster.probes' ? failure.host : host.name;
  return new K8sAnsError(failure.module === 'k8s_ans.cluster.probes' ? `${failure.host} is not ready: ${said}` : said, {
    code: refusal.code,
    exitCode: ExitCode.preflightRefused,
    where,
    next: refusal.next,
  });
}

/** One of the playbooks that end the removal. */
async function runStep(session: RunSession, playbook: string, options: RemoveOptions): Promise<void> {
  // Nothing but the leaving host is reset, whatever the inventory says.
  const limit = playbook === 'reset' ? options.name : withLeaving(options);
  const result = await session.playbook(playbook, { limit });
  if (result.outcome !== 'done') throw playbookError(session, options.again);
}

/** A limit of the person's, with the leaving host in it: without that nothing could be done. */
function withLeaving({ limit, name }: RemoveOptions): string | undefined {
  return limit === undefined ? undefined : `${limit},${name}`;
}
