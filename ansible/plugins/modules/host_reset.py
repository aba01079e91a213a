#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.host_reset: takes a host back to what it was before k8s-ans came."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_reset
short_description: Take a host back to what it was before it was part of a cluster
description:
  - Goes by the ledger that the other modules keep on the host in C(/var/lib/k8s-ans), of what they made and of how the
    host was before; by that, and by what it finds, not by the groups that the host is in.
  - On a host that was deployed by a version without a ledger it goes by O(known) and by the names that components give
    to what they make. A host that carries nothing of ours is not touched.
  - Pods go first, then units, mounts, links and packet rules, data, files, accounts; then the host's own settings are
    put back. The ledger goes last and only when all went well, so that a reset which was interrupted, or could not do a
    step, is finished by the next one.
  - Nothing is deleted through a symbolic link or across a mount point; a folder that holds somebody else's files stays.
  - Packages of the operating system stay.
options:
  units: {description: Our units in the order in which they are stopped; others of the ledger go before them., type: list, elements: str, default: []}
  data:
    description: Folders in which components keep their data.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: The folder., type: path, required: true}
      names:
        description: Patterns of what components make there; what else is in a folder that was there before stays.
        type: list
        elements: str
        default: []
  transient: {description: Patterns of files that components and modules make in folders of ours., type: list, elements: str, default: []}
  snapshots: {description: Folders with etcd's snapshots; what is in them stays., type: list, elements: str, default: []}
  known: {description: Patterns of files and folders that versions without a ledger made., type: list, elements: str, default: []}
  accounts: {description: Accounts of our units., type: list, elements: str, default: []}
  crictl: {description: The runtime's client., type: path, default: /opt/k8s/bin/crictl}
  runtime_socket: {description: containerd's socket., type: path, default: /run/containerd/containerd.sock}
  cri_socket: {description: The CRI's socket; default O(runtime_socket)., type: path}
  runtime_namespace: {description: containerd's namespace of the pods' containers., type: str, default: k8s.io}
  pod_cidr: {description: The pods' network., type: str, default: ''}
  node_ports: {description: The range of node ports., type: str, default: 30000-32767}
  ports: {description: Ports that hostprep opens., type: list, elements: str, default: []}
  node_name: {description: The name that the host was given., type: str, default: ''}
attributes:
  check_mode: {support: full, description: Lists what it would do.}
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Take the host back to what it was
  k8s_ans.cluster.host_reset:
    units: [kubelet, containerd]
    data:
      - {path: /var/lib/containerd, names: ['io.containerd.*']}
    accounts: [etcd]
"""

RETURN = r"""
reset:
  description: What was (in check mode, would be) done, and what stays.
  returned: always
  type: dict
  contains:
    basis: {description: V(ledger); V(known), without one; or V(nothing) on a host that carries nothing of ours., type: str}
    stopped: {description: Pods, units and processes., type: list, elements: str}
    unmounted: {description: Mount points., type: list, elements: str}
    removed: {description: Files and folders, links, routes, rules, accounts., type: list, elements: str}
    restored: {description: What was put back as it was., type: list, elements: str}
    left: {description: C(what) stays on purpose and C(why)., type: list, elements: dict}
    failed: {description: C(what) could not be done and C(why)., type: list, elements: dict}
    reboot: {description: What the next boot brings., type: list, elements: str}
"""

import fcntl
import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import (
    ledger,
    reset_files,
    reset_network,
    reset_processes,
    reset_report,
    reset_system,
    reset_trees,
)

LOCK = '/run/k8s-ans-reset.lock'
LOCK_SECONDS = 300


def take_lock(module):
    """Wait for a reset that goes on here though nobody listens to it any more; return the open lock."""
    deadline = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < deadline:
        handle = open(LOCK, 'w', encoding='ascii')  # noqa: SIM115
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before takes the file away at its end, and with it a lock that somebody waited for.
            if os.path.exists(LOCK) and os.path.samestat(os.fstat(handle.fileno()), os.stat(LOCK)):
                return handle
        except BlockingIOError:
            time.sleep(0.5)
        handle.close()
    module.fail_json(msg='another reset of this host has gone on for %d s; run the reset again when it is over' % LOCK_SECONDS)


def reset(module, notes, report):
    """Do all of it, or in check mode list it."""
    params = module.params
    own = reset_processes.own_units(notes, params['units'])
    shared = notes.host.get('units', {}).get('containerd', {}).get('LoadState') == 'loaded'
    kept = set(notes.host.get('mounts', [])) | reset_trees.fstab_points()
    folders = [item['path'] for item in params['data']] + ['/run/containerd']
    real = sorted(set(os.path.realpath(path) for path in folders))

    # What starts pods is stopped before the pods, and what ends them after.
    first = [name for name in own if name == 'kubelet.service' or not name.endswith('.service')]
    step(report, reset_processes.stop_units, module, report, first)
    step(report, reset_processes.remove_pods, module, report, params['crictl'], params['cri_socket'] or params['runtime_socket'])
    step(report, reset_processes.stop_units, module, report, [name for name in own if name not in first])
    step(report, reset_processes.kill_leftovers, report, params['runtime_socket'], params['runtime_namespace'] if shared else None)
    step(report, reset_trees.unmount, module, report, real, ['/run/netns/cni-*'], kept)
    step(report, reset_processes.remove_cgroups, module, report)

    step(report, reset_network.remove_ipvs, module, report, [int(port) for port in params['node_ports'].split('-')])
    step(report, reset_network.remove_links, module, report, notes)
    step(report, reset_network.remove_routes, module, report, params['pod_cidr'])
    step(report, reset_network.remove_rules, module, report, notes)

    step(report, reset_files.clear_data, report, notes, params['data'], kept)
    step(report, reset_files.remove_blocks, report, notes)
    step(report, reset_files.remove_files, report, notes, params['known'], params['transient'])
    step(report, reset_files.restore_attributes, report, notes)
    step(report, reset_files.remove_folders, report, notes, params['known'], params['snapshots'])
    step(report, reset_system.remove_accounts, module, report, notes, params['accounts'])

    if report.changed and not report.check:
        module.run_command(['systemctl', 'daemon-reload'])
        module.run_command(['systemctl', 'reset-failed'] + (own or params['units']))
    step(report, reset_system.restore_firewall, module, report, notes, params['ports'], params['pod_cidr'])
    step(report, reset_system.restore_services, module, report, notes)
    step(report, reset_system.restore_sysctls, report, notes)
    step(report, reset_system.restore_swap, module, report, notes)
    step(report, reset_system.restore_selinux, module, report, notes)
    step(report, reset_system.restore_hostname, module, report, notes, params['node_name'])


def step(report, action, *arguments):
    """Do one step; what goes wrong in it does not keep the others from being done."""
    try:
        action(*arguments)
    except (OSError, reset_report.Failure, ValueError, KeyError) as error:
        report.fail(action.__name__.replace('_', ' '), reset_report.reason(error))


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'units': {'type': 'list', 'elements': 'str', 'default': []},
            'data': {
                'type': 'list',
                'elements': 'dict',
                'default': [],
                'options': {
                    'path': {'type': 'path', 'required': True},
                    'names': {'type': 'list', 'elements': 'str', 'default': []},
                },
            },
            'transient': {'type': 'list', 'elements': 'str', 'default': []},
            'snapshots': {'type': 'list', 'elements': 'str', 'default': []},
            'known': {'type': 'list', 'elements': 'str', 'default': []},
            'accounts': {'type': 'list', 'elements': 'str', 'default': []},
            'crictl': {'type': 'path', 'default': '/opt/k8s/bin/crictl'},
            'runtime_socket': {'type': 'path', 'default': '/run/containerd/containerd.sock'},
            'cri_socket': {'type': 'path'},
            'runtime_namespace': {'type': 'str', 'default': 'k8s.io'},
            'pod_cidr': {'type': 'str', 'default': ''},
            'node_ports': {'type': 'str', 'default': '30000-32767'},
            'ports': {'type': 'list', 'elements': 'str', 'default': []},
            'node_name': {'type': 'str', 'default': ''},
        },
        supports_check_mode=True,
    )
    report = reset_report.Report(module.check_mode)
    lock = None if module.check_mode else take_lock(module)
    try:
        notes = ledger.load()
        basis = 'ledger'
        if notes is None or notes.adopted:
            basis = 'known'
        if notes is None and not ledger.is_ours():
            basis = 'nothing'
        elif notes is None:
            notes = ledger.begin(module, adopted=True)
            if not module.check_mode:
                # Interrupted from here on, the next reset knows that the host is ours.
                notes.save()
        if notes is not None:
            foretold = reset_report.Report(True)
            if not module.check_mode:
                reset(module, notes, foretold)
            reset(module, notes, report)
            if not report.failed:
                report.complete(foretold)
                report.do('removed', ledger.FOLDER, lambda: shutil.rmtree(ledger.FOLDER))
    except ledger.Damaged as error:
        module.fail_json(msg=str(error))
    finally:
        if lock is not None:
            os.unlink(LOCK)
    result = dict(report.done, basis=basis, left=report.left, failed=report.failed, reboot=report.reboot)
    if report.failed:
        first = report.failed[0]
        module.fail_json(
            msg='%d things could not be taken back, first %s: %s. Run the reset again when that is mended'
            % (len(report.failed), first['what'], first['why']),
            changed=report.changed,
            reset=result,
        )
    module.exit_json(changed=report.changed, reset=result)


if __name__ == '__main__':
    main()
