/** What a lab is to be: its hosts, their addresses, and how their containers are made. Pure functions. */
import ipaddr from 'ipaddr.js';
import { usageError } from '../types/errors.js';
import { hostInit } from './image.js';

export interface LabOptions {
  readonly name: string;
  readonly masters: number;
  readonly nodes: number;
  /** Hosts that run and are in no spec, for `node add`. */
  readonly spares?: number;
  /** The lab's network, e.g. 172.24.8.0/24. */
  readonly subnet: string;
}

export interface PlannedHost {
  readonly name: string;
  readonly address: string;
  /** The group in the lab's spec; a spare is in none. */
  readonly role: 'masters' | 'nodes' | 'spares';
  /** The container's name: host names are the same in every lab. */
  readonly container: string;
}

export interface LabNetwork {
  /** The network's name in the engine. */
  readonly name: string;
  readonly subnet: string;
  /** The machine's own address in it; also the hosts' DNS server, which refuses. */
  readonly gateway: string;
  /** The hosts' default gateway: an address that nobody has. */
  readonly nowhere: string;
}

export interface LabPlan {
  readonly name: string;
  readonly network: LabNetwork;
  readonly hosts: ReadonlyArray<PlannedHost>;
}

/** The guide's network and the last part of its first host's address. */
export const guideSubnet = '172.24.8.0/24';
const firstMaster = 71;
const firstNode = 74;
/** Far from the others, so that a spare keeps its address when the lab grows. */
const firstSpare = 201;
const mostSpares = 50;
/** Host number 200 of a /24 is far from both the hosts and the gateways. */
const mostHosts = 100;

/** The label by which a lab's containers, volumes and networks are known. */
export const labLabel = 'k8s-ans.lab';
/** The label that holds a hash of what a container was made from. */
export const configLabel = 'k8s-ans.lab.config';

/**
 * The plan of a lab: host names and addresses as in the guide (k8smaster01 at .71, k8snode01 at .74).
 *
 * @throws K8sAnsError `lab-options`
 */
export function planLab(options: LabOptions): LabPlan {
  const fail = (message: string, next: string) => usageError(message, { code: 'lab-options', next });
  if (!/^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$/.test(options.name)) {
    throw fail(`a lab cannot be named "${options.name}"`, 'Use lower-case letters, digits and hyphens, at most 20.');
  }
  const spares = options.spares ?? 0;
  for (const [what, count, least, most] of [
    ['masters', options.masters, 1, mostHosts],
    ['nodes', options.nodes, 0, mostHosts],
    ['spares', spares, 0, mostSpares],
  ] as const) {
    if (!Number.isInteger(count) || count < least || count > most) {
      throw fail(`--${what} is ${count}`, `Give a number from ${least} to ${most}.`);
    }
  }
  if (!ipaddr.IPv4.isValidCIDR(options.subnet) || ipaddr.IPv4.parseCIDR(options.subnet)[1] > 24) {
    throw fail(
      `--subnet is ${options.subnet}`,
      `Give an IPv4 network of at least 256 addresses, such as ${guideSubnet}.`,
    );
  }
  const base = ipaddr.IPv4.networkAddressFromCIDR(options.subnet).toByteArray();
  const at = (last: number): string => [...base.slice(0, 3), last].join('.');
  const nodesFrom = Math.max(firstNode, firstMaster + options.masters);
  const numbered = (count: number, role: PlannedHost['role'], from: number): PlannedHost[] =>
    Array.from({ length: count }, (_, index) => {
      const name = `k8s${role.slice(0, -1)}${String(index + 1).padStart(2, '0')}`;
      return { name, address: at(from + index), role, container: `${options.name}-${name}` };
    });
  if (nodesFrom + options.nodes > (spares > 0 ? firstSpare : 254)) {
    throw fail(`${options.masters} masters and ${options.nodes} nodes are too many`, 'A lab holds about 180 hosts.');
  }
  return {
    name: options.name,
    network: { name: `k8s-ans-${options.name}`, subnet: options.subnet, gateway: at(1), nowhere: at(254) },
    hosts: [
      ...numbered(options.masters, 'masters', firstMaster),
      ...numbered(options.nodes, 'nodes', nodesFrom),
      ...numbered(spares, 'spares', firstSpare),
    ],
  };
}

/** A network in use on this machine. */
export interface Route {
  readonly destination: string;
  readonly device: string;
}

/** The route that `subnet` would overlap, if any. The default route covers everything and counts for nothing. */
export function overlapping(subnet: string, routes: ReadonlyArray<Route>): Route | undefined {
  const wanted = ipaddr.IPv4.parseCIDR(subnet);
  return routes.find(({ destination }) => {
    if (destination === 'default') return false;
    const text = destination.includes('/') ? destination : `${destination}/32`;
    if (!ipaddr.IPv4.isValidCIDR(text)) return false;
    const other = ipaddr.IPv4.parseCIDR(text);
    const bits = Math.min(wanted[1], other[1]);
    return wanted[0].match(other[0], bits);
  });
}

/** `docker network create …` for the lab's network: internal, so that the engine leads nothing out of it. */
export function networkArgs(lab: string, network: LabNetwork): string[] {
  return [
    ...['network', 'create', '--internal', '--label', `${labLabel}=${lab}`],
    ...['--subnet', network.subnet, '--gateway', network.gateway, network.name],
  ];
}

/** How much a container may do. A lab host needs all that root can do on this machine. */
export type Privilege =
  | { readonly kind: 'privileged' }
  | { readonly kind: 'capabilities'; readonly names: ReadonlyArray<string> };

/** Capabilities by number, from linux/capability.h. */
const capabilities =
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'.split(
    ' ',
  );
/** AUDIT_READ: the last one that engines older than 2020's capabilities know. */
const lastOldCapability = 37;

/** The names of the capabilities in a mask such as CapBnd of /proc/self/status. */
export function capabilityNames(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  return capabilities.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n);
}

/** What to try, in order, on an engine whose processes have the bounding set `mask`: the most privilege first. */
export function privileges(mask: string): Privilege[] {
  const names = capabilityNames(mask);
  return [
    { kind: 'privileged' },
    { kind: 'capabilities', names },
    { kind: 'capabilities', names: names.filter((name) => capabilities.indexOf(name) <= lastOldCapability) },
  ];
}

/** The arguments of `docker run` that give `privilege`. */
export function privilegeArgs(privilege: Privilege): string[] {
  if (privilege.kind === 'privileged') return ['--privileged', '--cgroupns=private'];
  return [
    ...privilege.names.flatMap((name) => ['--cap-add', name]),
    ...['--security-opt', 'seccomp=unconfined', '--security-opt', 'apparmor=unconfined'],
    ...['--security-opt', 'systempaths=unconfined', '--cgroupns=private', '--device', '/dev/kmsg'],
  ];
}

/** Who a host is. Kept over restarts, new with each container. */
export interface HostIdentity {
  readonly machineId: string;
  readonly productUuid: string;
  /** The line of authorized_keys that lets this machine in. */
  readonly authorizedKey: string;
}

/** `docker run …` for one host: systemd in a container that stands for a server. */
export function hostArgs(
  plan: LabPlan,
  host: PlannedHost,
  identity: HostIdentity,
  image: string,
  privilege: Privilege,
  config: string,
): string[] {
  const environment: Record<string, string> = {
    K8S_LAB_NAME: host.name,
    K8S_LAB_ADDRESS: host.address,
    K8S_LAB_GATEWAY: plan.network.nowhere,
    K8S_LAB_RESOLVER: plan.network.gateway,
    K8S_LAB_MACHINE_ID: identity.machineId,
    K8S_LAB_PRODUCT_UUID: identity.productUuid,
    K8S_LAB_AUTHORIZED_KEY: identity.authorizedKey,
  };
  return [
    ...['run', '--detach', '--name', host.container, '--hostname', host.name],
    ...['--label', `${labLabel}=${plan.name}`, '--label', `${configLabel}=${config}`],
    ...['--network', plan.network.name, '--ip', host.address],
    ...privilegeArgs(privilege),
    ...hostMounts,
    // systemd's signal for a clean halt (systemd(1)).
    ...['--stop-signal', 'SIGRTMIN+3'],
    ...Object.entries(environment).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    image,
    hostInit,
  ];
}

/** /var and /data are volumes: containerd's overlayfs does not stack on the engine's. */
export const hostMounts: ReadonlyArray<string> = [
  ...['--tmpfs', '/run:exec,mode=755', '--tmpfs', '/tmp:exec,mode=1777'],
  ...['--volume', '/var', '--volume', '/data'],
];
