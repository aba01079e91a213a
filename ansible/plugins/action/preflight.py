# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.preflight: judges what host_checks found on all hosts; runs on the control machine only."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.k8s_ans.cluster.plugins.module_utils import preflight

ARGUMENTS = frozenset(('facts', 'register_name', 'hosts', 'requirements'))
GROUPS = ('masters', 'nodes', 'etcd')


class ActionModule(ActionBase):
    """No connection is used: the facts come from the hosts' variables."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = self._task.args
        unknown = sorted(set(args) - ARGUMENTS)
        if unknown:
            raise AnsibleActionFail('preflight has no argument %s; it takes %s' % (unknown[0], ', '.join(sorted(ARGUMENTS))))
        hosts = args.get('hosts') or self._hosts(task_vars)
        facts = args.get('facts')
        if facts is None:
            facts = self._facts(task_vars, hosts, args.get('register_name') or 'k8s_host_checks')
        facts = {host: (found or {}).get('host_checks', found) for host, found in facts.items()}
        requirements = args.get('requirements') or {}
        bad = sorted(set(requirements) - set(preflight.DEFAULTS))
        if bad:
            raise AnsibleActionFail(
                'requirements: unknown key %s; known are %s' % (bad[0], ', '.join(sorted(preflight.DEFAULTS)))
            )
        found = preflight.check(facts, hosts, requirements)
        result = {'changed': False, 'preflight': found}
        if found['problems']:
            result.update(failed=True, msg=preflight.summary(found['problems']))
        return result

    @staticmethod
    def _hosts(task_vars):
        """Return {host: {address, roles}} of the play's hosts, from their groups and variables."""
        groups, hostvars = task_vars.get('groups', {}), task_vars.get('hostvars', {})
        hosts = {}
        for host in task_vars.get('ansible_play_hosts_all', []):
            variables = hostvars[host]
            address = variables.get('k8s_node_address') or variables.get('ansible_host') or ''
            roles = [name for name in GROUPS if host in groups.get(name, [])]
            hosts[str(host)] = {'address': str(address), 'roles': roles}
        return hosts

    @staticmethod
    def _facts(task_vars, hosts, name):
        hostvars = task_vars.get('hostvars', {})
        facts = {}
        for host in hosts:
            registered = (hostvars[host].get(name) if host in hostvars else None) or {}
            facts[host] = registered if 'host_checks' in registered else None
            if registered.get('failed') and not registered.get('unreachable'):
                facts[host] = {'failure': str(registered.get('module_stderr') or registered.get('msg') or '').strip()}
        return facts
