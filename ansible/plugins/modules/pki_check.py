#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation and argument check of k8s_ans.cluster.pki_check, which runs as an action on the control machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pki_check
short_description: See that a host's certificates are what the roles need
description:
  - Reads the certificates and keys on the control machine that roles take to a host, and fails where one is not what is
    needed. Subject, names, usages, lifetime, CA and key are looked at, and all problems are told at once.
  - Files may be encrypted with ansible-vault.
options:
  parts:
    description: The roles, and add-ons of the role addons, whose certificates are looked at.
    type: list
    elements: str
    choices: [etcd, masters, nodes, network, metrics-server, registry, dashboard, logging]
    required: true
  pki_dir: {description: The PKI folder., type: path, required: true}
  trust_dir: {description: 'The folder with the CA certificates to trust, by default O(pki_dir).', type: path}
  host_pki_dir: {description: 'The folder with the certificates of this host alone, by default O(pki_dir).', type: path}
  address: {description: The address at which the other hosts reach this one., type: str, required: true}
  dns_domain: {description: The cluster's DNS domain., type: str}
  service_address: {description: The API's address in the service network., type: str}
  external_endpoint: {description: The URL at which clients from outside reach the API., type: str}
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: See that etcd's certificates are what it needs
  k8s_ans.cluster.pki_check:
    parts: [etcd]
    pki_dir: /srv/pki
    host_pki_dir: /srv/pki/hosts/{{ inventory_hostname }}
    address: "{{ k8s_node_address }}"
"""

RETURN = r"""
problems:
  description: What is wrong, each line beginning with the file's path.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            'parts': {
                'type': 'list',
                'elements': 'str',
                'choices': ['etcd', 'masters', 'nodes', 'network', 'metrics-server', 'registry', 'dashboard', 'logging'],
                'required': True,
            },
            'pki_dir': {'type': 'path', 'required': True},
            'trust_dir': {'type': 'path'},
            'host_pki_dir': {'type': 'path'},
            'address': {'type': 'str', 'required': True},
            'dns_domain': {'type': 'str'},
            'service_address': {'type': 'str'},
            'external_endpoint': {'type': 'str'},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg='k8s_ans.cluster.pki_check runs as an action plugin, which was not found')


if __name__ == '__main__':
    main()
