/** etcd as its members see it: who leads, who is missing, how full it is. Pure. */
import type { Cluster } from '../types/cluster.js';
import type { EtcdMemberStatus, EtcdStatus } from '../types/status.js';
import type { Findings } from './findings.js';
import type { EtcdFindings, Observation } from './observe.js';

/** A database this full is a warning. */
const NEARLY_FULL = 0.8;

/** One entry for each member: those of the spec, and those that etcd knows beyond them. */
export function judgeEtcd(cluster: Cluster, observations: ReadonlyArray<Observation>, findings: Findings): EtcdStatus {
  const names = cluster.etcdHosts.map(({ name }) => name);
  const looked = observations.filter(({ host }) => names.includes(host));
  const answers = new Map(looked.map(({ host, findings: found }) => [host, found?.etcd]));
  // Members as one that can write has them, else any.
  const views = [...answers.values()].filter((found) => found !== undefined && found.members.length > 0);
  const view = views.find((found) => found?.health) ?? views[0];
  const leaderId = [...answers.values()].find((found) => found?.health && found.member?.leader)?.member?.leader;

  const members = names.map((name) => memberStatus(name, answers, looked, leaderId));
  const known = view?.members ?? [];
  for (const { name, id, learner } of known) {
    if (names.includes(name)) continue;
    const label = name || id;
    members.push({
      name: label,
      state: 'unknown',
      detail: 'not in the spec',
      id,
      leader: id === leaderId,
      learner,
      alarms: [],
    });
  }
  const voters = known.length > 0 ? known.filter(({ learner }) => !learner).length : names.length;
  const status: EtcdStatus = {
    members,
    leader: members.find(({ leader }) => leader)?.name,
    healthy: members.filter(({ state, learner }) => state === 'healthy' && !learner).length,
    quorum: Math.floor(voters / 2) + 1,
  };
  report(status, known, names, answers, findings);
  return status;
}

function memberStatus(
  name: string,
  answers: ReadonlyMap<string, EtcdFindings | undefined>,
  looked: ReadonlyArray<Observation>,
  leaderId: string | undefined,
): EtcdMemberStatus {
  const found = answers.get(name);
  if (!found) {
    const detail = looked.some(({ host }) => host === name) ? 'the host does not answer' : 'not looked at';
    return { name, state: 'unknown', detail, leader: false, learner: false, alarms: [] };
  }
  const { member, health, error, said } = found;
  const state = health ? 'healthy' : 'unhealthy';
  if (!member) return { name, state, detail: error || said, leader: false, learner: false, alarms: [] };
  return {
    name,
    state,
    detail: health ? '' : said,
    id: member.id,
    leader: member.id === leaderId,
    learner: member.learner,
    version: member.version,
    dbBytes: member.db_bytes,
    dbBytesInUse: member.db_bytes_in_use,
    // 0: etcd's own default.
    ...(member.quota_bytes > 0 ? { quotaBytes: member.quota_bytes } : {}),
    alarms: member.errors.flatMap((text) => /alarm:(\w+)/.exec(text)?.[1] ?? []),
  };
}

function report(
  status: EtcdStatus,
  known: EtcdFindings['members'],
  names: ReadonlyArray<string>,
  answers: ReadonlyMap<string, EtcdFindings | undefined>,
  { problems, warnings }: Findings,
): void {
  const { members, healthy, quorum } = status;
  if (answers.size > 0 && healthy < quorum && answers.size === names.length) {
    const unknown = members.some(({ state }) => state === 'unknown');
    problems.push({
      area: 'etcd',
      message: unknown
        ? `only ${healthy} of ${members.length} etcd members are known to be healthy, and ${quorum} have to be`
        : `etcd has no quorum: ${healthy} of ${members.length} members are healthy, and ${quorum} have to be`,
      next: 'Bring members back: start their hosts, or mend what is named of their unit. When most are lost for good: `k8s-ans etcd restore`.',
    });
  }
  for (const { name, state, detail } of members) {
    if (state !== 'unhealthy' || healthy < quorum) continue;
    problems.push({
      area: 'etcd',
      host: name,
      message: `its etcd member is not healthy: ${detail}`,
      next: `On ${name}: journalctl -u etcd -n 100. The cluster goes on as long as ${quorum} members are healthy.`,
    });
  }
  for (const alarm of new Set(members.flatMap(({ alarms }) => alarms))) {
    const raised = members.filter(({ alarms }) => alarms.includes(alarm)).map(({ name }) => name);
    problems.push({
      area: 'etcd',
      message: `etcd has raised the alarm ${alarm} (seen by ${raised.join(', ')})`,
      next:
        alarm === 'NOSPACE'
          ? 'Writes are refused: compact and defragment the members, then `etcdctl alarm disarm` (https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota).'
          : 'A member has data that differs from the others: remove and add it again (`k8s-ans node remove`, `k8s-ans node add`).',
    });
  }
  for (const { name, dbBytes = 0, quotaBytes } of members) {
    if (quotaBytes === undefined || dbBytes < quotaBytes * NEARLY_FULL) continue;
    warnings.push({
      area: 'etcd',
      host: name,
      message: `its database has reached ${Math.floor((dbBytes / quotaBytes) * 100)} % of its quota`,
      next: 'Defragment it, or raise etcd.quotaBytes in the spec: at 100 % etcd refuses writes.',
    });
  }
  if (known.length === 0) return;
  for (const name of names) {
    if (known.some((member) => member.name === name)) continue;
    problems.push({
      area: 'etcd',
      host: name,
      message: 'the spec has it as an etcd member, and etcd does not know it',
      next: `Run \`k8s-ans node add ${name}\` again, or \`k8s-ans deploy\`.`,
    });
  }
  for (const { name, id, learner, started } of known) {
    const label = name || id;
    if (!names.includes(name)) {
      warnings.push({
        area: 'etcd',
        message: `etcd has a member ${label} that the spec does not have${started ? '' : ' and that has never started'}`,
        next: `If it is a leftover: etcdctl member remove ${id}.`,
      });
    } else if (learner) {
      warnings.push({
        area: 'etcd',
        host: name,
        message: 'it is a learner and does not vote yet',
        next: `Finish with \`k8s-ans node add ${name}\`.`,
      });
    }
  }
}
