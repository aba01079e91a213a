# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Installs a list of files on the host, all or nothing up to the renames (module files)."""

from __future__ import annotations

import base64
import contextlib
import errno
import grp
import json
import os
import pwd
import shlex
import shutil
import stat
import tempfile
import time
import zlib

from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_entries, ledger

# Staged files lie beside their destinations until all are there; a run that was killed may leave some behind.
STAGE_PREFIX = '.k8s-ans-stage-'
STALE_SECONDS = 600


class Refused(Exception):
    """What the entry asks for cannot be done; the message is for the user."""


def read(path):
    """Return (stat, content) of what stands at path: content only for a regular file; (None, None) if nothing does."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    if not stat.S_ISREG(status.st_mode):
        return status, None
    with open(path, 'rb') as handle:
        return status, handle.read()


def lookup_id(name, kind, check_mode):
    """Return the uid or gid of a name or number; None for an unknown name in check mode (it may be made by then)."""
    if name is None:
        return None
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == 'user' else grp.getgrnam(name).gr_gid
    except KeyError:
        if check_mode:
            return None
        raise Refused('%s %s does not exist on this host' % (kind, name)) from None


def attributes(mode, uid, gid):
    """Return mode and owner as text for a diff."""
    return '%s:%s %04o' % (id_name(uid, pwd.getpwuid), id_name(gid, grp.getgrgid), stat.S_IMODE(mode))


def id_name(number, getter):
    try:
        return getter(number)[0]
    except KeyError:
        return str(number)


class Plan:
    """What has to be done for one entry, found out without changing anything."""

    def __init__(self, entry, check_mode):
        self.entry = entry
        self.dest = entry['dest']
        self.state = entry['state']
        self.uid = lookup_id(entry.get('owner'), 'user', check_mode)
        self.gid = lookup_id(entry.get('group'), 'group', check_mode)
        self.staged = None
        self.content = None
        if self.state == 'file' and 'marker_begin' in entry:
            self.dest = os.path.realpath(self.dest)
        self.status, self.before = read(self.dest)
        self.is_link = self.status is not None and stat.S_ISLNK(self.status.st_mode)
        self.is_dir = self.status is not None and stat.S_ISDIR(self.status.st_mode)
        self.replace = False
        self.fix_attributes = False
        getattr(self, '_plan_' + self.state)()

    @property
    def changed(self):
        return self.replace or self.fix_attributes

    def _plan_file(self):
        self.content = base64.b64decode(self.entry['b64'])
        if 'marker_begin' in self.entry:
            text = (self.before or b'').decode('utf-8', 'surrogateescape')
            block = self.content.decode('utf-8', 'surrogateescape')
            text = file_entries.put_block(text, block, self.entry['marker_begin'], self.entry['marker_end'])
            self.content = text.encode('utf-8', 'surrogateescape')
            if self.status is None and not self.content:
                return
        if self.is_dir:
            raise Refused('%s is a directory, not a file; take it away by hand if it is not needed' % self.dest)
        self.replace = self.before is None or self.before != self.content
        self.fix_attributes = not self.replace and self._attributes_differ()

    def _plan_directory(self):
        if self.is_link and os.path.isdir(self.dest):
            # An administrator's link to another disk is as good as a directory.
            self.status = os.stat(self.dest)
            self.is_dir = True
        if self.status is not None and not self.is_dir:
            raise Refused('%s is there and is no directory; take it away by hand if it is not needed' % self.dest)
        self.replace = self.status is None
        self.fix_attributes = not self.replace and self._attributes_differ()

    def _plan_link(self):
        if self.status is not None and not self.is_link:
            raise Refused('%s is there and is no link; take it away by hand if it is not needed' % self.dest)
        self.replace = self.status is None or os.readlink(self.dest) != self.entry['target']

    def _plan_absent(self):
        if self.is_dir and not self.entry['recursive'] and os.listdir(self.dest):
            raise Refused('%s is a directory that is not empty; add recursive: true to take it away' % self.dest)
        self.replace = self.status is not None

    def _attributes_differ(self):
        mode = self.entry.get('mode')
        return (
            (mode is not None and stat.S_IMODE(self.status.st_mode) != mode)
            or (self.uid is not None and self.status.st_uid != self.uid)
            or (self.gid is not None and self.status.st_gid != self.gid)
        )

    def final(self):
        """Return (mode, uid, gid) as they will be."""
        mode, uid, gid = self.entry.get('mode'), self.uid, self.gid
        old = self.status if self.status is not None and not self.is_link else None
        return (
            mode if mode is not None else (stat.S_IMODE(old.st_mode) if old else 0o644),
            uid if uid is not None else (old.st_uid if old else os.geteuid()),
            gid if gid is not None else (old.st_gid if old else os.getegid()),
        )

    def note(self, notes):
        """Note in the host's ledger what this entry is about to make, to write over or to take away."""
        marks = (self.entry.get('marker_begin'), self.entry.get('marker_end'))
        if self.state == 'directory':
            if self.replace:
                notes.made(self.dest, 'directory')
            else:
                notes.found_folder(self.dest)
        elif self.replace and marks[0] is not None:
            notes.block(self.dest, marks[0], marks[1], self.status is not None)
        elif self.replace and self.status is None:
            notes.made(self.dest, self.state)
        elif self.replace:
            notes.replacing(self.dest)
        # A replacement keeps a copy with its mode and owner.
        if self.fix_attributes or (self.replace and marks[0] is not None and self.status is not None):
            notes.attributes(self.dest)

    def diff(self):
        status = self.status
        old = attributes(status.st_mode, status.st_uid, status.st_gid) if status is not None else ''
        if self.state == 'absent':
            return file_entries.make_diff(self.dest, self.before, None, old, '', self.entry['secret'])
        if self.state == 'link':
            before = ('link to %s\n' % os.readlink(self.dest)).encode() if self.is_link else None
            after = ('link to %s\n' % self.entry['target']).encode()
            return file_entries.make_diff(self.dest, before, after, '', '', False)
        new = attributes(*self.final())
        if self.state == 'directory':
            return file_entries.make_diff(self.dest, None, None, old, new, False)
        return file_entries.make_diff(self.dest, self.before, self.content, old, new, self.entry['secret'])


def validate(module, plans):
    """Run the validations of all files that will be replaced, before anything is changed on the host."""
    for number, plan in enumerate(plans):
        command = plan.entry.get('validate')
        if not command or not plan.replace or plan.state != 'file':
            continue
        if module.check_mode and shutil.which(shlex.split(command)[0]) is None:
            # Its package would be installed by then.
            continue
        folder = os.path.join(module.tmpdir, 'validate-%d' % number)
        os.mkdir(folder, 0o700)
        path = os.path.join(folder, os.path.basename(plan.dest))
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'wb') as handle:
            handle.write(plan.content)
        words = [word.replace('%s', path) for word in shlex.split(command)]
        code, out, err = module.run_command(words)
        shutil.rmtree(folder, ignore_errors=True)
        if code != 0:
            secret = plan.entry['secret'] or file_entries.is_secret(plan.content)
            said = '(output withheld, the file is a secret)' if secret else (err.strip() or out.strip())[-2000:]
            raise Refused(
                '%s: the new content was refused by "%s" (exit code %d); nothing was changed. %s'
                % (plan.dest, command, code, said)
            )


def make_directories(module, path, mode, uid, gid):
    """Make `path` and its missing parents; parents are 0755 and belong to who runs this."""
    missing = []
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for folder in reversed(missing):
        os.mkdir(folder)
        os.chmod(folder, 0o755)
    if path is not None and mode is not None and not os.path.isdir(path):
        os.mkdir(path, 0o700)
        set_attributes(path, mode, uid, gid)
        label(module, path, path)


def set_attributes(path, mode, uid, gid):
    status = os.stat(path)
    if (uid, gid) != (status.st_uid, status.st_gid):
        os.chown(path, uid, gid)
    # After chown, which clears the setuid bits.
    os.chmod(path, mode)


def label(module, path, dest):
    """Give `path` the SELinux context that the policy has for `dest`; nothing without SELinux."""
    if module.selinux_enabled():
        module.set_context_if_different(path, module.selinux_default_context(dest), False)


def stage(module, plan):
    """Write the new content beside its destination, complete with mode, owner and context."""
    folder = os.path.dirname(plan.dest)
    if plan.entry['parents']:
        make_directories(module, plan.dest, None, None, None)
    if not os.path.isdir(folder):
        raise Refused(
            '%s: the directory %s does not exist; add parents: true or a directory entry' % (plan.dest, folder)
        )
    handle, path = tempfile.mkstemp(prefix=STAGE_PREFIX, dir=folder)
    plan.staged = path
    with os.fdopen(handle, 'wb') as out:
        out.write(plan.content)
    set_attributes(path, *plan.final())
    label(module, path, plan.dest)


def install(plan):
    """Replace the destination by what was staged."""
    try:
        os.rename(plan.staged, plan.dest)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A mount point of its own, as /etc/hosts in a container: it can only be written in place.
        with open(plan.dest, 'r+b') as handle:
            handle.write(plan.content)
            handle.truncate()
        set_attributes(plan.dest, *plan.final())
        os.unlink(plan.staged)
    plan.staged = None


def note(module, plans):
    """Tell the host's ledger, which begins with its folder, what `apply` is about to do."""
    try:
        notes = ledger.load()
    except ledger.Damaged as error:
        raise Refused(str(error)) from error
    if notes is None and any(plan.state == 'directory' and plan.dest == ledger.FOLDER for plan in plans):
        notes = ledger.begin(module)
    if notes is None:
        return
    for plan in plans:
        if plan.changed or plan.state == 'directory':
            plan.note(notes)
    notes.save()


def apply(module, plans):
    """Carry the plans out: directories, then staging of all files, then the replacements in the task's order."""
    for plan in plans:
        if plan.state == 'directory' and plan.changed:
            if plan.replace:
                make_directories(module, plan.dest, *plan.final())
            else:
                set_attributes(plan.dest, *plan.final())
    try:
        for plan in plans:
            if plan.state == 'file' and plan.replace:
                stage(module, plan)
        for plan in plans:
            if plan.state == 'file' and plan.replace:
                install(plan)
            elif plan.state == 'file' and plan.fix_attributes:
                set_attributes(plan.dest, *plan.final())
            elif plan.state == 'link' and plan.replace:
                replace_link(plan)
            elif plan.state == 'absent' and plan.replace:
                if plan.is_dir:
                    shutil.rmtree(plan.dest)
                else:
                    os.unlink(plan.dest)
    finally:
        for plan in plans:
            if plan.staged is not None:
                try:
                    os.unlink(plan.staged)
                except OSError:
                    pass


def replace_link(plan):
    if plan.entry['parents']:
        os.makedirs(os.path.dirname(plan.dest), 0o755, exist_ok=True)
    temporary = '%s/%slink-%d' % (os.path.dirname(plan.dest), STAGE_PREFIX, os.getpid())
    os.symlink(plan.entry['target'], temporary)
    os.rename(temporary, plan.dest)


def sweep(plans):
    """Take away what a killed run staged; young files are left, they may be another run's."""
    for folder in set(os.path.dirname(plan.dest) for plan in plans if plan.state == 'file'):
        try:
            names = [name for name in os.listdir(folder) if name.startswith(STAGE_PREFIX)]
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                if time.time() - os.lstat(path).st_ctime > STALE_SECONDS:
                    os.unlink(path)
            except OSError:
                continue


class Writer:
    """The files of one task: planned when made, checked and installed by `write`.

    Errors of both: Refused, with a message for the user.
    """

    def __init__(self, module, payload):
        self.module = module
        entries = json.loads(zlib.decompress(base64.b64decode(payload)).decode('utf-8'))
        with told():
            self.plans = [Plan(entry, module.check_mode) for entry in entries]
        changed = [plan for plan in self.plans if plan.changed]
        # The destinations as the task names them, each once.
        self.changed = list(dict.fromkeys(plan.entry['dest'] for plan in changed))
        # Of these, what makes a unit restart: new contents, or (unless it is known that the unit has read this
        # content) new attributes. A unit is not restarted for a file that went away.
        self.replaced = [plan.entry['dest'] for plan in changed if plan.replace and plan.state != 'absent']
        self.touched = [plan.entry['dest'] for plan in changed if plan.fix_attributes]

    def write(self):
        """Bring the files about (not in check mode) and return the task's result."""
        result = {'changed': bool(self.changed), 'changed_files': self.changed}
        with told():
            if self.module._diff:
                result['diff'] = [plan.diff() for plan in self.plans if plan.changed]
            validate(self.module, self.plans)
            if not self.module.check_mode:
                note(self.module, self.plans)
                apply(self.module, self.plans)
                sweep(self.plans)
        return result


@contextlib.contextmanager
def told():
    """Make errors of the system into Refused."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = ' Free some space on that file system and run again.' if error.errno == errno.ENOSPC else ''
        raise Refused('%s: %s.%s' % (error.filename or 'a file of this task', reason, hint)) from error
