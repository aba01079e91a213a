# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""An etcd cluster as etcdctl shows it, and what follows from its members. What decides is a pure function."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

ARGUMENTS = {
    'endpoints': {'type': 'str', 'required': True},
    'etcdctl': {'type': 'path', 'required': True},
    'ca': {'type': 'path', 'required': True},
    'cert': {'type': 'path', 'required': True},
    'key': {'type': 'path', 'required': True, 'no_log': False},
}

# etcd's words for trouble that passes: a member that was restarted a moment ago, an election, a learner that still reads.
PASSING = (
    'etcdserver: unhealthy cluster',
    'etcdserver: re-configuration failed due to not enough started members',
    'etcdserver: can only promote a learner member which is in sync with leader',
    'etcdserver: leader changed',
    'etcdserver: no leader',
    'etcdserver: request timed out',
    'etcdserver: too many requests',
    'context deadline exceeded',
    'connection refused',
    'transport is closing',
    'error reading from server',
)


def passing(err):
    """Tell whether an error of etcdctl is worth another try."""
    return any(text in err for text in PASSING)


def member_of(members, name, peer_url):
    """Return the member at this peer URL, or None. One of the same name elsewhere is another.

    A member that was added and has not started yet has a peer URL and no name.
    """
    for member in members:
        if peer_url in member.get('peerURLs', []) and member.get('name') in (name, '', None):
            return member
    return None


def namesake_of(members, name, peer_url):
    """Return another member that has this name or this peer URL, or None."""
    for member in members:
        if (member.get('name') == name) != (peer_url in member.get('peerURLs', [])) and (
            member.get('name') not in ('', None)
        ):
            return member
    return None


def initial_cluster(members, name, peer_url):
    """Return the initial-cluster with which a member starts that joins these: all of them and itself.

    etcd compares it with the living cluster's by peer URL; the names of others may be any.
    """
    pairs = []
    for member in members:
        if peer_url in member.get('peerURLs', []):
            continue
        shown = member.get('name') or '%x' % member['ID']
        pairs += ['%s=%s' % (shown, url) for url in member.get('peerURLs', [])]
    return ','.join(sorted(pairs + ['%s=%s' % (name, peer_url)]))


def voters(members):
    return [member for member in members if not member.get('isLearner')]


def quorum(count):
    """Return how many of so many voting members have to answer."""
    return count // 2 + 1


def label(member):
    """Return a member's name for people."""
    return member.get('name') or (member.get('peerURLs') or ['%x' % member['ID']])[0]


def removal_refusal(members, healthy, target):
    """Return why a voting member must not be taken away, or None.

    healthy: the IDs of the members that answer.
    """
    left = [member for member in voters(members) if member['ID'] != target['ID']]
    if not left:
        return '%s is the last etcd member: without it there is no cluster' % label(target)
    alive = [label(member) for member in left if member['ID'] in healthy]
    dead = [label(member) for member in left if member['ID'] not in healthy]
    if len(alive) >= quorum(len(left)):
        return None
    return (
        'without %s etcd would have no quorum: of the %d members that remain, %d have to be healthy, and %s. '
        'Bring %s back first. If they are lost for good, `k8s-ans etcd restore` makes a new etcd cluster from a snapshot'
        % (
            label(target),
            len(left),
            quorum(len(left)),
            'only %s is' % alive[0] if len(alive) == 1 else 'none is' if not alive else 'only %s are' % ', '.join(alive),
            ' and '.join(dead),
        )
    )


def listens(endpoint):
    """Tell whether something accepts connections there: etcdctl would wait for its timeouts where nothing does."""
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname, url.port), timeout=1).close()
    except OSError:
        return False
    return True


class Etcdctl:
    """etcdctl with the module's credentials (ARGUMENTS), asking one member after another."""

    def __init__(self, module):
        self.module = module
        self.error = 'none of its members accepts connections'

    def run(self, endpoint, words, seconds=5):
        """Run etcdctl at one endpoint and return (code, stdout, stderr)."""
        args = self.module.params
        command = [args['etcdctl'], '--endpoints', endpoint, '--cacert', args['ca'], '--cert', args['cert'], '--key', args['key']]
        return self.module.run_command(
            command + ['--dial-timeout=2s', '--command-timeout=%ds' % seconds] + list(words)
        )

    def endpoints(self):
        return [endpoint for endpoint in self.module.params['endpoints'].split(',') if endpoint]

    def anywhere(self, words, endpoints=None, seconds=5):
        """Run etcdctl at the first endpoint where it succeeds; return its stdout, or None with the reason in `error`."""
        for endpoint in filter(listens, endpoints or self.endpoints()):
            code, out, err = self.run(endpoint, words, seconds)
            if code == 0:
                return out
            self.error = last_words(err or out)
        return None

    def members(self):
        """Return the members as a majority knows them, or None where there is no majority to be reached."""
        out = self.anywhere(['member', 'list', '-w', 'json'], seconds=3)
        return None if out is None else json.loads(out)['members']

    def healthy(self, members):
        """Return the IDs of the members that answer a read which a majority confirms."""
        found = set()
        for member in members:
            for endpoint in filter(listens, member.get('clientURLs') or []):
                code, _out, _err = self.run(endpoint, ['endpoint', 'health'])
                if code == 0:
                    found.add(member['ID'])
                    break
        return found

    def leader(self, endpoints):
        """Return the ID of the leader, or None."""
        out = self.anywhere(['endpoint', 'status', '-w', 'json'], endpoints)
        return None if out is None else json.loads(out)[0]['Status'].get('leader')


def last_words(text):
    """Return the error of etcdctl, which logs JSON lines before it."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.startswith('{')]
    return (lines or ['no answer'])[-1].replace('Error: ', '')
