#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.drain: empties a node of its pods, and opens it again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Empty a node of its pods, or open it for pods again
author: The k8s-ans founders
description:
  - Runs on a master. Pods are evicted with C(kubectl drain), so that every PodDisruptionBudget is honoured. Pods of
    DaemonSets and static pods stay.
  - Nothing is forced. When a pod cannot be evicted within O(timeout), the node is opened for pods again and the module
    fails, naming the pods and the budgets that hold them. A pod without a controller, which nothing would make anew
    elsewhere, is refused before anything is changed.
  - A node that this module closed has the annotation C(k8s-ans/cordoned); one that somebody else closed has not, and is
    never opened by this module.
options:
  node: {description: The node's name., type: str, required: true}
  state:
    description: V(drained) closes the node for new pods and evicts those it has; V(uncordoned) opens it again.
    type: str
    choices: [drained, uncordoned]
    default: drained
  timeout: {description: Seconds until all pods must be gone., type: int, default: 300}
extends_documentation_fragment: [k8s_ans.cluster.kubectl, k8s_ans.cluster.kubectl.retry]
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Move the pods away
  k8s_ans.cluster.drain:
    node: k8snode01
    timeout: 300
    kubeconfig: /etc/kubernetes/admin.kubeconfig

- name: Let pods come back
  k8s_ans.cluster.drain:
    node: k8snode01
    state: uncordoned
    kubeconfig: /etc/kubernetes/admin.kubeconfig
"""

RETURN = r"""
exists: {description: Whether the cluster has the node; one it does not have is neither drained nor opened., type: bool, returned: success}
evicted: {description: 'The pods that were (in check mode, would be) evicted, as namespace/name.', type: list, elements: str, returned: success}
blocked: {description: 'The pods that could not be evicted, each with C(pod) and C(reason).', type: list, elements: dict, returned: failure}
"""

import datetime
import json
import os
import re
import time
import uuid

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils.kubectl import Kubectl, not_there

ANNOTATION = 'k8s-ans/cordoned'
# Eviction takes pods' emptyDir volumes with it, as any end of a pod does.
DRAIN = ('drain', '--ignore-daemonsets', '--delete-emptydir-data')


def matches(selector, labels):
    """Tell whether a PodDisruptionBudget's selector takes in a pod with these labels (policy/v1: an empty one does)."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get('matchLabels') or {}).items()):
        return False
    for rule in selector.get('matchExpressions') or []:
        has, value = rule['key'] in labels, labels.get(rule['key'])
        values = rule.get('values') or []
        held = {
            'In': has and value in values,
            'NotIn': not has or value not in values,
            'Exists': has,
            'DoesNotExist': not has,
        }[rule['operator']]
        if not held:
            return False
    return True


def evictable(pod):
    """Tell whether a drain takes the pod away: not one of a DaemonSet, nor a static one."""
    meta = pod['metadata']
    owners = meta.get('ownerReferences') or []
    if 'kubernetes.io/config.mirror' in (meta.get('annotations') or {}):
        return False
    return not any(owner.get('controller') and owner['kind'] == 'DaemonSet' for owner in owners)


def name_of(item):
    """Return namespace/name."""
    return '%s/%s' % (item['metadata'].get('namespace', 'default'), item['metadata']['name'])


def reason_of(pod, budgets):
    """Say what keeps a pod from being gone."""
    meta = pod['metadata']
    if meta.get('deletionTimestamp'):
        text = 'is being ended, which may take %d s' % meta.get('deletionGracePeriodSeconds', 0)
        finalizers = meta.get('finalizers')
        return text + (' and waits for the finalizers %s' % ', '.join(finalizers) if finalizers else '')
    held = [
        budget
        for budget in budgets
        if budget['metadata'].get('namespace') == meta.get('namespace')
        and matches(budget['spec'].get('selector'), meta.get('labels') or {})
    ]
    if len(held) > 1:
        names = ' and '.join(name_of(budget) for budget in held)
        return 'has more than one PodDisruptionBudget (%s), with which Kubernetes evicts no pod' % names
    if held:
        status = held[0].get('status') or {}
        return 'is held by the PodDisruptionBudget %s, which wants %s healthy pods and has %s' % (
            name_of(held[0]),
            status.get('desiredHealthy', '?'),
            status.get('currentHealthy', '?'),
        )
    return 'was not evicted in time'


def blocked(pods, budgets):
    """Return the pods that are still there and why, in the order of their names."""
    left = [pod for pod in pods if evictable(pod) and (pod.get('status') or {}).get('phase') not in ('Succeeded', 'Failed')]
    return [{'pod': name_of(pod), 'reason': reason_of(pod, budgets)} for pod in sorted(left, key=name_of)]


def to_evict(out):
    """Return the pods that kubectl's dry run would evict."""
    return sorted(set(re.findall(r'^evicting pod (\S+) \(dry run\)$', out, re.MULTILINE)))


class Drain:
    """One node, and what is done to it."""

    def __init__(self, module):
        self.module = module
        self.node = module.params['node']
        self.kubectl = Kubectl(module, module.params['retry_seconds'])

    def read(self):
        """Return (closed, our annotation's value or None), or None when there is no such node."""
        found = self.kubectl.get('node', self.node)
        if found is None:
            return None
        annotations = found['metadata'].get('annotations') or {}
        return bool(found['spec'].get('unschedulable')), annotations.get(ANNOTATION)

    def patch(self, kind, value):
        return self.kubectl.run('patch', 'node', self.node, '--type', kind, '-p', json.dumps(value))

    def drained(self):
        state = self.read()
        if state is None:
            self.module.exit_json(changed=False, exists=False, evicted=[])
        closed, mark = state
        code, out, err = self.kubectl.run(*(DRAIN + ('--dry-run=client', self.node)))
        if code != 0:
            self.module.fail_json(
                msg='%s cannot be drained, and was left as it is: %s' % (self.node, tidy(err)), blocked=[]
            )
        pods = to_evict(out)
        if self.module.check_mode:
            self.module.exit_json(changed=bool(pods) or not closed, exists=True, evicted=pods)
        ours = None
        if not closed or mark is not None:
            ours = self.close()
        self.evict(ours)
        self.module.exit_json(changed=bool(pods) or not closed, exists=True, evicted=pods)

    def close(self):
        """Close the node and mark it as closed by us, in one step; return the mark.

        Each run has a mark of its own: one that was cut off from its control machine and goes on until its timeout does
        not open the node that a later run is emptying.
        """
        now = datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
        mark = '%s/%s' % (now, uuid.uuid4().hex[:8])
        change = {'metadata': {'annotations': {ANNOTATION: mark}}, 'spec': {'unschedulable': True}}
        code, _out, err = self.patch('merge', change)
        if code != 0:
            self.module.fail_json(msg='%s could not be closed for pods: %s' % (self.node, tidy(err)), blocked=[])
        return mark

    def evict(self, ours):
        """Evict all pods; fail_json when they are not gone in time."""
        begin = time.monotonic()
        while True:
            left = int(self.module.params['timeout'] - (time.monotonic() - begin))
            # 0 means no end to kubectl.
            words = DRAIN + ('--timeout=%ds' % max(left, 1), self.node)
            code, _out, err = self.module.run_command(self.kubectl.base + list(words))
            if code == 0:
                return
            if left <= 1 or not not_there(err):
                break
            time.sleep(1)
        # Read before the node is opened: then pods come.
        self.kubectl = Kubectl(self.module, self.module.params['retry_seconds'])
        listed = self.kubectl.get('pods', '--all-namespaces', '--field-selector', 'spec.nodeName=' + self.node)
        budgets = self.kubectl.get('poddisruptionbudgets', '--all-namespaces')
        reasons = blocked((listed or {}).get('items', []), (budgets or {}).get('items', []))
        opened = ours is not None and self.open(ours)
        after = (
            'it is open for pods again' if opened
            else 'it stays closed for pods, as it was before' if ours is None
            else 'it is still closed for pods, for another run took it over'
        )  # fmt: skip
        why = '; '.join('%s %s' % (item['pod'], item['reason']) for item in reasons) or tidy(err)
        self.module.fail_json(
            msg='%s could not be drained within %d s, and %s. %s' % (self.node, self.module.params['timeout'], after, why),
            blocked=reasons,
            changed=True,
        )

    def open(self, mark):
        """Open the node if it still has this mark; tell whether it had."""
        closed = (self.read() or (False, None))[0]
        # The first fails the whole patch when somebody changed the mark.
        change = [
            {'op': 'test', 'path': '/metadata/annotations/k8s-ans~1cordoned', 'value': mark},
            {'op': 'remove', 'path': '/metadata/annotations/k8s-ans~1cordoned'},
        ] + ([{'op': 'remove', 'path': '/spec/unschedulable'}] if closed else [])
        return self.patch('json', change)[0] == 0

    def uncordoned(self):
        for _attempt in range(5):
            state = self.read()
            if state is None:
                self.module.exit_json(changed=False, exists=False, evicted=[])
            mark = state[1]
            if mark is None:
                self.module.exit_json(changed=False, exists=True, evicted=[])
            if self.module.check_mode or self.open(mark):
                self.module.exit_json(changed=True, exists=True, evicted=[])
        self.module.fail_json(msg='%s could not be opened for pods: it is being changed all the time' % self.node)


def tidy(err):
    """Return kubectl's words without its account of each attempt."""
    lines = [line for line in err.strip().splitlines() if 'will retry after' not in line and not line.startswith('Warning')]
    return ' '.join(lines)[-2000:] or err.strip()[-2000:]


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            'node': {'type': 'str', 'required': True},
            'state': {'type': 'str', 'choices': ['drained', 'uncordoned'], 'default': 'drained'},
            'timeout': {'type': 'int', 'default': 300},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
            'retry_seconds': {'type': 'int', 'default': 30},
        },
        supports_check_mode=True,
    )
    if not os.access(module.params['kubectl'], os.X_OK):
        module.fail_json(msg='%s is not there: this module runs on a master' % module.params['kubectl'])
    if module.params['timeout'] < 1:
        module.fail_json(msg='timeout is %d: give at least one second' % module.params['timeout'])
    drain = Drain(module)
    if module.params['state'] == 'drained':
        drain.drained()
    drain.uncordoned()


if __name__ == '__main__':
    main()
