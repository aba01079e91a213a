#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation and argument check of k8s_ans.cluster.preflight, which runs as an action on the control machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Judge whether the hosts can carry the cluster
description:
  - Compares what M(k8s_ans.cluster.host_checks) found on all hosts with what the cluster needs, and fails with B(all)
    problems at once. Runs on the control machine only; use it with C(run_once).
options:
  register_name:
    description: The variable under which M(k8s_ans.cluster.host_checks) was registered.
    type: str
    default: k8s_host_checks
  facts:
    description: The facts by host, instead of O(register_name).
    type: dict
  hosts:
    description:
      - By host, C(address) and C(roles) (of masters, nodes, etcd). By default the hosts of the play, with
        C(k8s_node_address) and their groups.
    type: dict
  requirements:
    description:
      - C(master_memory_mib), C(node_memory_mib), C(cpus), C(disk_gib), C(disk_paths), C(proxy_mode),
        C(flannel_backend), C(interface), C(api_port), C(proxy_port), C(flannel_port), C(swap_off), C(fail_swap_on),
        C(cgroup_v1_allowed), C(any_os), C(runtime). Each has a default.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Judge the hosts
  k8s_ans.cluster.preflight:
    requirements: {master_memory_mib: 1700, proxy_mode: nftables}
  run_once: true
"""

RETURN = r"""
preflight:
  description: The judgement.
  returned: always
  type: dict
  contains:
    architecture: {description: Architecture by host., type: dict}
    problems: {description: 'What refuses the run: C(host), C(code), C(message), C(next).', type: list, elements: dict}
    notices: {description: The same for what does not., type: list, elements: dict}
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            'register_name': {'type': 'str', 'default': 'k8s_host_checks'},
            'facts': {'type': 'dict'},
            'hosts': {'type': 'dict'},
            'requirements': {'type': 'dict', 'default': {}},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg='k8s_ans.cluster.preflight runs as an action plugin, which was not found')


if __name__ == '__main__':
    main()
