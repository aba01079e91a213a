/** Hosts as `node add` and `node remove` see them: what is asked for, what stands in the spec, and what is refused. */
import { type Document, isMap, isSeq } from 'yaml';
import { addHost, type HostInput } from '../../spec/edit.js';
import { nearest } from '../../spec/issues.js';
import type { Cluster, Host, HostRole, Taint } from '../../types/cluster.js';
import { type K8sAnsError, usageError } from '../../types/errors.js';

/** What `node add` was told of the host; what was left out is as the spec's defaults say. */
export interface WantedHost {
  readonly name: string;
  readonly address?: string | undefined;
  readonly roles?: ReadonlyArray<HostRole> | undefined;
  readonly user?: string | undefined;
  readonly port?: number | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: ReadonlyArray<Taint>;
}

/** `KEY=VALUE` as an entry. @throws K8sAnsError `usage` */
export function parseLabel(text: string): [key: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw usageError(`"${text}" is not a label`, { code: 'usage', next: 'Write --label KEY=VALUE.' });
  return [text.slice(0, at), text.slice(at + 1)];
}

/** `KEY[=VALUE]:EFFECT`, as kubectl writes taints. @throws K8sAnsError `usage` */
export function parseTaint(text: string): Taint {
  const match = /^([^=:]+)(?:=([^:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$/.exec(text);
  if (match === null) {
    throw usageError(`"${text}" is not a taint`, {
      code: 'usage',
      next: 'Write --taint KEY[=VALUE]:EFFECT; the effects are NoSchedule, PreferNoSchedule and NoExecute.',
    });
  }
  const [, key, value, effect] = match as unknown as [string, string, string | undefined, Taint['effect']];
  return value === undefined ? { key, effect } : { key, value, effect };
}

/**
 * The host in the spec that `node add` goes on with, or undefined where it is new.
 *
 * @throws K8sAnsError `node-exists` when the spec says something else of it, `usage` when a new one has no address
 */
export function knownHost(cluster: Cluster, wanted: WantedHost): Host | undefined {
  const host = cluster.hosts.find(({ name }) => name === wanted.name);
  if (host === undefined) {
    if (wanted.address !== undefined) return undefined;
    throw usageError(`${wanted.name} is not in the spec, and its address is not given`, {
      code: 'usage',
      next: `Say it with --address; the spec has ${cluster.hosts.map(({ name }) => name).join(', ')}.`,
    });
  }
  const differences = [
    wanted.address !== undefined && wanted.address !== host.address ? `its address is ${host.address}` : undefined,
    wanted.roles !== undefined && String([...wanted.roles].sort()) !== String([...host.roles].sort())
      ? `its roles are ${host.roles.join(', ')}`
      : undefined,
    wanted.user !== undefined && wanted.user !== host.ssh.user ? `its user is ${host.ssh.user}` : undefined,
    wanted.port !== undefined && wanted.port !== host.ssh.port ? `its SSH port is ${host.ssh.port}` : undefined,
    Object.entries(wanted.labels).some(([key, value]) => host.labels[key] !== value)
      ? 'its labels are others'
      : undefined,
    wanted.taints.some((taint) => !host.taints.some((other) => sameTaint(taint, other)))
      ? 'its taints are others'
      : undefined,
  ].filter((text) => text !== undefined);
  if (differences.length === 0) return host;
  throw usageError(`the spec has a host ${host.name} already: ${differences.join(', ')}`, {
    code: 'node-exists',
    next: `To change that host, edit the spec and run \`k8s-ans deploy\`; to replace it, \`k8s-ans node remove ${host.name}\` first.`,
  });
}

function sameTaint(one: Taint, other: Taint): boolean {
  return one.key === other.key && one.effect === other.effect && (one.value ?? '') === (other.value ?? '');
}

/**
 * Puts a new host into the spec's document.
 *
 * While no host has the role etcd, the masters are the members. A host that is to be one without being a master ends
 * that: the members there are get the role, so that they stay what they are.
 */
export function enterHost(document: Document, cluster: Cluster, wanted: WantedHost): void {
  const implied = !cluster.hosts.some(({ roles }) => roles.includes('etcd'));
  let roles = wanted.roles;
  if (implied && roles?.includes('etcd')) {
    if (roles.includes('masters')) roles = roles.filter((role) => role !== 'etcd');
    else for (const { name } of cluster.etcdHosts) addRole(document, name);
  }
  const { name, address = '', user, port, labels, taints } = wanted;
  const ssh = { ...(user === undefined ? {} : { user }), ...(port === undefined ? {} : { port }) };
  const host: HostInput = {
    name,
    address,
    ...(roles === undefined ? {} : { roles: [...roles] }),
    ...(Object.keys(ssh).length === 0 ? {} : { ssh }),
    ...(Object.keys(labels).length === 0 ? {} : { labels: { ...labels } }),
    ...(taints.length === 0 ? {} : { taints: taints.map((taint) => ({ ...taint })) }),
  };
  addHost(document, host);
}

function addRole(document: Document, name: string): void {
  const hosts = document.get('hosts');
  const host = isSeq(hosts) ? hosts.items.find((item) => isMap(item) && item.get('name') === name) : undefined;
  if (!isMap(host)) return;
  const roles = host.get('roles');
  if (isSeq(roles)) roles.add(document.createNode('etcd'));
  else host.set('roles', document.createNode(['nodes', 'etcd']));
}

/** A name that the spec does not have: with the nearest one, and all there are. */
export function unknownHost(cluster: Cluster, name: string): K8sAnsError {
  const names = cluster.hosts.map((host) => host.name);
  const near = nearest(name, names);
  return usageError(`the cluster has no host "${name}"${near === undefined ? '' : `; did you mean ${near}?`}`, {
    code: 'node-unknown',
    next: `Its hosts are ${names.join(', ')}.`,
  });
}

/**
 * Why a host must not go, as far as the spec tells; undefined where nothing speaks against it.
 *
 * @param cluster with the host
 */
export function refuseRemoval(cluster: Cluster, host: Host): K8sAnsError | undefined {
  const refused = (message: string, code: string, next: string): K8sAnsError => usageError(message, { code, next });
  const others = (hosts: ReadonlyArray<Host>): Host[] => hosts.filter(({ name }) => name !== host.name);
  if (cluster.masters.length > 0 && others(cluster.masters).length === 0) {
    return refused(
      `${host.name} is the last master: without it there is no cluster`,
      'last-master',
      'Add another master first (k8s-ans node add NAME --address ADDRESS --roles masters), or take the whole cluster away with `k8s-ans reset`.',
    );
  }
  if (others(cluster.etcdHosts).length === 0) {
    return refused(
      `${host.name} is the last etcd member: without it there is no cluster`,
      'last-etcd-member',
      'Add another one first: k8s-ans node add NAME --address ADDRESS --roles etcd.',
    );
  }
  return undefined;
}

/** What is to be said of the number of etcd members; undefined where it is odd. */
export function etcdNotice({ etcdHosts }: Cluster): string | undefined {
  const count = etcdHosts.length;
  if (count % 2 === 1) return undefined;
  const survives = count === 2 ? 'neither of them can fail' : `it survives no more failures than ${count - 1} would`;
  return `etcd has ${count} members now: ${survives}. Add one (k8s-ans node add NAME --address ADDRESS --roles masters).`;
}
