# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.images: asks containerd what is missing, sends only that, has it imported."""

from __future__ import annotations

from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.transfer import StoreAction


class ActionModule(StoreAction):
    """See the module's documentation."""

    MODULE = 'k8s_ans.cluster.images'
    LIST = 'images'
    REQUIRED = ('ref', 'path', 'sha256')
    OPTIONAL = ('name', 'pinned')
    ARGUMENTS = ('work_dir', 'ctr', 'address', 'namespace')
