#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.host_status: what runs on a host and how it does, in one call. Changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_status
short_description: Tell how a host's part of the cluster does
description:
  - Looks at units and asks their endpoints, asks the host's etcd member for itself and for the members it knows, reads
    certificates, and asks the host's own API server for nodes, leaders and workloads. All at the same time, and nothing
    that fails or does not answer fails the module.
options:
  units:
    description: The units that have to run here.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the unit; C(.service) may be left out., type: str, required: true}
      wait:
        description: What has to answer, as in M(k8s_ans.cluster.units).
        type: dict
  probes:
    description: What else has to answer. Each as O(units[].wait), with C(name).
    type: list
    elements: dict
    default: []
  certificates:
    description:
      - Paths and globs of certificates, of files that hold one beside its key, and of kubeconfigs. What does not exist
        is left out. Of each file only the certificates are returned.
    type: list
    elements: str
    default: []
  etcd:
    description: 'The etcd member of this host: C(etcdctl), C(endpoint), C(health) (a URL), C(ca), C(cert), C(key).'
    type: dict
  api:
    description: 'This host''s API server: C(kubectl), C(kubeconfig), C(server).'
    type: dict
  timeout:
    description: Seconds that a client may take.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Look at a worker
  k8s_ans.cluster.host_status:
    units:
      - {name: kubelet, wait: {url: 'http://127.0.0.1:10248/healthz'}}
    certificates: [/etc/kubernetes/cert/*.crt, /etc/kubernetes/*.kubeconfig]
"""

RETURN = r"""
host_status:
  description: C(units), C(probes), C(certificates), C(etcd) and C(api), as docs/status.md describes them.
  returned: always
  type: dict
"""

import base64
import glob
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import unit_converger, unit_state
from ansible_collections.k8s_ans.cluster.plugins.module_utils.apply_set import PART_OF

# What the API server is asked for.
KINDS = 'nodes,leases,deployments,statefulsets,daemonsets'
CERTIFICATE = re.compile(r'-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----', re.DOTALL)
EMBEDDED = re.compile(r'client-certificate-data:\s*"?([A-Za-z0-9+/=]+)')
JOURNAL_LINES = 5
# Leases by which the components elect their leader.
LEADERS = ('kube-controller-manager', 'kube-scheduler')


class Unanswered(Exception):
    """A client did not answer; the message is for the user."""


def ask(words, timeout):
    """Return what a client says as JSON; Unanswered if it fails or takes too long."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise Unanswered('no answer within %d s' % timeout) from None
    except OSError as error:
        raise Unanswered('%s: %s' % (words[0], error.strerror)) from None
    if done.returncode != 0:
        raise Unanswered(last_line(done.stderr.decode('utf-8', 'replace')) or 'exit code %d' % done.returncode)
    try:
        return json.loads(done.stdout.decode('utf-8', 'replace'))
    except ValueError:
        raise Unanswered('its answer is no JSON') from None


def last_line(text):
    """Return the end of a client's complaint; etcdctl writes its own as a JSON log line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ''
    try:
        parsed = json.loads(lines[-1])
    except ValueError:
        return lines[-1][-500:]
    return str(parsed.get('error') or parsed.get('msg') or lines[-1])[-500:]


def unit_of(name, state, wait):
    """Return what is told of a unit: its state, and whether its endpoint answers (None: it has none)."""
    # Once more where it does not answer: a busy host is not an ill one.
    said = (unit_converger.probe(wait) and unit_converger.probe(wait)) if wait else None
    return {
        'name': name,
        'load': state.get('LoadState') or '',
        'active': state.get('ActiveState') or '',
        'sub': state.get('SubState') or '',
        'result': state.get('Result') or '',
        'restarts': int(state.get('NRestarts') or 0),
        'since': unit_state.started_at(state),
        'answers': None if said is None else said == '',
        'said': said or '',
    }


def with_journal(unit):
    """Add the last lines of a unit that is there and does not run."""
    if unit['load'] != 'loaded' or unit['active'] in ('active', 'reloading'):
        return unit
    command = ['journalctl', '--no-pager', '--quiet', '--output=short-iso', '-n', str(JOURNAL_LINES), '-u', unit['name']]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return unit
    return dict(unit, journal=done.stdout.decode('utf-8', 'replace').splitlines())


def certificates_in(text):
    """Return the PEM certificates of a file's text: those in it, or the one that a kubeconfig embeds."""
    found = CERTIFICATE.findall(text)
    for embedded in EMBEDDED.findall(text):
        try:
            found += CERTIFICATE.findall(base64.b64decode(embedded).decode('ascii'))
        except ValueError:
            continue
    return found


def read_certificates(patterns):
    """Return [{file, pem}] of all certificates in the files that exist."""
    found = []
    for path in sorted(set(path for pattern in patterns for path in glob.glob(pattern))):
        try:
            with open(path, encoding='utf-8', errors='replace') as handle:
                text = handle.read()
        except OSError:
            continue
        found += [{'file': path, 'pem': pem} for pem in certificates_in(text)]
    return found


def etcd_status(given, timeout):
    """Return {member, members, health} of the host's etcd member, each with what is wrong in its place."""
    base = [given['etcdctl'], '--endpoints', given['endpoint'], '--cacert', given['ca'], '--cert', given['cert']]
    base += ['--key', given['key'], '--dial-timeout=5s', '--command-timeout=10s', '-w', 'json']
    health = unit_converger.probe({'url': given['health']})
    found = {'health': health == '', 'said': health, 'member': None, 'members': [], 'error': ''}
    try:
        found['member'] = member_of(ask(base + ['endpoint', 'status'], timeout))
        # Serializable: also a member that has lost its leader tells which members there are.
        found['members'] = members_of(ask(base + ['member', 'list', '--consistency=s'], timeout))
    except Unanswered as error:
        found['error'] = str(error)
    return found


def member_of(answer):
    """Return what `etcdctl endpoint status` says of the one endpoint; ids in hex, as etcd's own log has them."""
    status = (answer[0] if answer else {}).get('Status') or {}
    header = status.get('header') or {}
    return {
        'id': '%x' % header.get('member_id', 0),
        'leader': '%x' % status['leader'] if status.get('leader') else '',
        'version': status.get('version', ''),
        'db_bytes': status.get('dbSize', 0),
        'db_bytes_in_use': status.get('dbSizeInUse', 0),
        'quota_bytes': status.get('dbSizeQuota', 0),
        'learner': bool(status.get('isLearner')),
        'term': status.get('raftTerm', 0),
        'index': status.get('raftIndex', 0),
        # Alarms, as `memberID:1 alarm:NOSPACE`, and the lack of a leader.
        'errors': status.get('errors') or [],
    }


def members_of(answer):
    """Return [{id, name, learner, started}] of `etcdctl member list`."""
    return [
        {
            'id': '%x' % member.get('ID', 0),
            'name': member.get('name', ''),
            'learner': bool(member.get('isLearner')),
            'started': bool(member.get('clientURLs')),
        }
        for member in answer.get('members', [])
    ]


def api_status(given, timeout):
    """Return {nodes, leaders, workloads} as the host's own API server has them, or {error}."""
    words = [given['kubectl'], '--kubeconfig', given['kubeconfig'], '--server', given['server']]
    words += ['--request-timeout=15s', 'get', KINDS, '--all-namespaces', '-o', 'json']
    try:
        items = ask(words, timeout).get('items', [])
    except Unanswered as error:
        return {'error': str(error)}
    of = {}
    for item in filter(is_systems, items):
        of.setdefault(item.get('kind'), []).append(item)
    return {
        'error': '',
        'nodes': [node_of(item) for item in of.get('Node', [])],
        'leaders': [lease_of(item) for item in of.get('Lease', []) if item['metadata']['name'] in LEADERS],
        'workloads': [deployment_of(item) for item in of.get('Deployment', []) + of.get('StatefulSet', [])]
        + [daemon_set_of(item) for item in of.get('DaemonSet', [])],
    }


def is_systems(item):
    """Tell whether it is a node, of kube-system, or of an add-on wherever that is."""
    meta = item['metadata']
    return meta.get('namespace', 'kube-system') == 'kube-system' or PART_OF in (meta.get('labels') or {})


def node_of(item):
    """Return what is told of a Node: its readiness, its kubelet, and the conditions that it should not have."""
    status = item.get('status', {})
    conditions = dict((entry['type'], entry) for entry in status.get('conditions', []))
    ready = conditions.pop('Ready', {})
    info = status.get('nodeInfo', {})
    return {
        'name': item['metadata']['name'],
        'ready': ready.get('status') == 'True',
        'reason': '' if ready.get('status') == 'True' else ready.get('message') or ready.get('reason') or '',
        'version': info.get('kubeletVersion', ''),
        'runtime': info.get('containerRuntimeVersion', ''),
        'cordoned': bool(item.get('spec', {}).get('unschedulable')),
        'conditions': sorted(name for name, entry in conditions.items() if entry.get('status') == 'True'),
    }


def lease_of(item):
    spec = item.get('spec', {})
    return {
        'name': item['metadata']['name'],
        # NAME_UUID, the host's name first.
        'holder': (spec.get('holderIdentity') or '').rpartition('_')[0],
        'renewed': spec.get('renewTime') or '',
        'seconds': spec.get('leaseDurationSeconds') or 0,
    }


def deployment_of(item):
    status = item.get('status', {})
    wanted = item.get('spec', {}).get('replicas', 1)
    return workload(item, wanted, status.get('availableReplicas', 0), status.get('updatedReplicas', 0))


def daemon_set_of(item):
    status = item.get('status', {})
    wanted = status.get('desiredNumberScheduled', 0)
    return workload(item, wanted, status.get('numberAvailable', 0), status.get('updatedNumberScheduled', 0))


def workload(item, wanted, available, updated):
    return {
        'kind': item['kind'],
        'name': item['metadata']['name'],
        'wanted': wanted,
        'available': available,
        'updated': updated,
    }


def main():
    unit_options = {'name': {'type': 'str', 'required': True}, 'wait': {'type': 'dict'}}
    module = AnsibleModule(
        argument_spec={
            'units': {'type': 'list', 'elements': 'dict', 'default': [], 'options': unit_options},
            'probes': {'type': 'list', 'elements': 'dict', 'default': []},
            'certificates': {'type': 'list', 'elements': 'str', 'default': []},
            'etcd': {'type': 'dict'},
            'api': {'type': 'dict'},
            'timeout': {'type': 'int', 'default': 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    waits = [(unit_state.full_name(unit['name']), unit['wait']) for unit in params['units']]
    try:
        states = unit_converger.show(module, [name for name, _wait in waits]) if waits else {}
    except unit_converger.Failed as error:
        module.fail_json(msg=str(error))
    with ThreadPoolExecutor(max_workers=16) as pool:
        # The slow ones first.
        api = pool.submit(api_status, params['api'], params['timeout']) if params['api'] else None
        etcd = pool.submit(etcd_status, params['etcd'], params['timeout']) if params['etcd'] else None
        units = [pool.submit(unit_of, name, states[name], wait) for name, wait in waits]
        probes = [(entry['name'], pool.submit(unit_converger.probe, entry)) for entry in params['probes']]
        certificates = read_certificates(params['certificates'])
        found = {
            'units': [with_journal(unit.result()) for unit in units],
            'probes': [{'name': name, 'answers': said.result() == '', 'said': said.result()} for name, said in probes],
            'certificates': certificates,
        }
        if api:
            found['api'] = api.result()
        if etcd:
            found['etcd'] = etcd.result()
    module.exit_json(changed=False, host_status=found)


if __name__ == '__main__':
    main()
