# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Action of k8s_ans.cluster.files: renders and reads on the control machine, then calls the module once."""

from __future__ import annotations

import base64
import json
import os
import zlib

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars

from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_entries

try:
    # ansible-core 2.19 and later: only text that is marked as trusted is templated.
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.17, 2.18
    trust_as_template = None

# Those that the module takes as they are; it checks them before it changes anything.
UNIT_ARGUMENTS = ('units', 'timeout', 'max_restarts', 'pending_files', 'hold', 'gate', 'gate_timeout')
ARGUMENTS = frozenset(('files', 'defaults') + UNIT_ARGUMENTS)


class ActionModule(ActionBase):
    """Sends all files of a role to a host in one module call (one round trip with pipelining)."""

    # False, so that no temporary folder is made on the host: everything goes in the module's arguments.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        unknown = sorted(set(self._task.args) - ARGUMENTS)
        if unknown:
            raise AnsibleActionFail(
                'k8s_ans.cluster.files has no argument %s; it takes %s' % (unknown[0], ', '.join(sorted(ARGUMENTS)))
            )
        raw_files = self._task.args.get('files')
        if raw_files is None or isinstance(raw_files, (str, bytes, dict)):
            raise AnsibleActionFail('files must be a list of dictionaries, each with dest')
        defaults = self._task.args.get('defaults') or {}
        bad = sorted(set(defaults) - file_entries.DEFAULT_KEYS)
        if bad:
            raise AnsibleActionFail(
                'defaults: unknown key %s; known are %s' % (bad[0], ', '.join(sorted(file_entries.DEFAULT_KEYS)))
            )
        entries = []
        for index, raw in enumerate(raw_files):
            try:
                entry = file_entries.normalize(raw, defaults, index)
            except file_entries.EntryError as error:
                raise AnsibleActionFail(str(error)) from None
            if any(other['dest'] == entry['dest'] for other in entries):
                raise AnsibleActionFail('files[%d]: %s is in the list twice' % (index, entry['dest']))
            if entry['state'] == 'file':
                content = self._content(raw, entry, task_vars)
                entry['b64'] = base64.b64encode(content).decode('ascii')
            entries.append(entry)
        # One opaque argument that the module marks no_log: no content in the host's log or in the result.
        payload = base64.b64encode(zlib.compress(json.dumps(entries).encode('utf-8'), 1)).decode('ascii')
        arguments = {key: self._task.args[key] for key in UNIT_ARGUMENTS if self._task.args.get(key) is not None}
        arguments['payload'] = payload
        result = self._execute_module(
            module_name='k8s_ans.cluster.files', module_args=arguments, task_vars=task_vars
        )
        result.pop('invocation', None)
        return result

    def _content(self, raw, entry, task_vars):
        """Return the bytes of one entry; AnsibleActionFail names the entry when it cannot be had."""
        try:
            if raw.get('template') is not None:
                return self._render(str(raw['template']), entry['dest'], raw.get('vars') or {}, task_vars)
            if raw.get('src') is not None:
                return self._read(str(raw['src']))
        except (AnsibleError, OSError) as error:
            raise AnsibleActionFail('%s: %s' % (entry['dest'], to_text(error))) from error
        value = raw['block'] if raw.get('block') is not None else raw['content']
        if isinstance(value, (dict, list, tuple)):
            # ansible-core before 2.19 turns text that looks like JSON into a value; see ansible.builtin.copy.
            value = json.dumps(value, indent=2) + '\n'
        return to_bytes(value, errors='surrogate_or_strict')

    def _read(self, src):
        source = self._find_needle('files', src)
        real = self._loader.get_real_file(source)  # decrypts a vaulted file
        try:
            with open(to_bytes(real, errors='surrogate_or_strict'), 'rb') as handle:
                return handle.read()
        finally:
            self._loader.cleanup_tmp_file(real)

    def _render(self, name, dest, extra, task_vars):
        """Render the template `name` as ansible.builtin.template does, with lstrip_blocks on."""
        source = self._find_needle('templates', name)
        real = self._loader.get_real_file(source)
        try:
            with open(to_bytes(real, errors='surrogate_or_strict'), 'rb') as handle:
                text = to_text(handle.read(), errors='surrogate_or_strict')
        finally:
            self._loader.cleanup_tmp_file(real)

        search = list(task_vars.get('ansible_search_path', [])) + [self._loader.get_basedir(), os.path.dirname(source)]
        search = [path for base in search for path in (os.path.join(base, 'templates'), base)]
        generated = generate_ansible_template_vars(name, source, dest)
        if 'ansible_managed' in task_vars:
            generated.pop('ansible_managed', None)
        variables = task_vars.copy()
        variables.update(generated)
        variables.update(extra)
        overrides = {'trim_blocks': True, 'lstrip_blocks': True}
        if trust_as_template is not None:
            templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
            rendered = templar.template(trust_as_template(text), escape_backslashes=False, overrides=overrides)
        else:
            # The default environment class is not the native one, so the result stays text.
            templar = self._templar.copy_with_new_env(
                searchpath=search, newline_sequence='\n', available_variables=variables
            )
            rendered = templar.do_template(
                text, preserve_trailing_newlines=True, escape_backslashes=False, overrides=overrides
            )
        return to_bytes('' if rendered is None else rendered, errors='surrogate_or_strict')
