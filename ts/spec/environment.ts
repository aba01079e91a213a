/**
 * Reads an environment.sh of the guide back into a spec. The file is read, never run.
 *
 * Names may stand in upper or lower case: copies of the guide have lost their case.
 */
import path from 'node:path';
import type { HostRole } from '../types/cluster.js';
import { firstAddress, isAddress, isNetwork } from './networks.js';
import { type Problem, SpecError, sortProblems } from './problems.js';
import type { SpecInput } from './schema.js';
import { type Assignment, readAssignments } from './shell.js';

export interface EnvironmentSpec {
  readonly spec: SpecInput;
  /** A literal ENCRYPTION_KEY: belongs in `pki/encryption.key` beside the spec, and nowhere else. */
  readonly encryptionKey?: string | undefined;
  /** What was left out or changed, as sentences with FILE:LINE in front. */
  readonly remarks: ReadonlyArray<string>;
}

/** The guide's variables. */
const arrays = ['MASTER_IPS', 'MASTER_NAMES', 'NODE_IPS', 'NODE_NAMES', 'ALL_IPS', 'ALL_NAMES'] as const;
const texts = [
  'ENCRYPTION_KEY',
  'ETCD_ENDPOINTS',
  'ETCD_NODES',
  'KUBE_APISERVER',
  'IFACE',
  'ETCD_DATA_DIR',
  'ETCD_WAL_DIR',
  'K8S_DIR',
  'DOCKER_DIR',
  'BOOTSTRAP_TOKEN',
  'SERVICE_CIDR',
  'CLUSTER_CIDR',
  'NODE_PORT_RANGE',
  'FLANNEL_ETCD_PREFIX',
  'CLUSTER_KUBERNETES_SVC_IP',
  'CLUSTER_DNS_SVC_IP',
  'CLUSTER_DNS_DOMAIN',
  'PATH',
] as const;
type ArrayName = (typeof arrays)[number];
type TextName = (typeof texts)[number];

/** Docker's folder in the guide. containerd gets its own: it would not understand what Docker left there. */
const guideDockerDir = '/data/k8s/docker';

interface Machine {
  readonly name: string;
  readonly address: string;
  readonly roles: HostRole[];
}

/**
 * The spec that an environment.sh describes.
 *
 * @param script the file's text
 * @param file the name that problems and remarks show
 * @param name the cluster's name, which the file does not know
 * @throws SpecError (exit code 2) where hosts are missing or contradict each other
 */
export function readEnvironment(script: string, file: string, name: string): EnvironmentSpec {
  const { assignments, others } = readAssignments(script);
  const problems: Problem[] = [];
  const remarks: string[] = [];
  const byName = new Map<string, Assignment>();
  const known: ReadonlyArray<string> = [...arrays, ...texts];

  const remark = (line: number, text: string): void => void remarks.push(`${file}:${line}: ${text}`);
  const problem = (line: number, variable: string, message: string, hint: string): void =>
    void problems.push({ file, line, column: 1, path: variable, message, hint });

  for (const other of others) remark(other.line, `"${other.text}" is no assignment: ignored.`);
  for (const assignment of assignments) {
    const variable = assignment.name.toUpperCase();
    if (!known.includes(variable)) {
      remark(assignment.line, `${assignment.name} is not a variable of the guide: ignored.`);
      continue;
    }
    const earlier = byName.get(variable);
    if (earlier !== undefined) {
      remark(assignment.line, `${variable} is assigned again and replaces line ${earlier.line}.`);
    }
    byName.set(variable, assignment);
  }

  const list = (variable: ArrayName): ReadonlyArray<string> => {
    const found = byName.get(variable);
    if (found === undefined) return [];
    if (found.dynamic) {
      problem(found.line, variable, 'holds a command, which is not run', 'write the values themselves');
      return [];
    }
    return typeof found.value === 'string' ? found.value.split(/\s+/).filter(Boolean) : found.value;
  };
  const lineOf = (variable: ArrayName | TextName): number => byName.get(variable)?.line ?? 1;
  const text = (variable: TextName): string | undefined => {
    const found = byName.get(variable);
    if (found === undefined) return undefined;
    if (found.dynamic) {
      if (variable !== 'ENCRYPTION_KEY' && variable !== 'BOOTSTRAP_TOKEN') {
        remark(found.line, `${variable} holds a command, which is not run: the default is used.`);
      }
      return undefined;
    }
    return typeof found.value === 'string' ? found.value : found.value.join(' ');
  };

  const pairs = (kind: 'MASTER' | 'NODE' | 'ALL'): { name: string; address: string }[] => {
    const [addresses, names] = [list(`${kind}_IPS`), list(`${kind}_NAMES`)];
    if (addresses.length !== names.length) {
      problem(
        lineOf(`${kind}_NAMES`),
        `${kind}_NAMES`,
        `has ${names.length} names for ${addresses.length} addresses of ${kind}_IPS`,
        'give both the same number, in the same order',
      );
    }
    return addresses.flatMap((address, index) => {
      const host = names[index];
      return host === undefined ? [] : [{ name: host, address }];
    });
  };

  const machines = new Map<string, Machine>();
  const add = (kind: 'MASTER' | 'NODE', role: HostRole): void => {
    for (const { name: host, address } of pairs(kind)) {
      const there = machines.get(host);
      if (there === undefined) machines.set(host, { name: host, address, roles: [role] });
      else if (there.address === address) there.roles.push(role);
      else {
        problem(
          lineOf(`${kind}_IPS`),
          `${kind}_IPS`,
          `${host} has the address ${address} here and ${there.address} in another array`,
          'give it the same one everywhere',
        );
      }
    }
  };
  add('MASTER', 'masters');
  add('NODE', 'nodes');
  if (!byName.has('MASTER_IPS')) {
    problem(1, 'MASTER_IPS', 'is missing', 'add it: the masters in the form MASTER_IPS=(172.24.8.71 172.24.8.72)');
  } else if (list('MASTER_IPS').length === 0 && !byName.get('MASTER_IPS')?.dynamic) {
    problem(lineOf('MASTER_IPS'), 'MASTER_IPS', 'is empty', 'name at least one master');
  }

  const all = byName.has('ALL_IPS') || byName.has('ALL_NAMES') ? pairs('ALL') : undefined;
  const members = etcdMembers(text('ETCD_NODES'), (part) =>
    problem(
      lineOf('ETCD_NODES'),
      'ETCD_NODES',
      `"${part}" is not NAME=https://ADDRESS:2380`,
      'write the members in the form k8smaster01=https://172.24.8.71:2380, with commas between them',
    ),
  );
  for (const { name: host, address } of all ?? []) {
    const there = machines.get(host);
    const isMember = members?.some((member) => member.name === host && member.address === address);
    if (there === undefined && isMember) machines.set(host, { name: host, address, roles: [] });
    else if (there === undefined) {
      problem(
        lineOf('ALL_NAMES'),
        'ALL_NAMES',
        `${host} is neither in MASTER_NAMES nor in NODE_NAMES`,
        'add it to one of them, or remove it here',
      );
    } else if (there.address !== address) {
      problem(
        lineOf('ALL_IPS'),
        'ALL_IPS',
        `${host} has the address ${address} here and ${there.address} in another array`,
        'give it the same one everywhere',
      );
    }
  }
  if (all !== undefined) {
    for (const { name: host } of machines.values()) {
      if (all.some((machine) => machine.name === host)) continue;
      problem(lineOf('ALL_NAMES'), 'ALL_NAMES', `${host} is missing`, 'name all masters and nodes');
    }
  }
  if (members !== undefined) {
    for (const member of members) {
      if (machines.get(member.name)?.address === member.address) continue;
      problem(
        lineOf('ETCD_NODES'),
        'ETCD_NODES',
        `${member.name} at ${member.address} is none of the hosts`,
        'give members the names and addresses that the other arrays have',
      );
    }
    const masters = [...machines.values()].filter(({ roles }) => roles.includes('masters'));
    const same =
      members.length === masters.length && masters.every((host) => members.some((m) => m.name === host.name));
    if (!same) for (const member of members) machines.get(member.name)?.roles.push('etcd');
  }
  const endpoints = text('ETCD_ENDPOINTS');
  if (endpoints !== undefined) {
    const etcdHosts = members ?? [...machines.values()].filter(({ roles }) => roles.includes('masters'));
    const expected = etcdHosts.map(({ address }) => `https://${address}:2379`);
    const given = endpoints.split(',').map((part) => part.trim().replace(/\/$/, ''));
    if (given.length !== expected.length || !given.every((part) => expected.includes(part))) {
      problem(
        lineOf('ETCD_ENDPOINTS'),
        'ETCD_ENDPOINTS',
        `is not the list of the etcd members: ${expected.join(',')}`,
        'name each member once, on port 2379',
      );
    }
  }

  const network: NonNullable<SpecInput['network']> = {};
  const services = text('SERVICE_CIDR');
  if (services !== undefined) network.services = services;
  const pods = text('CLUSTER_CIDR');
  if (pods !== undefined) network.pods = pods;
  const dnsAddress = text('CLUSTER_DNS_SVC_IP');
  if (dnsAddress !== undefined) network.dnsAddress = dnsAddress;
  const dnsDomain = text('CLUSTER_DNS_DOMAIN');
  if (dnsDomain !== undefined) {
    network.dnsDomain = dnsDomain.replace(/\.$/, '');
    if (network.dnsDomain !== dnsDomain) {
      remark(lineOf('CLUSTER_DNS_DOMAIN'), `the dot at the end of ${dnsDomain} is left out.`);
    }
  }
  const iface = text('IFACE');
  if (iface !== undefined) network.interface = iface;
  const range = text('NODE_PORT_RANGE');
  if (range !== undefined) {
    const [, from, to] = /^(\d+)-(\d+)$/.exec(range.trim()) ?? [];
    if (from !== undefined && to !== undefined) network.nodePorts = { from: Number(from), to: Number(to) };
    else problem(lineOf('NODE_PORT_RANGE'), 'NODE_PORT_RANGE', `"${range}" is not FROM-TO`, 'write 30000-32767');
  }
  const prefix = text('FLANNEL_ETCD_PREFIX');
  if (prefix !== undefined) network.flannel = { etcdPrefix: prefix };
  const apiService = text('CLUSTER_KUBERNETES_SVC_IP');
  const serviceNetwork = services ?? '10.254.0.0/16';
  if (apiService !== undefined && isNetwork(serviceNetwork) && firstAddress(serviceNetwork) !== apiService) {
    problem(
      lineOf('CLUSTER_KUBERNETES_SVC_IP'),
      'CLUSTER_KUBERNETES_SVC_IP',
      `"${apiService}" is not the first address of SERVICE_CIDR (${serviceNetwork}), which the API always gets`,
      `write ${firstAddress(serviceNetwork)}`,
    );
  }

  const spec: SpecInput = { apiVersion: 'k8s-ans/v1', name, hosts: hostsOf(machines, all), network };
  const apiServer = text('KUBE_APISERVER');
  if (apiServer !== undefined) {
    const url = URL.canParse(apiServer) ? new URL(apiServer) : undefined;
    const port = Number(url?.port || 443);
    if (url?.protocol !== 'https:') {
      problem(
        lineOf('KUBE_APISERVER'),
        'KUBE_APISERVER',
        `"${apiServer}" is not an https URL`,
        'write https://127.0.0.1:8443',
      );
    } else if (url.hostname === '127.0.0.1') spec.api = { proxyPort: port };
    else {
      spec.api = { externalEndpoint: url.origin };
      remark(
        lineOf('KUBE_APISERVER'),
        `KUBE_APISERVER (${apiServer}) becomes api.externalEndpoint: on the hosts, kube-nginx at 127.0.0.1 is used.`,
      );
    }
  }
  const etcd = { dataDir: text('ETCD_DATA_DIR'), walDir: text('ETCD_WAL_DIR') };
  if (etcd.dataDir !== undefined || etcd.walDir !== undefined) spec.etcd = etcd;
  const paths: NonNullable<SpecInput['paths']> = {};
  const data = text('K8S_DIR');
  if (data !== undefined) paths.data = data;
  const [bin] = (text('PATH') ?? '').split(':');
  if (bin !== undefined && path.posix.isAbsolute(bin)) paths.bin = bin;
  if (Object.keys(paths).length > 0) spec.paths = paths;
  const dockerDir = text('DOCKER_DIR');
  if (dockerDir === guideDockerDir) {
    remark(
      lineOf('DOCKER_DIR'),
      `DOCKER_DIR (${dockerDir}) is left out: the runtime is containerd, in a folder of its own.`,
    );
  } else if (dockerDir !== undefined) {
    spec.runtime = { dataDir: dockerDir };
  }

  if (byName.has('BOOTSTRAP_TOKEN')) {
    remark(lineOf('BOOTSTRAP_TOKEN'), 'BOOTSTRAP_TOKEN is left out: tokens are made for each run and expire.');
  }
  const encryptionKey = text('ENCRYPTION_KEY');
  if (encryptionKey !== undefined) {
    if (Buffer.from(encryptionKey, 'base64').length !== 32) {
      problem(
        lineOf('ENCRYPTION_KEY'),
        'ENCRYPTION_KEY',
        'is not 32 bytes in base64',
        'write the key that the API servers use, or remove the line: a new one is made',
      );
    }
  } else if (byName.has('ENCRYPTION_KEY')) {
    remark(lineOf('ENCRYPTION_KEY'), 'ENCRYPTION_KEY is a command, which is not run: a new key is made with the PKI.');
  }

  for (const { name: host, address } of machines.values()) {
    if (!isAddress(address)) {
      problem(1, 'ALL_IPS', `"${address}" of ${host} is not an IPv4 address`, 'write one such as 172.24.8.71');
    }
  }
  if (problems.length > 0) throw new SpecError(file, sortProblems(problems));
  return { spec, encryptionKey, remarks };
}

/** The hosts in the order of ALL_*, if the file has it. */
function hostsOf(machines: ReadonlyMap<string, Machine>, all: ReadonlyArray<{ name: string }> | undefined) {
  const order = all?.map(({ name }) => name) ?? [...machines.keys()];
  return order.flatMap((host) => {
    const machine = machines.get(host);
    return machine === undefined ? [] : [{ name: machine.name, address: machine.address, roles: machine.roles }];
  });
}

function etcdMembers(value: string | undefined, fault: (part: string) => void) {
  return value?.split(',').flatMap((part) => {
    const [, name, address] = /^([^=]+)=https:\/\/([^:/]+):2380\/?$/.exec(part.trim()) ?? [];
    if (name !== undefined && address !== undefined) return [{ name, address }];
    fault(part.trim());
    return [];
  });
}
