# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.manifests: reads the manifests, so that the module need not know YAML.

In check mode the module is told what they hold: a host that was never deployed to has neither kubectl nor an API server
that could tell. Members of an apply set get its label here.
"""

from __future__ import annotations

import json

import yaml

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.k8s_ans.cluster.plugins.module_utils import apply_set, manifest_keys


class ActionModule(ActionBase):
    """Calls the module; what is not of a set is left to kubectl as it stands."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        manifests = arguments.get('manifests') or []
        manifests = [manifests] if isinstance(manifests, str) else manifests
        name = arguments.get('apply_set')
        if name or self._task.check_mode:
            items = self._items(manifests, name)
            arguments['keys'] = [manifest_keys.key_of(item) for item in items]
        if name:
            identity = apply_set.set_id(name, arguments.get('apply_set_namespace') or 'kube-system')
            members = [apply_set.labelled(item, identity) for item in items]
            arguments['manifests'] = [json.dumps(member) for member in members]
            arguments['kinds'] = sorted({apply_set.group_kind(item) for item in items})
            arguments['namespaces'] = sorted({item['metadata']['namespace'] for item in members if 'namespace' in item['metadata']})
        return self._execute_module(module_args=arguments, task_vars=task_vars)

    @staticmethod
    def _items(manifests, name):
        items = []
        for manifest in manifests:
            if manifest.startswith('/') and '\n' not in manifest.strip():
                if name:
                    raise AnsibleActionFail('the apply set %s takes manifests as text, not files on the host' % name)
                continue
            try:
                documents = list(yaml.safe_load_all(manifest))
            except yaml.YAMLError as error:
                raise AnsibleActionFail('a manifest is no YAML: %s' % error) from None
            items += [item for document in documents if isinstance(document, dict) for item in manifest_keys.items_of(document)]
        return items
