# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""What the host-side modules `binaries` and `images` share: a cache of digests, the incoming folder, room on disk.

Files arrive in WORK/.incoming under their sha256. The name is the same at each run, so a run that was killed leaves
nothing that the next one does not use or overwrite.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import stat
import tempfile

INCOMING = '.incoming'
STAGE_PREFIX = '.k8s-ans-stage-'
# Left free on a file system beside what is sent.
RESERVE_BYTES = 16 * 1024 * 1024
CHUNK = 1024 * 1024


RUN = '/run/k8s-ans'


@contextlib.contextmanager
def alone(name, folder=RUN):
    """Hold a lock of this host, waiting for it.

    A run that is killed leaves its module at work on the host, for no terminal ends it; the next run's must not begin
    beside it. The lock goes with the process that holds it.
    """
    os.makedirs(folder, 0o755, exist_ok=True)
    with open(os.path.join(folder, name + '.lock'), 'w', encoding='utf-8') as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class StoreError(Exception):
    """Something the user has to mend; the message says what and how."""


def file_digest(path, copy_to=None):
    """Return the sha256 of the file at path in hex; with copy_to (a binary handle) copy it in the same pass."""
    digest = hashlib.sha256()
    with open(path, 'rb') as handle:
        while True:
            chunk = handle.read(CHUNK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)
            if copy_to is not None:
                copy_to.write(chunk)


def mark(status):
    """Return what of a stat result tells that a file was touched: size, mtime, ctime, inode."""
    return {
        'size': status.st_size,
        'mtime_ns': status.st_mtime_ns,
        'ctime_ns': status.st_ctime_ns,
        'inode': status.st_ino,
    }


def read_json(path):
    """Return the dictionary in the file; {} if there is none or it cannot be read: a stamp only saves work."""
    try:
        with open(path) as handle:
            value = json.load(handle)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path, value):
    """Write a dictionary with mode 0600 by an atomic rename."""
    temporary = path + '.new'
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as handle:
        json.dump(value, handle, indent=1, sort_keys=True)
    os.rename(temporary, path)


class DigestCache:
    """sha256 of installed files, read again only where size, times or inode differ from the last time."""

    def __init__(self, path, hasher=file_digest):
        self.path = path
        self.hasher = hasher
        self.known = read_json(path)
        self.changed = False

    def digest(self, path):
        """Return the sha256 of the file at path, None if there is no regular file."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        now = mark(status)
        entry = self.known.get(path)
        if isinstance(entry, dict) and all(entry.get(key) == value for key, value in now.items()):
            return entry.get('sha256')
        return self.store(path, self.hasher(path), now)

    def store(self, path, sha256, now=None):
        """Note a digest that was just computed."""
        self.known[path] = dict(now or mark(os.lstat(path)), sha256=sha256)
        self.changed = True
        return sha256

    def save(self):
        """Write the cache if something was noted. A full disk is no error: the cache only saves work."""
        if not self.changed:
            return
        try:
            write_json(self.path, self.known)
        except OSError:
            pass


def sender_id(remote_user):
    """Return the uid that will write the incoming files: whoever Ansible logs in as, before it became root."""
    for name in ('SUDO_UID', 'DOAS_UID'):
        if os.environ.get(name, '').isdigit():
            return int(os.environ[name])
    for name in (os.environ.get('DOAS_USER'), remote_user):
        if name:
            try:
                return pwd.getpwnam(name).pw_uid
            except KeyError:
                continue
    return os.geteuid()


def existing_parent(path):
    """Return the nearest ancestor of path (or path itself) that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def free_mib(path):
    """Return the free space in MiB of the file system that holds path, or will hold it."""
    status = os.statvfs(existing_parent(path))
    return status.f_bavail * status.f_frsize // 1048576


def check_room(needs):
    """Refuse early what cannot fit: needs is a list of (path, bytes); StoreError names the file system."""
    by_device = {}
    for path, size in needs:
        place = existing_parent(path)
        device = os.stat(place).st_dev
        first, total = by_device.get(device, (place, 0))
        by_device[device] = (first, total + size)
    for place, total in by_device.values():
        status = os.statvfs(place)
        free = status.f_bavail * status.f_frsize
        if total and free < total + RESERVE_BYTES:
            raise StoreError(
                'no room on the file system of %s: %d MiB are needed, %d MiB are free. Nothing was sent, what is '
                'installed stays as it is. Free some space there and run again'
                % (place, (total + RESERVE_BYTES) // 1048576 + 1, free // 1048576)
            )


def prepare(work, wanted, remote_user, keep=False):
    """Make the incoming folder and return (folder, {sha256 that are there complete}).

    wanted: {sha256: size} of what has to be sent. keep: what else lies there is waited for by a later task.
    """
    if not os.path.isdir(work):
        os.makedirs(work, 0o755)
    folder = os.path.join(work, INCOMING)
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
    uid = sender_id(remote_user)
    if os.stat(folder).st_uid != uid:
        os.chown(folder, uid, -1)
    os.chmod(folder, 0o700)
    if uid != os.geteuid():
        # The sender, who is not root, must be able to reach the folder.
        os.chmod(work, stat.S_IMODE(os.stat(work).st_mode) | 0o111)
    there = set()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        status = os.lstat(path)
        if name not in wanted:
            # Left by a run that was killed and that wanted other versions.
            if not keep:
                os.unlink(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size == wanted[name] and file_digest(path) == name:
            there.add(name)
    return folder, there


def clean(work):
    """Take the incoming folder away."""
    shutil.rmtree(os.path.join(work, INCOMING), ignore_errors=True)


def verify(folder, sha256, what):
    """Check an arrived file; a wrong one is taken away and refused."""
    path = os.path.join(folder, sha256)
    try:
        found = file_digest(path)
    except FileNotFoundError:
        raise StoreError('%s did not arrive on the host; run again' % what) from None
    if found != sha256:
        os.unlink(path)
        raise StoreError(
            '%s: what arrived has the sha256 %s and not %s; it was not installed. Check the file on the control '
            'machine (k8s-ans artifacts verify) and run again' % (what, found, sha256)
        )
    return path


def move(path, sha256, dest, mode, uid, gid):
    """Install an arrived and verified file at dest by an atomic rename.

    A file that somebody other than we could still write to, or that lies on another file system, is copied and
    verified once more.
    """
    status = os.stat(path)
    folder = os.path.dirname(dest)
    staged = path
    try:
        if status.st_uid != os.geteuid() or status.st_dev != os.stat(folder).st_dev:
            handle, staged = tempfile.mkstemp(prefix=STAGE_PREFIX, dir=folder)
            with os.fdopen(handle, 'wb') as out:
                if file_digest(path, out) != sha256:
                    raise StoreError('%s changed while it was being installed; run again' % dest)
        if (uid, gid) != (os.geteuid(), os.getegid()):
            os.chown(staged, uid, gid)
        os.chmod(staged, mode)
        # A fresh time: whoever asks whether a unit is older than its binary can tell.
        os.utime(staged)
        os.rename(staged, dest)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                'the file system of %s is full; %s was not replaced. Free some space there and run again'
                % (folder, dest)
            ) from error
        raise
    finally:
        if staged != path:
            for left in (staged, path):
                try:
                    os.unlink(left)
                except OSError:
                    pass
