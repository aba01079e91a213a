# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.manifests: tells the module, in check mode, what the manifests hold.

A host that was never deployed to has neither kubectl nor an API server that could tell.
"""

from __future__ import annotations

import yaml

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.k8s_ans.cluster.plugins.module_utils import manifest_keys


class ActionModule(ActionBase):
    """Calls the module; the manifests themselves are left to kubectl."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._task.check_mode:
            arguments['keys'] = self._keys(arguments.get('manifests') or [])
        return self._execute_module(module_args=arguments, task_vars=task_vars)

    @staticmethod
    def _keys(manifests):
        keys = []
        for manifest in [manifests] if isinstance(manifests, str) else manifests:
            if manifest.startswith('/') and '\n' not in manifest.strip():
                # A file on the host.
                continue
            try:
                documents = list(yaml.safe_load_all(manifest))
            except yaml.YAMLError as error:
                raise AnsibleActionFail('a manifest is no YAML: %s' % error) from None
            keys += [key for document in documents if isinstance(document, dict) for key in manifest_keys.keys_of(document)]
        return keys
