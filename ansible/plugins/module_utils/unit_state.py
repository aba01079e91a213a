# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Pure parts of unit_converger: reading `systemctl show`, and deciding what has to be started or restarted.

When is a unit restarted? When one of its declared files was replaced after its process started. Two sources tell:

1. The stamp in /run/k8s-ans/units, written after each start by unit_converger: the unit's InvocationID and a
   fingerprint (inode, size, mtime) of each file, taken before the start. While the unit still runs under that
   InvocationID, the fingerprints are compared, which no step of the clock can spoil.
2. Without a fitting stamp (first run, a reboot, a restart by systemd or by hand, a run killed between start and
   stamp) the files' ctime is compared with the start time of the main process. ctime, because the rename of a new file
   into its place sets it and nobody can set it back.

So the decision rests on what is on the host and not on what this run changed: a run that was killed after writing a
file and before restarting the unit is made good by the next one.
"""

from __future__ import annotations

import calendar
import fnmatch
import glob
import os
import re
import time

PROPERTIES = (
    'Id', 'LoadState', 'ActiveState', 'SubState', 'Type', 'UnitFileState', 'NeedDaemonReload', 'InvocationID',
    'ExecMainStartTimestamp', 'ActiveEnterTimestamp', 'NRestarts', 'Result', 'ExecMainCode', 'ExecMainStatus',
    'FragmentPath', 'Job',
)  # fmt: skip

# `2026-01-02T03:04:05+0000 host name[123]: text`
_JOURNAL_LINE = re.compile(r'^\S+ \S+ (?P<process>[^\s:]+): ?(?P<text>.*)$')
_SYSTEMD_NOISE = re.compile(
    r'Scheduled restart job|Start(ing|ed) |Stopp(ing|ed) |Start request repeated|Failed with result|Failed to start '
    r'|Deactivated successfully|Consumed '
)
# At each start the components of Kubernetes log their flags, some hundred lines.
_KLOG_FLAG = re.compile(r'^I\d{4} [\d:.]+ +\d+ flags\.go:\d+\] FLAG: ')
_STACK_TRACE = re.compile(r'goroutine \d+ .*\[.*\]:$')
_KLOG_HEAD = re.compile(r'^[IWEF]\d{4} [\d:.]+ +\d+ ')
_TIMES = re.compile(r'\d[\dTZ:.+-]{7,}')
_TIMESTAMP = re.compile(r'^\w{3} (\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))? UTC$')


def full_name(name):
    """Return the unit's name with its suffix: etcd becomes etcd.service."""
    kinds = ('.service', '.timer', '.socket', '.target', '.path', '.mount', '.slice')
    return name if name.endswith(kinds) else name + '.service'


def parse_show(text):
    """Return the units of `systemctl show a b c` as a list of dictionaries, in the order asked for."""
    units, current = [], {}
    for line in text.splitlines():
        if not line.strip():
            if current:
                units.append(current)
            current = {}
            continue
        key, sign, value = line.partition('=')
        if sign:
            current[key] = value
    if current:
        units.append(current)
    return units


def parse_timestamp(text):
    """Return a timestamp of `systemctl show --timestamp=us+utc` in seconds since 1970; 0.0 if there is none."""
    found = _TIMESTAMP.match(text or '')
    if not found:
        return 0.0
    seconds = calendar.timegm(time.strptime(found.group(1), '%Y-%m-%d %H:%M:%S'))
    return seconds + int((found.group(2) or '0').ljust(6, '0')) / 1e6


def started_at(state):
    """Return when the unit's main process started (or, without one, when the unit became active), in seconds."""
    return parse_timestamp(state.get('ExecMainStartTimestamp')) or parse_timestamp(state.get('ActiveEnterTimestamp'))


def expand(patterns):
    """Return the files that the paths and globs name, sorted; what does not exist is left out."""
    found = set()
    for pattern in patterns or []:
        if glob.has_magic(pattern):
            found.update(glob.glob(pattern))
        else:
            found.add(pattern)
    return sorted(path for path in found if os.path.exists(path))


def fingerprints(paths):
    """Return {path: [inode, size, mtime in ns]}; a replaced file differs, a chmod does not. Links are followed."""
    result = {}
    for path in paths:
        status = os.stat(path)
        result[path] = [status.st_ino, status.st_size, status.st_mtime_ns]
    return result


def newest_ctime(paths):
    """Return the latest ctime of the paths in seconds (of the link and of its target), 0.0 for none."""
    latest = 0.0
    for path in paths:
        latest = max(latest, os.stat(path).st_ctime, os.lstat(path).st_ctime)
    return latest


def files_changed(paths, kind, state, stamp, touched=()):
    """Tell whether files were replaced since the running process read them.

    paths: files that exist; kind: 'files' or 'reload_files'; state: the unit's properties; stamp: what
    unit_converger wrote after the last start or reload, or None; touched: in check mode, files whose attributes alone
    would change.
    """
    if stamp and stamp.get('invocation') and stamp['invocation'] == state.get('InvocationID') and kind in stamp:
        known = stamp[kind]
        # A path that the stamp does not know was not declared then: its ctime decides.
        if any(known[path] != mark for path, mark in fingerprints(paths).items() if path in known):
            return True
        paths = [path for path in paths if path not in known]
    return any(path in touched for path in paths) or newest_ctime(paths) > started_at(state)


def matches(patterns, changed):
    """Tell whether one of the changed paths is named by the paths and globs."""
    return any(path == pattern or fnmatch.fnmatchcase(path, pattern) for pattern in patterns or [] for path in changed)


def decide(wanted, state, stamp, pending, touched=()):
    """Return what to do with a unit that shall be started: 'start', 'restart', 'reload' or ''.

    wanted: {files, reload_files}; state: properties; stamp: see above; pending, touched: in check mode, paths
    whose contents, or whose attributes only, the run would change.
    """
    active = state.get('ActiveState')
    running = active in ('active', 'reloading') or (active == 'activating' and state.get('SubState') != 'auto-restart')
    if not running:
        # Also a unit that waits for its next automatic restart: starting it now saves the wait.
        return 'start'
    if matches(wanted['files'], pending) or files_changed(
        expand(wanted['files']), 'files', state, stamp, touched
    ):
        return 'restart'
    if active == 'activating':
        return ''
    if matches(wanted['reload_files'], pending) or files_changed(
        expand(wanted['reload_files']), 'reload_files', state, stamp, touched
    ):
        return 'reload'
    return ''


def verdict(state, before, restarts, max_restarts, end=None):
    """Judge a unit while waiting for it: ('ready' | 'wait' | 'failed', reason).

    state: properties now; before: InvocationID that must be gone, or None; restarts: the lowest NRestarts seen since
    the start; max_restarts: how many automatic restarts make a crash loop; end: exit_text of the last crash that was
    seen, as a process that was restarted just now has none of its own.
    """
    active = state.get('ActiveState')
    invocation = state.get('InvocationID') or ''
    renewed = before is None or (invocation != '' and invocation != before)
    queued = (state.get('Job') or '0') != '0'
    count = int(state.get('NRestarts') or 0)
    if count - restarts >= max_restarts:
        return 'failed', 'crashes again and again (%d automatic restarts since it was started): %s' % (
            count - restarts,
            end or exit_text(state),
        )
    if active == 'active' and renewed and not queued:
        return 'ready', ''
    if queued or not renewed:
        return 'wait', 'its job is still queued'
    if active == 'failed':
        return 'failed', 'failed: ' + exit_text(state)
    if active == 'inactive':
        if state.get('Type') == 'oneshot' and state.get('Result') == 'success':
            return 'ready', ''
        return 'failed', 'is not running: ' + exit_text(state)
    return 'wait', 'is %s (%s)' % (active, state.get('SubState'))


def exit_text(state):
    """Return systemd's own account of a unit's end, e.g. `Result=exit-code ExecMainStatus=1`."""
    return 'Result=%s ExecMainStatus=%s' % (state.get('Result') or '?', state.get('ExecMainStatus') or '?')


def telling_lines(lines):
    """Return those of a crash looping unit's journal lines (short-iso) that tell why, each message once (its last).

    Left out: systemd's account of starts and stops, the flags that a component was given, stack traces (from Go's
    `goroutine 1 [running]:` to the end of that process) and empty lines.
    """
    kept, tracing = {}, set()
    for line in lines:
        found = _JOURNAL_LINE.match(line)
        if not found or not found.group('text').strip():
            continue
        process, text = found.group('process'), found.group('text')
        if (process == 'systemd[1]' and _SYSTEMD_NOISE.search(text)) or _KLOG_FLAG.match(text):
            continue
        if _STACK_TRACE.match(text):
            tracing.add(process)
        if process in tracing:
            continue
        # Times, and klog's head with its process id, differ in what is otherwise the same message.
        key = _TIMES.sub('', _KLOG_HEAD.sub('', text))
        kept.pop(key, None)
        kept[key] = line
    return list(kept.values())
