# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Sending large files from the control machine: the part that the actions `binaries` and `images` share.

Asking, sending, installing: three round trips where something is missing, one where nothing is.
"""

from __future__ import annotations

import os
import re
import shlex

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

SHA256 = re.compile(r'^[0-9a-f]{64}$')


# Less free space than this after a transfer that failed: the disk is full.
FULL_MIB = 16


def send_one_by_one(connection, pairs):
    """Send files, (path here, path on the host) each, by the connection's own means."""
    for source, target in pairs:
        connection.put_file(source, target)


def send_by_sftp(connection, pairs):
    """Send files, (path here, path on the host) each, in one sftp session; False if that is not possible.

    sftp reads the files itself, so that no byte passes through Python, and no process is started for each file. It is not
    possible for other connections than SSH, and for a host without an sftp server.
    """
    if getattr(connection, 'transport', '') != 'ssh' or not hasattr(connection, '_bare_run'):
        return False
    try:
        # ansible-core's own put_file is made of these two; it just takes one file at a time.
        if connection.get_option('ssh_transfer_method') not in (None, 'smart', 'sftp'):
            return False
        connection.host = connection.get_option('host') or connection._play_context.remote_addr
        command = connection._build_command(
            connection.get_option('sftp_executable'), 'sftp', to_bytes('[%s]' % connection.host)
        )
        lines = ''.join('put %s %s\n' % (shlex.quote(source), shlex.quote(target)) for source, target in pairs)
        code, _out, err = connection._bare_run(command, to_bytes(lines), checkrc=False)
    except (AttributeError, KeyError, AnsibleError) as error:
        display.vvv('sftp session not possible: %s' % error)
        return False
    if code != 0:
        display.vvv('sftp session failed with code %s: %s' % (code, to_text(err)))
    return code == 0


class StoreAction(ActionBase):
    """Base of the two actions. A subclass names the module, the list's argument, and what one item needs."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    MODULE = ''
    LIST = ''
    REQUIRED = ()
    OPTIONAL = ()
    ARGUMENTS = ('work_dir',)

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        items, sizes = self._items()
        arguments = {key: self._task.args[key] for key in self.ARGUMENTS if self._task.args.get(key) is not None}
        arguments[self.LIST] = items
        arguments['remote_user'] = self._remote_user()

        def call(step, **more):
            result = self._execute_module(
                module_name=self.MODULE, module_args=dict(arguments, step=step, **more), task_vars=task_vars
            )
            result.pop('invocation', None)
            return result

        asked = call('query')
        send_list, folder = asked.pop('send', []), asked.pop('incoming', None)
        asked.setdefault('bytes_sent', 0)
        missing = asked.pop('missing', [])
        staging = arguments.get('state') == 'staged'
        if staging:
            asked['missing'] = missing
        if asked.get('failed') or self._task.check_mode or not missing:
            return asked
        pairs = [(sizes[sha256][0], '%s/%s' % (folder, sha256)) for sha256 in send_list]
        try:
            if pairs and not send_by_sftp(self._connection, pairs):
                if call('room').get('free_mib', 0) < FULL_MIB:
                    raise AnsibleError('no space left on device')
                send_one_by_one(self._connection, pairs)
        except AnsibleConnectionFailure:
            # The fragments stay: the next run uses or overwrites them.
            raise
        except AnsibleError as error:
            room = call('clean')
            full = room.get('free_mib', FULL_MIB) < FULL_MIB
            raise AnsibleActionFail(
                '%s What was installed before is still in place, and the fragments were taken away.%s'
                % (
                    'The file system of %s became full while files were sent.' % folder
                    if full
                    else 'Sending to %s failed: %s.' % (folder, to_text(error).strip().splitlines()[-1].rstrip('.')),
                    ' Free some space there and run again.' if full else '',
                )
            ) from None
        done = call('install')
        if staging and not done.get('failed'):
            # Nothing is installed, but the host's disk holds more than before.
            done['changed'] = bool(pairs)
        done['bytes_sent'] = sum(sizes[sha256][1] for sha256 in send_list)
        # What the first call mended (modes, labels) belongs to the result too.
        fixed = [name for name in asked.get('changed_files', []) if name not in done.get('changed_files', [])]
        if not done.get('failed') and not staging:
            done['changed_files'] = fixed + done.get('changed_files', [])
            done['changed'] = bool(done['changed_files'])
        return done

    def _remote_user(self):
        try:
            return self._get_remote_user() or ''
        except (AttributeError, KeyError):
            return ''

    def _items(self):
        """Return (items for the module with their sizes, {sha256: (path here, size)}); checks every value."""
        raw = self._task.args.get(self.LIST)
        known = set(self.ARGUMENTS) | {self.LIST}
        unknown = sorted(set(self._task.args) - known)
        if unknown:
            raise AnsibleActionFail('unknown argument %s; known are %s' % (unknown[0], ', '.join(sorted(known))))
        if raw is None or isinstance(raw, (str, bytes, dict)):
            raise AnsibleActionFail('%s must be a list of dictionaries' % self.LIST)
        items, sizes = [], {}
        for index, given in enumerate(raw):
            where = '%s[%d]' % (self.LIST, index)
            lacking = [key for key in self.REQUIRED if not isinstance(given, dict) or not given.get(key)]
            if lacking:
                raise AnsibleActionFail('%s: %s is required' % (where, lacking[0]))
            # Other keys of the artifact list (component, version, groups) are allowed and not sent.
            item = {key: given[key] for key in self.REQUIRED + self.OPTIONAL if given.get(key) is not None}
            path, sha256 = str(item.pop('path')), str(item['sha256']).lower()
            item['sha256'] = sha256
            if not SHA256.match(sha256):
                raise AnsibleActionFail('%s: sha256 must have 64 hexadecimal digits, got %r' % (where, sha256))
            try:
                size = os.stat(path).st_size
            except OSError as error:
                raise AnsibleActionFail(
                    '%s: %s cannot be read on the control machine (%s); run k8s-ans artifacts fetch'
                    % (where, path, error.strerror)
                ) from None
            item['size'] = size
            sizes[sha256] = (path, size)
            items.append(item)
        return items, sizes
