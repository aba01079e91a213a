/**
 * The rules between fields: what no single value can tell.
 *
 * A rule runs on a spec whose shape may be wrong elsewhere: it names every value it looked at, and its finding
 * counts only if those are sound.
 */
import { addressText, contains, firstAddress, type Network, overlap, parseNetwork } from './networks.js';
import { pathText, type SpecPath } from './problems.js';
import type { Spec } from './schema.js';
import { versionFault } from './versions.js';

export interface RuleContext {
  readonly spec: Spec;
  /** Whether the cluster is there already, so that its hosts can be on their way from one number to another. */
  readonly deployed: boolean;
  /**
   * Reports a problem at `path`. `uses` are the other values the rule read.
   * With `place` the key is pointed at in place of the value.
   */
  report(path: SpecPath, message: string, hint: string, uses?: ReadonlyArray<SpecPath>, place?: 'key' | 'value'): void;
  /** Whether the file has the value (and not only a default). */
  given(path: SpecPath): boolean;
  /** Whether the values are sound in themselves. */
  sound(...paths: ReadonlyArray<SpecPath>): boolean;
  /** The line that a value stands on. */
  line(path: SpecPath): number;
}

type Rule = (context: RuleContext) => void;

/** Runs all rules. */
export function checkRules(context: RuleContext): void {
  for (const rule of rules) rule(context);
}

const hostPath = (index: number, ...rest: ReadonlyArray<string | number>): SpecPath => ['hosts', index, ...rest];

/** Ports on the hosts that components hold on to; see https://kubernetes.io/docs/reference/networking/ports-and-protocols/. */
const takenPorts: ReadonlyArray<readonly [number, string]> = [
  [2379, "etcd's client port"],
  [2380, "etcd's peer port"],
  [2381, "etcd's metrics port"],
  [10248, "the kubelet's health port"],
  [10249, "kube-proxy's metrics port"],
  [10250, "the kubelet's port"],
  [10256, "kube-proxy's health port"],
  [10257, "the controller-manager's port"],
  [10259, "the scheduler's port"],
];

/** Variables that the rendered inventory sets for each host. */
const renderedVariables: Readonly<Record<string, string>> = {
  ansible_host: "the host's address",
  ansible_user: "the host's ssh.user",
  ansible_port: "the host's ssh.port",
  k8s_node_name: "the host's name",
  k8s_node_address: "the host's address",
  k8s_node_labels: "the host's labels",
  k8s_node_taints: "the host's taints",
};

const kubernetesVersion: Rule = ({ spec, report, sound }) => {
  const path = ['kubernetes', 'version'];
  if (!sound(path)) return;
  const fault = versionFault(spec.kubernetes.version);
  if (fault !== undefined) report(path, fault.message, fault.hint);
};

const uniqueHosts: Rule = ({ spec, report, sound, line }) => {
  for (const field of ['name', 'address'] as const) {
    const seen = new Map<string, number>();
    spec.hosts.forEach((host, index) => {
      const path = hostPath(index, field);
      if (!sound(path)) return;
      const value = host[field];
      const first = seen.get(value);
      if (first === undefined) seen.set(value, index);
      else {
        const other = hostPath(first, field);
        report(
          path,
          `${JSON.stringify(value)} is also the ${field} of hosts[${first}] (line ${line(other)})`,
          `give each host ${field === 'name' ? 'a name' : 'an address'} of its own`,
        );
      }
    });
  }
};

const roles: Rule = ({ spec, report, sound, deployed }) => {
  spec.hosts.forEach((host, index) => {
    const path = hostPath(index, 'roles');
    if (sound(path) && new Set(host.roles).size < host.roles.length) {
      report(path, `[${host.roles.join(', ')}] names a role twice`, 'name each role once');
    }
  });
  if (!spec.hosts.every((_, index) => sound(hostPath(index), hostPath(index, 'roles')))) return;
  if (!sound(['hosts']) || spec.hosts.length === 0) return;
  const names = (role: 'masters' | 'etcd') => spec.hosts.filter((host) => host.roles.includes(role));
  const masters = names('masters');
  if (masters.length === 0) {
    report(['hosts'], 'none of the hosts is a master', 'give one or three hosts `roles: [masters]`', [], 'key');
  }
  const members = names('etcd');
  const count = members.length || masters.length;
  if (count > 0 && count % 2 === 0 && !deployed) {
    const whose = members.length > 0 ? 'hosts with the role etcd' : 'masters, which are the etcd members,';
    report(
      ['hosts'],
      `${count} ${whose} make an even number: it survives no more failures than ${count - 1}`,
      `make it ${count - 1} or ${count + 1}${members.length > 0 ? '' : ', or give an odd number of hosts the role etcd'}`,
      [],
      'key',
    );
  }
};

const networksApart: Rule = ({ spec, report, sound, given }) => {
  const paths = {
    pods: ['network', 'pods'],
    services: ['network', 'services'],
    hosts: ['network', 'hosts'],
  } as const;
  const kinds = ['pods', 'services', 'hosts'] as const;
  const parsed = new Map<(typeof kinds)[number], Network>();
  for (const kind of kinds) {
    const cidr = spec.network[kind];
    if (cidr !== undefined && sound(paths[kind])) parsed.set(kind, parseNetwork(cidr));
  }
  kinds.forEach((kind, index) => {
    for (const other of kinds.slice(index + 1)) {
      const [one, two] = [parsed.get(kind), parsed.get(other)];
      if (one === undefined || two === undefined || !overlap(one, two)) continue;
      // Point at what the file has, rather than at a default.
      const [at, from] = given(paths[other]) ? [other, kind] : [kind, other];
      report(
        paths[at],
        `"${spec.network[at]}" overlaps network.${from} ("${spec.network[from]}")`,
        'choose networks that are apart from each other and from those of the hosts',
      );
    }
  });
  spec.hosts.forEach((host, index) => {
    const path = hostPath(index, 'address');
    if (!sound(path)) return;
    const hosts = parsed.get('hosts');
    if (hosts !== undefined && !contains(hosts, host.address)) {
      report(
        path,
        `"${host.address}" is outside network.hosts ("${hosts.cidr}")`,
        'mend the address, or widen network.hosts or leave it out',
      );
    }
    for (const kind of ['pods', 'services'] as const) {
      const network = parsed.get(kind);
      if (network === undefined || !contains(network, host.address)) continue;
      // Said already for the network as a whole.
      if (hosts !== undefined && overlap(hosts, network)) continue;
      report(
        path,
        `"${host.address}" lies in network.${kind} ("${network.cidr}")`,
        `choose another network for the ${kind}, apart from the hosts`,
      );
    }
  });
};

const serviceNetwork: Rule = ({ spec, report, sound, given }) => {
  const path = ['network', 'services'];
  if (!sound(path)) return;
  const network = parseNetwork(spec.network.services);
  // kube-apiserver: at most 20 bits for services, and at least eight addresses.
  if (network.prefix < 12 || network.prefix > 29) {
    report(
      path,
      `"${network.cidr}" has the prefix length ${network.prefix}; the API server takes 12 to 29`,
      'choose a service network such as 10.254.0.0/16',
    );
    return;
  }
  const dns = ['network', 'dnsAddress'];
  const address = spec.network.dnsAddress;
  if (address === undefined || !given(dns) || !sound(dns)) return;
  const second = addressText(network.first + 2);
  if (!contains(network, address)) {
    report(dns, `"${address}" is outside network.services ("${network.cidr}")`, `write ${second}, or leave it out`);
  } else if (address === firstAddress(network.cidr)) {
    report(
      dns,
      `"${address}" is the address of the API's own service, the first of network.services`,
      `write ${second}, or leave it out`,
    );
  } else if (address === addressText(network.first) || address === addressText(network.last)) {
    report(
      dns,
      `"${address}" is the first or last of network.services and no service's address`,
      `write ${second}, or leave it out`,
    );
  }
};

const podNetwork: Rule = ({ spec, report, sound, given }) => {
  const pods = ['network', 'pods'];
  const prefix = ['network', 'nodePrefix'];
  if (!sound(pods, prefix)) return;
  const { nodePrefix } = spec.network;
  const network = parseNetwork(spec.network.pods);
  const at = given(prefix) ? prefix : pods;
  // The one that is pointed at comes first in the message.
  const said = given(prefix)
    ? `${nodePrefix} with network.pods "${network.cidr}"`
    : `"${network.cidr}" with network.nodePrefix ${nodePrefix}`;
  if (nodePrefix <= network.prefix) {
    report(
      at,
      `${said} leaves no room for the nodes' networks`,
      `give network.pods a shorter prefix, or network.nodePrefix more than ${network.prefix}`,
    );
    return;
  }
  // kube-controller-manager refuses to divide a network into more than 2^16 parts.
  if (nodePrefix - network.prefix > 16) {
    report(
      at,
      `${said}: they are more than 16 bits apart, the most that Kubernetes takes`,
      `write network.nodePrefix: ${Math.max(24, network.prefix + 1)} or a smaller network.pods`,
    );
  }
  const parts = 2 ** (nodePrefix - network.prefix);
  const kubernetesNodes = spec.hosts.filter(({ roles: list }) => list.includes('masters') || list.includes('nodes'));
  if (parts < kubernetesNodes.length && sound(['hosts'])) {
    report(
      at,
      `${said} holds ${parts} networks for ${kubernetesNodes.length} nodes`,
      'give network.pods a shorter prefix, or network.nodePrefix a longer one',
    );
  }
  // The network's own address, the bridge's and the broadcast address are no pod's.
  const room = 2 ** (32 - nodePrefix) - 3;
  const maxPods = ['kubelet', 'maxPods'];
  if (sound(maxPods) && spec.kubelet.maxPods > room) {
    const own = given(maxPods);
    report(
      own ? maxPods : at,
      own
        ? `${spec.kubelet.maxPods} is more than a node's network of prefix length ${nodePrefix} holds (${room})`
        : `${said} holds ${room} pods a node, kubelet.maxPods is ${spec.kubelet.maxPods}`,
      `write kubelet.maxPods: ${room} or a shorter network.nodePrefix`,
    );
  }
};

const ports: Rule = ({ spec, report, sound, given }) => {
  const from = ['network', 'nodePorts', 'from'];
  const to = ['network', 'nodePorts', 'to'];
  const range = spec.network.nodePorts;
  const rangeIsSound = sound(from, to) && range.from <= range.to;
  if (sound(from, to) && range.from > range.to) {
    report(
      given(from) ? from : to,
      `the range of node ports ends (${range.to}) before it begins (${range.from})`,
      'write the smaller port as from:, the larger as to:',
    );
  }
  const own = [
    { path: ['api', 'port'], port: spec.api.port, example: 6443 },
    { path: ['api', 'proxyPort'], port: spec.api.proxyPort, example: 8443 },
  ];
  for (const { path, port, example } of own) {
    if (!sound(path)) continue;
    const taken = takenPorts.find(([number]) => number === port);
    if (taken !== undefined) report(path, `${port} is ${taken[1]}`, `choose another port, such as ${example}`);
    if (rangeIsSound && range.from <= port && port <= range.to) {
      report(
        given(path) ? path : from,
        `${given(path) ? port : range.from}: the node ports ${range.from}-${range.to} hold ${path.join('.')} (${port})`,
        'choose a port outside the node ports, or other node ports',
      );
    }
    spec.hosts.forEach((host, index) => {
      const hostPort = hostPath(index, 'ssh', 'port');
      const common = ['ssh', 'port'];
      if (!sound(hostPort, common) || (host.ssh.port ?? spec.ssh.port) !== port) return;
      // One report is enough where all hosts share ssh.port.
      if (host.ssh.port === undefined && spec.hosts.findIndex(({ ssh }) => ssh.port === undefined) !== index) return;
      const at = given(path) ? path : given(hostPort) ? hostPort : common;
      const name = path.join('.');
      report(
        at,
        at === path ? `${port} is the SSH port of ${host.name}` : `${port} is also ${name}`,
        `choose another port for one of the two${example === port ? '' : `, such as ${name}: ${example}`}`,
        [hostPath(index, 'name')],
      );
    });
  }
  const proxy = ['api', 'proxyPort'];
  if (sound(['api', 'port'], proxy) && spec.api.port === spec.api.proxyPort) {
    report(
      given(proxy) ? proxy : ['api', 'port'],
      `${spec.api.port} is both api.port and api.proxyPort, which stand on the same masters`,
      'choose two ports, such as api.port: 6443 and api.proxyPort: 8443',
    );
  }
  if (!rangeIsSound) return;
  for (const [port, name] of takenPorts) {
    if (range.from > port || port > range.to) continue;
    report(
      given(from) ? from : to,
      `the node ports ${range.from}-${range.to} hold ${port}, ${name}`,
      'choose a range such as 30000-32767',
    );
    break;
  }
};

const notYet: Rule = ({ spec, report, sound }) => {
  const refuse = (path: SpecPath, value: string, refused: ReadonlyArray<string>, hint: string): void => {
    if (!sound(path) || !refused.includes(value)) return;
    report(path, `"${value}" is not implemented in this release yet`, hint);
  };
  refuse(
    ['kubeProxy', 'mode'],
    spec.kubeProxy.mode,
    ['ipvs'],
    'write nftables (its successor: Kubernetes deprecates ipvs since 1.35) or iptables',
  );
  const { flannel } = spec.network;
  refuse(['network', 'flannel', 'datastore'], flannel.datastore, ['etcd'], 'write kubernetes');
  refuse(['network', 'flannel', 'backend'], flannel.backend, ['wireguard'], 'write vxlan or host-gw');
};

const swap: Rule = ({ spec, report, sound }) => {
  const path = ['hostprep', 'swapOff'];
  if (!sound(path, ['kubelet', 'config'])) return;
  if (!spec.hostprep.swapOff && spec.kubelet.config.failSwapOn !== false) {
    report(
      path,
      'false: the kubelet does not start on a host with swap',
      'write true, or kubelet.config.failSwapOn: false',
    );
  }
};

const overrides: Rule = ({ spec, report, sound }) => {
  const owned: ReadonlyArray<readonly [SpecPath, unknown, string]> = [
    [['kubelet', 'config', 'maxPods'], spec.kubelet.maxPods, 'kubelet.maxPods'],
    [['kubelet', 'config', 'cgroupDriver'], spec.runtime.cgroupDriver, 'runtime.cgroupDriver'],
    [['kubeProxy', 'config', 'mode'], spec.kubeProxy.mode, 'kubeProxy.mode'],
  ];
  for (const [path, value, owner] of owned) {
    const config = path[0] === 'kubelet' ? spec.kubelet.config : spec.kubeProxy.config;
    const key = String(path.at(-1));
    if (!sound(path.slice(0, 2), owner.split('.')) || config[key] === undefined || config[key] === value) continue;
    report(
      path,
      `${JSON.stringify(config[key])} contradicts ${owner} (${JSON.stringify(value)})`,
      `write it as ${owner} and remove it here`,
    );
  }
};

const lifetimes: Rule = ({ spec, report, sound, given }) => {
  const ca = ['pki', 'caDays'];
  const leaf = ['pki', 'certificateDays'];
  if (!sound(ca, leaf) || spec.pki.certificateDays <= spec.pki.caDays) return;
  report(
    given(leaf) ? leaf : ca,
    `certificates of ${spec.pki.certificateDays} days would outlive their CA of ${spec.pki.caDays} days`,
    'write pki.certificateDays no larger than pki.caDays',
  );
};

const folders: Rule = ({ spec, report, sound, given }) => {
  const paths: ReadonlyArray<readonly [SpecPath, string]> = [
    [['etcd', 'dataDir'], spec.etcd.dataDir],
    [['etcd', 'walDir'], spec.etcd.walDir],
    [['etcd', 'backup', 'directory'], spec.etcd.backup.directory],
    [['runtime', 'dataDir'], spec.runtime.dataDir],
    [['paths', 'data'], spec.paths.data],
    [['paths', 'bin'], spec.paths.bin],
    [['paths', 'work'], spec.paths.work],
    [['addons', 'localPath', 'directory'], spec.addons.localPath.directory],
  ];
  paths.forEach(([path, folder], index) => {
    const earlier = paths.slice(0, index).find(([, other]) => other === folder);
    if (earlier === undefined || !sound(path, earlier[0])) return;
    const [at, from] = given(path) ? [path, earlier[0]] : [earlier[0], path];
    report(at, `"${folder}" is also ${pathText(from)}`, 'give each a folder of its own');
  });
};

/** Add-ons with volumes need a StorageClass that is known of. */
const addonVolumes: Rule = ({ spec, report, sound }) => {
  const { registry, logging, localPath } = spec.addons;
  const provided = localPath.enabled && localPath.defaultClass;
  for (const [name, { enabled, storageClass }] of Object.entries({ registry, logging })) {
    const at = ['addons', name, 'enabled'];
    if (!enabled || storageClass !== undefined || provided || !sound(at, ['addons', 'localPath'])) continue;
    report(
      at,
      'true: nothing is known of a StorageClass for its volume',
      `write addons.localPath.enabled: true, or name a class of your own as addons.${name}.storageClass`,
    );
  }
};

/** The node ports of add-ons: within the range, and each once. */
const addonPorts: Rule = ({ spec, report, sound, given }) => {
  const { registry, dashboard, logging } = spec.addons;
  const { from, to } = spec.network.nodePorts;
  const used: Array<{ addon: string; nodePort: number }> = [];
  if (registry.enabled) used.push({ addon: 'registry', nodePort: registry.nodePort });
  if (dashboard.enabled && dashboard.access === 'nodePort') {
    used.push({ addon: 'dashboard', nodePort: dashboard.nodePort });
  }
  if (logging.enabled && logging.access === 'nodePort') used.push({ addon: 'logging', nodePort: logging.nodePort });
  used.forEach(({ addon, nodePort }, index) => {
    const port = ['addons', addon, 'nodePort'];
    const enabled = ['addons', addon, 'enabled'];
    if (!sound(port, enabled, ['network', 'nodePorts', 'from'], ['network', 'nodePorts', 'to']) || from > to) return;
    const at = given(port) ? port : enabled;
    const value = given(port) ? String(nodePort) : `true: addons.${addon}.nodePort ${nodePort}`;
    const other = used.slice(0, index).find((one) => one.nodePort === nodePort);
    if (nodePort < from || nodePort > to) {
      report(
        at,
        `${value} is outside of the node ports ${from}-${to}`,
        `write an addons.${addon}.nodePort of that range, such as ${from + Math.min(500 - index, to - from)}`,
      );
    } else if (other !== undefined) {
      report(at, `${value} is also the port of addons.${other.addon}`, `write another addons.${addon}.nodePort`);
    }
  });
};

/** What Docker has no setting for, and containerd has. */
const docker: Rule = ({ spec, report, sound }) => {
  if (!sound(['runtime', 'type']) || spec.runtime.type !== 'docker') return;
  for (const registry of Object.keys(spec.runtime.registryMirrors)) {
    const path = ['runtime', 'registryMirrors', registry];
    if (registry === 'docker.io' || !sound(path)) continue;
    report(
      path,
      'Docker knows mirrors of docker.io alone',
      'remove it, write runtime.type: containerd, or have all images pulled from artifacts.imageRegistry',
      [],
      'key',
    );
  }
  const { name, nodePort } = spec.addons.registry;
  const path = ['addons', 'registry', 'name'];
  if (name === undefined || !sound(path, ['addons', 'registry', 'nodePort']) || name.endsWith(`:${nodePort}`)) return;
  report(
    path,
    `"${name}" does not end in :${nodePort}, the registry's nodePort, and Docker asks the port that is in the name`,
    `write ${name.replace(/:\d+$/, '')}:${nodePort}`,
  );
};

const dashboardIngress: Rule = ({ spec, report, sound }) => {
  const { enabled, access, ingress } = spec.addons.dashboard;
  const at = ['addons', 'dashboard', 'access'];
  if (!enabled || access !== 'ingress' || ingress !== undefined || !sound(at, ['addons', 'dashboard', 'ingress']))
    return;
  report(at, 'ingress: no name is given that it is reached at', 'write one as addons.dashboard.ingress.host');
};

const hostVariables: Rule = ({ spec, report, sound }) => {
  spec.hosts.forEach((host, index) => {
    for (const [name, owner] of Object.entries(renderedVariables)) {
      const path = hostPath(index, 'vars', name);
      if (!(name in host.vars) || !sound(path)) continue;
      report(path, `is set from ${owner}`, 'write it there and remove it here', [], 'key');
    }
  });
};

const taints: Rule = ({ spec, report, sound }) => {
  spec.hosts.forEach((host, index) => {
    const path = hostPath(index, 'taints');
    if (!sound(path)) return;
    const seen = new Set<string>();
    host.taints?.forEach((taint, position) => {
      // Kubernetes wants key and effect together to be unique.
      const id = `${taint.key}:${taint.effect}`;
      if (seen.has(id)) report([...path, position], `${id} is given twice`, 'give each key and effect once');
      seen.add(id);
    });
  });
};

const rules: ReadonlyArray<Rule> = [
  kubernetesVersion,
  uniqueHosts,
  roles,
  networksApart,
  serviceNetwork,
  podNetwork,
  ports,
  notYet,
  swap,
  overrides,
  lifetimes,
  folders,
  addonVolumes,
  addonPorts,
  docker,
  dashboardIngress,
  hostVariables,
  taints,
];
