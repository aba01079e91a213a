# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.pki_check: reads the certificates on the control machine; no connection is used."""

from __future__ import annotations

import datetime
from functools import partial
from urllib.parse import urlsplit

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.k8s_ans.cluster.plugins.plugin_utils import pki_table
from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.control_files import read_file
from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.pki_check import Checker

REQUIRED = ('parts', 'pki_dir', 'address')
ARGUMENTS = frozenset(REQUIRED + ('trust_dir', 'host_pki_dir', 'dns_domain', 'service_address', 'external_endpoint'))


class ActionModule(ActionBase):
    """Compares what is to be sent with what the roles need, before anything is sent."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        args = self._task.args
        unknown, missing = sorted(set(args) - ARGUMENTS), sorted(set(REQUIRED) - set(args))
        if unknown or missing:
            raise AnsibleActionFail(
                'pki_check has no argument %s' % unknown[0] if unknown else 'pki_check needs the argument %s' % missing[0]
            )
        bad = [part for part in args['parts'] if part not in pki_table.PARTS]
        if bad:
            raise AnsibleActionFail('parts: there is no %s; there are %s' % (bad[0], ', '.join(pki_table.PARTS)))
        place = pki_table.Place(
            str(args['address']),
            str(args.get('dns_domain') or ''),
            str(args.get('service_address') or ''),
            urlsplit(str(args.get('external_endpoint') or '')).hostname or '',
        )
        places = [str(args.get(name) or args['pki_dir']) for name in ('pki_dir', 'trust_dir', 'host_pki_dir')]
        now = datetime.datetime.now(datetime.timezone.utc)
        problems, warnings = Checker(*places, partial(read_file, self._loader), now).check(args['parts'], place)
        result = {'changed': False, 'problems': problems, 'warnings': warnings}
        if problems:
            many = 'is 1 problem' if len(problems) == 1 else 'are %d problems' % len(problems)
            result.update(
                failed=True,
                msg='there %s with the certificates, and nothing was changed: %s. What each has to be is in the table '
                'of docs/pki.md' % (many, '; '.join(problems)),
            )
        return result
