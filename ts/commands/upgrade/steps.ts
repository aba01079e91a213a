/** What an upgrade does, step by step, for a person to read beforehand. */
import type { Cluster } from '../../types/cluster.js';
import type { Look } from './look.js';

export interface StepOptions {
  readonly cluster: Pick<Cluster, 'hosts' | 'masters'>;
  readonly look: Look;
  /** etcd's version that goes with the target. */
  readonly etcd: string;
  /** How many workers at a time: a number, or a share such as `20%`. */
  readonly batch: string;
}

/** The steps in their order. */
export function upgradeSteps({ cluster, look, etcd, batch }: StepOptions): string[] {
  const { target } = look;
  const masters = cluster.masters.map(({ name }) => name);
  const members = look.etcd.filter(({ version }) => version !== etcd);
  const servers = look.api_servers.filter(({ version }) => version !== target).map(({ host }) => host);
  const old = look.nodes.filter(({ version, ours, ready }) => version !== target || ours || !ready);
  const oldMasters = old.filter(({ name }) => masters.includes(name)).map(({ name }) => name);
  const oldNodes = old.filter(({ name }) => !masters.includes(name)).map(({ name }) => name);
  const done = look.nodes.length - old.length;
  return [
    'a snapshot of etcd is taken',
    `binaries and images of ${target} are brought to all ${cluster.hosts.length} hosts, and nothing is installed yet`,
    members.length === 0
      ? `etcd is at ${etcd} already`
      : `etcd goes to ${etcd}, one member after another: ${members.map(({ host, version }) => `${host} (${version ?? '?'})`).join(', ')}`,
    servers.length === 0
      ? `the API servers are at ${target} already`
      : `the API servers go to ${target}, one after another: ${servers.join(', ')}`,
    `controller manager and scheduler follow, one master after another`,
    ...(oldMasters.length === 0
      ? []
      : [`each master is emptied, upgraded and opened again, one after another: ${oldMasters.join(', ')}`]),
    ...(oldNodes.length === 0
      ? []
      : [`the nodes likewise, ${batch === '1' ? 'one after another' : `${batch} at a time`}: ${oldNodes.join(', ')}`]),
    ...(done > 0 ? [`${done} of ${look.nodes.length} nodes are at ${target} already and keep their pods`] : []),
    'the add-ons are applied, and the cluster is checked',
  ];
}

/** What each host ran and runs: for the summary. */
export interface HostVersions {
  readonly host: string;
  readonly apiServer: { readonly from: string; readonly to: string } | undefined;
  readonly kubelet: { readonly from: string; readonly to: string } | undefined;
}

/** The hosts in the spec's order, from what was seen before. */
export function versionsByHost(cluster: Pick<Cluster, 'hosts'>, look: Look): HostVersions[] {
  return cluster.hosts.map(({ name }) => {
    const server = look.api_servers.find(({ host }) => host === name);
    const node = look.nodes.find((one) => one.name === name);
    return {
      host: name,
      apiServer: server && { from: server.version ?? '?', to: look.target },
      kubelet: node && { from: node.version, to: look.target },
    };
  });
}
