/**
 * What is deployed: `deployed.json` in the cluster's home, written as soon as a run changes hosts.
 *
 * It holds what a running cluster cannot have changed under it, so that a spec edited by hand is compared with the
 * cluster as it is and not with the spec as it was. The caller holds the run lock.
 */
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import type { Cluster, Host } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { packageVersion } from '../types/package.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';

export const DEPLOYED_VERSION = 1;

const host = z.object({
  name: z.string(),
  address: z.string(),
  roles: z.array(z.enum(['masters', 'nodes', 'etcd'])),
});

const facts = z.object({
  name: z.string(),
  kubernetesVersion: z.string(),
  hosts: z.array(host),
  /** Names of the etcd members. */
  members: z.array(z.string()),
  network: z.object({
    pods: z.string(),
    services: z.string(),
    nodePrefix: z.number(),
    dnsAddress: z.string(),
    dnsDomain: z.string(),
    flannel: z.object({ datastore: z.string(), backend: z.string(), vni: z.number() }),
  }),
  api: z.object({ port: z.number(), proxyPort: z.number() }),
  etcd: z.object({ dataDir: z.string(), walDir: z.string() }),
  runtime: z.object({ type: z.string(), cgroupDriver: z.string(), dataDir: z.string() }),
  paths: z.object({ bin: z.string(), work: z.string(), data: z.string() }),
});

const record = z.object({
  version: z.literal(DEPLOYED_VERSION),
  /** `begun`: a run has changed hosts, and none of all hosts has ended well since. */
  state: z.enum(['begun', 'done']),
  /** When that was, ISO 8601. */
  time: z.string(),
  /** The release of k8s-ans that wrote it. */
  tool: z.string(),
  cluster: facts,
});

/** The part of a cluster that cannot be changed while it runs. */
export type DeployedFacts = z.infer<typeof facts>;

/** `deployed.json`. */
export type DeployedRecord = z.infer<typeof record>;

/** What is recorded of a cluster. Pure. */
export function deployedFacts(cluster: Cluster): DeployedFacts {
  const { network, api, etcd, runtime, paths } = cluster;
  return {
    name: cluster.name,
    kubernetesVersion: cluster.kubernetes.version,
    hosts: cluster.hosts.map(hostFacts),
    members: cluster.etcdHosts.map(({ name }) => name),
    network: {
      pods: network.pods,
      services: network.services,
      nodePrefix: network.nodePrefix,
      dnsAddress: network.dnsAddress,
      dnsDomain: network.dnsDomain,
      flannel: {
        datastore: network.flannel.datastore,
        backend: network.flannel.backend,
        vni: network.flannel.vni,
      },
    },
    api: { port: api.port, proxyPort: api.proxyPort },
    etcd: { dataDir: etcd.dataDir, walDir: etcd.walDir },
    runtime: { type: runtime.type, cgroupDriver: runtime.cgroupDriver, dataDir: runtime.dataDir },
    paths: { bin: paths.bin, work: paths.work, data: paths.data },
  };
}

function hostFacts({ name, address, roles }: Host): DeployedFacts['hosts'][number] {
  return { name, address, roles: [...roles] };
}

/**
 * The record as it is once a run changes `touched` hosts: they are a part of the cluster from then on, whether the
 * run ends well or not. Hosts that it does not touch are recorded as they were. Pure.
 */
export function begunFacts(
  before: DeployedFacts | undefined,
  cluster: Cluster,
  touched: ReadonlySet<string>,
): DeployedFacts {
  const now = deployedFacts(cluster);
  const known = new Map((before?.hosts ?? []).map((entry) => [entry.name, entry]));
  for (const entry of now.hosts) if (touched.has(entry.name)) known.set(entry.name, entry);
  return {
    ...now,
    hosts: [...known.values()],
    members: [...new Set([...(before?.members ?? []), ...now.members.filter((name) => touched.has(name))])],
  };
}

/** The record without a host that has left. Pure. */
export function factsWithout(before: DeployedFacts, name: string): DeployedFacts {
  return {
    ...before,
    hosts: before.hosts.filter((entry) => entry.name !== name),
    members: before.members.filter((member) => member !== name),
  };
}

/**
 * What is deployed, or undefined where nothing is (or by a release that kept no record).
 *
 * @throws K8sAnsError `deployed-unreadable`
 */
export async function readDeployed(home: ClusterHome): Promise<DeployedRecord | undefined> {
  const text = await readTextIfExists(home.deployed);
  if (text === undefined) return undefined;
  try {
    return record.parse(JSON.parse(text));
  } catch (cause) {
    throw environmentError('The record of what is deployed cannot be read.', {
      code: 'deployed-unreadable',
      where: home.deployed,
      next: 'A newer k8s-ans may have written it: use that one. Else put the file back from a backup of this folder.',
      cause,
    });
  }
}

/** Records the cluster, after a deploy, an upgrade or a host's leaving. */
export async function writeDeployed(
  home: ClusterHome,
  facts: DeployedFacts,
  state: DeployedRecord['state'],
  now = new Date(),
): Promise<void> {
  const value: DeployedRecord = {
    version: DEPLOYED_VERSION,
    state,
    time: now.toISOString(),
    tool: packageVersion(),
    cluster: facts,
  };
  await writeSecret(home.deployed, `${JSON.stringify(value, null, 2)}\n`);
}

/** Nothing is deployed any more: after a reset of the whole cluster. */
export async function removeDeployed(home: ClusterHome): Promise<void> {
  await rm(home.deployed, { force: true });
}
