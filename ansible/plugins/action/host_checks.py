# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.host_checks: calls the module and compares the host's clock with ours."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """One module call, with the time taken before and after it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        before = time.time()
        result = self._execute_module(
            module_name='k8s_ans.cluster.host_checks', module_args=dict(self._task.args), task_vars=task_vars
        )
        after = time.time()
        result.pop('invocation', None)
        clock = result.get('host_checks', {}).get('clock')
        if clock:
            # The host read its clock somewhere between the two; the middle is at most half the time wrong.
            clock['offset'] = round(clock['epoch'] - (before + after) / 2, 3)
            clock['uncertainty'] = round((after - before) / 2, 3)
        return result
