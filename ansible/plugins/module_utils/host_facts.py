# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Readers of /proc, /sys and /etc for host_checks. Each takes the root of the tree, so that tests give their own.

Nothing here changes the host or starts a process.
"""

from __future__ import annotations

import gzip
import os
import re
import socket
import struct

ARCHITECTURES = {'x86_64': 'amd64', 'amd64': 'amd64', 'aarch64': 'arm64', 'arm64': 'arm64'}

FAMILIES = {
    'debian': ('debian', 'ubuntu'),
    'redhat': ('rhel', 'rocky', 'almalinux', 'centos', 'fedora', 'ol'),
}

# What the kernel configuration calls the features, and a symbol that only a kernel with the feature has.
# Sources: the Kconfig and source files of linux (net/bridge, fs/overlayfs, drivers/net/vxlan, net/netfilter, ...).
KERNEL_FEATURES = {
    'br_netfilter': ('CONFIG_BRIDGE_NETFILTER', 'br_nf_pre_routing'),
    'overlay': ('CONFIG_OVERLAY_FS', 'ovl_fill_super'),
    'vxlan': ('CONFIG_VXLAN', 'vxlan_xmit'),
    'wireguard': ('CONFIG_WIREGUARD', 'wg_xmit'),
    'nf_tables': ('CONFIG_NF_TABLES', 'nf_tables_newtable'),
    'nf_conntrack': ('CONFIG_NF_CONNTRACK', 'nf_conntrack_in'),
    'ip_tables': ('CONFIG_IP_NF_IPTABLES', 'ipt_do_table'),
    'ip_vs': ('CONFIG_IP_VS', 'ip_vs_in_hook'),
    'ip_vs_rr': ('CONFIG_IP_VS_RR', 'ip_vs_rr_schedule'),
    'ip_set': ('CONFIG_IP_SET', 'ip_set_add'),
}

# Files that are there when the feature is, whether a module or built in.
EVIDENCE = {
    'br_netfilter': 'proc/sys/net/bridge',
    'nf_conntrack': 'proc/sys/net/netfilter/nf_conntrack_max',
    'ip_vs': 'proc/net/ip_vs',
}


def read(path, default=''):
    """Return the text of a file without surrounding blanks; the default if it cannot be read."""
    try:
        with open(path, encoding='utf-8', errors='replace') as handle:
            return handle.read().strip()
    except OSError:
        return default


def os_release(root='/'):
    """Return {id, version, name, family} of /etc/os-release."""
    values = {}
    for line in read(os.path.join(root, 'etc/os-release')).splitlines():
        key, sign, value = line.partition('=')
        if sign:
            values[key.strip()] = value.strip().strip('"\'')
    name = values.get('ID', 'unknown').lower()
    likes = [name] + values.get('ID_LIKE', '').lower().split()
    family = next((key for like in likes for key, members in FAMILIES.items() if like in members), 'other')
    return {
        'id': name,
        'version': values.get('VERSION_ID', ''),
        'name': values.get('PRETTY_NAME', name),
        'family': family,
    }


def nameservers(root='/'):
    """Return the name servers of /etc/resolv.conf, in order (resolv.conf(5))."""
    lines = read(os.path.join(root, 'etc/resolv.conf')).splitlines()
    return [words[1] for words in (line.split() for line in lines) if len(words) > 1 and words[0] == 'nameserver']


def memory_mib(root='/'):
    """Return MemTotal in MiB, 0 if unknown."""
    found = re.search(r'^MemTotal:\s+(\d+) kB', read(os.path.join(root, 'proc/meminfo')), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def cgroup_version(root='/'):
    """Return 2 for the unified hierarchy, else 1."""
    return 2 if os.path.exists(os.path.join(root, 'sys/fs/cgroup/cgroup.controllers')) else 1


def swaps(root='/'):
    """Return the active swap devices and files."""
    lines = read(os.path.join(root, 'proc/swaps')).splitlines()[1:]
    return [line.split()[0] for line in lines if line.split()]


def selinux(root='/'):
    """Return enforcing, permissive or disabled."""
    return {'1': 'enforcing', '0': 'permissive'}.get(read(os.path.join(root, 'sys/fs/selinux/enforce')), 'disabled')


def default_interface(root='/'):
    """Return the interface of the default IPv4 route with the lowest metric, '' if there is none."""
    best = None
    for line in read(os.path.join(root, 'proc/net/route')).splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == '00000000' and words[7] == '00000000':
            candidate = (int(words[6]), words[0])
            best = candidate if best is None or candidate < best else best
    return best[1] if best else ''


def interfaces_from_ip(links):
    """Return {name: {mac, addresses}} from the decoded output of `ip -j addr`."""
    found = {}
    for link in links:
        if not isinstance(link, dict) or not link.get('ifname'):
            continue
        addresses = [item.get('local') for item in link.get('addr_info', []) if item.get('local')]
        found[link['ifname']] = {'mac': link.get('address', ''), 'addresses': addresses}
    return found


def disk(path):
    """Return {free_mib, total_mib, device} of the file system that holds path, or will hold it."""
    place = path
    while not os.path.exists(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    return {
        'free_mib': status.f_bavail * status.f_frsize // 1048576,
        'total_mib': status.f_blocks * status.f_frsize // 1048576,
        'device': os.stat(place).st_dev,
    }


def _address(text, family):
    """Decode an address of /proc/net/tcp, which prints it as native 32-bit words."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    packed = struct.pack('=%dI' % len(words), *words)
    return socket.inet_ntop(family, packed)


def sockets(root='/'):
    """Return the listening sockets as [{proto, address, port, inode}]: TCP in LISTEN, UDP that is not connected."""
    found = []
    for name, state, family in (
        ('tcp', '0A', socket.AF_INET),
        ('tcp6', '0A', socket.AF_INET6),
        ('udp', '07', socket.AF_INET),
        ('udp6', '07', socket.AF_INET6),
    ):
        for line in read(os.path.join(root, 'proc/net', name)).splitlines()[1:]:
            words = line.split()
            if len(words) < 10 or words[3] != state:
                continue
            address, _sep, port = words[1].partition(':')
            found.append(
                {
                    'proto': name[:3],
                    'address': _address(address, family),
                    'port': int(port, 16),
                    'inode': words[9],
                }
            )
    return found


def unit_of(cgroup_text):
    """Return the systemd unit (or 'pod' for a container of Kubernetes) that /proc/PID/cgroup tells of, '' if none."""
    if 'kubepods' in cgroup_text:
        return 'pod'
    found = re.findall(r'/([^/\n]+\.(?:service|scope|socket))', cgroup_text)
    return found[-1] if found else ''


def processes(root='/'):
    """Return {pid: {name, exe, unit}} of all processes; what vanishes meanwhile is left out."""
    found = {}
    base = os.path.join(root, 'proc')
    for pid in os.listdir(base):
        if not pid.isdigit():
            continue
        folder = os.path.join(base, pid)
        name = read(os.path.join(folder, 'comm'))
        if not name:
            continue
        try:
            exe = os.readlink(os.path.join(folder, 'exe'))
        except OSError:
            exe = ''
        # A program whose file was replaced while it ran.
        exe = exe[: -len(' (deleted)')] if exe.endswith(' (deleted)') else exe
        found[int(pid)] = {'name': name, 'exe': exe, 'unit': unit_of(read(os.path.join(folder, 'cgroup')))}
    return found


def owners(inodes, root='/'):
    """Return {socket inode: pid of the first process that holds it}; needs root for other users' processes."""
    wanted = set('socket:[%s]' % inode for inode in inodes)
    found = {}
    base = os.path.join(root, 'proc')
    for pid in sorted((name for name in os.listdir(base) if name.isdigit()), key=int):
        folder = os.path.join(base, pid, 'fd')
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(os.path.join(folder, name))
            except OSError:
                continue
            if target in wanted:
                found.setdefault(target[8:-1], int(pid))
    return found


def kernel_config(release, root='/'):
    """Return the kernel's configuration as text, '' if the host does not have it."""
    try:
        with gzip.open(os.path.join(root, 'proc/config.gz'), 'rt', encoding='ascii', errors='replace') as handle:
            return handle.read()
    except OSError:
        return read(os.path.join(root, 'boot/config-' + release)) or read(
            os.path.join(root, 'lib/modules', release, 'config')
        )


class KernelModules:
    """How the kernel has a feature, found without loading anything."""

    def __init__(self, release, root='/'):
        self.root = root
        folder = os.path.join(root, 'lib/modules', release)
        self.builtin = self._names(os.path.join(folder, 'modules.builtin'))
        self.loadable = self._names(os.path.join(folder, 'modules.dep'))
        self._config = None
        self._symbols = None
        self.release = release

    @staticmethod
    def _names(path):
        names = set()
        for line in read(path).splitlines():
            file = line.partition(':')[0].rpartition('/')[2]
            names.add(re.sub(r'\.ko(\.\w+)?$', '', file).replace('-', '_'))
        return names

    def state(self, name):
        """Return loaded, builtin, loadable, missing, or unknown where the host does not tell."""
        if os.path.isdir(os.path.join(self.root, 'sys/module', name)):
            # A module that was loaded has an initstate; one built into the kernel only shows its parameters.
            loaded = os.path.exists(os.path.join(self.root, 'sys/module', name, 'initstate'))
            return 'loaded' if loaded else 'builtin'
        if name in self.builtin:
            return 'builtin'
        if name in self.loadable:
            return 'loadable'
        if name in EVIDENCE and os.path.exists(os.path.join(self.root, EVIDENCE[name])):
            return 'builtin'
        if name == 'overlay' and re.search(
            r'\boverlay$', read(os.path.join(self.root, 'proc/filesystems')), re.MULTILINE
        ):
            return 'builtin'
        option, symbol = KERNEL_FEATURES.get(name, ('', ''))
        if self._config is None:
            self._config = kernel_config(self.release, self.root)
        if option and self._config:
            found = re.search(r'^%s=([ym])$' % option, self._config, re.MULTILINE)
            if not found:
                return 'missing'
            # A module of a kernel whose modules are not on this host (as in a container) cannot be loaded.
            return 'builtin' if found.group(1) == 'y' else 'missing'
        if symbol and self._has_symbol(symbol):
            return 'builtin'
        if self.loadable:
            # The host has its modules, and this one is not among them.
            return 'missing'
        return 'unknown'

    def _has_symbol(self, symbol):
        if self._symbols is None:
            wanted = set(value[1] for value in KERNEL_FEATURES.values())
            self._symbols = set()
            try:
                with open(os.path.join(self.root, 'proc/kallsyms'), encoding='ascii', errors='replace') as handle:
                    for line in handle:
                        words = line.split(None, 3)
                        if len(words) > 2 and words[2] in wanted:
                            self._symbols.add(words[2])
            except OSError:
                pass
        return symbol in self._symbols
