/** Changes of the spec that a running cluster cannot take: which, why not, and what to do in their place. */
import { readFile } from 'node:fs/promises';
import { LineCounter, parseDocument } from 'yaml';
import type { Cluster, Host, HostRole } from '../types/cluster.js';
import { ExitCode, K8sAnsError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { type DeployedFacts, deployedFacts, readDeployed } from './deployed.js';
import { displayPath } from './load.js';
import { positionsOf } from './positions.js';
import { formatProblems, type Problem, pathText, type SpecPath, sortProblems } from './problems.js';

/** A change that is refused. */
export interface ForbiddenChange {
  readonly path: SpecPath;
  /** What is deployed. */
  readonly was: unknown;
  /** What the spec says now; undefined: the spec has it no more. */
  readonly is: unknown;
  /** What was tried and why it cannot be, as a clause. */
  readonly message: string;
  /** What to do in place of it. */
  readonly hint: string;
}

/** A spec with changes that a running cluster cannot take: exit code 2. Its message holds all of them. */
export class ImmutableSpecError extends K8sAnsError {
  readonly problems: ReadonlyArray<Problem>;

  constructor(file: string, problems: ReadonlyArray<Problem>) {
    const count = problems.length === 1 ? '1 change that the' : `${problems.length} changes that the`;
    super(`${file} has ${count} running cluster cannot take; nothing was changed:\n${formatProblems(problems)}`, {
      code: 'spec-immutable',
      exitCode: ExitCode.usage,
      where: file,
      next: 'Do what each hint says, then run the command again. docs/changing-the-spec.md lists what may be changed.',
    });
    this.name = 'ImmutableSpecError';
    this.problems = problems;
  }
}

/**
 * Refuses a spec that differs from what is deployed in something that cannot be changed; at a cluster that is not
 * deployed yet there is nothing to refuse.
 *
 * @param made changes that the command itself makes in the right way, such as `kubernetes.version`
 * @throws ImmutableSpecError (exit code 2, `spec-immutable`) with all of them
 */
export async function refuseForbiddenChanges(
  home: ClusterHome,
  cluster: Cluster,
  made: ReadonlyArray<string> = [],
): Promise<void> {
  const deployed = await readDeployed(home);
  if (deployed === undefined) return;
  const changes = forbiddenChanges(deployed.cluster, cluster).filter(({ path }) => !made.includes(pathText(path)));
  if (changes.length === 0) return;
  const file = displayPath(home.spec);
  const lines = new LineCounter();
  const positions = positionsOf(parseDocument(await readFile(home.spec, 'utf8'), { lineCounter: lines }), lines);
  // An address that follows from the network of the services is mended with it.
  const follows = ({ path }: ForbiddenChange): boolean =>
    pathText(path) === 'network.dnsAddress' &&
    !positions.given(path) &&
    changes.some((change) => pathText(change.path) === 'network.services');
  const shown = changes.filter((change) => !follows(change));
  const problems = shown.map(({ path, is, message, hint }) => ({
    file,
    ...positions.value(path),
    path: pathText(path),
    value: is,
    message,
    hint,
  }));
  throw new ImmutableSpecError(file, sortProblems(problems));
}

/** A single value: where the spec has it, and why it stays. */
interface FixedValue {
  readonly path: readonly [string, ...string[]];
  readonly of: (facts: DeployedFacts) => string | number;
  readonly reason: string;
  /** What to do, after "write VALUE again"; undefined: only another cluster can have it. */
  readonly instead?: string;
}

const newCluster = 'only a new cluster can have another';
const place = 'to use another disk, mount it at the old path';

const fixedValues: ReadonlyArray<FixedValue> = [
  {
    path: ['name'],
    of: ({ name }) => name,
    reason: 'the certificates and kubeconfigs of the running cluster carry its name',
    instead: "a cluster's home may have another folder name than the cluster",
  },
  {
    path: ['network', 'pods'],
    of: ({ network }) => network.pods,
    reason: 'every node has its part of this network, and the running pods have addresses of it',
  },
  {
    path: ['network', 'services'],
    of: ({ network }) => network.services,
    reason: 'the services that exist have addresses of this network, the one of the API server among them',
  },
  {
    path: ['network', 'nodePrefix'],
    of: ({ network }) => network.nodePrefix,
    reason: 'the nodes have their parts of the pod network already, of the old length',
  },
  {
    path: ['network', 'dnsAddress'],
    of: ({ network }) => network.dnsAddress,
    reason: "running pods ask this address, and a service's address cannot be changed",
  },
  {
    path: ['network', 'dnsDomain'],
    of: ({ network }) => network.dnsDomain,
    reason: "running pods look names up in this domain, and it is in the issuer of the service accounts' tokens",
  },
  {
    path: ['network', 'flannel', 'datastore'],
    of: ({ network }) => network.flannel.datastore,
    reason: "flannel would forget the nodes' leases, and the pods of different nodes would lose each other",
  },
  {
    path: ['network', 'flannel', 'backend'],
    of: ({ network }) => network.flannel.backend,
    reason:
      'nodes with different backends do not reach each other, and running pods keep the MTU of the one they began with',
  },
  {
    path: ['network', 'flannel', 'vni'],
    of: ({ network }) => network.flannel.vni,
    reason: "flannel's device is named for it: the old one would be left on every node, with its routes",
  },
  {
    path: ['api', 'port'],
    of: ({ api }) => api.port,
    reason: "while the API servers move one by one, every host's proxy would look for all of them at one port",
    instead: 'for people, put a load balancer in front and name it in api.externalEndpoint',
  },
  {
    path: ['api', 'proxyPort'],
    of: ({ api }) => api.proxyPort,
    reason: "the kubelets' own kubeconfigs, written when they joined, lead to this port",
  },
  {
    path: ['etcd', 'dataDir'],
    of: ({ etcd }) => etcd.dataDir,
    reason: 'the data would stay behind in the old folder, and the members would start empty',
    instead: place,
  },
  {
    path: ['etcd', 'walDir'],
    of: ({ etcd }) => etcd.walDir,
    reason: 'the write-ahead log would stay behind in the old folder, and the members would not start',
    instead: place,
  },
  {
    path: ['runtime', 'type'],
    of: ({ runtime }) => runtime.type,
    reason: 'the running containers belong to the old runtime, which the new one knows nothing of',
  },
  {
    path: ['runtime', 'cgroupDriver'],
    of: ({ runtime }) => runtime.cgroupDriver,
    reason: 'the running pods have their cgroups from the old driver, and the kubelet would lose hold of them',
  },
  {
    path: ['runtime', 'dataDir'],
    of: ({ runtime }) => runtime.dataDir,
    reason: 'images and containers would stay behind in the old folder',
    instead: place,
  },
  {
    path: ['paths', 'bin'],
    of: ({ paths }) => paths.bin,
    reason: 'what runs was started from this folder, and its files would be left there',
  },
  {
    path: ['paths', 'work'],
    of: ({ paths }) => paths.work,
    reason: 'the files in the old folder would be left there',
  },
  {
    path: ['paths', 'data'],
    of: ({ paths }) => paths.data,
    reason: "the kubelets' data and certificates would stay behind in the old folder, and the nodes would join anew",
    instead: place,
  },
];

/** All changes between what is deployed and the spec's cluster that cannot be made while it runs. Pure. */
export function forbiddenChanges(deployed: DeployedFacts, cluster: Cluster): ForbiddenChange[] {
  const now = deployedFacts(cluster);
  const values = fixedValues.flatMap(({ path, of, reason, instead }): ForbiddenChange[] => {
    const was = of(deployed);
    const is = of(now);
    if (was === is) return [];
    const message = `${JSON.stringify(is)} cannot replace ${JSON.stringify(was)}: ${reason}`;
    return [{ path, was, is, message, hint: `write ${was} again; ${instead ?? newCluster}` }];
  });
  return [...values, ...versionChange(deployed, cluster), ...hostChanges(deployed, cluster)];
}

function versionChange({ kubernetesVersion: was }: DeployedFacts, cluster: Cluster): ForbiddenChange[] {
  const is = cluster.kubernetes.version;
  if (was === is) return [];
  return [
    {
      path: ['kubernetes', 'version'],
      was,
      is,
      message: `${is} cannot replace ${was} by a deploy: hosts go to another version one after another, checked and drained`,
      hint: `write ${was} again, then run \`k8s-ans upgrade --to ${is}\`, which puts the version here by itself`,
    },
  ];
}

function hostChanges(deployed: DeployedFacts, cluster: Cluster): ForbiddenChange[] {
  return deployed.hosts.flatMap((was): ForbiddenChange[] => {
    const index = cluster.hosts.findIndex(({ name }) => name === was.name);
    const host = cluster.hosts[index];
    if (host === undefined) return [missingHost(was, cluster)];
    const changes: ForbiddenChange[] = [];
    if (host.address !== was.address) {
      changes.push({
        path: ['hosts', index, 'address'],
        was: was.address,
        is: host.address,
        message: `${host.address} cannot replace ${was.address}: the certificates, etcd and the proxies of all hosts know ${was.name} by its address`,
        hint: `write ${was.address} again, run \`k8s-ans node remove ${was.name}\`, then add it with its new address`,
      });
    }
    return [...changes, ...roleChange(deployed, was, cluster, host, index)];
  });
}

function missingHost(was: DeployedFacts['hosts'][number], cluster: Cluster): ForbiddenChange {
  const index = cluster.hosts.findIndex(({ address }) => address === was.address);
  const renamed = cluster.hosts[index];
  if (renamed !== undefined) {
    return {
      path: ['hosts', index, 'name'],
      was: was.name,
      is: renamed.name,
      message: `"${renamed.name}" cannot replace "${was.name}": the name is that of the Kubernetes node and of its certificates`,
      hint: `write ${was.name} again, run \`k8s-ans node remove ${was.name}\`, then add the host under its new name`,
    };
  }
  return {
    path: ['hosts'],
    was: was.name,
    is: undefined,
    message: `${was.name} is missing, and it is a part of the running cluster`,
    hint: `put it back, then run \`k8s-ans node remove ${was.name}\`, which drains it and takes it out of the spec`,
  };
}

/** A worker can become no master by an edit, nor a master a worker; whether a master takes workloads is a taint. */
function roleChange(
  deployed: DeployedFacts,
  was: DeployedFacts['hosts'][number],
  cluster: Cluster,
  host: Host,
  index: number,
): ForbiddenChange[] {
  const before = {
    masters: was.roles.includes('masters'),
    etcd: deployed.members.includes(was.name),
    nodes: was.roles.includes('nodes'),
  };
  const after = {
    masters: host.roles.includes('masters'),
    etcd: cluster.etcdHosts.some(({ name }) => name === host.name),
    nodes: host.roles.includes('nodes'),
  };
  const isNode = (roles: typeof before): boolean => roles.masters || roles.nodes;
  const same = before.masters === after.masters && before.etcd === after.etcd && isNode(before) === isNode(after);
  if (same) return [];
  const text = (roles: typeof before): string =>
    (['masters', 'nodes', 'etcd'] as const satisfies HostRole[]).filter((role) => roles[role]).join(', ');
  return [
    {
      path: ['hosts', index, 'roles'],
      was: was.roles,
      is: host.roles,
      message: `${was.name} cannot become ${text(after)} while it is ${text(before)}: what it was would go on running beside what it is`,
      hint: `write its old roles again, run \`k8s-ans node remove ${was.name}\`, then add it with the new ones`,
    },
  ];
}
