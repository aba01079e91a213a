/** How the etcd members are, as they say themselves. */
import { z } from 'zod';
import type { Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import type { RunEvent } from '../../types/events.js';
import type { ClusterHome } from '../../types/home.js';
import { writeInventory } from './deploy.js';
import { runSession } from './session.js';

const said = z.object({
  member: z.string(),
  answers: z.boolean(),
  healthy: z.boolean(),
  leads: z.boolean(),
  revision: z.number().optional(),
  db_size: z.number().optional(),
  version: z.string().optional(),
  reason: z.string().optional(),
});

export interface EtcdMember {
  readonly member: string;
  readonly answers: boolean;
  /** It reads with a quorum. */
  readonly healthy: boolean;
  readonly leads: boolean;
  readonly revision?: number | undefined;
  readonly databaseSize?: number | undefined;
  readonly version?: string | undefined;
  /** Why it does not answer. */
  readonly reason?: string | undefined;
}

/** What the events of a playbook say of each member of the cluster; a host that was not reached does not answer. */
export function readMembers(cluster: Pick<Cluster, 'etcdHosts'>, events: ReadonlyArray<RunEvent>): EtcdMember[] {
  const results = events.flatMap((event) => (event.event === 'result' ? [event] : []));
  return cluster.etcdHosts.map(({ name }) => {
    const own = results.filter(({ host }) => host === name);
    const found = own.map(({ etcd }) => said.safeParse(etcd)).findLast(({ success }) => success)?.data;
    if (found !== undefined) {
      const { db_size, ...rest } = found;
      return { ...rest, databaseSize: db_size };
    }
    const silent = own.find(({ unreachable, status }) => unreachable || status === 'unreachable');
    const reason = silent?.msg?.split('\n')[0] ?? 'the host was not asked';
    return { member: name, answers: false, healthy: false, leads: false, reason };
  });
}

/** The revision of the living cluster, or undefined where no member answers. */
export function livingRevision(members: ReadonlyArray<EtcdMember>): number | undefined {
  const revisions = members.flatMap(({ revision }) => revision ?? []);
  return revisions.length === 0 ? undefined : Math.max(...revisions);
}

/** Asks the members, within a run of its own that changes nothing. */
export async function lookAtMembers(
  context: CommandContext,
  cluster: Cluster,
  home: ClusterHome,
): Promise<EtcdMember[]> {
  let members: EtcdMember[] = [];
  const session = { command: 'etcd restore', cluster, home, lock: true, check: true };
  const done = await runSession(context, session, async (current) => {
    await writeInventory(current);
    await current.playbook('etcd_members', {});
    members = readMembers(cluster, current.events);
  });
  if (done.error !== undefined) throw done.error;
  return members;
}
