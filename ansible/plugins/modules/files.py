#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.files: installs a list of files on a host, all or nothing up to the renames."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Put a role's files on a host in one task
description:
  - Renders templates, reads files and takes literal contents on the control machine, and installs all of them on the
    host in B(one) module call, where thirty C(ansible.builtin.template) tasks would cost thirty round trips and more.
  - All files that differ are validated and staged beside their destinations before the first of them is replaced; each
    replacement is an atomic rename. A file that is right is not touched, so its times stay.
  - Contents travel in one argument that is never logged, and no content is in the result. Diffs of files declared
    O(files[].secret), and of anything that looks like a private key or a credential, show a digest only.
  - With O(units) it then does in the same call what M(k8s_ans.cluster.units) does, so that a role's files and its units
    cost one round trip. Units are not touched when a file is refused; when a unit fails, the files stay written. In
    check mode the restarts are foretold from the files that would change.
options:
  files:
    description: The files, in the order in which they are installed. Directories are made before files are staged.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Absolute path on the host.
        type: str
        required: true
      template:
        description:
          - A template, searched and rendered as M(ansible.builtin.template) does, with C(trim_blocks) and
            C(lstrip_blocks) on. RV(ignore:ansible_managed) and the C(template_*) variables are there.
        type: str
      src:
        description: A file on the control machine, absolute or searched in the role's C(files/); sent as it is.
        type: str
      content:
        description: The content itself.
        type: str
      block:
        description:
          - Lines to keep in a file that belongs to somebody else, between O(files[].marker_begin) and
            O(files[].marker_end). The rest of the file stays as it is. An empty block takes the block away.
          - Mode and owner of the file stay too, unless the entry names them. A symbolic link is followed.
        type: str
      marker_begin:
        description: The line before the block.
        type: str
        default: '# BEGIN k8s-ans'
      marker_end:
        description: The line after the block.
        type: str
        default: '# END k8s-ans'
      state:
        description:
          - V(file) installs content; V(directory) makes a directory with its parents; V(link) makes a symbolic link to
            O(files[].target) where nothing or another link stands; V(absent) takes away.
        type: str
        choices: [file, directory, link, absent]
        default: file
      target:
        description: What a link points at.
        type: str
      mode:
        description: Permissions as a quoted octal string. Required for files; a directory without one is V(0755).
        type: str
      owner:
        description: Owner, by name or number.
        type: str
        default: root
      group:
        description: Group, by name or number.
        type: str
        default: root
      parents:
        description: Make missing parent directories, root-owned with mode 0755.
        type: bool
        default: false
      validate:
        description:
          - A command with C(%s), run on the host without a shell against the new file, which has its right base name in
            a private temporary directory. Nothing is installed when one validation fails. Unchanged files are not
            validated again.
        type: str
      secret:
        description: Show a digest instead of content in diffs, and no output of O(files[].validate).
        type: bool
        default: false
      recursive:
        description: Let V(absent) take away a directory that is not empty.
        type: bool
        default: false
      vars:
        description: Further variables for this template alone.
        type: dict
  defaults:
    description: Values of mode, owner, group, secret and parents for entries that have none of their own.
    type: dict
    default: {}
  units:
    description: The units to converge after the files are written, in the order in which they are started.
    required: false
  hold:
    description:
      - Units of O(units) whose work must not be disturbed here and now. When one of them runs and answers its O(units[].wait)
        and this task would change anything, nothing is changed and RV(held) is true. A second task with the same files
        and units, O(gate) and C(throttle=1) then changes such hosts one after another.
      - Ignored in check mode, which foretells the changes of both tasks in the first.
    type: list
    elements: str
    default: []
  payload:
    description: Internal. What the action plugin hands to the module.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
notes:
  - Where a destination is a mount point of its own (C(/etc/hosts) in a container), it cannot be replaced by a rename
    and is written in place.
author: k8s-ans authors
extends_documentation_fragment: [k8s_ans.cluster.units, k8s_ans.cluster.units.gate]
"""

EXAMPLES = r"""
- name: Configuration of etcd
  k8s_ans.cluster.files:
    defaults: {mode: '0644'}
    files:
      - {dest: /etc/etcd/cert, state: directory, mode: '0755'}
      - {dest: /etc/etcd/cert/etcd-server.crt, src: '{{ pki }}/etcd-server.crt'}
      - {dest: /etc/etcd/cert/etcd-server.key, src: '{{ pki }}/etcd-server.key', mode: '0600', secret: true}
      - {dest: /etc/etcd/etcd.yaml, template: etcd.yaml.j2, mode: '0600'}
      - dest: /etc/systemd/system/etcd.service
        template: etcd.service.j2
        validate: systemd-analyze verify %s
      - {dest: /etc/hosts, block: "{{ lookup('template', 'hosts.j2') }}"}
      - {dest: /etc/etcd/old.conf, state: absent}
  register: etcd_files

- name: Configuration of the proxy, and the proxy itself
  k8s_ans.cluster.files:
    defaults: {mode: '0644'}
    files:
      - {dest: /etc/kube-nginx/nginx.conf, template: nginx.conf.j2}
      - {dest: /etc/systemd/system/kube-nginx.service, template: kube-nginx.service.j2}
    units:
      - name: kube-nginx
        reload_files: [/etc/kube-nginx/nginx.conf]
        wait: {tcp: '127.0.0.1:8443'}
    timeout: 60
"""

RETURN = r"""
held:
  description: Whether the host was left as it is because of O(hold).
  returned: when it was
  type: bool
changed_files:
  description: Destinations that were (in check mode, would be) changed, in the order of the task.
  returned: always
  type: list
  elements: str
  sample: [/etc/etcd/etcd.yaml]
diff:
  description: One item a changed file; secrets are masked.
  returned: in diff mode
  type: list
  elements: dict
started:
  description: Units that were (in check mode, would be) started.
  returned: with O(units)
  type: list
  elements: str
restarted:
  description: Units that were restarted because of their files.
  returned: with O(units)
  type: list
  elements: str
reloaded:
  description: Units that were reloaded.
  returned: with O(units)
  type: list
  elements: str
stopped:
  description: Units that were stopped.
  returned: with O(units)
  type: list
  elements: str
enabled:
  description: Units whose start at boot was switched on or off.
  returned: with O(units)
  type: list
  elements: str
removed:
  description: Units whose files were taken away.
  returned: with O(units)
  type: list
  elements: str
waited:
  description: Seconds from the first start to the last unit being ready.
  returned: success, with O(units)
  type: float
failed_units:
  description: For each unit that failed, C(name) and C(reason).
  returned: failure of a unit
  type: list
  elements: dict
journal:
  description:
    - The last 30 journal lines of the first unit that failed. Of one that crashes again and again, each message once,
      without stack traces and without systemd's account of the restarts.
  returned: failure of a unit
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_writer, unit_converger


def main():
    module = AnsibleModule(
        argument_spec=dict(
            dict(unit_converger.ARGUMENTS, **unit_converger.GATE_ARGUMENTS),
            files={'type': 'list', 'elements': 'dict'},
            defaults={'type': 'dict', 'default': {}},
            payload={'type': 'str', 'no_log': True},
        ),
        supports_check_mode=True,
    )
    if not module.params['payload']:
        module.fail_json(msg='k8s_ans.cluster.files runs through its action plugin, which was not found')
    result = {'changed': False, 'changed_files': []}
    try:
        # Both are checked before anything is changed.
        units = unit_converger.Converger(module) if module.params['units'] is not None else None
        writer = file_writer.Writer(module, module.params['payload'])
        if units is not None and units.held(bool(writer.changed), writer.replaced, writer.touched):
            module.exit_json(held=True, **result)
        if units is not None and not module.check_mode:
            unit_converger.pass_gate(module)
        result = writer.write()
        if units is not None:
            done = units.converge(writer.replaced, writer.touched)
            result = dict(result, **dict(done, changed=result['changed'] or done['changed']))
    except file_writer.Refused as error:
        module.fail_json(msg=str(error), **result)
    except unit_converger.Failed as error:
        changed = result['changed'] or error.result.get('changed', False)
        module.fail_json(msg=str(error), **dict(result, **dict(error.result, changed=changed)))
    module.exit_json(**result)


if __name__ == '__main__':
    main()
