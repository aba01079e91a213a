/** From a sound spec to the resolved cluster: every derived value is computed here, once. */
import os from 'node:os';
import path from 'node:path';
import type { Addons, ArtifactSource, Cluster, Host, Taint } from '../types/cluster.js';
import { addressText, firstAddress, parseNetwork } from './networks.js';
import type { Spec } from './schema.js';
import { minorOf } from './versions.js';

/** https://kubernetes.io/docs/reference/labels-annotations-taints/#node-role-kubernetes-io-control-plane-taint */
export const masterTaint: Taint = { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' };

/**
 * The cluster a spec describes.
 *
 * @param folder what relative paths are relative to: the spec's folder
 */
export function resolveCluster(spec: Spec, folder: string): Cluster {
  const hosts = spec.hosts.map((host) => resolveHost(host, spec));
  const masters = hosts.filter(({ roles }) => roles.includes('masters'));
  const members = hosts.filter(({ roles }) => roles.includes('etcd'));
  const etcdHosts = members.length > 0 ? members : masters;
  const { network, api } = spec;
  const apiServiceAddress = firstAddress(network.services);
  const endpoint = api.externalEndpoint;

  return {
    name: spec.name,
    kubernetes: { ...spec.kubernetes, minor: minorOf(spec.kubernetes.version) },
    hosts,
    masters,
    nodes: hosts.filter(({ roles }) => roles.includes('nodes')),
    etcdHosts,
    ssh: {
      privateKey: absolute(spec.ssh.privateKey, folder),
      knownHosts: absolute(spec.ssh.knownHosts, folder),
      extraArgs: spec.ssh.extraArgs,
    },
    network: {
      ...network,
      apiServiceAddress,
      dnsAddress: network.dnsAddress ?? addressText(parseNetwork(network.services).first + 2),
    },
    api: {
      port: api.port,
      proxyPort: api.proxyPort,
      localEndpoint: `https://127.0.0.1:${api.proxyPort}`,
      externalEndpoint:
        endpoint === undefined ? `https://${masters[0]?.address}:${api.port}` : new URL(endpoint).origin,
      // A master's own names and addresses are added for each master; a default endpoint is one of them.
      sans: [
        ...new Set([
          'kubernetes',
          'kubernetes.default',
          'kubernetes.default.svc',
          `kubernetes.default.svc.${network.dnsDomain}`,
          'localhost',
          '127.0.0.1',
          apiServiceAddress,
          ...(endpoint === undefined ? [] : [new URL(endpoint).hostname]),
          ...api.sans,
        ]),
      ],
    },
    etcd: {
      endpoints: etcdHosts.map(({ address }) => `https://${address}:2379`).join(','),
      initialCluster: etcdHosts.map(({ name, address }) => `${name}=https://${address}:2380`).join(','),
      ...spec.etcd,
    },
    kubeProxy: spec.kubeProxy,
    kubelet: spec.kubelet,
    runtime: spec.runtime,
    paths: spec.paths,
    hostprep: {
      ...spec.hostprep,
      sysctls: Object.fromEntries(Object.entries(spec.hostprep.sysctls).map(([key, value]) => [key, String(value)])),
    },
    pki: spec.pki,
    encryption: spec.encryption,
    audit: { ...spec.audit, policyFile: absolute(spec.audit.policyFile, folder) },
    addons: resolveAddons(spec, hosts),
    artifacts: {
      source: resolveSource(spec.artifacts.source, folder),
      imageRegistry: spec.artifacts.imageRegistry?.replace(/\/+$/, ''),
    },
    requirements: spec.requirements,
  };
}

function resolveHost(host: Spec['hosts'][number], spec: Spec): Host {
  // A master that is asked to be a worker as well takes workloads.
  const tainted = host.roles.includes('masters') && !host.roles.includes('nodes');
  return {
    name: host.name,
    address: host.address,
    roles: host.roles,
    ssh: { user: host.ssh.user ?? spec.ssh.user, port: host.ssh.port ?? spec.ssh.port },
    labels: host.labels,
    taints: host.taints ?? (tainted ? [masterTaint] : []),
    vars: host.vars,
  };
}

function resolveAddons({ addons, network, runtime }: Spec, hosts: ReadonlyArray<Host>): Addons {
  const { nodesPerReplica, replicas, ...coredns } = addons.coredns;
  const nodes = hosts.filter(({ roles }) => roles.includes('masters') || roles.includes('nodes')).length;
  const wanted = nodesPerReplica === 0 ? 0 : Math.ceil(nodes / nodesPerReplica);
  // containerd is told which port a name stands for; Docker takes that of the name.
  const port = runtime.type === 'docker' ? `:${addons.registry.nodePort}` : '';
  return {
    ...addons,
    coredns: { ...coredns, replicas: Math.max(replicas, wanted) },
    registry: { ...addons.registry, name: addons.registry.name ?? `registry.${network.dnsDomain}${port}` },
  };
}

function resolveSource(source: Spec['artifacts']['source'], folder: string): ArtifactSource {
  if (typeof source === 'string') return { kind: source };
  if ('mirror' in source) return { kind: 'mirror', url: source.mirror.replace(/\/+$/, '') };
  return { kind: 'directory', path: absolute(source.directory, folder) };
}

function absolute(file: string, folder: string): string;
function absolute(file: string | undefined, folder: string): string | undefined;
function absolute(file: string | undefined, folder: string): string | undefined {
  if (file === undefined) return undefined;
  const home = file === '~' || file.startsWith('~/') ? path.join(os.homedir(), file.slice(1)) : file;
  return path.resolve(folder, home);
}
