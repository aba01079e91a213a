/** The two looks at a running cluster that `status` takes: what runs, and what the files are. */
import { renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { K8sAnsError, runError } from '../../types/errors.js';
import { convergeCluster } from './deploy.js';
import type { RunSession } from './session.js';

/**
 * Runs the status playbook; what it found is in the session's events.
 *
 * @param session whose home is a copy
 * @returns the hosts that it was about, in the order of the spec
 */
export async function lookAtHosts(session: RunSession, limit: string | undefined): Promise<string[]> {
  const { cluster, home, context } = session;
  await writeRendered(home, renderCluster(cluster));
  const from = session.events.length;
  const result = await session.playbook('status', { limit, passThrough: context.passThrough ?? [] });
  const hosts = session.events.slice(from).flatMap((event) => (event.event === 'play_start' ? event.hosts : []));
  if (hosts.length === 0) {
    throw runError(limit === undefined ? 'Ansible looked at no host' : `no host matches --limit ${limit}`, {
      code: 'status-no-hosts',
      where: session.folder.log,
      next: result.outcome === 'done' ? 'Name a host or a group of the spec.' : 'Read the log.',
    });
  }
  return cluster.hosts.map(({ name }) => name).filter((name) => hosts.includes(name));
}

/**
 * Runs deploy in check mode on the hosts; what would change is in the session's events.
 *
 * @returns why not all is known
 */
export async function checkDrift(
  session: RunSession,
  hosts: ReadonlyArray<string>,
  again: string,
): Promise<string | undefined> {
  if (hosts.length === 0) return 'no host answers';
  const { cluster, home } = session;
  const what = { limit: hosts.join(','), check: true, diff: true, preflight: false };
  try {
    await convergeCluster(session, { ...what, cluster, home, again });
    return undefined;
  } catch (error) {
    // A cluster that is not well may not let itself be compared; what was seen of it is worth showing all the same.
    if (!(error instanceof K8sAnsError) || session.context.signal.aborted) throw error;
    return error.message.split('\n')[0];
  }
}
