#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.etcd_member: lets members join a living etcd cluster and takes them away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Let a member join a living etcd cluster, or take one away
author: The k8s-ans founders
description:
  - A new member joins as a learner, which does not vote, and becomes a voter when it has what the others have. So at no
    time a member that has yet to read the data counts for the quorum.
  - A member is taken away only if those that remain keep their quorum. A leader hands the leadership over first.
  - Each state can be asked for again after any interruption.
options:
  name: {description: The member's name., type: str, required: true}
  peer_url: {description: Where the other members reach it., type: str, required: true}
  state:
    description:
      - V(learner) adds the member to the list; then it has to be started with RV(initial_cluster).
      - V(voter) waits until the learner has read the data, and lets it vote.
      - V(absent) takes the member out of the cluster; its data stay where they are.
    type: str
    choices: [learner, voter, absent]
    required: true
  timeout: {description: Seconds until the cluster must have agreed., type: int, default: 60}
extends_documentation_fragment: k8s_ans.cluster.etcdctl
attributes:
  check_mode: {support: full, description: A refusal is one in check mode as well.}
"""

EXAMPLES = r"""
- name: Take the member out of the cluster
  k8s_ans.cluster.etcd_member:
    name: k8smaster03
    peer_url: https://172.24.8.73:2380
    state: absent
    endpoints: https://172.24.8.71:2379,https://172.24.8.72:2379
    etcdctl: /opt/k8s/bin/etcdctl
    ca: /etc/etcd/cert/ca.crt
    cert: /etc/etcd/cert/etcd-peer.crt
    key: /etc/etcd/cert/etcd-peer.key
"""

RETURN = r"""
initial_cluster: {description: What initial-cluster has to be., type: str, returned: state is learner}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import etcd_cluster


# How long a majority may be silent.
READ_SECONDS = 10


def learner_refusal(members, name, peer_url):
    """Return why a member cannot be added now, or None."""
    namesake = etcd_cluster.namesake_of(members, name, peer_url)
    if namesake is not None:
        return 'etcd has a member %s at %s, which is not this %s at %s. Remove that one first: k8s-ans node remove %s' % (
            etcd_cluster.label(namesake),
            ' '.join(namesake['peerURLs']),
            name,
            peer_url,
            etcd_cluster.label(namesake),
        )
    learners = [member for member in members if member.get('isLearner')]
    if learners:
        other = etcd_cluster.label(learners[0])
        return (
            'etcd takes one learner at a time, and %s has not become a voter yet. Finish it (k8s-ans node add) or take it '
            'away (k8s-ans node remove) first' % other
        )
    return None


def new_leader(members, healthy, target):
    """Return the ID of the healthy voter that takes the leadership over, or None."""
    others = [member for member in etcd_cluster.voters(members) if member['ID'] in healthy and member['ID'] != target['ID']]
    return min(others, key=etcd_cluster.label)['ID'] if others else None


class Member:
    """The member that the task is about."""

    def __init__(self, module):
        self.module = module
        self.name = module.params['name']
        self.peer_url = module.params['peer_url']
        self.etcd = etcd_cluster.Etcdctl(module)
        self.deadline = time.monotonic() + module.params['timeout']

    def read(self):
        """Return (members, this one or None); fail_json without a majority."""
        # An election takes a second or two; more is no passing trouble.
        end = min(self.deadline, time.monotonic() + READ_SECONDS)
        while True:
            members = self.etcd.members()
            if members is not None:
                return members, etcd_cluster.member_of(members, self.name, self.peer_url)
            if not etcd_cluster.passing(self.etcd.error) or time.monotonic() > end:
                self.module.fail_json(
                    msg='etcd does not answer with a majority of its members, so that none can be added or removed: %s. '
                    'Bring its members back first. If a majority is lost for good, `k8s-ans etcd restore` makes a new etcd '
                    'cluster from a snapshot' % self.etcd.error
                )
            time.sleep(1)

    def late(self):
        return time.monotonic() > self.deadline

    def insist(self, what, words, endpoints=None):
        """Run etcdctl until it succeeds; fail_json with `what` when it does not in time."""
        while self.etcd.anywhere(words, endpoints) is None:
            if not etcd_cluster.passing(self.etcd.error) or self.late():
                self.module.fail_json(msg='%s: %s' % (what, self.etcd.error))
            time.sleep(1)

    def learner(self):
        members, own = self.read()
        if own is None:
            refusal = learner_refusal(members, self.name, self.peer_url)
            if refusal:
                self.module.fail_json(msg=refusal)
            if not self.module.check_mode:
                self.insist(
                    'etcd did not take %s as a learner' % self.name,
                    ['member', 'add', self.name, '--learner', '--peer-urls=' + self.peer_url],
                )
                members, _own = self.read()
        text = etcd_cluster.initial_cluster(members, self.name, self.peer_url)
        self.module.exit_json(changed=own is None, initial_cluster=text)

    def voter(self):
        members, own = self.read()
        if own is None:
            if self.module.check_mode:
                self.module.exit_json(changed=True)
            self.module.fail_json(msg='%s is not in the list of etcd members' % self.name)
        if not own.get('isLearner'):
            self.module.exit_json(changed=False)
        if not self.module.check_mode:
            # A learner answers no such request.
            others = [url for member in etcd_cluster.voters(members) for url in member.get('clientURLs') or []]
            self.insist('etcd did not let %s vote' % self.name, ['member', 'promote', '%x' % own['ID']], others)
        self.module.exit_json(changed=True)

    def absent(self):
        members, own = self.read()
        if own is None:
            self.module.exit_json(changed=False)
        others = [url for member in members if member['ID'] != own['ID'] for url in member.get('clientURLs') or []]
        if not own.get('isLearner'):
            healthy = self.etcd.healthy(etcd_cluster.voters(members))
            refusal = etcd_cluster.removal_refusal(members, healthy, own)
            if refusal:
                self.module.fail_json(msg=refusal)
            if not self.module.check_mode and self.etcd.leader(others) == own['ID']:
                self.hand_over(members, healthy, own)
        if not self.module.check_mode:
            self.insist('etcd did not let %s go' % self.name, ['member', 'remove', '%x' % own['ID']], others)
        self.module.exit_json(changed=True)

    def hand_over(self, members, healthy, own):
        """Move the leadership away, so that the cluster has no time without a leader."""
        heir = new_leader(members, healthy, own)
        # The leader itself has to be asked.
        self.etcd.anywhere(['move-leader', '%x' % heir], own.get('clientURLs') or [])


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec=dict(
            etcd_cluster.ARGUMENTS,
            name={'type': 'str', 'required': True},
            peer_url={'type': 'str', 'required': True},
            state={'type': 'str', 'choices': ['learner', 'voter', 'absent'], 'required': True},
            timeout={'type': 'int', 'default': 60},
        ),
        supports_check_mode=True,
    )
    getattr(Member(module), module.params['state'])()


if __name__ == '__main__':
    main()
