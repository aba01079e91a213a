#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.manifests: server-side apply of manifests, with an honest account of what changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: manifests
short_description: Apply Kubernetes manifests server-side and wait for them
description:
  - Runs on a host with kubectl and a kubeconfig. All documents go through one C(kubectl apply --server-side); objects are
    read before it, and an object counts as changed if it differs afterwards in more than its status and bookkeeping.
  - Check mode uses C(--dry-run=server). Where the API cannot be asked in check mode (no kubectl, no kubeconfig or no
    answer yet), everything counts as changed.
options:
  manifests:
    description: YAML documents as text, or absolute paths of files on the host.
    type: list
    elements: str
    required: true
  field_manager: {description: Name under which fields are owned., type: str, default: k8s-ans}
  state: {description: Apply or delete., type: str, choices: [present, absent], default: present}
  prune:
    description:
      - Like O(manifests); their objects are deleted where O(field_manager) has applied them. What somebody else made
        under the same name stays.
    type: list
    elements: str
    default: []
  wait:
    description: What to wait for after applying; all at once. Not in check mode.
    type: list
    elements: dict
    default: []
    suboptions:
      kind: {description: Kind of the object., type: str, required: true}
      name: {description: Its name., type: str, required: true}
      namespace: {description: Its namespace., type: str}
      condition: {description: 'V(rollout), or a condition such as V(Ready).', type: str, default: rollout}
      timeout: {description: Seconds., type: int, default: 120}
  keys: {description: 'Internal: in check mode, what the manifests hold.', type: list, elements: str, default: []}
extends_documentation_fragment: [k8s_ans.cluster.kubectl, k8s_ans.cluster.kubectl.retry]
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: CoreDNS
  k8s_ans.cluster.manifests:
    kubeconfig: /etc/kubernetes/admin.conf
    manifests: ["{{ lookup('ansible.builtin.template', 'coredns.yaml.j2') }}"]
    wait: [{kind: deployment, namespace: kube-system, name: coredns}]
"""

RETURN = r"""
changed_objects:
  description: Objects that were (in check mode, would be) made, changed or deleted, as kind/namespace/name.
  returned: always
  type: list
  elements: str
changed_files:
  description: The same, for the run's report.
  returned: always
  type: list
  elements: str
"""

import copy
import json
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils.kubectl import NOT_THERE, Kubectl, not_there
from ansible_collections.k8s_ans.cluster.plugins.module_utils.manifest_keys import items_of, key_of

# What check mode meets besides where certificates and kubeconfigs are still to be written, or written anew.
NOT_YET = NOT_THERE + (
    'Unable to connect to the server', 'x509:', 'Unauthorized', 'must be logged in', 'no such file or directory',
    'invalid configuration',
)  # fmt: skip


def bare(item):
    """Return an object without what changes by itself: status and the server's bookkeeping."""
    item = copy.deepcopy(item)
    item.pop('status', None)
    meta = item.get('metadata', {})
    for name in ('managedFields', 'resourceVersion', 'generation', 'creationTimestamp', 'uid', 'selfLink'):
        meta.pop(name, None)
    # The deployment controller's count of revisions.
    annotations = meta.get('annotations')
    if isinstance(annotations, dict):
        annotations.pop('deployment.kubernetes.io/revision', None)
        if not annotations:
            meta.pop('annotations')
    return item


def objects(text):
    """Return {key: object} of kubectl's JSON: one object, a List, or several after one another."""
    decoder, place, found = json.JSONDecoder(), 0, {}
    text = text.strip()
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        while place < len(text) and text[place].isspace():
            place += 1
        for item in items_of(value):
            found[key_of(item)] = item
    return found


def compare(before, after):
    """Return the keys of objects that are new or differ, in the order of `after`."""
    return [key for key, item in after.items() if key not in before or bare(before[key]) != bare(item)]


def write_documents(module, option):
    """Return the -f arguments: files as they are, text in a file of the module's private folder."""
    words, texts = [], []
    for manifest in module.params[option]:
        if manifest.startswith('/') and '\n' not in manifest.strip():
            words += ['-f', manifest.strip()]
        elif manifest.strip():
            texts.append(manifest.strip('\n') + '\n')
    if texts:
        words += write_file(module, option + '.yaml', '---\n'.join(texts))
    return words


def write_file(module, name, text):
    path = os.path.join(module.tmpdir, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w', encoding='utf-8') as handle:
        handle.write(text)
    return ['-f', path]


def apply(module, kubectl, files):
    """Apply and return the changed keys."""
    code, out, err = kubectl.run('get', '--ignore-not-found', '-o', 'json', *files)
    if module.check_mode and code != 0 and any(text in err for text in NOT_YET):
        return foretold(module)
    # A kind that the server does not know yet (a CRD of the same list) is no error here; apply tells.
    before = objects(out) if out.strip() else {}
    words = ['apply', '--server-side', '--force-conflicts', '--field-manager', module.params['field_manager']]
    if module.check_mode:
        words.append('--dry-run=server')
    code, out, err = kubectl.run(*(words + ['-o', 'json'] + files))
    if code != 0:
        if module.check_mode and 'NotFound' in err:
            # A namespace or kind that only the real run makes.
            after = objects(out) if out.strip() else {}
            return compare(before, after) + [key for key in module.params['keys'] if key not in before and key not in after]
        module.fail_json(
            msg='kubectl apply failed: %s' % (err or out).strip()[-2000:], changed=bool(out.strip()), changed_objects=[]
        )
    return compare(before, objects(out))


def foretold(module):
    """Return what the manifests hold: in check mode, where the API cannot be asked yet."""
    return module.params['keys'] or ['(the API cannot be asked yet)']


def owned_by(manager, found):
    """Return those of the objects that the field manager has applied."""
    return {
        key: item
        for key, item in found.items()
        if any(
            entry.get('manager') == manager and entry.get('operation') == 'Apply'
            for entry in item.get('metadata', {}).get('managedFields', [])
        )
    }


def delete(module, kubectl, files, manager=None):
    """Delete and return the deleted keys; with a manager, only what that one has applied."""
    code, out, err = kubectl.run('get', '--ignore-not-found', '--show-managed-fields', '-o', 'json', *files)
    if module.check_mode and code != 0 and not out.strip() and any(text in err for text in NOT_YET):
        # Of what is pruned nothing is known to be there.
        return [] if manager else foretold(module)
    if code != 0 and not out.strip() and not_there(err):
        module.fail_json(msg='kubectl get failed: %s' % err.strip()[-2000:], changed=False, changed_objects=[])
    before = objects(out) if out.strip() else {}
    if manager:
        before = owned_by(manager, before)
        files = write_file(module, 'owned.json', json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': list(before.values())}))
    if not before or module.check_mode:
        return list(before)
    code, out, err = kubectl.run('delete', '--ignore-not-found', '--wait=true', '--timeout=120s', *files)
    if code != 0:
        module.fail_json(msg='kubectl delete failed: %s' % (err or out).strip()[-2000:], changed=True, changed_objects=[])
    return list(before)


def wait_for(module, kubectl, waits, changed):
    """Wait for all conditions at once; fail_json names those that did not come."""
    running = []
    for item in waits:
        target = '%s/%s' % (item['kind'].lower(), item['name'])
        space = ['--namespace', item['namespace']] if item['namespace'] else []
        limit = '--timeout=%ds' % item['timeout']
        if item['condition'] == 'rollout':
            words = ['rollout', 'status', target, limit]
        else:
            words = ['wait', target, '--for=condition=' + item['condition'], limit]
        process = subprocess.Popen(
            kubectl.base + space + words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
        running.append((item, target, space, process))
    failures = []
    for item, target, space, process in running:
        out = process.communicate()[0]
        if process.returncode != 0:
            last = (out.strip().splitlines() or ['no answer'])[-1]
            failures.append((item, target, space, last))
    if failures:
        _item, _target, space, _last = failures[0]
        _code, events, _err = kubectl.run(
            'get', 'events', '--sort-by=.lastTimestamp', '--field-selector=type=Warning', *space
        )
        module.fail_json(
            msg='; '.join(
                '%s was not ready (%s) within %d s: %s' % (target, item['condition'], item['timeout'], last)
                for item, target, _space, last in failures
            ),
            stderr='\n'.join(events.strip().splitlines()[-10:]),
            changed=bool(changed),
            changed_objects=changed,
            changed_files=changed,
        )


def main():
    wait_options = {
        'kind': {'type': 'str', 'required': True},
        'name': {'type': 'str', 'required': True},
        'namespace': {'type': 'str'},
        'condition': {'type': 'str', 'default': 'rollout'},
        'timeout': {'type': 'int', 'default': 120},
    }
    module = AnsibleModule(
        argument_spec={
            'manifests': {'type': 'list', 'elements': 'str', 'required': True},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
            'field_manager': {'type': 'str', 'default': 'k8s-ans'},
            'state': {'type': 'str', 'choices': ['present', 'absent'], 'default': 'present'},
            'prune': {'type': 'list', 'elements': 'str', 'default': []},
            'wait': {'type': 'list', 'elements': 'dict', 'default': [], 'options': wait_options},
            'retry_seconds': {'type': 'int', 'default': 30},
            # Names of objects: no secret, whatever the option's own name makes Ansible think.
            'keys': {'type': 'list', 'elements': 'str', 'default': [], 'no_log': False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.access(params['kubectl'], os.X_OK):
        if module.check_mode:
            keys = foretold(module)
            module.exit_json(changed=True, changed_objects=keys, changed_files=keys)
        module.fail_json(msg='%s is not there; the binaries come before the manifests' % params['kubectl'])
    files, pruned = write_documents(module, 'manifests'), write_documents(module, 'prune')
    kubectl = Kubectl(module, params['retry_seconds'])
    act = apply if params['state'] == 'present' else delete
    changed = act(module, kubectl, files) if files else []
    if pruned:
        changed += delete(module, kubectl, pruned, params['field_manager'])
    if params['wait'] and params['state'] == 'present' and not module.check_mode:
        wait_for(module, kubectl, params['wait'], changed)
    module.exit_json(changed=bool(changed), changed_objects=changed, changed_files=changed)


if __name__ == '__main__':
    main()
