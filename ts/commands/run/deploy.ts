/** The deploy run: inventory, PKI, preflight and artifacts first, side by side; then the playbook. */
import { ensurePki } from '../../pki/ensure.js';
import { renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import type { Architecture, Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { runError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { lockedArchitectures, runArtifacts } from './artifacts.js';
import { playbookError } from './finish.js';
import { architecturesOf, type HostVerdict, runPreflight } from './preflight.js';
import { type FinishedRun, type PlaybookOptions, type RunSession, runSession } from './session.js';

export interface DeployOptions extends PlaybookOptions {
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
}

/** Deploys the cluster, or brings it to what its spec says. What ended the run is in the value returned. */
export function deployCluster(context: CommandContext, options: DeployOptions): Promise<FinishedRun> {
  const { cluster, home, check = false } = options;
  return runSession(context, { command: 'deploy', cluster, home, lock: true, check }, async (session) => {
    await writeInventory(session);
    await prepare(session, options);
    const result = await session.playbook('deploy', {
      limit: options.limit,
      tags: options.tags,
      check,
      diff: options.diff ?? false,
      extraVars: [session.folder.artifacts],
      // Preflight is the deploy playbook's first play for those who run it by hand; here it is done.
      passThrough: ['--skip-tags', 'preflight', ...(context.passThrough ?? [])],
    });
    if (result.outcome !== 'done') throw playbookError(session, options.again);
  });
}

/** Writes hosts.yml, group_vars and environment.sh. */
export async function writeInventory(session: RunSession): Promise<void> {
  await session.step(
    'inventory',
    async () => writeRendered(session.home, renderCluster(session.cluster)),
    (changed) => (changed.length > 0 ? `${changed.join(', ')} written` : 'unchanged'),
  );
}

/**
 * Preflight, certificates and artifacts at the same time; the artifacts wait for preflight while no lock tells the
 * hosts' architectures.
 */
async function prepare(session: RunSession, options: DeployOptions): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([session.context.signal, stop.signal]);
  const known = await lockedArchitectures(session.home);
  const preflight = runPreflight(session, options);
  const work = [preflight, ensureCertificates(session, signal), prepareFor(session, known, preflight, signal)];
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
    ({ created, replaced }) =>
      created.length + replaced.length > 0 ? `${created.length} files made, ${replaced.length} renewed` : 'unchanged',
  );
}

async function prepareFor(
  session: RunSession,
  known: ReadonlyArray<Architecture>,
  preflight: Promise<HostVerdict[]>,
  signal: AbortSignal,
): Promise<void> {
  if (known.length > 0) await runArtifacts(session, known, signal);
  const found = architecturesOf(await preflight);
  if (known.length === 0 || found.some((name) => !known.includes(name))) await runArtifacts(session, found, signal);
}
