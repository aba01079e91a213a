# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Lookup of a component's kubeconfig: the file, or one made from its certificate."""

from __future__ import annotations

import base64
import json
import os

import yaml

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.control_files import read_file

DOCUMENTATION = r"""
name: kubeconfig
short_description: Find or make a component's kubeconfig
author: k8s-ans authors
description:
  - Gives the C(src) of a kubeconfig that lies in the PKI folder, as k8s-ans writes it, or where there is none the
    C(content) of one that is made from a certificate and its key. Either is for an entry of M(k8s_ans.cluster.files).
options:
  _terms: {description: "The component: the kubeconfig's name without C(.conf).", type: list, elements: str, required: true}
  pki_dir: {description: The PKI folder on the control machine., type: path, required: true}
  trust_dir: {description: The folder with the CA certificates to trust., type: path, required: true}
  certificate:
    description: The certificate below the PKI folder, without C(.crt). By default it is beside the kubeconfig.
    type: str
  cluster: {description: The cluster's name., type: str, required: true}
  server: {description: The API server's URL., type: str, required: true}
"""

EXAMPLES = r"""
- name: The scheduler's kubeconfig
  k8s_ans.cluster.files:
    files:
      - "{{ {'dest': '/etc/kubernetes/scheduler.kubeconfig', 'mode': '0600', 'secret': true}
            | combine(lookup('k8s_ans.cluster.kubeconfig', 'scheduler', pki_dir='/srv/pki', trust_dir='/srv/pki',
                             cluster='prod', server='https://127.0.0.1:8443')) }}"
"""

RETURN = r"""
_raw:
  description: C(src) or C(content).
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    """One dictionary a component."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        return [self._entry(str(term)) for term in terms]

    def _entry(self, name):
        folder = os.path.join(self.get_option('pki_dir'), 'kubeconfigs')
        file = os.path.join(folder, name + '.conf')
        if os.path.isfile(file):
            return {'src': file}
        certificate = self.get_option('certificate')
        base = os.path.join(self.get_option('pki_dir'), certificate) if certificate else os.path.join(folder, name)
        cluster = self.get_option('cluster')
        config = {
            'apiVersion': 'v1',
            'kind': 'Config',
            'clusters': [
                {
                    'name': cluster,
                    'cluster': {
                        'server': self.get_option('server'),
                        'certificate-authority-data': self._embed(os.path.join(self.get_option('trust_dir'), 'ca.crt')),
                    },
                }
            ],
            'users': [
                {
                    'name': name,
                    'user': {
                        'client-certificate-data': self._embed(base + '.crt'),
                        'client-key-data': self._embed(base + '.key'),
                    },
                }
            ],
            'contexts': [{'name': cluster, 'context': {'cluster': cluster, 'user': name}}],
            'current-context': cluster,
        }
        # By way of JSON: ansible-core 2.19's strings carry marks that YAML does not know.
        return {'content': yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False)}

    def _embed(self, path):
        try:
            return base64.b64encode(read_file(self._loader, path)).decode('ascii')
        except OSError as error:
            raise AnsibleLookupError('%s cannot be read: %s' % (path, error.strerror)) from error
