# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Takes the files and folders away that the ledger names, and gives back what stood in their places."""

from __future__ import annotations

import glob
import os
import stat
import tempfile

from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_entries, ledger, reset_trees

# What a killed module leaves beside its destinations (file_writer.py, host_store.py).
STAGED = '.k8s-ans-stage-*'


def clear_data(report, notes, data, kept):
    """Empty the folders of `data` (path, names), as far as what is in them is ours.

    A folder that we made is emptied whole. Of one that was there before, what it held then stays, and of the rest only
    what fits `names` goes. A folder that the ledger does not know is not touched: the spec may name another one today.
    """
    made, found = notes.content['made'], notes.content['found']
    for item in data:
        path, names = item['path'], item['names'] or None
        if not os.path.isdir(path):
            continue
        if path in made:
            reset_trees.empty(report, path, kept=kept)
        elif path in found:
            keep = [name for name in found[path] if os.path.join(path, name) not in made]
            reset_trees.empty(report, path, keep=keep, only=names, kept=kept)
        elif path in ledger.RUNTIME_FOLDERS or notes.adopted:
            reset_trees.empty(report, path, only=names, kept=kept)
        else:
            report.leave(path, 'the ledger does not know it')
            continue
        if path not in made and path not in found and not os.path.ismount(path):
            reset_trees.remove_folder(report, path)


def remove_blocks(report, notes):
    """Take our blocks out of other people's files; the rest of a file stays byte for byte."""
    blocks = dict(notes.content['blocks'])
    if notes.adopted:
        blocks.setdefault('/etc/hosts', [[file_entries.MARKER_BEGIN, file_entries.MARKER_END, False]])
    for path, marks in sorted(blocks.items()):
        try:
            with open(path, 'rb') as handle:
                before = handle.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        text = before.decode('utf-8', 'surrogateescape')
        for begin, end, lacked_newline in marks:
            text = file_entries.put_block(text, '', begin, end)
            if lacked_newline and text.endswith('\n'):
                text = text[:-1]
        after = text.encode('utf-8', 'surrogateescape')
        if after == before:
            continue
        if not after and path in notes.content['made']:
            report.do('removed', path, lambda path=path: os.unlink(path))
        else:
            report.do('restored', path, lambda path=path, after=after: write(path, after, os.stat(path)))


def restore_attributes(report, notes):
    """Give back mode and owner."""
    for path, old in sorted(notes.content['attributes'].items()):
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if ledger.owner_of(status) != old:
            report.do('restored', '%s (mode and owner)' % path, lambda path=path, old=old: set_attributes(path, old))


def remove_files(report, notes, known, transient):
    """Take away the files that we made, and put back those that we wrote over.

    known: patterns of what versions without a ledger made; transient: patterns of what components make in our folders.
    """
    made, found = notes.content['made'], notes.content['found']
    paths = set(path for path, kind in made.items() if kind != 'directory' and path not in notes.content['blocks'])
    # Some are folders, as that in which binaries arrive.
    arrivals = [path for pattern in transient for path in glob.glob(pattern) if os.path.isdir(path)]
    for path in arrivals:
        if not os.path.islink(path):
            report.do('removed', path, lambda path=path: reset_trees.delete(path))
    for pattern in transient + (known if notes.adopted else []):
        paths.update(
            path
            for path in glob.glob(pattern)
            if (not os.path.isdir(path) or os.path.islink(path))
            and os.path.basename(path) not in found.get(os.path.dirname(path), ())
        )
    for folder in (path for path, kind in made.items() if kind == 'directory'):
        paths.update(glob.glob(os.path.join(glob.escape(folder), STAGED)))
    for path in sorted(paths):
        if os.path.isdir(path) and not os.path.islink(path):
            report.leave(path, 'it is a folder now')
        elif os.path.lexists(path):
            report.do('removed', path, lambda path=path: os.unlink(path))
    for path, old in sorted(notes.content['replaced'].items()):
        restore(report, path, old)


def restore(report, path, old):
    """Put back what we wrote over."""
    if 'target' in old:
        if not (os.path.islink(path) and os.readlink(path) == old['target']):
            report.do('restored', path, lambda: relink(path, old['target']))
        return
    try:
        with open(os.path.join(ledger.FOLDER, ledger.COPIES, old['copy']), 'rb') as handle:
            content = handle.read()
    except FileNotFoundError:
        report.leave(path, 'the copy of what stood there before is lost')
        return
    try:
        status = os.lstat(path)
        with open(path, 'rb') as handle:
            same = stat.S_ISREG(status.st_mode) and dict(ledger.owner_of(status), copy=old['copy']) == old and handle.read() == content
    except OSError:
        same = False
    if not same:
        report.do('restored', path, lambda: write(path, content, old))


def remove_folders(report, notes, known, snapshots=()):
    """Take away the folders that we made, where nothing is in them any more; the deepest first.

    snapshots: folders whose contents stay: they are what a cluster can be made anew from.
    """
    paths = set(path for path, kind in notes.content['made'].items() if kind == 'directory' and path != ledger.FOLDER)
    if notes.adopted:
        paths.update(path for pattern in known for path in glob.glob(pattern) if os.path.isdir(path))
    # Of the folders that components make, those that were not there before and hold nothing any more.
    quiet = [path for path in ledger.RUNTIME_FOLDERS if path not in notes.content['found'] and path not in paths]
    for path in sorted(paths.union(quiet), key=lambda path: (-path.count('/'), path)):
        if path not in quiet or not os.path.islink(path):
            why = ['snapshots of etcd, which are yours to keep or to remove'] if path in snapshots else []
            reset_trees.remove_folder(report, path, *why)


def write(path, content, old):
    """Replace a file in one step, with mode and owner as given (a stat result or a ledger's note)."""
    note = old if isinstance(old, dict) else ledger.owner_of(old)
    path = os.path.realpath(path)
    if os.path.ismount(path):
        # As /etc/hosts in a container: it can only be written in place.
        with open(path, 'r+b') as handle:
            handle.write(content)
            handle.truncate()
        set_attributes(path, note)
        return
    handle, temporary = tempfile.mkstemp(prefix='.k8s-ans-stage-', dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, 'wb') as out:
            out.write(content)
        set_attributes(temporary, note)
        copy_label(path, temporary)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def copy_label(path, other):
    """Give `other` the SELinux context of `path`, where there is one."""
    try:
        os.setxattr(other, 'security.selinux', os.getxattr(path, 'security.selinux'))
    except OSError:
        # No file there yet, or no SELinux.
        return


def relink(path, target):
    """Put a symbolic link back."""
    temporary = '%s/.k8s-ans-stage-link-%d' % (os.path.dirname(path), os.getpid())
    os.symlink(target, temporary)
    os.rename(temporary, path)


def set_attributes(path, note):
    """Set owner, then mode, which a change of owner clears in part."""
    os.chown(path, note['uid'], note['gid'])
    os.chmod(path, note['mode'])
