#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.versions_reached: waits until API servers or nodes run a version and are ready."""

from __future__ import annotations

DOCUMENTATION = r"""
module: versions_reached
short_description: Wait until API servers and nodes run a version and are ready
author: The k8s-ans founders
description:
  - Runs on a master. Waits for all that are named together, and fails naming those that did not come.
options:
  version: {description: The version., type: str, required: true}
  api_servers:
    description: Masters, each with C(name) and C(address).
    type: list
    elements: dict
    default: []
  api_port: {description: Their API servers' port., type: int, default: 6443}
  nodes: {description: Names of nodes., type: list, elements: str, default: []}
  timeout: {description: Seconds that all may take together., type: int, default: 120}
extends_documentation_fragment: [k8s_ans.cluster.kubectl]
attributes:
  check_mode: {support: full, description: Does nothing.}
"""

EXAMPLES = r"""
- name: Wait for the node in the new version
  k8s_ans.cluster.versions_reached:
    version: 1.36.4
    nodes: [k8snode01]
    kubeconfig: /etc/kubernetes/admin.kubeconfig
"""

RETURN = r"""
waited: {description: Seconds., type: float, returned: success}
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import version_skew

PAUSE_SECONDS = 1
REQUEST_SECONDS = 5


def server_lack(version, text, problem, unready):
    """Say what an API server lacks, '' if nothing: text is its /version."""
    if problem or unready:
        return problem or 'is not ready: %s' % unready
    found = version_skew.plain(json.loads(text)['gitVersion'])
    return '' if found == version else 'runs %s' % found


def node_lack(version, item):
    """Say what a node lacks, '' if nothing."""
    found = version_skew.plain(item['status']['nodeInfo']['kubeletVersion'])
    if found != version:
        return 'its kubelet has not reported %s yet, but %s' % (version, found)
    ready = [one for one in item['status'].get('conditions', []) if one['type'] == 'Ready']
    # A kubelet's first report carries its version and what it knows of itself, so that this is the new one's word.
    if not ready or ready[0]['status'] != 'True':
        return 'is not ready: %s' % ((ready[0].get('message') if ready else None) or 'no reason is given')
    return ''


class Look:
    """Asks for what has not come yet."""

    def __init__(self, module):
        self.module = module
        self.base = [module.params['kubectl'], '--kubeconfig', module.params['kubeconfig']]
        self.base.append('--request-timeout=%ds' % REQUEST_SECONDS)

    def ask(self, *words):
        """Return (stdout, what went wrong)."""
        code, out, err = self.module.run_command(self.base + list(words))
        return (out, '') if code == 0 else ('', ' '.join((err or out).split())[-300:] or 'kubectl ended with code %d' % code)

    def server(self, master):
        """Say what the master's API server lacks."""
        server = '--server=https://%s:%d' % (master['address'], self.module.params['api_port'])
        text, problem = self.ask('get', '--raw', '/version', server)
        unready = '' if problem else self.ask('get', '--raw', '/readyz', server)[1]
        return server_lack(self.module.params['version'], text, problem, unready)

    def node(self, name):
        """Say what the node lacks."""
        text, problem = self.ask('get', 'node', name, '-o', 'json')
        return problem or node_lack(self.module.params['version'], json.loads(text))


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'version': {'type': 'str', 'required': True},
            'api_servers': {'type': 'list', 'elements': 'dict', 'default': []},
            'api_port': {'type': 'int', 'default': 6443},
            'nodes': {'type': 'list', 'elements': 'str', 'default': []},
            'timeout': {'type': 'int', 'default': 120},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, waited=0.0)
    look = Look(module)
    pending = [('the API server on %s' % master['name'], look.server, master) for master in module.params['api_servers']]
    pending += [('node %s' % name, look.node, name) for name in module.params['nodes']]
    begin = time.monotonic()
    while True:
        lacks = [(entry, entry[1](entry[2])) for entry in pending]
        pending = [entry for entry, lack in lacks if lack]
        waited = time.monotonic() - begin
        if not pending:
            module.exit_json(changed=False, waited=round(waited, 2))
        if waited > module.params['timeout']:
            module.fail_json(
                msg='%s (waited %d s)' % ('; '.join('%s %s' % (entry[0], lack) for entry, lack in lacks if lack), waited)
            )
        time.sleep(PAUSE_SECONDS)


if __name__ == '__main__':
    main()
