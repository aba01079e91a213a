# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.etcd_snapshot: has a snapshot taken on the host, fetches it and proves it here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase

MODULE = 'k8s_ans.cluster.etcd_snapshot'
ARGUMENTS = ('dest', 'command', 'work_dir')
DRAFT = '.etcd-snapshot-'
CHUNK = 1024 * 1024


def digest(path):
    """The sha256 of a file in hex."""
    found = hashlib.sha256()
    with open(path, 'rb') as handle:
        for chunk in iter(lambda: handle.read(CHUNK), b''):
            found.update(chunk)
        os.fsync(handle.fileno())
    return found.hexdigest()


class ActionModule(ActionBase):
    """See the module's documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        unknown = sorted(set(self._task.args) - set(ARGUMENTS))
        if unknown:
            raise AnsibleActionFail('unknown argument %s; known are %s' % (unknown[0], ', '.join(ARGUMENTS)))
        dest = self._task.args.get('dest')
        if not dest or not os.path.isabs(str(dest)):
            raise AnsibleActionFail('dest must be an absolute path on the control machine')
        arguments = dict(self._task.args, remote_user=self._remote_user())

        def call(step):
            result = self._execute_module(
                module_name=MODULE, module_args=dict(arguments, step=step), task_vars=task_vars
            )
            result.pop('invocation', None)
            return result

        taken = call('save')
        if taken.get('failed') or self._task.check_mode:
            return taken
        try:
            file = self._fetch(taken['snapshot'], str(dest))
        finally:
            call('clean')
        return dict(taken, file=file)

    def _fetch(self, snapshot, dest):
        """Fetch and prove the snapshot; returns its path here."""
        remote = snapshot.pop('file')
        os.makedirs(dest, 0o700, exist_ok=True)
        # mkdtemp makes it 0700: nobody else sees the file while it grows, whatever the umask is.
        folder = tempfile.mkdtemp(prefix=DRAFT, dir=dest)
        try:
            draft = os.path.join(folder, 'snapshot.db')
            self._connection.fetch_file(remote, draft)
            os.chmod(draft, 0o600)
            found = digest(draft)
            if found != snapshot['sha256']:
                raise AnsibleActionFail(
                    'what arrived has the sha256 %s and not %s, as on the host; it was not kept. Run it again'
                    % (found, snapshot['sha256'])
                )
            about = os.path.join(folder, 'snapshot.json')
            with open(os.open(about, os.O_WRONLY | os.O_CREAT, 0o600), 'w', encoding='utf-8') as handle:
                json.dump(snapshot, handle, indent=2)
                handle.write('\n')
                handle.flush()
                os.fsync(handle.fileno())
            file = os.path.join(dest, os.path.basename(remote))
            # The snapshot last: where it is, its JSON file is too.
            os.rename(about, os.path.splitext(file)[0] + '.json')
            os.rename(draft, file)
            return file
        except AnsibleConnectionFailure:
            raise
        except (AnsibleError, OSError) as error:
            raise AnsibleActionFail('the snapshot could not be fetched: %s' % to_text(error)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _remote_user(self):
        try:
            return self._get_remote_user() or ''
        except (AttributeError, KeyError):
            return ''
