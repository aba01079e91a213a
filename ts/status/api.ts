/** What the API server says: nodes, leaders, workloads. Pure. */
import type { Cluster } from '../types/cluster.js';
import type { ApiView } from '../types/status.js';
import type { Findings } from './findings.js';
import type { Observation } from './observe.js';

/** A lease this old is nobody's, whatever the clocks of the hosts and of this machine make of each other. */
const STALE_SECONDS = 60;

/** Components that elect a leader. */
const ELECTED = ['kube-controller-manager', 'kube-scheduler'];

/** What the first master says whose API server answers. */
export function viewOf(observations: ReadonlyArray<Observation>): ApiView | undefined {
  for (const { host, findings } of observations) {
    const api = findings?.api;
    if (!api || api.error !== '') continue;
    return {
      from: host,
      nodes: api.nodes.map((node) => ({ ...node, version: node.version.replace(/^v/, '') })),
      leaders: api.leaders.map(({ name, holder, renewed }) => ({ component: name, host: holder, renewed })),
      workloads: api.workloads,
    };
  }
  return undefined;
}

/** Judges the view; where there is none, that is the problem. */
export function judgeApi(
  cluster: Cluster,
  observations: ReadonlyArray<Observation>,
  api: ApiView | undefined,
  now: Date,
  findings: Findings,
): void {
  const masters = observations.filter(({ host }) => cluster.masters.some(({ name }) => name === host));
  if (api === undefined) {
    if (masters.length === 0) return;
    const said = masters.map(({ findings: found }) => found?.api?.error).find(Boolean);
    findings.problems.push({
      area: 'api',
      message: masters.some(({ findings: found }) => found)
        ? `no API server answers${said ? `: ${said}` : ''}`
        : 'no master answers, so that nothing is known of the API',
      next: 'Nodes, leaders and add-ons are not known without it. Mend etcd and the kube-apiserver units first, as named here.',
    });
    return;
  }
  judgeLeaders(api, now, findings);
  judgeNodes(cluster, api, findings);
  judgeWorkloads(cluster, api, findings);
}

function judgeLeaders({ leaders }: ApiView, now: Date, { problems }: Findings): void {
  for (const component of ELECTED) {
    const found = leaders.find((leader) => leader.component === component);
    const age = found?.renewed ? (now.getTime() - new Date(found.renewed).getTime()) / 1000 : undefined;
    if (found?.host && age !== undefined && age < STALE_SECONDS) continue;
    problems.push({
      area: 'api',
      message: `${component} has no leader${age === undefined ? '' : `: the last one (${found?.host}) was heard of ${Math.round(age)} s ago`}`,
      next: `See the unit ${component} on the masters: journalctl -u ${component} -n 100.`,
    });
  }
}

function judgeNodes(cluster: Cluster, { nodes }: ApiView, { problems, warnings }: Findings): void {
  const { version } = cluster.kubernetes;
  const expected = cluster.hosts.filter((host) => [...cluster.masters, ...cluster.nodes].includes(host));
  for (const { name: host } of expected) {
    const node = nodes.find(({ name }) => name === host);
    if (!node) {
      problems.push({
        area: 'node',
        host,
        message: 'the API has no node of this name',
        next: `Run \`k8s-ans deploy\`; on ${host}: journalctl -u kubelet -n 100.`,
      });
      continue;
    }
    if (!node.ready) {
      problems.push({
        area: 'node',
        host,
        message: `its node is not ready: ${node.reason}`,
        next: `On ${host}: journalctl -u kubelet -n 100.`,
      });
    }
    if (node.conditions.length > 0) {
      problems.push({
        area: 'node',
        host,
        message: `its node reports ${node.conditions.join(', ')}`,
        next: `kubectl describe node ${host} tells the measure; free what is short.`,
      });
    }
    if (node.version !== version) {
      warnings.push({
        area: 'node',
        host,
        message: `its kubelet is ${node.version}, and the spec says ${version}`,
        next: `\`k8s-ans upgrade --to ${version}\` brings all hosts to it.`,
      });
    }
    if (node.cordoned) {
      warnings.push({
        area: 'node',
        host,
        message: 'its node is cordoned: no pod is scheduled there',
        next: `kubectl uncordon ${host}, when what it was cordoned for is done.`,
      });
    }
  }
  for (const { name } of nodes) {
    if (expected.some((host) => host.name === name)) continue;
    warnings.push({
      area: 'node',
      message: `the API has a node ${name} that the spec does not have`,
      next: `If it is a leftover: kubectl delete node ${name}.`,
    });
  }
}

function judgeWorkloads(cluster: Cluster, { workloads }: ApiView, { problems }: Findings): void {
  const { coredns, metricsServer, localPath, registry, dashboard, logging } = cluster.addons;
  const expected = [
    ...(coredns.enabled ? ['coredns'] : []),
    ...(coredns.enabled && coredns.nodeCache.enabled ? ['coredns-cache'] : []),
    ...(metricsServer.enabled ? ['metrics-server'] : []),
    ...(localPath.enabled ? ['local-path-provisioner'] : []),
    ...(registry.enabled ? ['registry'] : []),
    ...(dashboard.enabled ? ['headlamp'] : []),
    ...(logging.enabled ? ['elasticsearch', 'kibana', logging.collector === 'fluentd' ? 'fluentd' : 'fluent-bit'] : []),
  ];
  for (const name of expected) {
    if (workloads.some((workload) => workload.name === name)) continue;
    problems.push({ area: 'addon', message: `${name} is not there`, next: 'Run `k8s-ans deploy`.' });
  }
  for (const { name, wanted, available } of workloads) {
    if (available >= wanted) continue;
    problems.push({
      area: 'addon',
      message: `${name} has ${available} of ${wanted} pods available`,
      next: 'kubectl get pods --all-namespaces, and kubectl describe the one that is not ready.',
    });
  }
}
