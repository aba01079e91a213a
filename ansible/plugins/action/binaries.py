# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.binaries: asks the host what is missing, sends only that, has it installed."""

from __future__ import annotations

from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.transfer import StoreAction


class ActionModule(StoreAction):
    """See the module's documentation."""

    MODULE = 'k8s_ans.cluster.binaries'
    LIST = 'binaries'
    REQUIRED = ('path', 'sha256', 'dest')
    OPTIONAL = ('name', 'mode', 'owner', 'group')
    ARGUMENTS = ('work_dir', 'state', 'keep_staged')
