# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Ends what runs on a host: pods first, then units, then what a broken runtime left."""

from __future__ import annotations

import json
import os
import re
import signal
import time

from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger
from ansible_collections.k8s_ans.cluster.plugins.module_utils.reset_report import run

UNIT_FOLDER = '/etc/systemd/system'
UNIT_FILE = re.compile(r'^%s/([^/@]+\.(?:service|timer|socket|path|mount|slice))$' % re.escape(UNIT_FOLDER))
CGROUPS = '/sys/fs/cgroup'
# The kubelet's root cgroup, with either driver (kubernetes/pkg/kubelet/cm/container_manager_linux.go).
POD_CGROUPS = ('kubepods', 'kubepods.slice')
SHIM = 'containerd-shim-runc-v2'
STOP_SECONDS = 90


def own_units(notes, order):
    """Return our unit files' names in the order in which they are stopped: first what is not in `order`."""
    paths = list(notes.content['made']) + list(notes.content['replaced'])
    if notes.adopted:
        paths += ['%s/%s' % (UNIT_FOLDER, ledger.service(name)) for name in order]
    names = set(match.group(1) for match in map(UNIT_FILE.match, paths) if match and os.path.lexists(match.group(0)))
    ordered = [ledger.service(name) for name in order if ledger.service(name) in names]
    return sorted(names.difference(ordered)) + ordered


def stop_units(module, report, names):
    """Stop units and take them from the boot, one after another in the order given."""
    if not names:
        return
    states = {}
    out = run(module, ['systemctl', 'show', '--property=ActiveState,UnitFileState'] + names)
    for name, block in zip(names, out.strip().split('\n\n')):
        states[name] = dict(line.split('=', 1) for line in block.splitlines() if '=' in line)
    for name in names:
        active = states.get(name, {}).get('ActiveState') not in ('inactive', '')
        if active or states.get(name, {}).get('UnitFileState') in ('enabled', 'enabled-runtime'):
            report.do('stopped', name, lambda name=name, active=active: _stop(module, name, active))


def _stop(module, name, active):
    if active:
        code, _out, _err = module.run_command(['timeout', str(STOP_SECONDS), 'systemctl', 'stop', name])
        if code != 0:
            # What does not end when it is told to is of no use any more.
            module.run_command(['systemctl', 'kill', '--signal=SIGKILL', name])
            run(module, ['timeout', '30', 'systemctl', 'stop', name])
    # Also takes the links of its [Install] section away.
    run(module, ['systemctl', 'disable', name])


def remove_pods(module, report, crictl, socket):
    """Remove all pods through the runtime, which lets the CNI plugins take their addresses and links back."""
    if not os.path.exists(crictl) or not os.path.exists(socket):
        return
    base = ['timeout', '120', crictl, '--runtime-endpoint', 'unix://' + socket, '--timeout', '20s']
    code, out, _err = module.run_command(base + ['pods', '-o', 'json'])
    try:
        pods = json.loads(out)['items'] if code == 0 else []
    except (ValueError, KeyError):
        pods = []
    if not pods:
        return
    if not report.check:
        # Those that a broken plugin or a hanging mount keeps it from removing are ended by `kill_leftovers`.
        module.run_command(base + ['rmp', '--force'] + [pod['id'] for pod in pods])
    for pod in pods:
        name = 'pod %s/%s' % (pod['metadata']['namespace'], pod['metadata']['name'])
        report.do('stopped', name, lambda: None)


def kill_leftovers(report, socket, namespace):
    """Kill what pods and shims of this containerd still run.

    namespace: of the kubelet's containers, where the host had a containerd of its own: then what is not in it goes on.
    """
    if report.check:
        # Nothing of it is left where the runtime works, and what is left where it does not nobody knows before.
        return
    deadline = time.monotonic() + 20
    told = set()
    while True:
        pids = _pod_processes() | _shims(socket, namespace)
        if not pids:
            break
        for pid in pids:
            if pid not in told:
                told.add(pid)
                report.done['stopped'].append('process %d (%s)' % (pid, _command(pid)[:80]))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            for pid in sorted(pids):
                report.fail('process %d (%s)' % (pid, _command(pid)[:80]), 'it does not end')
            break
        time.sleep(0.1)


def remove_cgroups(module, report):
    """Take the kubelet's cgroups away, which outlive it."""
    slices = [path for path in _cgroup_roots() if path.endswith('.slice')]
    if slices and not report.check:
        module.run_command(['systemctl', 'stop', 'kubepods.slice'])
    for root in _cgroup_roots():
        report.do('removed', 'cgroup %s' % root, lambda root=root: _remove_cgroup(root))


def _remove_cgroup(root):
    deadline = time.monotonic() + 5
    while True:
        try:
            for folder, _names, _files in os.walk(root, topdown=False):
                os.rmdir(folder)
            return
        except OSError as error:
            # The kernel lets go of a killed process's cgroup a moment later.
            if isinstance(error, FileNotFoundError):
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _cgroup_roots():
    """Return the pods' root cgroups: one, or with cgroup v1 one a hierarchy."""
    found = []
    try:
        hierarchies = [CGROUPS] + sorted(entry.path for entry in os.scandir(CGROUPS) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    for hierarchy in hierarchies:
        found += [path for name in POD_CGROUPS for path in [os.path.join(hierarchy, name)] if os.path.isdir(path)]
    return found


def _pod_processes():
    """Return the processes in the pods' cgroups."""
    pids = set()
    for root in _cgroup_roots():
        for folder, _names, _files in os.walk(root):
            try:
                with open(os.path.join(folder, 'cgroup.procs'), encoding='ascii') as handle:
                    pids.update(int(line) for line in handle if line.strip() not in ('', '0'))
            except OSError:
                continue
    return pids


def _shims(socket, namespace):
    """Return the shims of the containerd behind `socket`, with all that they started."""
    children, shims = {}, set()
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        pid = int(entry)
        words = _arguments(pid)
        if words and os.path.basename(words[0]) == SHIM and socket in words and (namespace is None or namespace in words):
            shims.add(pid)
        children.setdefault(_parent(pid), []).append(pid)
    found, queue = set(), list(shims)
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue += children.get(pid, [])
    return found


def _arguments(pid):
    try:
        with open('/proc/%d/cmdline' % pid, 'rb') as handle:
            return handle.read().decode('utf-8', 'replace').rstrip('\0').split('\0')
    except OSError:
        return []


def _command(pid):
    return ' '.join(_arguments(pid)) or '?'


def _parent(pid):
    try:
        with open('/proc/%d/stat' % pid, encoding='utf-8', errors='replace') as handle:
            # The name, in brackets, may hold anything.
            return int(handle.read().rpartition(')')[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


