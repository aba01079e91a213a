#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.binaries: tells which binaries a host lacks, and installs what was sent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: binaries
short_description: Install binaries from the control machine, verified on the host
description:
  - Asks the host which of the files differ in sha256 from what is wanted, sends only those in one sftp session, verifies
    each B(on the host) and installs it by an atomic rename. A running program keeps its old file.
  - Nothing is sent where all is right, which takes one round trip. Digests are kept in
    C(WORK_DIR/.binaries.json) with size, times and inode; a file is read again only where these differ.
  - A host without room is refused before anything is sent; files of a broken transfer are used or overwritten by the
    next run.
  - With O(state=staged) the files are sent and verified and wait in C(WORK_DIR/.incoming), so that a later task with
    O(state=installed) installs them without sending anything.
options:
  binaries:
    description: The files. Other keys of an artifact list, as C(version), are allowed and ignored.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: A name for messages., type: str}
      path: {description: The file on the control machine., type: path, required: true}
      sha256: {description: Its digest in hex., type: str, required: true}
      dest: {description: Absolute path on the host; missing directories are made with mode 0755., type: path, required: true}
      mode: {description: Permissions as a quoted octal string., type: str, default: '0755'}
      owner: {description: Owner on the host., type: str, default: root}
      group: {description: Group on the host., type: str, default: root}
  work_dir:
    description: Folder on the host for the digests and for what arrives.
    type: path
    default: /opt/k8s/work
  state:
    description: V(installed), or V(staged) to have the files on the host, verified, and nothing installed yet.
    type: str
    choices: [installed, staged]
    default: installed
  keep_staged:
    description: Leave staged files that are not in O(binaries) where they are, since a later task installs them.
    type: bool
    default: false
  step: {description: Internal., type: str}
  remote_user: {description: Internal., type: str}
attributes:
  check_mode:
    support: full
notes:
  - SSH compression costs more than it saves on a local network; C(ssh_args) without C(-C) is advised.
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Binaries of this host
  k8s_ans.cluster.binaries:
    binaries:
      - name: kubelet
        path: /var/cache/k8s-ans/kubelet
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        dest: /opt/k8s/bin/kubelet

- name: Everything that an upgrade will install, before the first restart
  k8s_ans.cluster.binaries:
    binaries: "{{ all_binaries }}"
    state: staged

- name: A part of it
  k8s_ans.cluster.binaries:
    binaries: "{{ all_binaries | selectattr('name', 'equalto', 'kube-apiserver') }}"
    keep_staged: true
"""

RETURN = r"""
changed_files:
  description: Files that were (in check mode, would be) installed, or whose mode or owner was set right.
  returned: always
  type: list
  elements: str
missing:
  description: Files that are not installed as wanted, and were staged (in check mode, would be).
  returned: with O(state=staged)
  type: list
  elements: str
bytes_sent:
  description: Bytes sent to the host.
  returned: always
  type: int
"""

import grp
import os
import pwd
import shutil
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_store, ledger

CACHE = '.binaries.json'


def resolve(item):
    """Return (mode, uid, gid) of an item."""
    try:
        uid = int(item['owner']) if item['owner'].isdigit() else pwd.getpwnam(item['owner']).pw_uid
        gid = int(item['group']) if item['group'].isdigit() else grp.getgrnam(item['group']).gr_gid
        return int(item['mode'], 8), uid, gid
    except KeyError as error:
        raise host_store.StoreError('%s: %s' % (item['dest'], error.args[0])) from None
    except ValueError:
        raise host_store.StoreError(
            "%s: mode must be a quoted octal string such as '0755', got %s" % (item['dest'], item['mode'])
        ) from None


def set_right(path, mode, uid, gid, check_mode):
    """Set mode and owner of an installed file where they differ; tell whether they did."""
    status = os.stat(path)
    if (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, uid, gid):
        return False
    if not check_mode:
        os.chown(path, uid, gid)
        os.chmod(path, mode)
    return True


def note(items):
    """Tell the host's ledger, where it has one, what is about to be made or written over."""
    try:
        notes = ledger.load()
    except ledger.Damaged as error:
        raise host_store.StoreError(str(error)) from error
    if notes is None:
        return
    for item in items:
        if os.path.lexists(item['dest']):
            notes.replacing(item['dest'])
        else:
            notes.made(item['dest'], 'file')
    notes.save()


def query(module, items, cache):
    """Find what is missing, prepare the way for it, mend modes and owners."""
    missing, fixed = [], []
    staging, keep = module.params['state'] == 'staged', module.params['keep_staged']
    for item in items:
        if cache.digest(item['dest']) != item['sha256']:
            missing.append(item)
        elif not staging and set_right(item['dest'], *(resolve(item) + (module.check_mode,))):
            fixed.append(item['dest'])
            if not module.check_mode:
                cache.store(item['dest'], item['sha256'])
    result = {
        'changed': bool(missing or fixed),
        'changed_files': [item['dest'] for item in items if item in missing or item['dest'] in fixed],
        'missing': [item['dest'] for item in missing],
    }
    if missing and not module.check_mode:
        wanted = dict((item['sha256'], item['size']) for item in missing)
        work = module.params['work_dir']
        note(missing)
        for item in missing:
            resolve(item)
            if not staging:
                os.makedirs(os.path.dirname(item['dest']), 0o755, exist_ok=True)
        folder, there = host_store.prepare(work, wanted, module.params['remote_user'], keep)
        device = os.stat(work).st_dev
        needs = [(work, size) for sha256, size in wanted.items() if sha256 not in there]
        for item in missing:
            place = host_store.existing_parent(os.path.dirname(item['dest']))
            if os.stat(place).st_dev != device:
                needs.append((place, item['size']))
        host_store.check_room(needs)
        result['incoming'] = folder
        result['send'] = [sha256 for sha256 in wanted if sha256 not in there]
        # Only what was mended has been changed so far.
        result['changed_files'] = fixed
    elif not missing and not keep and not module.check_mode:
        # Staged for a run that was called off.
        host_store.clean(module.params['work_dir'])
    return result


def stage(module, items, cache):
    """Verify all that arrived, and leave it where it is."""
    folder = os.path.join(module.params['work_dir'], host_store.INCOMING)
    missing = [item for item in items if cache.digest(item['dest']) != item['sha256']]
    for item in missing:
        host_store.verify(folder, item['sha256'], item.get('name') or item['dest'])
    return {'changed': False, 'changed_files': [], 'missing': [item['dest'] for item in missing]}


def install(module, items, cache):
    """Verify all that arrived, then install it."""
    work = module.params['work_dir']
    folder = os.path.join(work, host_store.INCOMING)
    missing = [item for item in items if cache.digest(item['dest']) != item['sha256']]
    for item in missing:
        host_store.verify(folder, item['sha256'], item.get('name') or item['dest'])
    last = dict((item['sha256'], index) for index, item in enumerate(missing))
    for index, item in enumerate(missing):
        path = os.path.join(folder, item['sha256'])
        if last[item['sha256']] != index:
            # The same content is wanted once more; no hard link, since the two may differ in mode.
            shutil.copyfile(path, path + '.copy')
            host_store.move(path + '.copy', item['sha256'], item['dest'], *resolve(item))
        else:
            host_store.move(path, item['sha256'], item['dest'], *resolve(item))
        if module.selinux_enabled():
            module.set_default_selinux_context(item['dest'], False)
        cache.store(item['dest'], item['sha256'])
    if not module.params['keep_staged']:
        host_store.clean(work)
    return {'changed': bool(missing), 'changed_files': [item['dest'] for item in missing]}


def main():
    item_options = {
        'name': {'type': 'str'},
        'path': {'type': 'str'},
        'sha256': {'type': 'str', 'required': True},
        'dest': {'type': 'str', 'required': True},
        'mode': {'type': 'str', 'default': '0755'},
        'owner': {'type': 'str', 'default': 'root'},
        'group': {'type': 'str', 'default': 'root'},
        'size': {'type': 'int'},
    }
    for key in ('component', 'version'):
        item_options[key] = {'type': 'str'}
    item_options['groups'] = {'type': 'list', 'elements': 'str'}
    module = AnsibleModule(
        argument_spec={
            'binaries': {'type': 'list', 'elements': 'dict', 'required': True, 'options': item_options},
            'work_dir': {'type': 'path', 'default': '/opt/k8s/work'},
            'state': {'type': 'str', 'choices': ['installed', 'staged'], 'default': 'installed'},
            'keep_staged': {'type': 'bool', 'default': False},
            'step': {'type': 'str', 'choices': ['query', 'install', 'room', 'clean']},
            'remote_user': {'type': 'str', 'default': ''},
        },
        supports_check_mode=True,
    )
    step, work = module.params['step'], module.params['work_dir']
    if not step:
        module.fail_json(msg='k8s_ans.cluster.binaries runs through its action plugin, which was not found')
    if step in ('room', 'clean'):
        free = host_store.free_mib(work)
        if step == 'clean':
            host_store.clean(work)
        module.exit_json(changed=False, free_mib=free)
    items = module.params['binaries']
    cache = host_store.DigestCache(os.path.join(work, CACHE))
    try:
        final = stage if module.params['state'] == 'staged' else install
        result = (query if step == 'query' else final)(module, items, cache)
    except host_store.StoreError as error:
        host_store.clean(work)
        module.fail_json(msg=str(error), changed=False, changed_files=[])
    except OSError as error:
        module.fail_json(
            msg='%s: %s' % (error.filename or work, error.strerror or error), changed=False, changed_files=[]
        )
    finally:
        if not module.check_mode and os.path.isdir(work):
            cache.save()
    module.exit_json(**result)


if __name__ == '__main__':
    main()
