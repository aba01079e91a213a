#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.cluster_versions: where a cluster is, and whether it may go to a version."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_versions
short_description: Ask a cluster which versions it runs, and judge whether it may go to another
author: The k8s-ans founders
description:
  - Runs on a master. Asks every API server, every etcd member and every node, and changes nothing.
  - With O(target) it fails, with B(all) reasons at once, where Kubernetes' version skew policy
    (U(https://kubernetes.io/releases/version-skew-policy/)) or a member that is not healthy forbids the way there.
options:
  target: {description: The version to go to., type: str, required: true}
  masters:
    description: The masters, each with C(name) and C(address).
    type: list
    elements: dict
    required: true
  api_port: {description: The API servers' port., type: int, default: 6443}
  etcd_members:
    description: The etcd members, each with C(name) and C(address).
    type: list
    elements: dict
    required: true
  etcd_port: {description: Their client port., type: int, default: 2379}
  etcd_ca: {description: The etcd CA on the host., type: path, required: true}
  etcd_cert: {description: A client certificate., type: path, required: true}
  etcd_key: {description: Its key., type: path, required: true}
  lanes: {description: 'By minor, the version to name where a step has to come first.', type: dict, default: {}}
  going_on:
    description: The upgrade was begun before; then a member that is not healthy is a notice and no problem.
    type: bool
    default: false
  fail: {description: Fail when there are problems., type: bool, default: true}
extends_documentation_fragment: [k8s_ans.cluster.kubectl]
attributes:
  check_mode: {support: full, description: Asks only.}
"""

EXAMPLES = r"""
- name: See whether the cluster may go to the version
  k8s_ans.cluster.cluster_versions:
    target: 1.36.4
    masters: "{{ k8s_masters }}"
    etcd_members: "{{ k8s_etcd_members }}"
    etcd_ca: /etc/kubernetes/cert/etcd-ca.crt
    etcd_cert: /etc/kubernetes/cert/apiserver-etcd-client.crt
    etcd_key: /etc/kubernetes/cert/apiserver-etcd-client.key
    kubeconfig: /etc/kubernetes/admin.kubeconfig
  run_once: true
"""

RETURN = r"""
upgrade:
  description: The answers and the judgement.
  returned: always
  type: dict
  contains:
    api_servers: {description: 'C(host), C(version), C(problem).', type: list, elements: dict}
    etcd: {description: 'C(host), C(version), C(problem).', type: list, elements: dict}
    nodes: {description: 'C(name), C(version) of the kubelet, C(ready), C(reason), C(closed), C(ours).', type: list, elements: dict}
    leaders: {description: 'C(name), C(problem).', type: list, elements: dict}
    problems: {description: 'What refuses the upgrade: C(host), C(code), C(message), C(next).', type: list, elements: dict}
    notices: {description: The same for what does not., type: list, elements: dict}
    removed_apis: {description: 'APIs that clients call and the target lacks: C(api), C(removed_release).', type: list, elements: dict}
    later_removed_apis: {description: The same for those that a later release lacks., type: list, elements: dict}
    from: {description: The oldest version that something runs., type: str}
    reached: {description: All API servers and nodes run the target., type: bool}
"""

import datetime
import http.client
import json
import os
import socket
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import version_skew
from ansible_collections.k8s_ans.cluster.plugins.module_utils.tls import client_context

REQUEST_SECONDS = 5
# client-go's leaders renew every 2 s and give up after 10 s.
LEADER_SECONDS = 30
ANNOTATION = 'k8s-ans/cordoned'


class Asked:
    """A kubectl that runs beside others."""

    def __init__(self, params, *words, server=None):
        command = [params['kubectl'], '--kubeconfig', params['kubeconfig'], '--request-timeout=%ds' % REQUEST_SECONDS]
        command += ['--server', server] if server else []
        self.process = subprocess.Popen(
            command + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
        )

    def answer(self):
        """Return (stdout, None) or (None, what went wrong)."""
        out, err = self.process.communicate()
        if self.process.returncode == 0:
            return out, None
        return None, ' '.join((err or out).split())[-500:] or 'kubectl ended with code %d' % self.process.returncode


def ask_servers(params):
    """Return (the API servers' answers, the deprecated APIs that they saw requests for)."""
    asked = []
    for master in params['masters']:
        server = 'https://%s:%d' % (master['address'], params['api_port'])
        questions = [Asked(params, 'get', '--raw', path, server=server) for path in ('/version', '/readyz', '/metrics')]
        asked.append((master['name'], questions))
    servers, deprecated = [], []
    for name, questions in asked:
        (version, problem), (_ready, unready), (metrics, _error) = [question.answer() for question in questions]
        found = version_skew.plain(json.loads(version)['gitVersion']) if version else None
        servers.append({'host': name, 'version': found, 'problem': problem or unready})
        deprecated += version_skew.deprecated_apis(metrics or '')
    return servers, deprecated


def ask_etcd(params):
    """Return the etcd members' answers."""
    context = client_context(params['etcd_ca'], params['etcd_cert'], params['etcd_key'])
    members = []
    for member in params['etcd_members']:
        result = {'host': member['name'], 'version': None, 'problem': None}
        client = http.client.HTTPSConnection(
            member['address'], params['etcd_port'], timeout=REQUEST_SECONDS, context=context
        )
        try:
            client.request('GET', '/health')
            health = json.loads(client.getresponse().read())
            if health.get('health') != 'true':
                result['problem'] = health.get('reason') or 'it says that it is not'
            client.request('GET', '/version')
            result['version'] = json.loads(client.getresponse().read()).get('etcdserver')
        except (OSError, ValueError, http.client.HTTPException) as error:
            result['problem'] = str(error) or type(error).__name__
        finally:
            client.close()
        members.append(result)
    return members


def read_nodes(text):
    """Return what is told of each node, from kubectl's JSON."""
    nodes = []
    for item in json.loads(text)['items']:
        ready = [one for one in item['status'].get('conditions', []) if one['type'] == 'Ready']
        annotations = item['metadata'].get('annotations') or {}
        nodes.append(
            {
                'name': item['metadata']['name'],
                'version': version_skew.plain(item['status']['nodeInfo']['kubeletVersion']),
                'ready': bool(ready) and ready[0]['status'] == 'True',
                'reason': ready[0].get('message') if ready else None,
                'closed': bool(item['spec'].get('unschedulable')),
                'ours': ANNOTATION in annotations,
            }
        )
    return nodes


def read_leaders(text, now):
    """Return who leads, from kubectl's JSON of the leases; now: seconds since 1970."""
    renewed = {}
    for item in json.loads(text)['items']:
        spec = item.get('spec') or {}
        if spec.get('holderIdentity') and spec.get('renewTime'):
            time = datetime.datetime.strptime(spec['renewTime'][:19] + '+0000', '%Y-%m-%dT%H:%M:%S%z')
            renewed[item['metadata']['name']] = time.timestamp()
    leaders = []
    for name in ('kube-controller-manager', 'kube-scheduler'):
        age = now - renewed[name] if name in renewed else None
        problem = None
        if age is None:
            problem = 'nobody holds its lease'
        elif age > LEADER_SECONDS:
            problem = 'its lease was renewed %d s ago' % age
        leaders.append({'name': name, 'problem': problem})
    return leaders


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'target': {'type': 'str', 'required': True},
            'masters': {'type': 'list', 'elements': 'dict', 'required': True},
            'api_port': {'type': 'int', 'default': 6443},
            'etcd_members': {'type': 'list', 'elements': 'dict', 'required': True},
            'etcd_port': {'type': 'int', 'default': 2379},
            'etcd_ca': {'type': 'path', 'required': True},
            'etcd_cert': {'type': 'path', 'required': True},
            'etcd_key': {'type': 'path', 'required': True, 'no_log': False},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
            'lanes': {'type': 'dict', 'default': {}},
            'going_on': {'type': 'bool', 'default': False},
            'fail': {'type': 'bool', 'default': True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.access(params['kubectl'], os.X_OK) or not os.path.exists(params['kubeconfig']):
        module.fail_json(
            msg='there is no cluster here to be upgraded: %s or %s is not there. `deploy` makes one'
            % (params['kubectl'], params['kubeconfig'])
        )
    socket.setdefaulttimeout(REQUEST_SECONDS)
    listed = Asked(params, 'get', 'nodes', '-o', 'json')
    leases = Asked(params, 'get', 'leases', '--namespace', 'kube-system', '-o', 'json')
    servers, deprecated = ask_servers(params)
    nodes, no_nodes = listed.answer()
    leaders, _no_leaders = leases.answer()
    found = {
        'api_servers': servers,
        'etcd': ask_etcd(params),
        'nodes': read_nodes(nodes) if nodes else [],
        'leaders': read_leaders(leaders, datetime.datetime.now().timestamp()) if leaders else [],
        'deprecated': deprecated,
    }
    try:
        judged = version_skew.judge(params['target'], found, params['lanes'], params['going_on'])
    except version_skew.NotAVersion as error:
        module.fail_json(msg=str(error))
    if no_nodes:
        problem = {
            'code': 'nodes-unknown',
            'host': None,
            'message': 'the nodes cannot be listed: %s' % no_nodes,
            'next': 'see that at least one API server and a majority of etcd answer',
        }
        judged['problems'].append(problem)
    del found['deprecated']
    upgrade = dict(found, **judged)
    if judged['problems'] and params['fail']:
        module.fail_json(msg=version_skew.summary(judged['problems']), upgrade=upgrade)
    module.exit_json(changed=False, upgrade=upgrade)


if __name__ == '__main__':
    main()
