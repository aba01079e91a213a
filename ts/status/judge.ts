/** Judges what was seen of a cluster: what is wrong with it, and what to do about that. Pure. */
import type { Cluster, Host } from '../types/cluster.js';
import type {
  ApiView,
  CertificateStatus,
  ClusterStatus,
  DriftStatus,
  HostState,
  StatusFinding,
  UnitStatus,
} from '../types/status.js';
import { judgeApi, viewOf } from './api.js';
import { readCertificates } from './certificates.js';
import { judgeEtcd } from './etcd.js';
import type { Findings } from './findings.js';
import type { Observation, UnitFindings } from './observe.js';

export interface JudgeOptions {
  readonly cluster: Cluster;
  /** The hosts that were looked at, of those of the cluster. */
  readonly observations: ReadonlyArray<Observation>;
  readonly drift?: DriftStatus | undefined;
  /** A certificate that ends within so many days is a problem. */
  readonly days: number;
  readonly now: Date;
}

/** The state of the whole cluster. */
export function judgeCluster(options: JudgeOptions): ClusterStatus {
  const { cluster, observations, drift, now } = options;
  const findings: Findings = { problems: [], warnings: [] };
  const hosts = observations.map((observation) => judgeHost(cluster, observation, findings));
  const etcd = judgeEtcd(cluster, observations, findings);
  const api = viewOf(observations);
  judgeApi(cluster, observations, api, now, findings);
  judgeProxies(hosts, api, findings);
  const certificates = observations.flatMap(({ host, findings: found }) =>
    readCertificates(host, found?.certificates ?? [], options.days, now),
  );
  judgeCertificates(certificates, options.days, findings);
  judgeDrift(drift, findings);
  return {
    cluster: cluster.name,
    kubernetes: cluster.kubernetes.version,
    time: now.toISOString(),
    healthy: findings.problems.length === 0,
    ...findings,
    hosts,
    etcd,
    ...(api ? { api } : {}),
    certificates,
    ...(drift ? { drift } : {}),
  };
}

function judgeHost(cluster: Cluster, observation: Observation, { problems, warnings }: Findings): HostState {
  const { host: name, reachable, error, findings } = observation;
  const host = cluster.hosts.find((candidate) => candidate.name === name) as Host;
  const base = { name, address: host.address, roles: rolesOf(cluster, name), reachable };
  if (!findings) {
    problems.push(hostProblem(name, reachable, error ?? ''));
    return { ...base, error, units: [] };
  }
  const units = findings.units.map(unitStatus);
  if (units.length > 0 && findings.units.every((unit) => unit.load === 'not-found')) {
    problems.push({
      area: 'unit',
      host: name,
      message: 'nothing of the cluster is installed here',
      next: 'Run `k8s-ans deploy`.',
    });
  } else {
    for (const [index, unit] of units.entries()) {
      const found = findings.units[index] as UnitFindings;
      if (!unit.ok) problems.push(unitProblem(name, unit, found));
      else if (unit.restarts > 0) warnings.push(restartWarning(name, unit));
    }
  }
  const proxy = findings.probes.find((probe) => probe.name === 'proxy');
  return { ...base, units, ...(proxy ? { proxy: { ok: proxy.answers, detail: proxy.said } } : {}) };
}

function rolesOf(cluster: Cluster, name: string): string[] {
  const groups = { masters: cluster.masters, nodes: cluster.nodes, etcd: cluster.etcdHosts };
  return Object.entries(groups).flatMap(([role, hosts]) => (hosts.some((host) => host.name === name) ? [role] : []));
}

function hostProblem(host: string, reachable: boolean, error: string): StatusFinding {
  if (reachable) {
    return {
      area: 'host',
      host,
      message: `it could not be looked at: ${error}`,
      next: 'Mend what the message names; `k8s-ans preflight` checks what a host needs.',
    };
  }
  return {
    area: 'host',
    host,
    message: `it does not answer over SSH: ${error}`,
    next: `See that it runs and that sshd answers. If it is lost for good: \`k8s-ans node remove ${host}\`.`,
  };
}

/** A unit in words. */
function unitStatus(unit: UnitFindings): UnitStatus {
  const { name, load, active, sub, result, restarts, since, answers, said } = unit;
  const runs = active === 'active' || active === 'reloading';
  const ok = load === 'loaded' && runs && answers !== false;
  const state = (): string => {
    if (load !== 'loaded') return load === 'not-found' ? 'not installed' : `not to be loaded (${load})`;
    if (!runs) return `${active} (${result && result !== 'success' ? result : sub})`;
    return answers === false ? `active, but it does not answer: ${said}` : 'active';
  };
  return {
    name: name.replace(/\.service$/, ''),
    ok,
    state: state(),
    restarts,
    ...(runs && since > 0 ? { since: new Date(since * 1000).toISOString() } : {}),
  };
}

function unitProblem(host: string, { name, state }: UnitStatus, { load, journal }: UnitFindings): StatusFinding {
  const last = journal.at(-1);
  return {
    area: 'unit',
    host,
    message: `${name} is ${state}${last ? `; its last words: ${last}` : ''}`,
    next:
      load === 'loaded'
        ? `On ${host}: journalctl -u ${name} -n 100. \`k8s-ans deploy\` starts what does not run.`
        : '`k8s-ans deploy` installs it.',
  };
}

function restartWarning(host: string, { name, restarts }: UnitStatus): StatusFinding {
  return {
    area: 'unit',
    host,
    message: `${name} runs, but systemd had to restart it ${restarts} times`,
    next: `On ${host}: journalctl -u ${name} tells why.`,
  };
}

/** Of a host whose kube-nginx runs and that does not reach the API all the same, while the API is there. */
function judgeProxies(hosts: ReadonlyArray<HostState>, api: ApiView | undefined, { problems }: Findings): void {
  for (const { name, proxy, units } of hosts) {
    if (proxy?.ok !== false || api === undefined) continue;
    if (units.some((unit) => unit.name === 'kube-nginx' && !unit.ok)) continue;
    problems.push({
      area: 'proxy',
      host: name,
      message: `the API does not answer through its kube-nginx: ${proxy.detail}`,
      next: `On ${name}: journalctl -u kube-nginx -n 50, and see that it reaches the masters' API port.`,
    });
  }
}

function judgeCertificates(certificates: ReadonlyArray<CertificateStatus>, days: number, { problems }: Findings): void {
  const bad = certificates.filter(({ state }) => state !== 'ok');
  for (const host of new Set(bad.map((certificate) => certificate.host))) {
    const own = bad.filter((certificate) => certificate.host === host);
    const named = own.map(
      ({ file, daysLeft, state }) => `${file} ${state === 'expired' ? 'has expired' : `ends in ${daysLeft} days`}`,
    );
    problems.push({
      area: 'certificate',
      host,
      message: named.join(', '),
      next: `Run \`k8s-ans certs renew\`. The kubelet's own certificates (kubelet-*-current.pem) it renews itself long before the last ${days} days: if those are named, see its journal.`,
    });
  }
}

function judgeDrift(drift: DriftStatus | undefined, { warnings }: Findings): void {
  if (drift?.error) {
    warnings.push({
      area: 'drift',
      message: `whether files differ from the spec is not known: ${drift.error}`,
      next: '`k8s-ans plan` tells more; `--no-drift` leaves the comparison out.',
    });
  }
  for (const { path, hosts } of drift?.files ?? []) {
    warnings.push({
      area: 'drift',
      host: hosts.join(', '),
      message: `${path} is not what the spec renders`,
      next: '`k8s-ans plan` shows the difference, `k8s-ans deploy` puts it right.',
    });
  }
}
