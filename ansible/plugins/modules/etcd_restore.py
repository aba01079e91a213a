#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Puts the data of a snapshot in the place of an etcd member's data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_restore
short_description: Put the data of a snapshot in the place of an etcd member's data
author: k8s-ans authors
description:
  - Works in two steps, so that a snapshot that cannot be restored (damaged, no room) is found while etcd still runs.
    V(prepare) makes the member's new data from the snapshot beside the old; V(swap) puts it in its place while etcd is
    stopped. V(query) only tells which of them this host has behind it.
  - What stands where is decided by O(id) and O(members) of the restore, which are written beside the data. A step that was
    killed at any point is finished by calling it again.
  - The old data is kept beside the new as C(member.before-restore-ID), one generation of it.
  - Data and log folder may be mount points, so only the C(member) folders in them are renamed.
options:
  step: {description: What to do., type: str, choices: [query, prepare, swap], required: true}
  id: {description: The name of this restore. Members of one restore agree in it., type: str, required: true}
  members: {description: The restored cluster's members as NAME=PEER-URL separated by commas., type: str, required: true}
  name: {description: This member's name., type: str, required: true}
  token:
    description:
      - The restored cluster's token, from which etcd makes the ids of cluster and members. One that no cluster had before
        keeps a member with old data, which comes back later, out of the new cluster.
    type: str
    required: true
  peer_url: {description: This member's peer URL., type: str, required: true}
  snapshot: {description: The snapshot on the host., type: path, required: true}
  data_dir: {description: The data folder., type: path, required: true}
  wal_dir: {description: The folder that holds the log's C(member) folder., type: path, required: true}
  owner: {description: The account etcd runs as., type: str, required: true}
  etcdutl: {description: Path of etcdutl., type: path, required: true}
  bump_revision:
    description:
      - How far the restored revision is beyond the snapshot's. It must be more than what was written since the snapshot,
        so that no client takes an object for newer than it is, U(https://etcd.io/docs/v3.6/op-guide/recovery/).
    type: int
    default: 1000000000
  force: {description: Begin anew although this host has a step behind it., type: bool, default: false}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Make the member's new data
  k8s_ans.cluster.etcd_restore:
    step: prepare
    id: 2026-11-24
    members: a=https://172.24.8.71:2380
    name: a
    token: demo-2026-11-24
    peer_url: https://172.24.8.71:2380
    snapshot: /opt/k8s/work/etcd-restore.db
    data_dir: /data/k8s/etcd/data
    wal_dir: /data/k8s/etcd/wal
    owner: etcd
    etcdutl: /opt/k8s/bin/etcdutl
"""

RETURN = r"""
state:
  description: V(none), V(prepared), or V(done) when the restored data is in its place.
  type: str
  returned: success
kept: {description: Where the old data is., type: list, elements: str, returned: success}
"""

import os
import pwd
import re
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_store, ledger

MEMBER = 'member'
# With the restore's id.
ASIDE = 'member.before-restore-'
# Not .tmp at the end: etcd makes its log in a folder of that name beside the final one.
STAGED = '.restore'
STAMP = 'restore.json'
# etcd allocates the first segment of its log at once (wal.SegmentSizeBytes).
LOG_BYTES = 64 * 1024 * 1024


class Places:
    """The paths of one member."""

    def __init__(self, data_dir, wal_dir, identifier):
        self.data_dir = data_dir
        self.wal_dir = wal_dir
        self.stamp = os.path.join(data_dir, STAMP)
        self.staged_data = os.path.join(data_dir, STAGED)
        self.staged_wal = os.path.join(wal_dir, STAGED)
        # (staged, live, aside)
        self.moves = [
            (self.staged_wal, os.path.join(wal_dir, MEMBER), os.path.join(wal_dir, ASIDE + identifier)),
            (
                os.path.join(self.staged_data, MEMBER),
                os.path.join(data_dir, MEMBER),
                os.path.join(data_dir, ASIDE + identifier),
            ),
        ]

    def kept(self):
        """Where the old data is."""
        return [aside for _staged, _live, aside in self.moves if os.path.isdir(aside)]


def state_of(places, stamp, identifier, members):
    """Which step of this restore the host has behind it: none, prepared, done."""
    if stamp.get('id') != identifier or stamp.get('members') != members:
        return 'none'
    if stamp.get('state') == 'done':
        return 'done' if all(os.path.isdir(live) for _staged, live, _aside in places.moves) else 'none'
    # A swap that was killed has moved some of them.
    there = all(os.path.isdir(staged) or os.path.isdir(live) for staged, live, _aside in places.moves)
    return 'prepared' if stamp.get('state') == 'prepared' and there else 'none'


def swap(places):
    """Put the staged folders in place; can be killed anywhere and begun again.

    The data of an earlier attempt of the same restore is in the way where the old data is aside already.
    """
    for staged, live, aside in places.moves:
        if not os.path.isdir(staged):
            continue
        if os.path.isdir(live):
            if os.path.isdir(aside):
                shutil.rmtree(live)
            else:
                os.rename(live, aside)
        os.rename(staged, live)
        sync(os.path.dirname(live))
    shutil.rmtree(places.staged_data, ignore_errors=True)


def forget_older(places):
    """One generation is kept: take away what earlier restores put aside."""
    for _staged, _live, aside in places.moves:
        folder = os.path.dirname(aside)
        for name in os.listdir(folder):
            if name.startswith(ASIDE) and os.path.isdir(aside) and name != os.path.basename(aside):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def sync(folder):
    """Have the renames in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own(path, uid, gid):
    """Give a folder and all in it to etcd's account."""
    os.chown(path, uid, gid)
    for root, folders, files in os.walk(path):
        for name in folders + files:
            os.lchown(os.path.join(root, name), uid, gid)


def write_stamp(places, value, uid, gid):
    host_store.write_json(places.stamp, value)
    os.chown(places.stamp, uid, gid)
    sync(places.data_dir)


def remove_staged(places):
    """Take away what an earlier attempt has made."""
    for left in (places.staged_data, places.staged_wal, places.staged_wal + '.tmp'):
        shutil.rmtree(left, ignore_errors=True)


def note(folders):
    """Tell the host's ledger, where it has one, which folders are about to be made."""
    try:
        notes = ledger.load()
    except ledger.Damaged as error:
        raise host_store.StoreError(str(error)) from error
    if notes is None or not folders:
        return
    for folder in folders:
        notes.made(folder, 'directory')
    notes.save()


def prepare(module, places, uid, gid):
    """Make the new data from the snapshot."""
    args = module.params
    missing = [folder for folder in (places.data_dir, places.wal_dir) if not os.path.isdir(folder)]
    note(missing)
    for folder in missing:
        if not os.path.isdir(folder):
            os.makedirs(os.path.dirname(folder), 0o755, exist_ok=True)
            os.mkdir(folder, 0o700)
            os.chown(folder, uid, gid)
    # What is staged is nothing to rely on from here on.
    if os.path.exists(places.stamp):
        os.unlink(places.stamp)
        sync(places.data_dir)
    remove_staged(places)
    try:
        size = os.path.getsize(args['snapshot'])
    except FileNotFoundError:
        raise host_store.StoreError('%s is not there' % args['snapshot']) from None
    host_store.check_room([(places.data_dir, size), (places.wal_dir, LOG_BYTES)])
    command = [args['etcdutl'], 'snapshot', 'restore', args['snapshot'], '--name', args['name']]
    command += ['--initial-cluster', args['members'], '--initial-cluster-token', args['token']]
    command += ['--initial-advertise-peer-urls', args['peer_url']]
    command += ['--data-dir', places.staged_data, '--wal-dir', places.staged_wal]
    command += ['--bump-revision', str(args['bump_revision']), '--mark-compacted']
    code, out, err = module.run_command(command)
    if code != 0:
        remove_staged(places)
        lines = (err or out).strip().splitlines()
        raise host_store.StoreError(
            'the snapshot cannot be restored: %s. Nothing was changed' % (lines[-1] if lines else 'code %d' % code)
        )
    for folder in (places.staged_data, places.staged_wal):
        own(folder, uid, gid)
        os.chmod(folder, 0o700)
    write_stamp(places, {'id': args['id'], 'members': args['members'], 'state': 'prepared'}, uid, gid)


def finish(module, places, uid, gid):
    """Put the new data in place."""
    args = module.params
    # A member that waits for its peers is not active, and runs all the same.
    _code, out, _err = module.run_command(['systemctl', 'show', '--property=MainPID', '--value', 'etcd.service'])
    if out.strip() not in ('', '0'):
        raise host_store.StoreError('etcd runs on this host: its data is replaced only while it is stopped')
    swap(places)
    write_stamp(places, {'id': args['id'], 'members': args['members'], 'state': 'done'}, uid, gid)
    forget_older(places)
    try:
        os.unlink(args['snapshot'])
    except FileNotFoundError:
        pass


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'step': {'type': 'str', 'choices': ['query', 'prepare', 'swap'], 'required': True},
            'id': {'type': 'str', 'required': True},
            'members': {'type': 'str', 'required': True},
            'name': {'type': 'str', 'required': True},
            'token': {'type': 'str', 'required': True, 'no_log': False},
            'peer_url': {'type': 'str', 'required': True},
            'snapshot': {'type': 'path', 'required': True},
            'data_dir': {'type': 'path', 'required': True},
            'wal_dir': {'type': 'path', 'required': True},
            'owner': {'type': 'str', 'required': True},
            'etcdutl': {'type': 'path', 'required': True},
            'bump_revision': {'type': 'int', 'default': 1000000000},
            'force': {'type': 'bool', 'default': False},
        },
        supports_check_mode=True,
    )
    args = module.params
    if not re.match(r'^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$', args['id']):
        module.fail_json(msg='id may hold letters, digits, dots and dashes, 64 at most; it is %r' % args['id'])
    if module.check_mode:
        module.exit_json(**do_step(module))
    try:
        with host_store.alone('etcd-restore'):
            result = do_step(module)
    except KeyError:
        module.fail_json(msg='there is no account %s on this host' % args['owner'])
    except (host_store.StoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def do_step(module):
    """Do the step; returns the task's result."""
    args = module.params
    places = Places(args['data_dir'], args['wal_dir'], args['id'])
    state = state_of(places, host_store.read_json(places.stamp), args['id'], args['members'])
    step = args['step']
    needed = {
        'query': False,
        'prepare': state == 'none' or args['force'],
        'swap': state == 'prepared',
    }[step]
    if module.check_mode:
        return {'changed': needed, 'state': state, 'kept': places.kept()}
    if step == 'swap' and state == 'none':
        raise host_store.StoreError('this host has no data of the restore %s: prepare it first' % args['id'])
    if needed:
        account = pwd.getpwnam(args['owner'])
        (prepare if step == 'prepare' else finish)(module, places, account.pw_uid, account.pw_gid)
        state = 'prepared' if step == 'prepare' else 'done'
    return {'changed': needed, 'state': state, 'kept': places.kept()}


if __name__ == '__main__':
    main()
