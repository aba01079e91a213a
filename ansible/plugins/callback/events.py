# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible callback that writes what a run does as JSON lines, for k8s-ans (docs/events.md)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: events
type: aggregate
short_description: Writes a run's events as JSON lines
description:
  - Writes one JSON object a line for each play, task, host start, result and retry, and for the final statistics.
  - The lines go to a channel of their own, so that neither C(-v) nor warnings mix with them.
  - Of a result only what was changed (files, units, objects), C(bytes_sent), C(old_pods) and what some modules say of a
    host (C(preflight), C(host_status), C(reset), C(etcd), C(certificates), C(upgrade)) are kept, in diff mode the differences, and on
    failure the message, the end of stderr and the unit's journal lines. Results of tasks with C(no_log) keep none of
    them.
  - The schema is described in C(docs/events.md).
author:
  - k8s-ans authors
options:
  events:
    description:
      - Where to write to, a file's path or C(fd:N) for an open file descriptor.
      - Without it the plugin does nothing.
    env:
      - name: K8S_ANS_EVENTS
    type: str
requirements:
  - enabled in C(callbacks_enabled) as C(k8s_ans.cluster.events)
"""

import difflib
import errno
import json
import os
import re
import signal
import time

from ansible import __version__ as ansible_version
from ansible.plugins.callback import CallbackBase

try:
    from cryptography import x509
except ImportError:
    # Then a certificate's difference is shown as it stands in the file.
    x509 = None

SCHEMA_VERSION = 1
MESSAGE_LIMIT = 4000
STDERR_LIMIT = 2000
# A certificate of a large key with many names, as base64.
CERTIFICATE_LIMIT = 20000
JOURNAL_LINES = 40
# Of a difference: texts larger than the first are not compared, and what is longer than the others is cut.
DIFF_SOURCE_LIMIT = 64 * 1024
DIFF_LIMIT = 16 * 1024
DIFFS_LIMIT = 256 * 1024
HIDDEN = "(hidden: the task has no_log)"
# Lists of texts that a result keeps: files, what was done to units, objects of the API, and what was done otherwise.
KEPT_LISTS = (
    "changed_files", "changed_objects", "started", "restarted", "reloaded", "stopped", "enabled", "removed", "done",
    "old_pods", "waiting",
)  # fmt: skip
# Dictionaries that a result keeps as they are, and how long a text in them may be.
KEPT_DICTIONARIES = {
    "preflight": MESSAGE_LIMIT,
    "host_status": MESSAGE_LIMIT,
    "reset": MESSAGE_LIMIT,
    "etcd": MESSAGE_LIMIT,
    "upgrade": MESSAGE_LIMIT,
    "certificates": CERTIFICATE_LIMIT,
}

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CERTIFICATES = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEYS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# The form of a bootstrap token; a bearer token in a header.
_TOKENS = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})")


def _now():
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def clean_text(value, limit=MESSAGE_LIMIT, tail=False):
    """Return text without terminal escapes, control characters and key material, at most `limit` characters."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, (list, tuple)):
        value = "\n".join(clean_text(item, limit) for item in value)
    elif not isinstance(value, str):
        value = str(value)
    value = without_secrets(value).strip()
    if len(value) > limit:
        value = "…" + value[-limit:] if tail else value[:limit] + "…"
    return value


def without_secrets(text):
    """Return text without terminal escapes, control characters and key material."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return _TOKENS.sub("(hidden)", _PRIVATE_KEYS.sub("(hidden: private key)", text))


def describe_certificate(match):
    """Return what a certificate says, for the match of its PEM text: a difference of base64 tells nobody anything."""
    pem = match.group(0)
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = [str(getattr(name, "value", name)) for name in names]
        except x509.ExtensionNotFound:
            names = []
        lines = ["certificate %s" % certificate.subject.rfc4514_string()]
        lines += ["issuer %s" % certificate.issuer.rfc4514_string()]
        lines += ["serial number %x" % certificate.serial_number]
        # `not_valid_after_utc` came with cryptography 42.
        expires = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after
        lines += ["expires %s" % expires.strftime("%Y-%m-%d")]
        lines += ["name %s" % name for name in names]
        return "\n".join(lines)
    except Exception:  # whatever is wrong with it: then it is shown as it is
        return pem


def diff_source(value):
    """Return one side of a difference as text to be compared, or None if it is no text or too large for that."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > DIFF_SOURCE_LIMIT:
        return None
    return without_secrets(value if x509 is None else _CERTIFICATES.sub(describe_certificate, value))


def diff_of(entry):
    """Return an entry of a result's `diff` for the event: header, text (unified, without head), added, removed."""
    header = clean_text(entry.get("after_header") or entry.get("before_header"), 500)
    old_header = clean_text(entry.get("before_header"), 500)
    found = {"file": header}
    if old_header and old_header != header:
        found["before"] = old_header
    if isinstance(entry.get("prepared"), str):
        text = without_secrets(entry["prepared"])
        lines = text.splitlines()
    else:
        before, after = diff_source(entry.get("before")), diff_source(entry.get("after"))
        if before is None or after is None:
            return found if header else None
        lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:]
    found["added"] = sum(1 for line in lines if line.startswith("+"))
    found["removed"] = sum(1 for line in lines if line.startswith("-"))
    text = "\n".join(lines)
    if len(text) > DIFF_LIMIT:
        text = text[:DIFF_LIMIT].rsplit("\n", 1)[0]
        found["cut"] = True
    found["text"] = text
    return found


def diffs_of(sources):
    """Return the differences of a result and its items, at most DIFFS_LIMIT characters of text in all."""
    found, size = [], 0
    for source in sources:
        # Some modules have a difference of nothing where nothing was changed.
        entries = source.get("diff") if source.get("changed") else None
        for entry in [entries] if isinstance(entries, dict) else entries if isinstance(entries, list) else []:
            one = diff_of(entry) if isinstance(entry, dict) else None
            if one is None or not (one["file"] or one.get("text")):
                continue
            size += len(one.get("text", ""))
            if size > DIFFS_LIMIT:
                one.update(text="", cut=True)
            found.append(one)
    return found


def clean_data(value, limit=MESSAGE_LIMIT, depth=0):
    """Return a JSON value with every string cleaned; anything else than JSON becomes text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < 6 and isinstance(value, dict):
        return {clean_text(key, 200): clean_data(item, limit, depth + 1) for key, item in value.items()}
    if depth < 6 and isinstance(value, (list, tuple)):
        return [clean_data(item, limit, depth + 1) for item in list(value)[:1000]]
    return clean_text(value, limit)


def phase_of(play):
    """Return the phase that a play belongs to: its name in lower case. Several plays may share one."""
    return clean_text(play.get_name(), 200).lower()


def is_rescued(task):
    """Tell whether the task stands in the `block:` part of a block that has a `rescue:`."""
    node, parent = task, getattr(task, "_parent", None)
    while parent is not None:
        if getattr(parent, "rescue", None) and any(
            getattr(item, "_uuid", None) == node._uuid for item in getattr(parent, "block", None) or []
        ):
            return True
        node, parent = parent, getattr(parent, "_parent", None)
    return False


def _strings(value):
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []


class CallbackModule(CallbackBase):
    """Writes the events; a write that fails never fails the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "k8s_ans.cluster.events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fd = None
        self._play = None
        self._started = {}
        # Of loops that go on, by host and task.
        self._items = {}
        self._counts = {}

    def set_options(self, task_keys=None, var_options=None, direct=None):
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        target = self.get_option("events")
        try:
            if not target:
                self.disabled = True
            elif target.startswith("fd:"):
                self._fd = int(target[3:])
                os.fstat(self._fd)
            else:
                self._fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            self._give_up("cannot open %s: %s" % (target, error))

    def _give_up(self, reason):
        self._fd = None
        self.disabled = True
        self._display.warning("k8s_ans.cluster.events: %s; the run goes on without events" % reason)

    def _emit(self, event, **fields):
        if self._fd is None:
            return
        record = {"event": event, "time": _now()}
        record.update((key, value) for key, value in fields.items() if value is not None)
        data = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._give_up(str(error))
            if error.errno == errno.EPIPE:
                # The k8s-ans process that reads the events is gone: end as on Ctrl-C, so that
                # no run goes on that nobody watches and that the next one would meet.
                os.kill(os.getpid(), signal.SIGINT)

    # Run and plays

    def v2_playbook_on_start(self, playbook):
        plays = [{"phase": phase_of(play)} for play in playbook.get_plays()]
        self._emit(
            "run_start",
            version=SCHEMA_VERSION,
            ansible=ansible_version,
            playbook=os.path.basename(getattr(playbook, "_file_name", "") or ""),
            plan=plays,
        )

    def v2_playbook_on_play_start(self, play):
        hosts = []
        try:
            inventory = play.get_variable_manager()._inventory
            hosts = [host.get_name() for host in inventory.get_hosts(play.hosts, order=play.order)]
        except Exception:  # not public: without it the hosts are known by their results
            pass
        self._play = play._uuid
        self._emit("play_start", play=play._uuid, phase=phase_of(play), hosts=hosts)

    def v2_playbook_on_no_hosts_matched(self):
        self._emit("no_hosts", play=self._play)

    def v2_playbook_on_stats(self, stats):
        hosts = {}
        for host in sorted(stats.processed):
            summary = stats.summarize(host)
            counts = self._counts.get(host, {})
            hosts[host] = {
                key: summary.get(key, 0)
                for key in ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")
            }
            hosts[host]["evaluated"] = counts.get("evaluated", 0)
            hosts[host]["items"] = counts.get("items", 0)
        self._emit("stats", hosts=hosts)

    # Tasks

    def _task_start(self, task, handler):
        role = getattr(task, "_role", None)
        self._emit(
            "task_start",
            play=self._play,
            task=task._uuid,
            name=clean_text(task.get_name(), 300),
            action=task.action,
            role=role.get_name() if role else None,
            path=task.get_path() or None,
            handler=True if handler else None,
        )

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._task_start(task, False)

    def v2_playbook_on_handler_task_start(self, task):
        self._task_start(task, True)

    def v2_runner_on_start(self, host, task):
        self._started[(host.get_name(), task._uuid)] = time.monotonic()
        self._emit("host_start", task=task._uuid, host=host.get_name())

    # Results

    def _result(self, outcome, status, unreachable=None):
        # `host`, `task` and `result` are public from ansible-core 2.19 on; the underscored names are older.
        host = (getattr(outcome, "host", None) or outcome._host).get_name()
        task = getattr(outcome, "task", None) or outcome._task
        data = getattr(outcome, "result", None)
        data = outcome._result if data is None else data
        hidden = "censored" in data or getattr(task, "no_log", False) is True or bool(data.get("_ansible_no_log"))
        items = [item for item in data.get("results") or [] if isinstance(item, dict)] if task.loop else []
        sources = [] if hidden else [data] + items

        counts = self._counts.setdefault(host, {"evaluated": 0, "items": 0})
        counts["evaluated"] += 1
        number = max(len(items), self._items.pop((host, task._uuid), 0))
        counts["items"] += number
        started = self._started.pop((host, task._uuid), None)
        fields = {
            "task": task._uuid,
            "host": host,
            "status": status,
            "duration": 0 if started is None else int((time.monotonic() - started) * 1000),
            "items": number or None,
            "items_changed": sum(1 for item in items if item.get("changed")) or None,
            # Told by the status as well, unless the playbook goes on without the host (`ignore_unreachable`).
            "unreachable": unreachable,
            "attempts": data.get("attempts") if isinstance(data.get("attempts"), int) else None,
        }
        for key in KEPT_LISTS:
            found = [clean_text(text, 500) for source in sources for text in _strings(source.get(key))]
            fields[key] = found or None
        sent = [source.get("bytes_sent") for source in sources]
        fields["bytes_sent"] = sum(n for n in sent if isinstance(n, int) and not isinstance(n, bool)) or None
        for source in sources:
            for key, limit in KEPT_DICTIONARIES.items():
                if isinstance(source.get(key), dict):
                    fields[key] = clean_data(source[key], limit)
        if getattr(task, "diff", False):
            fields["diff"] = diffs_of(sources) or None
        if status in ("failed", "unreachable", "rescued", "ignored"):
            fields["module"] = task.action
            if hidden:
                fields["msg"] = HIDDEN
            else:
                fields.update(self._cause(data, items))
        self._emit("result", **fields)

    @staticmethod
    def _cause(data, items):
        broken = [item for item in items if item.get("failed") or item.get("unreachable")]
        source = broken[0] if broken else data
        message = clean_text(source.get("msg") or source.get("reason") or data.get("msg"))
        if len(broken) > 1:
            message = "%s (%d of %d items failed; this is the first)" % (message, len(broken), len(items))
        cause = {
            "msg": message or "no message",
            "stderr": clean_text(source.get("stderr") or source.get("module_stderr"), STDERR_LIMIT, True) or None,
            "rc": source.get("rc") if isinstance(source.get("rc"), int) else None,
        }
        journal = source.get("journal") or data.get("journal")
        lines = journal.splitlines() if isinstance(journal, str) else _strings(journal)
        cause["journal"] = [clean_text(line, 1000) for line in lines[-JOURNAL_LINES:]] or None
        if cause["journal"] and cause["stderr"] == clean_text("\n".join(cause["journal"]), STDERR_LIMIT, True):
            cause["stderr"] = None
        units = [unit.get("name") for unit in source.get("failed_units") or [] if isinstance(unit, dict)]
        unit = source.get("unit") or (units[0] if units else None)
        cause["unit"] = clean_text(unit, 200) if isinstance(unit, str) else None
        return cause

    def _item(self, outcome):
        # `host` and `task` are public from ansible-core 2.19 on.
        key = (
            (getattr(outcome, "host", None) or outcome._host).get_name(),
            (getattr(outcome, "task", None) or outcome._task)._uuid,
        )
        self._items[key] = self._items.get(key, 0) + 1

    # Before ansible-core 2.19 the result of a loop with no_log does not say how many items there were.
    v2_runner_item_on_ok = v2_runner_item_on_failed = v2_runner_item_on_skipped = _item

    def v2_runner_on_ok(self, result):
        self._result(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        task = getattr(result, "task", None) or result._task
        self._result(result, "ignored" if ignore_errors else "rescued" if is_rescued(task) else "failed")

    def v2_runner_on_unreachable(self, result):
        task = getattr(result, "task", None) or result._task
        self._result(result, "ignored" if getattr(task, "ignore_unreachable", False) else "unreachable", True)

    def v2_runner_retry(self, result):
        task = getattr(result, "task", None) or result._task
        data = getattr(result, "result", None) or result._result
        host = (getattr(result, "host", None) or result._host).get_name()
        self._emit(
            "retry", task=task._uuid, host=host, attempt=data.get("attempts", 0), retries=data.get("retries", 0)
        )
