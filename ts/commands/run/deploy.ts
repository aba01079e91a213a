/** The deploy run: inventory, then PKI and artifacts side by side, then the playbook, which begins with preflight. */
import type { PreparedBundle } from '../../artifacts/index.js';
import { ensurePki } from '../../pki/ensure.js';
import type { RunResult } from '../../playbook/run.js';
import { type LeavingHost, type RenderOptions, renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import type { Architecture, Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { runError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { lockedArchitectures, runArtifacts } from './artifacts.js';
import { type DeployedWatch, watchDeployed } from './deployed.js';
import { playbookError } from './finish.js';
import { refusePending } from './operation.js';
import { architecturesOf, judgePreflight, preflightEvents, readVerdicts, runPreflight } from './preflight.js';
import { type FinishedRun, type PlaybookOptions, type RunSession, runSession } from './session.js';

export interface DeployOptions extends PlaybookOptions {
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  /** False: the hosts are not judged first. */
  readonly preflight?: boolean;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
  /** A host that the rest of the cluster is told to do without. */
  readonly leaving?: LeavingHost | undefined;
  /** A playbook that deploys and does more; by default `deploy`. */
  readonly playbook?: string | undefined;
  /** Files of further variables for it. */
  readonly extraVars?: ReadonlyArray<string> | undefined;
  /** Where all artifacts come from; without it, from the spec's source. */
  readonly bundle?: PreparedBundle | undefined;
}

/**
 * Deploys the cluster, or brings it to what its spec says. What ended the run is in the value returned: also
 * `spec-immutable`, when the spec has a change that the running cluster cannot take.
 */
export function deployCluster(context: CommandContext, options: DeployOptions): Promise<FinishedRun> {
  const { cluster, home, check = false } = options;
  return runSession(context, { command: 'deploy', cluster, home, lock: true, check }, async (session) => {
    await refusePending(home);
    await refuseForbiddenChanges(home, cluster);
    await convergeCluster(session, options);
  });
}

/**
 * What `deploy` does, within a session that is open already: other operations end with it. The spec's changes are not
 * judged here: an operation makes those that it is there for.
 *
 * @throws K8sAnsError when the run did not end well
 */
export async function convergeCluster(session: RunSession, options: DeployOptions): Promise<void> {
  await writeInventory(session, options);
  const known = await lockedArchitectures(session.home);
  // Where the hosts' architectures are known, preflight is the first play of the one run; else it has to tell them.
  const judged = known.length === 0 || options.preflight === false;
  await prepare(session, options, known);
  const watch = options.check === true ? undefined : await watchDeployed(session.home, options.cluster);
  try {
    let result = await deployPlaybook(session, options, judged, watch);
    if (!judged && addedArchitectures(session, known).length > 0) {
      const all = [...known, ...addedArchitectures(session, known)];
      await runArtifacts(session, all, session.context.signal, options.bundle);
      result = await deployPlaybook(session, options, judged, watch);
    }
    if (result.outcome !== 'done') throw playbookError(session, options.again);
    await watch?.end(isWhole(session, options));
  } catch (error) {
    await watch?.end(false);
    throw error;
  }
}

/** Whether the run was for all hosts and phases; what ansible-playbook was given besides may have left some out. */
function isWhole(session: RunSession, { limit, tags }: DeployOptions): boolean {
  return limit === undefined && tags === undefined && (session.context.passThrough ?? []).length === 0;
}

/** @throws {PreflightError} when its preflight play refused the hosts */
async function deployPlaybook(
  session: RunSession,
  options: DeployOptions,
  judged: boolean,
  watch: DeployedWatch | undefined,
): Promise<RunResult> {
  const from = session.events.length;
  const result = await session.playbook(options.playbook ?? 'deploy', {
    limit: options.limit,
    tags: options.tags,
    check: options.check ?? false,
    diff: options.diff ?? false,
    extraVars: [session.folder.artifacts, ...(options.extraVars ?? [])],
    ...(watch === undefined ? {} : { onEvent: watch.handle }),
    passThrough: [...(judged ? ['--skip-tags', 'preflight'] : []), ...(session.context.passThrough ?? [])],
  });
  if (!judged) {
    const events = session.events.slice(from);
    const preflight = preflightEvents(events);
    // What fails in a later play is no fault of preflight's.
    const outcome = preflight.length === events.length ? result.outcome : 'done';
    judgePreflight(session, preflight, { stats: result.stats, outcome });
  }
  return result;
}

/** Architectures that preflight saw and that the artifacts were not prepared for, as after a new kind of host. */
function addedArchitectures(session: RunSession, known: ReadonlyArray<Architecture>): Architecture[] {
  const found = architecturesOf(readVerdicts(preflightEvents(session.events), { stats: undefined }));
  return found.filter((name) => !known.includes(name));
}

/** Writes hosts.yml, group_vars and environment.sh. */
export async function writeInventory(session: RunSession, options: RenderOptions = {}): Promise<void> {
  await session.step(
    'inventory',
    async () => writeRendered(session.home, renderCluster(session.cluster, { leaving: options.leaving })),
    (changed) => {
      if (changed.length === 0) return 'unchanged';
      return `${changed.join(', ')} ${session.rehearsal ? 'would be written' : 'written'}`;
    },
  );
}

/**
 * Certificates and artifacts at the same time; while no lock tells the hosts' architectures, the artifacts wait for a
 * preflight of its own.
 */
async function prepare(session: RunSession, options: DeployOptions, known: ReadonlyArray<Architecture>): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([session.context.signal, stop.signal]);
  const artifacts = async (): Promise<void> => {
    const wanted = known.length > 0 ? known : architecturesOf(await runPreflight(session, options));
    await runArtifacts(session, wanted, signal, options.bundle);
  };
  const work = [ensureCertificates(session, signal), artifacts()];
  try {
    await Promise.all(work);
  } catch (error) {
    // The first failure ends the others, and nothing goes on behind the caller's back.
    stop.abort(runError('stopped, since another step failed', { code: 'stopped' }));
    await Promise.allSettled(work);
    throw error;
  }
}

async function ensureCertificates(session: RunSession, signal: AbortSignal): Promise<void> {
  await session.step(
    'certificates',
    () => ensurePki(session.cluster, session.home, { signal }),
    ({ created, replaced }) => {
      if (created.length + replaced.length === 0) return 'unchanged';
      const would = session.rehearsal ? ' would be' : '';
      return `${created.length} files${would} made, ${replaced.length} renewed`;
    },
  );
}
