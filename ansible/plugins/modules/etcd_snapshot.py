#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.etcd_snapshot: has a snapshot taken on the host, for its action to fetch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot
short_description: Take a snapshot of etcd and fetch it to the control machine
author: k8s-ans authors
description:
  - Has the host's C(etcd-backup) program (role etcd) take a snapshot and prove it, fetches it, compares its sha256 and the
    checksum that etcd itself put into it, and takes it away from the host.
  - On the control machine the snapshot is written with mode 0600 and gets its name only when it is whole. Beside it is
    a JSON file of the same name with its cluster, member, time, revision, hash, number of keys, size, sha256 and versions.
options:
  dest: {description: Folder on the control machine; made with mode 0700 where it is missing., type: path, required: true}
  command:
    description: The C(etcd-backup) program with its arguments, but without C(--directory) and C(--keep).
    type: list
    elements: str
    required: true
  work_dir: {description: Folder on the host for the snapshot until it is fetched., type: path, default: /opt/k8s/work}
  step: {description: Internal., type: str}
  remote_user: {description: Internal., type: str}
attributes:
  check_mode: {support: full}
notes:
  - C(ansible.builtin.fetch) reads a file that only root may read in one piece through memory, which a database of some
    GiB does not allow.
"""

EXAMPLES = r"""
- name: Take a snapshot
  k8s_ans.cluster.etcd_snapshot:
    dest: "{{ inventory_dir }}/backups"
    command:
      - /opt/k8s/bin/etcd-backup
      - --cluster=demo
      - --member=k8smaster01
      - --etcdctl=/opt/k8s/bin/etcdctl
      - --etcdutl=/opt/k8s/bin/etcdutl
      - --endpoint=https://127.0.0.1:2379
      - --cacert=/etc/etcd/cert/ca.crt
      - --cert=/etc/etcd/cert/etcd-healthcheck-client.crt
      - --key=/etc/etcd/cert/etcd-healthcheck-client.key
"""

RETURN = r"""
file: {description: The snapshot on the control machine., type: str, returned: success}
snapshot: {description: What its JSON file says., type: dict, returned: success}
"""

import json
import os
import shutil
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_store

OUTGOING = '.etcd-snapshot'


def save(module, folder):
    """Take the snapshot, and let the user whom Ansible logs in as read it."""
    shutil.rmtree(folder, ignore_errors=True)
    work = os.path.dirname(folder)
    os.makedirs(work, 0o755, exist_ok=True)
    os.mkdir(folder, 0o700)
    command = module.params['command'] + ['--directory', folder, '--keep', '1']
    code, out, err = module.run_command(command)
    if code != 0:
        lines = (err or out).strip().splitlines()
        raise host_store.StoreError(lines[-1] if lines else 'etcd-backup ended with code %d' % code)
    snapshot = json.loads(out)
    uid = host_store.sender_id(module.params['remote_user'])
    if uid != os.geteuid():
        os.chown(folder, uid, -1)
        os.chown(snapshot['file'], uid, -1)
        os.chmod(work, stat.S_IMODE(os.stat(work).st_mode) | 0o111)
    del snapshot['removed']
    return snapshot


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'dest': {'type': 'path', 'required': True},
            'command': {'type': 'list', 'elements': 'str', 'required': True},
            'work_dir': {'type': 'path', 'default': '/opt/k8s/work'},
            'step': {'type': 'str', 'choices': ['save', 'clean']},
            'remote_user': {'type': 'str', 'default': ''},
        },
        supports_check_mode=True,
    )
    folder = os.path.join(module.params['work_dir'], OUTGOING)
    step = module.params['step']
    if not step:
        module.fail_json(msg='k8s_ans.cluster.etcd_snapshot runs through its action plugin, which was not found')
    if module.check_mode:
        module.exit_json(changed=True)
    with host_store.alone('etcd-snapshot'):
        result = do_step(module, folder)
    if 'msg' in result:
        module.fail_json(**result)
    module.exit_json(**result)


def do_step(module, folder):
    """Do the step; returns the task's result, with C(msg) where it failed."""
    if module.params['step'] == 'clean':
        shutil.rmtree(folder, ignore_errors=True)
        return {'changed': False}
    try:
        return {'changed': True, 'snapshot': save(module, folder)}
    except (host_store.StoreError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return {'msg': str(error)}


if __name__ == '__main__':
    main()
