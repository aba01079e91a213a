# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Brings a host's systemd units to their state together, and waits for them once (modules units and files)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from urllib.parse import urlsplit

from ansible_collections.k8s_ans.cluster.plugins.module_utils import unit_state

STAMPS = '/run/k8s-ans/units'
UNIT_FOLDER = '/etc/systemd/system'
POLL_SECONDS = 0.15
PROBE_SECONDS = 2.0
# A unit of a type that does not report readiness must have run for so long, if nothing else tells that it works; the
# second figure is for one that systemd had to restart, which may be met between two crashes.
SETTLE_SECONDS = 0.5
SETTLE_RESTARTED_SECONDS = 5
JOURNAL_LINES = 30
# Of a unit that crashed again and again, so many lines are searched for those that tell something.
JOURNAL_SEARCH_LINES = 1500

_PROBE_OPTIONS = {
    'url': {'type': 'str'},
    'ca': {'type': 'path'},
    'cert': {'type': 'path'},
    'key': {'type': 'path', 'no_log': False},
    'server_name': {'type': 'str'},
    'status': {'type': 'int', 'default': 200},
    'tcp': {'type': 'str'},
    'unix': {'type': 'path'},
}
_WAIT_OPTIONS = dict(_PROBE_OPTIONS, timeout={'type': 'int'})
_UNIT_OPTIONS = {
    'name': {'type': 'str', 'required': True},
    'state': {'type': 'str', 'choices': ['started', 'stopped', 'absent', 'loaded'], 'default': 'started'},
    'enabled': {'type': 'bool'},
    'files': {'type': 'list', 'elements': 'str', 'default': []},
    'reload_files': {'type': 'list', 'elements': 'str', 'default': []},
    'wait': {'type': 'dict', 'options': _WAIT_OPTIONS},
}
# Of the module that uses this; its documentation is in doc_fragments/units.py.
ARGUMENTS = {
    'units': {'type': 'list', 'elements': 'dict', 'options': _UNIT_OPTIONS},
    'timeout': {'type': 'int', 'default': 120},
    'max_restarts': {'type': 'int', 'default': 3},
    'pending_files': {'type': 'list', 'elements': 'str', 'default': []},
}
# Of module files alone: what keeps hosts that depend on each other from being changed at once.
GATE_ARGUMENTS = {
    'hold': {'type': 'list', 'elements': 'str', 'default': []},
    'gate': {'type': 'list', 'elements': 'dict', 'options': _PROBE_OPTIONS, 'default': []},
    'gate_timeout': {'type': 'int', 'default': 60},
}


class Failed(Exception):
    """The units cannot be brought to their state: the message is for the user, `result` for the task's result."""

    def __init__(self, message, **result):
        super().__init__(message)
        self.result = result


def show(module, names):
    """Return the properties of the units, keyed by the names asked for."""
    command = ['systemctl', 'show', '--timestamp=us+utc', '--property=' + ','.join(unit_state.PROPERTIES)]
    code, out, err = module.run_command(command + names, environ_update={'LC_ALL': 'C'})
    if code != 0:
        raise Failed('systemctl show failed: %s' % (err or out).strip())
    states = unit_state.parse_show(out)
    if len(states) != len(names):
        raise Failed('systemctl show answered for %d of %d units' % (len(states), len(names)))
    return dict(zip(names, states))


def systemctl(module, words, **details):
    """Run systemctl; a failure ends the task with systemd's own words."""
    code, out, err = module.run_command(['systemctl'] + words)
    if code != 0:
        raise Failed('systemctl %s failed: %s' % (' '.join(words), (err or out).strip()), **details)


def read_stamp(name):
    try:
        with open(os.path.join(STAMPS, name + '.json')) as handle:
            stamp = json.load(handle)
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def write_stamp(name, stamp):
    os.makedirs(STAMPS, 0o755, exist_ok=True)
    path = os.path.join(STAMPS, name + '.json')
    temporary = path + '.new'
    with open(temporary, 'w') as handle:
        json.dump(stamp, handle)
    os.rename(temporary, path)


def probe(wait):
    """Ask once whether the unit answers: '' if it does, else what it said."""
    try:
        if wait.get('url'):
            return probe_url(wait)
        if wait.get('tcp'):
            host, _sep, port = wait['tcp'].rpartition(':')
            socket.create_connection((host.strip('[]'), int(port)), PROBE_SECONDS).close()
            return ''
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PROBE_SECONDS)
            client.connect(wait['unix'])
        return ''
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def probe_url(wait):
    # Not for every call: together they take longer to load than the rest of the module.
    import http.client

    from ansible_collections.k8s_ans.cluster.plugins.module_utils.tls import client_context

    parts = urlsplit(wait['url'])
    path = (parts.path or '/') + ('?' + parts.query if parts.query else '')
    if parts.scheme == 'https':
        context = client_context(wait.get('ca'), wait.get('cert'), wait.get('key'))
        raw = socket.create_connection((parts.hostname, parts.port or 443), PROBE_SECONDS)
        try:
            stream = context.wrap_socket(raw, server_hostname=wait.get('server_name') or parts.hostname)
        except BaseException:
            raw.close()
            raise
        client = http.client.HTTPConnection(parts.hostname, parts.port or 443, timeout=PROBE_SECONDS)
        client.sock = stream
    else:
        client = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=PROBE_SECONDS)
    try:
        client.request('GET', path, headers={'Host': parts.netloc, 'Connection': 'close'})
        answer = client.getresponse()
        body = answer.read(2000).decode('utf-8', 'replace').strip()
        if answer.status == (wait.get('status') or 200):
            return ''
        return '%d %s%s' % (answer.status, answer.reason, ': ' + body[-300:] if body else '')
    except http.client.HTTPException as error:
        return str(error) or type(error).__name__
    finally:
        client.close()


def describe(wait):
    return wait.get('url') or wait.get('tcp') or wait.get('unix')


def journal(module, name, crashed_since=None):
    """Return the unit's last journal lines, oldest first.

    crashed_since: since when (seconds since 1970) the unit has been in a crash loop; then only the lines that tell
    something are returned, so that they are not lost among those of the restarts.
    """
    if crashed_since is not None:
        found = unit_state.telling_lines(
            read_journal(module, name, '-n', str(JOURNAL_SEARCH_LINES), '--since=@%d' % crashed_since)
        )
        if found:
            return found[-JOURNAL_LINES:]
    return read_journal(module, name, '-n', str(JOURNAL_LINES))


def read_journal(module, name, *options):
    code, out, err = module.run_command(
        ['journalctl', '--no-pager', '--quiet', '--output=short-iso', '-u', name] + list(options)
    )
    return (out if code == 0 else err).splitlines()[-JOURNAL_SEARCH_LINES:]


class Barrier:
    """Waits for several units at once."""

    def __init__(self, module, wanted, befores, result):
        self.module = module
        self.wanted = {unit['name']: unit for unit in wanted}
        # InvocationIDs that must be gone, of the units that were restarted.
        self.befores = befores
        self.result = result
        self.reasons = {}
        self.restarts = {}
        self.crashed = set()
        self.ends = {}
        self.answered = set()
        self.fresh = set(result['started']) | set(result['restarted'])
        self.begin = time.monotonic()
        # A whole second before: the units were started just now.
        self.since = time.time() - 1

    def run(self):
        """Return the final states; Failed, with a journal, when a unit fails or the time is over."""
        pending = list(self.wanted)
        while True:
            states = show(self.module, pending)
            failed = [(name, self.reasons[name]) for name in pending if self.judge(name, states[name]) == 'failed']
            if failed:
                self.fail(failed)
            waiting = [name for name in pending if name in self.reasons]
            if not waiting:
                if len(pending) == len(self.wanted):
                    return states
                # Once more all of them: one may have died while the others were waited for.
                pending = list(self.wanted)
                continue
            pending = waiting
            late = [(name, self.late(name)) for name in waiting if self.is_late(name)]
            if late:
                self.fail(late)
            time.sleep(POLL_SECONDS)

    def judge(self, name, state):
        unit = self.wanted[name]
        count = int(state.get('NRestarts') or 0)
        lowest = self.restarts[name] = min(count, self.restarts.get(name, count))
        if count > lowest or (count > 0 and state.get('ActiveState') == 'failed'):
            self.crashed.add(name)
        if state.get('Result') not in (None, '', 'success'):
            self.ends[name] = unit_state.exit_text(state)
        word, reason = unit_state.verdict(
            state, self.befores.get(name), lowest, self.module.params['max_restarts'], self.ends.get(name)
        )
        if word == 'ready' and unit['wait'] and name not in self.answered:
            said = probe(unit['wait'])
            if said:
                word, reason = 'wait', 'is active, but %s does not answer as it should: %s' % (
                    describe(unit['wait']),
                    said,
                )
            else:
                self.answered.add(name)
        elif word == 'ready' and not unit['wait'] and self.unsettled(name, state):
            word, reason = 'wait', 'was started just now'
        if word == 'ready':
            self.reasons.pop(name, None)
        else:
            self.reasons[name] = reason
        return word

    def unsettled(self, name, state):
        if state.get('Type') not in ('simple', 'exec', 'forking', 'idle'):
            return False
        crashed = int(state.get('NRestarts') or 0) > 0
        least = SETTLE_RESTARTED_SECONDS if crashed else SETTLE_SECONDS if name in self.fresh else 0
        return 0 <= time.time() - unit_state.started_at(state) < least

    def limit(self, name):
        return (self.wanted[name]['wait'] or {}).get('timeout') or self.module.params['timeout']

    def is_late(self, name):
        return time.monotonic() - self.begin > self.limit(name)

    def late(self, name):
        return '%s (waited %d s)' % (self.reasons[name], self.limit(name))

    def fail(self, failures):
        first = failures[0][0]
        raise Failed(
            '%s. See its journal: journalctl -u %s' % ('; '.join('%s %s' % failure for failure in failures), first),
            failed_units=[{'name': name, 'reason': reason} for name, reason in failures],
            # Of the first only: the result is shown and kept whole by Ansible.
            journal=journal(self.module, first, self.since if first in self.crashed else None),
            **self.result,
        )


def checked(module):
    """Return the wanted units with full names and defaults."""
    wanted, seen = [], set()
    for unit in module.params['units']:
        unit = dict(unit, name=unit_state.full_name(unit['name']))
        if unit['name'] in seen:
            raise Failed('%s is in the list twice' % unit['name'])
        seen.add(unit['name'])
        if unit['wait']:
            given = [key for key in ('url', 'tcp', 'unix') if unit['wait'].get(key)]
            if len(given) != 1:
                raise Failed('%s: wait needs exactly one of url, tcp, unix' % unit['name'])
        if unit['enabled'] is None:
            unit['enabled'] = unit['state'] == 'started'
        own = os.path.join(UNIT_FOLDER, unit['name'])
        unit['files'] = unit['files'] + [own, own + '.d/*.conf']
        wanted.append(unit)
    return wanted


def stop(module, wanted, states, result, dry):
    """Stop and take away what shall not run."""
    unwanted = [unit for unit in wanted if unit['state'] in ('stopped', 'absent')]
    running = [
        unit['name'] for unit in unwanted if states[unit['name']].get('ActiveState') not in ('inactive', 'failed', None)
    ]
    result['stopped'] = running
    if running and not dry:
        systemctl(module, ['stop'] + running, **result)
    for unit in unwanted:
        name = unit['name']
        if unit['state'] != 'absent':
            continue
        own = os.path.join(UNIT_FOLDER, name)
        if states[name].get('UnitFileState', '').startswith('enabled'):
            result['enabled'].append(name)
            if not dry:
                systemctl(module, ['disable', name], **result)
        if os.path.lexists(own) or os.path.isdir(own + '.d'):
            result['removed'].append(name)
            if not dry:
                shutil.rmtree(own + '.d', ignore_errors=True)
                if os.path.lexists(own):
                    os.unlink(own)
    if result['removed'] and not dry:
        systemctl(module, ['daemon-reload'], **result)
        # Forget failures of units that are gone; not knowing them is no error.
        module.run_command(['systemctl', 'reset-failed'] + result['removed'])


def enable(module, wanted, states, result, dry):
    """Switch the start at boot on or off; units without an [Install] section (static) are left."""
    on, off = [], []
    for unit in wanted:
        current = states[unit['name']].get('UnitFileState', '')
        if unit['state'] in ('absent', 'loaded'):
            continue
        if unit['enabled'] and current not in ('enabled', 'static', 'generated', 'alias', 'transient', 'indirect'):
            on.append(unit['name'])
        elif not unit['enabled'] and current in ('enabled', 'enabled-runtime'):
            off.append(unit['name'])
    result['enabled'].extend(on + off)
    if dry:
        return
    if on:
        systemctl(module, ['enable'] + on, **result)
    if off:
        systemctl(module, ['disable'] + off, **result)


def pass_gate(module):
    """Wait until all probes of `gate` answer; Failed, naming those that do not. Nothing is changed before."""
    pending = list(module.params['gate'])
    deadline = time.monotonic() + module.params['gate_timeout']
    while pending:
        said = [(wait, probe(wait)) for wait in pending]
        pending = [wait for wait, reason in said if reason]
        if not pending:
            return
        if time.monotonic() > deadline:
            reasons = '; '.join('%s: %s' % (describe(wait), reason) for wait, reason in said if reason)
            raise Failed(
                'nothing was changed on this host, since its peers must work while it is changed, and not all do: %s. '
                'Mend them first' % reasons
            )
        time.sleep(POLL_SECONDS)


class Converger:
    """The units of one task: checked when made (before the host is changed), brought to their state by `converge`.

    Errors of both: Failed.
    """

    def __init__(self, module):
        self.module = module
        self.wanted = checked(module)
        if self.wanted and not os.path.isdir('/run/systemd/system'):
            raise Failed('this host is not run by systemd (there is no /run/systemd/system)')

    def held(self, files_changed, replaced, touched):
        """Tell whether one of the units of `hold` works, and this task would change anything (not in check mode).

        A unit that does not work has nothing to lose by being changed now.
        """
        names = [unit_state.full_name(name) for name in self.module.params['hold']]
        if not names or self.module.check_mode:
            return False
        if not files_changed and not self.converge(replaced, touched, dry=True)['changed']:
            return False
        states = show(self.module, names)
        waits = dict((unit['name'], unit['wait']) for unit in self.wanted)
        return any(
            states[name].get('ActiveState') == 'active' and (not waits.get(name) or not probe(waits[name]))
            for name in names
        )

    def converge(self, replaced=(), touched=(), dry=None):
        """Return the task's result.

        replaced, touched: in check mode, files of this task whose contents or only attributes would change.
        dry: foretell only, as in check mode.
        """
        dry = self.module.check_mode if dry is None else dry
        replaced = list(replaced) + self.module.params['pending_files'] if dry else []
        touched = list(touched) if dry else []
        result = {key: [] for key in ('started', 'restarted', 'reloaded', 'stopped', 'enabled', 'removed')}
        result['changed'] = False
        if not self.wanted:
            return dict(result, waited=0.0)
        try:
            waited = self._converge(result, replaced, touched, dry)
        except OSError as error:
            reason = '%s: %s' % (error.filename or 'a unit of this task', error.strerror or error)
            raise Failed(reason, **result) from error
        return dict(result, waited=waited)

    def _converge(self, result, replaced, touched, dry):
        """Fill `result` and return the seconds waited."""
        wanted = self.wanted
        names = [unit['name'] for unit in wanted]
        states = show(self.module, names)
        stale = [
            unit['name']
            for unit in wanted
            if states[unit['name']].get('NeedDaemonReload') == 'yes'
            or (states[unit['name']].get('LoadState') == 'not-found' and unit['state'] == 'started')
        ]
        if stale and not dry:
            systemctl(self.module, ['daemon-reload'])
            states = show(self.module, names)
            lost = [
                unit['name']
                for unit in wanted
                if unit['state'] == 'started' and states[unit['name']].get('LoadState') not in ('loaded', 'merged')
            ]
            if lost:
                raise Failed(
                    '%s: systemd cannot load it (LoadState=%s); its unit file must be there before it is started'
                    % (lost[0], states[lost[0]].get('LoadState')),
                    **result,
                )

        stop(self.module, wanted, states, result, dry)
        enable(self.module, wanted, states, result, dry)

        wanted = [unit for unit in wanted if unit['state'] == 'started']
        marks = {}
        reload_changed = []
        for unit in wanted:
            name = unit['name']
            # Taken before the start, so that a file replaced meanwhile is noticed by the next run.
            marks[name] = {
                kind: unit_state.fingerprints(unit_state.expand(unit[kind])) for kind in ('files', 'reload_files')
            }
            what = unit_state.decide(unit, states[name], read_stamp(name), replaced, touched)
            if what == 'start':
                result['started'].append(name)
            elif what == 'restart':
                result['restarted'].append(name)
            elif what == 'reload':
                reload_changed.append(name)
        result['reloaded'] = reload_changed
        result['changed'] = any(result.values())
        if dry:
            return 0.0

        befores = {name: states[name].get('InvocationID') or '' for name in result['restarted']}
        begin = time.monotonic()
        failed = [name for name in result['started'] if states[name].get('ActiveState') in ('failed', 'activating')]
        if failed:
            # Clears the start limit and the counter of automatic restarts.
            self.module.run_command(['systemctl', 'reset-failed'] + failed)
        looping = [name for name in failed if states[name].get('ActiveState') == 'activating']
        plain = [name for name in result['started'] if name not in looping]
        if plain:
            systemctl(self.module, ['start', '--no-block'] + plain, **result)
        if looping + result['restarted']:
            systemctl(self.module, ['restart', '--no-block'] + looping + result['restarted'], **result)
        if result['reloaded']:
            systemctl(self.module, ['reload'] + result['reloaded'], **result)

        final = Barrier(self.module, wanted, befores, result).run() if wanted else {}
        for unit in wanted:
            name = unit['name']
            stamp = dict(marks[name], invocation=final[name].get('InvocationID') or '')
            if stamp != read_stamp(name) and worth_a_stamp(name, result, states, final):
                write_stamp(name, stamp)
        return round(time.monotonic() - begin, 2)


def worth_a_stamp(name, result, before, after):
    """Tell whether the running process is known to have read the files as they are now."""
    if name in result['started'] or name in result['restarted'] or name in result['reloaded']:
        return True
    # Not touched by this run, and not restarted meanwhile: the decision found nothing newer than the process.
    return before[name].get('InvocationID') == after[name].get('InvocationID')
