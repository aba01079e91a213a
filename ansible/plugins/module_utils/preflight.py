# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of preflight: a pure function from what was found on the hosts to what keeps the cluster from running.

`problems` refuse the run, `notices` do not. Each has host, code, message (what is, and what is needed) and next
(what to do).
"""

from __future__ import annotations

import re
import statistics

# https://docs.python.org: what the host-side modules need.
MIN_PYTHON = (3, 9)
# The oldest systemd of a supported system (Ubuntu 22.04), which knows `systemctl show --timestamp=us+utc`.
MIN_SYSTEMD = 249
# kube-proxy's nftables mode: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
MIN_KERNEL_NFTABLES = (5, 13)

SUPPORTED = {
    'debian': ('12', '13'),
    'ubuntu': ('22.04', '24.04'),
    'rhel': ('9', '10'),
    'rocky': ('9', '10'),
    'almalinux': ('9', '10'),
}
SUPPORTED_TEXT = 'Debian 12 and 13, Ubuntu 22.04 and 24.04, RHEL, Rocky and Alma 9 and 10'

# A difference between clocks that etcd's peers and leases notice, and one that certificates and tokens do not survive.
CLOCK_NOTICE_SECONDS = 5
CLOCK_REFUSE_SECONDS = 60

# What is enough for the next version on a host that has the cluster's data already.
DISK_MIB_INSTALLED = 1024

ANY = ('0.0.0.0', '::')

DEFAULTS = {
    'master_memory_mib': 1700,
    'node_memory_mib': 1024,
    'cpus': 2,
    'disk_gib': 10,
    'disk_paths': [],
    'proxy_mode': 'nftables',
    'flannel_backend': 'vxlan',
    'interface': '',
    'api_port': 6443,
    'proxy_port': 8443,
    'flannel_port': 8472,
    'swap_off': True,
    'fail_swap_on': True,
    'cgroup_v1_allowed': False,
    'any_os': False,
    'runtime': 'containerd',
}


class Report:
    """Collects problems and notices."""

    def __init__(self):
        self.problems = []
        self.notices = []

    def problem(self, host, code, message, then):
        self.problems.append({'host': host, 'code': code, 'message': message, 'next': then})

    def notice(self, host, code, message, then):
        self.notices.append({'host': host, 'code': code, 'message': message, 'next': then})


def check(facts, hosts, requirements=None):
    """Return {architecture: {host: name}, problems: [...], notices: [...]}.

    facts: {host: what host_checks found, {failure: why} where it could not look, or None for a host that did not answer}; hosts: {host: {address, roles}} with
    roles among masters, nodes, etcd; requirements: see DEFAULTS, which fills what is not given.
    """
    need = dict(DEFAULTS)
    need.update({key: value for key, value in (requirements or {}).items() if value is not None})
    for key, value in DEFAULTS.items():
        if isinstance(value, bool):
            # ansible-core before 2.19 makes text of what Jinja computes.
            need[key] = str(need[key]).lower() in ('true', 'yes', '1')
    report = Report()
    there = {}
    for host, wanted in hosts.items():
        found = facts.get(host)
        if not found:
            report.problem(
                host,
                'unreachable',
                'did not answer',
                'check that the host is up and that ssh reaches it with the user, port and key of the spec',
            )
            continue
        if 'failure' in found:
            report.problem(
                host,
                'not-looked-at',
                'could not be looked at: %s' % found['failure'],
                'see that the user may become root there, and that Python %d.%d or newer is there' % MIN_PYTHON,
            )
            continue
        there[host] = found
        for rule in HOST_RULES:
            rule(report, host, found, wanted, need)
    _duplicates(report, there, hosts)
    _clocks(report, there)
    return {
        'architecture': {host: found.get('architecture', '') for host, found in there.items()},
        'problems': report.problems,
        'notices': report.notices,
    }


def summary(problems):
    """Return the one-line message of a refusal."""
    count = len(set(item['host'] for item in problems))
    lines = ['%s: %s; %s' % (item['host'], item['message'], item['next']) for item in problems]
    return 'preflight refused %d host%s, nothing was changed. %s' % (count, '' if count == 1 else 's', ' | '.join(lines))


def _version(text, parts=2):
    numbers = [int(word) for word in re.findall(r'\d+', text or '')[:parts]]
    return tuple(numbers + [0] * (parts - len(numbers)))


def _os(report, host, found, wanted, need):
    system = found.get('os', {})
    name, version = system.get('id', 'unknown'), system.get('version', '')
    versions = SUPPORTED.get(name, ())
    major = version.split('.')[0]
    if version in versions or (name in ('debian', 'rhel', 'rocky', 'almalinux') and major in versions):
        return
    shown = system.get('name') or ('%s %s' % (name, version)).strip()
    if need['any_os']:
        report.notice(host, 'os-unsupported', 'runs %s, which is not tested' % shown, 'nothing, if you know it works')
        return
    report.problem(
        host, 'os-unsupported', 'runs %s, which is not supported' % shown, 'use one of %s' % SUPPORTED_TEXT
    )


def _arch(report, host, found, wanted, need):
    architecture = found.get('architecture', '')
    if architecture not in ('amd64', 'arm64'):
        report.problem(
            host,
            'arch-unsupported',
            'is a %s machine; there are binaries for amd64 and arm64' % (architecture or 'machine of unknown kind'),
            'take the host out of the spec or replace it',
        )


def _python(report, host, found, wanted, need):
    if _version(found.get('python')) < MIN_PYTHON:
        report.problem(
            host,
            'python',
            'has Python %s; %d.%d or newer is needed' % ((found.get('python') or 'unknown',) + MIN_PYTHON),
            "install a newer Python and name it in the host's vars as ansible_python_interpreter",
        )


def _systemd(report, host, found, wanted, need):
    version = found.get('systemd') or 0
    if version == 0:
        report.problem(
            host, 'systemd-missing', 'is not run by systemd', 'boot the host with systemd; the components are its units'
        )
    elif version < MIN_SYSTEMD:
        report.problem(
            host,
            'systemd-missing',
            'has systemd %d; %d or newer is needed' % (version, MIN_SYSTEMD),
            'use one of %s' % SUPPORTED_TEXT,
        )


def _resources(report, host, found, wanted, need):
    master = 'masters' in wanted['roles'] or 'etcd' in wanted['roles']
    least = int(need['master_memory_mib'] if master else need['node_memory_mib'])
    key = 'requirements.%s' % ('masterMemoryMiB' if master else 'nodeMemoryMiB')
    if found.get('memory_mib', 0) < least:
        report.problem(
            host,
            'memory',
            'has %d MiB of memory; a %s needs %d' % (found.get('memory_mib', 0), 'master' if master else 'node', least),
            'give it more memory, or lower %s in the spec if you know better' % key,
        )
    if found.get('cpus', 0) < int(need['cpus']):
        report.problem(
            host,
            'cpus',
            'has %d processor%s; %d are needed'
            % (found.get('cpus', 0), '' if found.get('cpus') == 1 else 's', int(need['cpus'])),
            'give it more processors, or lower requirements.cpus in the spec if you know better',
        )


def _installed(found):
    return any(unit.get('ours') and unit.get('active') == 'active' for unit in found.get('units', {}).values())


def _disk(report, host, found, wanted, need):
    least = int(float(need['disk_gib']) * 1024)
    if _installed(found):
        # Its images and data are on the disk already.
        least = min(least, DISK_MIB_INSTALLED)
    disks = found.get('disks', {})
    paths = need['disk_paths'] or sorted(disks)
    seen = set()
    for path in paths:
        disk = disks.get(path)
        if not disk or disk['device'] in seen:
            continue
        seen.add(disk['device'])
        if disk['free_mib'] < least:
            report.problem(
                host,
                'disk',
                'has %d MiB free on the file system of %s; %d are needed' % (disk['free_mib'], path, least),
                'free some space or add a disk, or lower requirements.diskGiB in the spec if you know better',
            )


def _network(report, host, found, wanted, need):
    interfaces = found.get('interfaces', {})
    address, name = wanted.get('address', ''), need['interface']
    holders = [key for key, value in interfaces.items() if address in value.get('addresses', [])]
    if address and not holders:
        own = [item for key, value in sorted(interfaces.items()) if key != 'lo' for item in value.get('addresses', [])]
        own = [item for item in own if not item.lower().startswith('fe80:')]
        report.problem(
            host,
            'address-missing',
            'does not have the address %s; it has %s' % (address, ', '.join(own) or 'none'),
            'correct the address of the host in the spec, or give the address to the host',
        )
    if name and name not in interfaces:
        known = ', '.join(sorted(key for key in interfaces if key != 'lo'))
        report.problem(
            host,
            'interface-missing',
            'has no interface %s; it has %s' % (name, known or 'none'),
            'correct network.interface in the spec, or leave it out: then the interface of the address is taken',
        )
    elif name and holders and name not in holders:
        report.notice(
            host,
            'interface-address',
            'has its address %s on %s and not on %s' % (address, holders[0], name),
            'check network.interface in the spec',
        )
    if found.get('hostname') and found['hostname'] != host:
        report.notice(
            host, 'hostname', 'calls itself %s' % found['hostname'], 'nothing: hostprep sets the name to %s' % host
        )


def _wanted_ports(wanted, need):
    """Yield (proto, port, unit, whether only 127.0.0.1 is taken) of what will listen on a host.

    https://kubernetes.io/docs/reference/networking/ports-and-protocols/
    """
    roles = wanted['roles']
    if 'masters' in roles:
        yield 'tcp', int(need['api_port']), 'kube-apiserver', False
        yield 'tcp', 10257, 'kube-controller-manager', False
        yield 'tcp', 10259, 'kube-scheduler', False
    if 'etcd' in roles:
        yield 'tcp', 2379, 'etcd', False
        yield 'tcp', 2380, 'etcd', False
    if 'masters' in roles or 'nodes' in roles:
        yield 'tcp', int(need['proxy_port']), 'kube-nginx', True
        yield 'tcp', 10250, 'kubelet', False
        yield 'tcp', 10248, 'kubelet', True
        yield 'tcp', 10256, 'kube-proxy', False
        yield 'tcp', 10249, 'kube-proxy', True
        if need['flannel_backend'] == 'vxlan':
            yield 'udp', int(need['flannel_port']), 'flanneld', False


def _is_ours(port, found):
    unit = port.get('unit', '')
    return bool(port.get('ours')) or bool(unit and found.get('units', {}).get(unit, {}).get('ours'))


def _ports(report, host, found, wanted, need):
    told = set()
    for proto, number, unit, local in _wanted_ports(wanted, need):
        for port in found.get('ports', []):
            if port['proto'] != proto or port['port'] != number or _is_ours(port, found):
                continue
            if local and port['address'] not in ANY + ('127.0.0.1', '::ffff:127.0.0.1'):
                continue
            if proto == 'udp' and not port.get('process'):
                # The kernel's own socket of a vxlan device: flannel's from an earlier run.
                continue
            key = (proto, number, port.get('process'), port.get('unit'))
            if key in told:
                continue
            told.add(key)
            who = port.get('process') or 'an unknown process'
            of = ' of %s' % port['unit'] if port.get('unit') else ''
            then = (
                'stop it (systemctl disable --now %s) or move it to another port' % port['unit']
                if port.get('unit', '').endswith('.service')
                else 'stop it or move it to another port'
            )
            report.problem(
                host,
                'port-taken',
                '%s port %d, which %s needs, is taken by %s%s' % (proto.upper(), number, unit, who, of),
                then,
            )


def _kernel(report, host, found, wanted, need):
    modules = found.get('kernel_modules', {})
    needed = {'overlay': 'containerd', 'br_netfilter': 'pod networking', 'nf_conntrack': 'kube-proxy'}
    if need['flannel_backend'] in ('vxlan', 'wireguard'):
        needed[need['flannel_backend']] = "flannel's %s backend" % need['flannel_backend']
    mode = need['proxy_mode']
    if mode == 'nftables':
        needed['nf_tables'] = "kube-proxy's nftables mode"
    elif mode == 'ipvs':
        needed['ip_vs'] = "kube-proxy's ipvs mode"
    for name, user in needed.items():
        state = modules.get(name, 'unknown')
        then = (
            'install the modules of the running kernel (kernel-modules-extra on RHEL, linux-modules-extra on Ubuntu), '
            'or boot a kernel that has it'
        )
        if user.startswith('kube-proxy\'s'):
            then += ', or choose another kubeProxy.mode in the spec'
        if user.startswith('flannel\'s'):
            then += ', or choose another network.flannel.backend in the spec'
        if state == 'missing':
            report.problem(host, 'kernel-feature', 'has a kernel without %s, which %s needs' % (name, user), then)
        elif state == 'unknown':
            report.notice(
                host,
                'kernel-feature',
                'does not tell whether its kernel has %s, which %s needs' % (name, user),
                'nothing, unless the unit that needs it fails',
            )
    if mode == 'nftables' and found.get('kernel') and _version(found['kernel']) < MIN_KERNEL_NFTABLES:
        report.problem(
            host,
            'kernel-feature',
            "has kernel %s; kube-proxy's nftables mode needs %d.%d or newer" % ((found['kernel'],) + MIN_KERNEL_NFTABLES),
            'boot a newer kernel, or set kubeProxy.mode: iptables in the spec',
        )
    if found.get('cgroup_version') == 1 and not need['cgroup_v1_allowed']:
        report.problem(
            host,
            'cgroup-v1',
            'uses cgroup v1, which the kubelet refuses since 1.35',
            'boot with systemd.unified_cgroup_hierarchy=1, or set kubelet.config.failCgroupV1: false in the spec',
        )


def _swap(report, host, found, wanted, need):
    if found.get('swap') and not need['swap_off'] and need['fail_swap_on']:
        report.problem(
            host,
            'swap',
            'has swap on %s, and hostprep.swapOff is false' % ', '.join(found['swap']),
            'let hostprep switch it off (hostprep.swapOff: true), or set kubelet.config.failSwapOn: false in the spec',
        )


def _others(report, host, found, wanted, need):
    others = found.get('other_kubernetes', [])
    if others:
        kinds = sorted(set(item['kind'] for item in others if item['kind'] != 'unknown'))
        report.problem(
            host,
            'other-kubernetes',
            'has another Kubernetes%s: %s'
            % (' (%s)' % ', '.join(kinds) if kinds else '', ', '.join(item['evidence'] for item in others[:3])),
            'take it away with its own tool (kubeadm reset, k3s-uninstall.sh, …) or use another host',
        )
    runtime = found.get('other_runtime') or {}
    # Docker may start a containerd of its own on another socket, which does not disturb ours; a second Docker would.
    name = runtime.get('name')
    if name == 'dockerd' and need['runtime'] == 'docker':
        report.problem(
            host,
            'other-runtime',
            'runs a Docker Engine of its own (%s), whose unit and socket ours needs' % runtime.get('exe'),
            'take it away with the package that brought it (docker-ce, docker.io)',
        )
    elif name == 'containerd' and runtime.get('socket'):
        report.problem(
            host,
            'other-runtime',
            'runs a containerd of its own (%s), whose socket ours needs' % runtime.get('exe'),
            'take it away with the package that brought it (containerd, containerd.io, docker.io)',
        )


HOST_RULES = (
    _os, _arch, _python, _systemd, _resources, _disk, _network, _ports, _kernel, _swap, _others,
)  # fmt: skip


def _mac(found, address):
    """Return the MAC address of the interface that holds the address, or of the default route."""
    interfaces = found.get('interfaces', {})
    for value in interfaces.values():
        if address and address in value.get('addresses', []):
            return value.get('mac', '')
    return interfaces.get(found.get('default_interface', ''), {}).get('mac', '')


def _duplicates(report, there, hosts):
    for code, name, getter, then in (
        (
            'product-uuid-duplicate',
            'product_uuid',
            lambda host: there[host].get('product_uuid', ''),
            'the hosts are copies of one machine: give each virtual machine its own UUID '
            '(cat /sys/class/dmi/id/product_uuid)',
        ),
        (
            'machine-id-duplicate',
            'machine-id',
            lambda host: there[host].get('machine_id', ''),
            'on all but one of them: rm /etc/machine-id && systemd-machine-id-setup, then reboot',
        ),
        (
            'mac-duplicate',
            'MAC address',
            lambda host: _mac(there[host], hosts[host].get('address', '')).lower(),
            'give each virtual network card its own MAC address',
        ),
    ):
        groups = {}
        for host in there:
            value = getter(host)
            if value and value != '00:00:00:00:00:00':
                groups.setdefault(value, []).append(host)
        for value, members in groups.items():
            for host in members if len(members) > 1 else ():
                others = ', '.join(other for other in members if other != host)
                report.problem(host, code, 'has the same %s as %s (%s)' % (name, others, value), then)


def _clocks(report, there):
    offsets = {host: found['clock'] for host, found in there.items() if found.get('clock')}
    if not offsets:
        return
    middle = statistics.median(clock['offset'] for clock in offsets.values())
    for host, clock in offsets.items():
        # With a single host, or where all agree, there is only the control machine to compare with.
        apart = clock['offset'] - middle
        size = abs(apart) - clock.get('uncertainty', 0)
        text = "has a clock that is %d s %s the other hosts'" % (
            round(abs(apart)),
            'ahead of' if apart > 0 else 'behind',
        )
        then = 'set the clock and switch on time synchronization: timedatectl set-ntp true'
        if size > CLOCK_REFUSE_SECONDS:
            report.problem(host, 'clock-skew', text, then)
        elif size > CLOCK_NOTICE_SECONDS:
            report.notice(host, 'clock-skew', text, then)
    if abs(middle) - max(clock.get('uncertainty', 0) for clock in offsets.values()) > CLOCK_REFUSE_SECONDS:
        report.problem(
            'control machine',
            'clock-skew',
            "has a clock that is %d s %s the hosts'" % (round(abs(middle)), 'behind' if middle > 0 else 'ahead of'),
            'set the clock of this machine (or of all hosts): the certificates made here would not be valid there yet',
        )
