# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""What a reset did to a host, or in check mode would do, and what it left."""

from __future__ import annotations

import os

KINDS = ('stopped', 'unmounted', 'removed', 'restored')


class Report:
    """Carries the steps of a reset out one by one: a step that fails is told, and the others go on.

    failed: what could not be done and will be tried by the next reset; left: what stays on purpose.
    """

    def __init__(self, check):
        self.check = check
        self.done = dict((kind, []) for kind in KINDS)
        self.left = []
        self.failed = []
        self.reboot = []

    def do(self, kind, what, action):
        """Do one thing and list it; return whether it is done. Things that are gone already are not listed."""
        if not self.check:
            try:
                action()
            except FileNotFoundError:
                return True
            except (OSError, Failure) as error:
                self.fail(what, reason(error))
                return False
        if what not in self.done[kind]:
            self.done[kind].append(what)
        return True

    def leave(self, what, why):
        """List something that stays on purpose, or that somebody else put there."""
        entry = {'what': what, 'why': why}
        if entry not in self.left:
            self.left.append(entry)

    def fail(self, what, why):
        """List something that should have gone and did not."""
        entry = {'what': what, 'why': why}
        if entry not in self.failed:
            self.failed.append(entry)

    def complete(self, foretold):
        """Take over what check mode foretold and what then went by itself, as a pod's mounts with the pod."""
        left = set(entry['what'] for entry in self.left + self.failed)
        for kind in KINDS:
            gone = [what for what in foretold.done[kind] if what not in left]
            self.done[kind] = gone + [what for what in self.done[kind] if what not in gone]

    @property
    def changed(self):
        """Whether anything was done."""
        return any(self.done.values())


class Failure(Exception):
    """A command that did not do what it was asked for; the message is its own."""


def reason(error):
    """Return an error's words."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def run(module, words, **more):
    """Run a command and return its output; Failure with its words when it fails."""
    code, out, err = module.run_command(words, **more)
    if code != 0:
        raise Failure((err or out).strip()[-500:] or '%s ended with exit code %d' % (words[0], code))
    return out
