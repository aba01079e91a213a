# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Takes mounts and folders away without ever going beyond them.

Nothing is deleted through a symbolic link or across a mount: what is mounted below a folder is another's, even where it
is a part of the same file system (a bind mount of somebody's home into a pod).
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat

from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger
from ansible_collections.k8s_ans.cluster.plugins.module_utils.reset_report import Failure, run


def below(path, folder):
    """Tell whether `path` lies in `folder`, which is not in itself."""
    return path.startswith(folder.rstrip('/') + '/')


def fstab_points():
    """Return the mount points that /etc/fstab names: those of an administrator."""
    try:
        with open('/etc/fstab', encoding='utf-8', errors='surrogateescape') as handle:
            fields = [line.split() for line in handle if not line.lstrip().startswith('#')]
    except OSError:
        return set()
    return set(ledger.unescape(words[1]) for words in fields if len(words) > 1)


def unmount(module, report, folders, patterns, kept):
    """Unmount what lies below `folders` or fits one of `patterns`, the last mounted first.

    kept: mount points that stay, since they were there before or are an administrator's.
    """
    targets = []
    for point in reversed(ledger.mount_points()):
        if not (any(below(point, folder) for folder in folders) or any(fnmatch.fnmatch(point, one) for one in patterns)):
            continue
        if point in kept:
            report.leave(point, 'it was mounted before, or /etc/fstab names it')
        else:
            targets.append(point)
    for point in targets:
        report.do('unmounted', point, lambda point=point: _unmount(module, point))


def _unmount(module, point):
    if point not in ledger.mount_points():
        # Gone with the pod, or with a mount that it was a copy of.
        return
    code, _out, _err = module.run_command(['umount', '--', point])
    if code != 0 and point in ledger.mount_points():
        # Something still holds a file open in it. Detached, it is out of reach at once and goes with its last user.
        run(module, ['umount', '--lazy', '--', point])


def empty(report, folder, keep=(), only=None, kept=()):
    """Delete what is in a folder.

    keep: names that were there before; only: patterns of names that are ours, None for all; kept: mount points that stay.
    """
    real = os.path.realpath(folder)
    try:
        names = sorted(os.listdir(real))
    except (FileNotFoundError, NotADirectoryError):
        return
    # In check mode all others would be unmounted by now.
    points = [point for point in ledger.mount_points() if not report.check or point in kept]
    for name in names:
        path = os.path.join(real, name)
        inside = [point for point in points if point == path or below(point, path)]
        if name in keep:
            report.leave(path, 'it was there before')
        elif only is not None and not any(fnmatch.fnmatch(name, one) for one in only):
            report.leave(path, 'it is nothing that k8s-ans makes')
        elif inside and set(inside).issubset(kept):
            if not report.check:
                _delete_around(path, inside)
            report.leave(path, 'mounted before: %s' % ', '.join(inside))
        else:
            report.do('removed', path, lambda path=path, inside=inside: delete(path, inside))


def delete(path, points=()):
    """Delete a file or a tree, all but what is mounted in it. FileNotFoundError: it was gone; Failure: a mount is left."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif not points:
        # Safe against links that somebody puts in the way meanwhile.
        shutil.rmtree(path)
    else:
        _delete_around(path, points)
        raise Failure('still mounted: %s' % ', '.join(points))


def _delete_around(path, points):
    """Delete what is in a tree but for the mount points and the folders that lead to them."""
    if path in points:
        return
    for entry in list(os.scandir(path)):
        inside = [point for point in points if point == entry.path or below(point, entry.path)]
        if inside:
            _delete_around(entry.path, inside)
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def remove_folder(report, path, why='not empty, of what somebody else made or what stays'):
    """Take a folder away if nothing is in it any more; else name what is."""
    if os.path.islink(path):
        report.leave(path, 'it is a symbolic link, which k8s-ans does not make')
        return
    if not os.path.isdir(path):
        return
    if os.path.ismount(path):
        report.leave(path, 'something is mounted there')
        return
    left = os.listdir(path)
    if report.check:
        # It is as empty as it will be but for what is listed by now.
        listed = set(report.done['removed'])
        left = [name for name in left if os.path.join(path, name) not in listed]
    if left:
        shown = ', '.join(sorted(left)[:5]) + (' and %d more' % (len(left) - 5) if len(left) > 5 else '')
        report.leave(path, '%s: %s' % (why, shown))
        return
    report.do('removed', path, lambda: os.rmdir(path))

