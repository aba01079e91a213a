#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.host_checks: everything preflight wants to know of a host, in one read-only call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_checks
short_description: Gather what preflight needs from a host
description:
  - Reads the host's hardware, system, network, clock, kernel features, listening ports and what of Kubernetes is there
    already. Changes nothing and loads no kernel module.
  - The clock is compared with the control machine's, half the round trip taken into account.
options:
  paths:
    description: Paths whose file systems' room is told; they need not exist.
    type: list
    elements: path
    default: [/, /opt/k8s, /var/lib]
  units:
    description: Units of a k8s-ans installation to look for.
    type: list
    elements: str
    default: [etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-csr-approver, kube-nginx, containerd,
      docker, cri-dockerd, kubelet, kube-proxy, flanneld]
  kernel_modules:
    description: Kernel features to look for.
    type: list
    elements: str
    default: [br_netfilter, overlay, vxlan, wireguard, nf_tables, nf_conntrack, ip_tables, ip_vs]
  bin_dir:
    description: Where k8s-ans puts its binaries; what runs from there is ours.
    type: path
    default: /opt/k8s
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Look at the host
  k8s_ans.cluster.host_checks:
    paths: [/opt/k8s, /data/k8s]
  register: k8s_host_checks
"""

RETURN = r"""
ansible_facts:
  description: Of setup's facts those that the roles of this collection use.
  returned: always
  type: dict
  contains:
    architecture: {description: The machine's own word for its architecture., type: str}
    os_family: {description: Debian or RedHat., type: str}
    hostname: {description: The host's name., type: str}
    dns: {description: 'C(nameservers) of C(/etc/resolv.conf).', type: dict}
host_checks:
  description: What was found.
  returned: always
  type: dict
  contains:
    architecture: {description: amd64 or arm64; otherwise the machine's own word., type: str}
    os: {description: 'C(id), C(version), C(name), C(family) (debian, redhat, other).', type: dict}
    kernel: {description: Release of the kernel., type: str}
    cgroup_version: {description: 1 or 2., type: int}
    cpus: {description: Number of processors., type: int}
    memory_mib: {description: Memory in MiB., type: int}
    disks: {description: 'By path: C(free_mib), C(total_mib), C(device).', type: dict}
    hostname: {description: Host name., type: str}
    machine_id: {description: Content of /etc/machine-id., type: str}
    product_uuid: {description: The machine's UUID; empty where it has none., type: str}
    interfaces: {description: 'By name: C(mac), C(addresses).', type: dict}
    default_interface: {description: Interface of the default route., type: str}
    swap: {description: Active swap devices., type: list, elements: str}
    selinux: {description: 'enforcing, permissive or disabled.', type: str}
    clock: {description: 'C(epoch), C(offset) to the control machine in seconds and its C(uncertainty).', type: dict}
    python: {description: Version of the host's Python., type: str}
    systemd: {description: Version of the running systemd; 0 if the host is not run by it., type: int}
    ports: {description: 'Listening: C(proto), C(address), C(port), C(process), C(exe), C(unit), C(ours).', type: list,
      elements: dict}
    kernel_modules: {description: 'By name: loaded, builtin, loadable, missing or unknown.', type: dict}
    units: {description: 'Our units that exist: C(active), C(enabled), C(ours).', type: dict}
    other_kubernetes: {description: 'Other installations: C(kind), C(evidence).', type: list, elements: dict}
    other_runtime: {description: A container runtime that is not ours and runs on our socket., type: dict}
"""

import json
import os
import platform
import re
import socket
import sys
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_facts, unit_state

# The families' names as setup has them.
OS_FAMILIES = {'debian': 'Debian', 'redhat': 'RedHat'}

UNITS = [
    'etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-csr-approver', 'kube-nginx',
    'containerd', 'docker', 'cri-dockerd', 'kubelet', 'kube-proxy', 'flanneld',
]  # fmt: skip
KERNEL_MODULES = ['br_netfilter', 'overlay', 'vxlan', 'wireguard', 'nf_tables', 'nf_conntrack', 'ip_tables', 'ip_vs']

# Processes that only a Kubernetes of another kind has, and files that such an installation leaves.
DISTRIBUTIONS = {'k3s': 'k3s', 'k3s-server': 'k3s', 'k3s-agent': 'k3s', 'rke2': 'rke2', 'k0s': 'k0s', 'kubelite': 'microk8s'}
COMPONENTS = ('kubelet', 'kube-apiserver', 'kube-controller', 'kube-scheduler', 'kube-proxy')
TRACES = (
    ('/etc/kubernetes/manifests/kube-apiserver.yaml', 'kubeadm'),
    ('/var/lib/kubelet/kubeadm-flags.env', 'kubeadm'),
    ('/etc/rancher/k3s/k3s.yaml', 'k3s'),
    ('/etc/rancher/rke2/rke2.yaml', 'rke2'),
    ('/etc/k0s', 'k0s'),
    ('/var/snap/microk8s', 'microk8s'),
)


def interfaces(module):
    """Return {name: {mac, addresses}}; without the `ip` command only each interface's first IPv4 address."""
    path = module.get_bin_path('ip', opt_dirs=['/sbin', '/usr/sbin'])
    if path:
        code, out, _err = module.run_command([path, '-j', 'addr'])
        if code == 0:
            try:
                return host_facts.interfaces_from_ip(json.loads(out or '[]'))
            except ValueError:
                pass
    found = {}
    for _index, name in socket.if_nameindex():
        found[name] = {'mac': host_facts.read('/sys/class/net/%s/address' % name), 'addresses': first_address(name)}
    return found


def first_address(name):
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # SIOCGIFADDR, see netdevice(7).
            answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack('256s', name.encode()[:15]))
        except OSError:
            return []
    return [socket.inet_ntoa(answer[20:24])]


def systemd_version(module):
    if not os.path.isdir('/run/systemd/system'):
        return 0
    _code, out, _err = module.run_command(['systemctl', '--version'])
    found = re.search(r'^systemd (\d+)', out)
    return int(found.group(1)) if found else 0


def our_units(module, names, bin_dir):
    """Return {unit: {active, enabled, ours}} of the units that exist; ours by what the unit file runs."""
    names = [unit_state.full_name(name) for name in names]
    code, out, _err = module.run_command(
        ['systemctl', 'show', '--property=Id,LoadState,ActiveState,UnitFileState,FragmentPath'] + names
    )
    if code != 0:
        return {}
    found = {}
    for name, state in zip(names, unit_state.parse_show(out)):
        if state.get('LoadState') == 'not-found':
            continue
        text = host_facts.read(state.get('FragmentPath') or '/dev/null')
        found[name] = {
            'active': state.get('ActiveState', ''),
            'enabled': state.get('UnitFileState', '') == 'enabled',
            # kube-nginx may run the system's nginx: the mark of our templates tells then.
            'ours': bin_dir.rstrip('/') + '/' in text or 'k8s-ans' in text,
        }
    return found


def listening(processes, bin_dir):
    """Return the listening sockets with the processes that hold them."""
    found = host_facts.sockets()
    holders = host_facts.owners([item['inode'] for item in found])
    ports, seen = [], set()
    for item in found:
        process = processes.get(holders.get(item['inode']), {})
        port = {
            'proto': item['proto'],
            'address': item['address'],
            'port': item['port'],
            'process': process.get('name', ''),
            'exe': process.get('exe', ''),
            'unit': process.get('unit', ''),
            'ours': process.get('exe', '').startswith(bin_dir.rstrip('/') + '/'),
        }
        key = tuple(sorted((name, str(value)) for name, value in port.items()))
        if key not in seen:
            seen.add(key)
            ports.append(port)
    return ports


def other_kubernetes(processes, bin_dir):
    """Return what else of Kubernetes runs here or was installed: [{kind, evidence}]."""
    found = []
    for pid, process in sorted(processes.items()):
        kind = DISTRIBUTIONS.get(process['name'])
        if kind is None and process['name'].startswith(COMPONENTS) and process['unit'] != 'pod':
            ours = process['exe'].startswith(bin_dir.rstrip('/') + '/')
            kind = None if ours else 'unknown'
        if kind:
            found.append({'kind': kind, 'evidence': 'process %s (%s, pid %d)' % (process['name'], process['exe'], pid)})
    for path, kind in TRACES:
        if os.path.exists(path):
            found.append({'kind': kind, 'evidence': path})
    return found


def other_runtime(processes, bin_dir):
    """Return the containerd or dockerd that runs here and is not ours, {} if there is none."""
    for name in ('containerd', 'dockerd', 'crio'):
        for process in processes.values():
            if process['name'] != name or process['unit'] == 'pod' or not process['exe']:
                continue
            if not process['exe'].startswith(bin_dir.rstrip('/') + '/'):
                socket_there = os.path.exists('/run/containerd/containerd.sock')
                return {
                    'name': name, 'exe': process['exe'], 'unit': process['unit'], 'socket': socket_there,
                }  # fmt: skip
    return {}


def main():
    module = AnsibleModule(
        argument_spec={
            'paths': {'type': 'list', 'elements': 'path', 'default': ['/', '/opt/k8s', '/var/lib']},
            'units': {'type': 'list', 'elements': 'str', 'default': UNITS},
            'kernel_modules': {'type': 'list', 'elements': 'str', 'default': KERNEL_MODULES},
            'bin_dir': {'type': 'path', 'default': '/opt/k8s'},
        },
        supports_check_mode=True,
    )
    # First of all, so that the time it is compared with is near.
    epoch = time.time()
    params = module.params
    release = platform.release()
    machine = platform.machine()
    processes = host_facts.processes()
    kernel = host_facts.KernelModules(release)
    systemd = systemd_version(module)
    release_names = host_facts.os_release()
    module.exit_json(
        changed=False,
        # Under setup's names: what our roles use, without setup's second and a half.
        ansible_facts={
            'architecture': machine,
            'os_family': OS_FAMILIES.get(release_names['family'], release_names['id'].capitalize()),
            'hostname': socket.gethostname(),
            'dns': {'nameservers': host_facts.nameservers()},
        },
        host_checks={
            'architecture': host_facts.ARCHITECTURES.get(machine, machine),
            'os': release_names,
            'kernel': release,
            'cgroup_version': host_facts.cgroup_version(),
            'cpus': os.cpu_count() or 0,
            'memory_mib': host_facts.memory_mib(),
            'disks': dict((path, host_facts.disk(path)) for path in params['paths']),
            'hostname': socket.gethostname(),
            'machine_id': host_facts.read('/etc/machine-id'),
            'product_uuid': host_facts.read('/sys/class/dmi/id/product_uuid').lower(),
            'interfaces': interfaces(module),
            'default_interface': host_facts.default_interface(),
            'swap': host_facts.swaps(),
            'selinux': host_facts.selinux(),
            'clock': {'epoch': epoch, 'offset': 0.0, 'uncertainty': 0.0},
            'python': '.'.join(str(part) for part in sys.version_info[:3]),
            'systemd': systemd,
            'ports': listening(processes, params['bin_dir']),
            'kernel_modules': dict((name, kernel.state(name)) for name in params['kernel_modules']),
            'units': our_units(module, params['units'], params['bin_dir']) if systemd else {},
            'other_kubernetes': other_kubernetes(processes, params['bin_dir']),
            'other_runtime': other_runtime(processes, params['bin_dir']),
        },
    )


if __name__ == '__main__':
    main()
