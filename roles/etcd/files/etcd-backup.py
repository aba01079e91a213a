#!/usr/bin/env python3
"""Takes a snapshot of the etcd member on this host, proves it, and keeps the newest of them.

Run by etcd-backup.timer and by `k8s-ans etcd backup`; the result is one JSON object on stdout. A snapshot is in its
place only when it is whole and proved: what a run that was killed leaves behind is taken away by the next one.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

DRAFT = ".draft-"
LOCK = ".lock"
CHUNK = 1024 * 1024
# etcd appends the sha256 of the database to a snapshot; a database is a multiple of 512 bytes.
# https://github.com/etcd-io/etcd/blob/v3.6.14/etcdutl/snapshot/v3_snapshot.go (hasChecksum)
SECTOR = 512
TRAILER = hashlib.sha256().digest_size
# Left free on the file system beside the snapshot.
RESERVE = 64 * 1024 * 1024
# No key of Kubernetes; status and snapshot need no more than a living member.
STATUS_TIMEOUT = 20


class BackupError(Exception):
    """No snapshot was taken; the message says why and what to do."""


def digests(path):
    """The sha256 of a snapshot file, and whether its own trailer fits its content."""
    size = os.path.getsize(path)
    if size % SECTOR != TRAILER:
        return None, False
    content = hashlib.sha256()
    left = size - TRAILER
    with open(path, "rb") as handle:
        while left:
            chunk = handle.read(min(CHUNK, left))
            if not chunk:
                return None, False
            content.update(chunk)
            left -= len(chunk)
        trailer = handle.read()
    whole = content.copy()
    whole.update(trailer)
    return whole.hexdigest(), trailer == content.digest()


def name_pattern(cluster):
    """What the snapshots of a cluster are called, without suffix; nothing else is ever taken away."""
    return re.compile(r"^%s-\d{8}T\d{6}Z$" % re.escape(cluster))


def outdated(names, cluster, keep):
    """The snapshots among the file names that the rule does not keep: all but the newest `keep`."""
    pattern = name_pattern(cluster)
    found = sorted(name[:-3] for name in names if name.endswith(".db") and pattern.match(name[:-3]))
    return found[: max(0, len(found) - keep)]


def prune(directory, cluster, keep):
    """Take away what the rule does not keep, and sidecars without a snapshot; returns the names."""
    names = os.listdir(directory)
    gone = outdated(names, cluster, keep)
    for name in gone:
        os.unlink(os.path.join(directory, name + ".db"))
    pattern = name_pattern(cluster)
    for name in names:
        stem = name[: -len(".json")]
        if name.endswith(".json") and pattern.match(stem):
            if not os.path.exists(os.path.join(directory, stem + ".db")):
                os.unlink(os.path.join(directory, name))
    return gone


def run(command, timeout):
    """The output of a command; BackupError with its last words when it fails."""
    what = os.path.basename(command[0])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except OSError as error:
        raise BackupError("%s cannot be run: %s" % (command[0], error.strerror)) from None
    except subprocess.TimeoutExpired:
        raise BackupError("%s did not end within %d seconds" % (what, timeout)) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise BackupError("%s failed: %s" % (what, said[-1] if said else "exit code %d" % done.returncode))
    return done.stdout.decode("utf-8")


def answer(text, what):
    """The JSON that a program printed."""
    try:
        return json.loads(text)
    except ValueError:
        raise BackupError("%s printed something that is not JSON" % what) from None


def fsync(path):
    """Have a file or folder on the disk before it is relied on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take(options):
    """Take and keep one snapshot; returns what there is to know of it."""
    etcdctl = [options.etcdctl, "--endpoints", options.endpoint, "--cacert", options.cacert]
    etcdctl += ["--cert", options.cert, "--key", options.key, "--dial-timeout=5s"]
    said = answer(run(etcdctl + ["endpoint", "status", "-w", "json"], STATUS_TIMEOUT), "etcdctl endpoint status")
    status = said[0]["Status"]
    free = shutil.disk_usage(options.directory).free
    if free < status["dbSize"] + RESERVE:
        raise BackupError(
            "no room in %s: the database has %d MiB, %d MiB are free. Free some space there, or keep fewer snapshots"
            % (options.directory, status["dbSize"] // 1048576 + 1, free // 1048576)
        )

    moment = datetime.datetime.now(datetime.timezone.utc)
    name = "%s-%s" % (options.cluster, moment.strftime("%Y%m%dT%H%M%SZ"))
    file = os.path.join(options.directory, name + ".db")
    if os.path.exists(file):
        time.sleep(1.1)
        return take(options)
    draft = os.path.join(options.directory, DRAFT + name)
    run(etcdctl + ["snapshot", "save", draft + ".db"], options.timeout)
    os.chmod(draft + ".db", 0o600)
    sha256, sound = digests(draft + ".db")
    if not sound:
        raise BackupError("the snapshot's own checksum does not fit its content: it was damaged on its way to the disk")
    # Walks the whole database, and refuses one whose pages do not fit together.
    found = answer(run([options.etcdutl, "snapshot", "status", "-w", "json", draft + ".db"], options.timeout), "etcdutl")
    about = {
        "version": 1,
        "cluster": options.cluster,
        "member": options.member,
        "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": found["revision"],
        "hash": "%08x" % found["hash"],
        "keys": found["totalKey"],
        "size": os.path.getsize(draft + ".db"),
        "sha256": sha256,
        "etcd": status["version"],
        "storage": found.get("version") or "",
        "kubernetes": options.kubernetes,
    }
    with open(os.open(draft + ".json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        json.dump(about, handle, indent=2)
        handle.write("\n")
    for suffix in (".json", ".db"):
        fsync(draft + suffix)
        os.rename(draft + suffix, os.path.join(options.directory, name + suffix))
    fsync(options.directory)
    return dict(about, file=file)


def backup(options):
    """One run: alone in its folder, from the leftovers of the last one to the retention rule."""
    os.umask(0o077)
    os.makedirs(options.directory, 0o700, exist_ok=True)
    with open(os.path.join(options.directory, LOCK), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError("another backup into %s is going on" % options.directory) from None
        for name in os.listdir(options.directory):
            if name.startswith(DRAFT):
                os.unlink(os.path.join(options.directory, name))
        try:
            taken = take(options)
        except BaseException:
            for name in os.listdir(options.directory):
                if name.startswith(DRAFT):
                    os.unlink(os.path.join(options.directory, name))
            raise
        return dict(taken, removed=prune(options.directory, options.cluster, options.keep))


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def main():
    """Entry point."""
    parser = argparse.ArgumentParser(description="Take a snapshot of the etcd member on this host.")
    for name in ("cluster", "member", "directory", "etcdctl", "etcdutl", "endpoint", "cacert", "cert", "key"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--kubernetes", default="", help="the version of Kubernetes that goes into the sidecar")
    parser.add_argument("--keep", type=positive, default=7, help="how many snapshots are kept")
    parser.add_argument("--timeout", type=positive, default=3600, help="seconds for each step")
    options = parser.parse_args()
    try:
        print(json.dumps(backup(options)))
    except (BackupError, OSError, KeyError, IndexError) as error:
        message = error if isinstance(error, (BackupError, OSError)) else "etcd's tools left out %s" % error
        print("etcd-backup: %s" % message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
