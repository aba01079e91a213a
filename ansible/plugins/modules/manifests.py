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
  apply_set:
    description:
      - Name of the set that the objects are of; its parent is a ConfigMap of this name. Objects that are of the set and
        not in O(manifests) any more are deleted where O(field_manager) has applied them; what somebody else made stays.
        Where O(manifests) holds nothing, the set is taken away with all that is in it.
      - Objects in a namespace with volume claims go first, and their volumes with them, while what provided those runs.
    type: str
  apply_set_namespace: {description: Namespace of the set's parent., type: str, default: kube-system}
  ready:
    description:
      - Wait until what was applied is ready, this many seconds at most; 0 does not wait. Deployments, DaemonSets and
        StatefulSets are when they are rolled out, Jobs when they are complete, APIServices when they are available. Not in check
        mode.
    type: int
    default: 0
  required:
    description:
      - Of what O(ready) waits for, what has to come up, as C(kind/namespace/name); by default all. Others may wait for an
        image that cannot be pulled, which is told in RV(waiting) and is no failure.
    type: list
    elements: str
  wait:
    description: What else to wait for after applying; all at once. Not in check mode.
    type: list
    elements: dict
    default: []
    suboptions:
      kind: {description: Kind of the object., type: str, required: true}
      name: {description: Its name., type: str, required: true}
      namespace: {description: Its namespace., type: str}
      condition: {description: 'V(rollout), or a condition such as V(Ready).', type: str, default: rollout}
      timeout: {description: Seconds., type: int, default: 120}
  keys: {description: 'Internal: what the manifests hold.', type: list, elements: str, default: []}
  kinds: {description: 'Internal: the kinds that a set holds, as KIND.GROUP.', type: list, elements: str, default: []}
  namespaces: {description: 'Internal: the namespaces of what a set holds.', type: list, elements: str, default: []}
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
    apply_set: dns
    ready: 120
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
waiting:
  description: What waits for an image that cannot be pulled, in words.
  returned: always
  type: list
  elements: str
"""

import copy
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import apply_set, readiness
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
    """Apply, and return the changed keys and what is there by then."""
    code, out, err = kubectl.run('get', '--ignore-not-found', '-o', 'json', *files)
    if module.check_mode and code != 0 and any(text in err for text in NOT_YET):
        return foretold(module), {}
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
            unknown = [key for key in module.params['keys'] if key not in before and key not in after]
            return compare(before, after) + unknown, after
        module.fail_json(
            msg='kubectl apply failed: %s' % (err or out).strip()[-2000:], changed=bool(out.strip()), changed_objects=[]
        )
    after = objects(out)
    return compare(before, after), after


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


def delete(module, kubectl, files):
    """Delete and return the deleted keys."""
    code, out, err = kubectl.run('get', '--ignore-not-found', '-o', 'json', *files)
    if module.check_mode and code != 0 and not out.strip() and any(text in err for text in NOT_YET):
        return foretold(module)
    if code != 0 and not out.strip() and not_there(err):
        module.fail_json(msg='kubectl get failed: %s' % err.strip()[-2000:], changed=False, changed_objects=[])
    before = objects(out) if out.strip() else {}
    if before and not module.check_mode:
        remove(module, kubectl, files)
    return list(before)


def remove(module, kubectl, files):
    """Delete, and wait until it is gone."""
    code, out, err = kubectl.run('delete', '--ignore-not-found', '--wait=true', '--timeout=120s', *files)
    if code != 0:
        module.fail_json(msg='kubectl delete failed: %s' % (err or out).strip()[-2000:], changed=True, changed_objects=[])


def read_parent(module, kubectl):
    """Return the parent of the set, None where there is none, and whether the API could be asked."""
    params = module.params
    words = ['get', '--ignore-not-found', '-o', 'json', '--namespace', params['apply_set_namespace']]
    code, out, err = kubectl.run(*(words + ['configmap', params['apply_set']]))
    if code == 0:
        return (json.loads(out) if out.strip() else None), True
    if module.check_mode and any(text in err for text in NOT_YET):
        return None, False
    module.fail_json(msg='kubectl get failed: %s' % err.strip()[-2000:], changed=False, changed_objects=[])


def write_parent(module, kubectl, found, kinds, namespaces):
    """Have the parent list these; it is taken away where there is nothing to list. Nothing is done if it says so already."""
    params = module.params
    name, namespace = params['apply_set'], params['apply_set_namespace']
    if module.check_mode:
        return
    if not kinds:
        if found is not None:
            remove(module, kubectl, ['--namespace', namespace, 'configmap', name])
        return
    listed = apply_set.names(found, apply_set.KINDS), apply_set.names(found, apply_set.NAMESPACES)
    if listed == (set(kinds), set(namespaces) - {namespace}):
        return
    parent = apply_set.parent_of(name, namespace, kinds, namespaces)
    words = ['apply', '--server-side', '--force-conflicts', '--field-manager', params['field_manager']]
    code, out, err = kubectl.run(*(words + write_file(module, 'set.json', json.dumps(parent))))
    if code != 0:
        module.fail_json(msg='kubectl apply failed: %s' % (err or out).strip()[-2000:], changed=False, changed_objects=[])


def prune(module, kubectl, parent, keep):
    """Delete what is of the set and not to be kept, and return its keys."""
    params = module.params
    kinds = apply_set.names(parent, apply_set.KINDS) | set(params['kinds'])
    if not kinds:
        return []
    label = '%s=%s' % (apply_set.PART_OF, apply_set.set_id(params['apply_set'], params['apply_set_namespace']))
    words = ['get', ','.join(sorted(kinds)), '--all-namespaces', '--selector', label, '--show-managed-fields', '-o', 'json']
    code, out, err = kubectl.run(*words)
    if code != 0:
        module.fail_json(msg='kubectl get failed: %s' % err.strip()[-2000:], changed=False, changed_objects=[])
    members = owned_by(params['field_manager'], objects(out))
    stale = {key: item for key, item in members.items() if key not in keep}
    if not module.check_mode:
        for items in apply_set.stages(list(stale.values())):
            remove_items(module, kubectl, items)
    return sorted(stale)


def remove_items(module, kubectl, items):
    """Delete the objects, and wait until they are gone, and with claims the volumes that go with them."""
    if not items:
        return
    volumes = volumes_of(kubectl, items)
    named = [
        {key: item[key] for key in ('apiVersion', 'kind')}
        | {'metadata': {key: item['metadata'][key] for key in ('name', 'namespace') if key in item['metadata']}}
        for item in items
    ]
    remove(module, kubectl, write_file(module, 'stale.json', json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': named})))
    if not volumes:
        return
    code, out, err = kubectl.run('wait', '--for=delete', '--timeout=120s', *volumes)
    if code != 0 and 'NotFound' not in err:
        told = (err or out).strip()[-1000:]
        module.fail_json(msg='%s were not taken back: %s' % (', '.join(volumes), told), changed=True, changed_objects=[])


def volumes_of(kubectl, items):
    """Return persistentvolume/NAME of those that are deleted with their claims."""
    claims = [item for item in items if item['kind'] == 'PersistentVolumeClaim']
    names = ['persistentvolume/' + item['spec']['volumeName'] for item in claims if item['spec'].get('volumeName')]
    if not names:
        return []
    _code, out, _err = kubectl.run('get', '--ignore-not-found', '-o', 'json', *names)
    found = objects(out) if out.strip() else {}
    return [key for key, item in found.items() if item['spec'].get('persistentVolumeReclaimPolicy') == 'Delete']


def apply_as_set(module, kubectl, files):
    """Apply, take away what the set holds beyond that, and return the changed keys and what is there by then."""
    params = module.params
    parent, answered = read_parent(module, kubectl)
    if not answered:
        return foretold(module) if files else [], {}
    # Until all is done the parent lists the old and the new: a run that stops in between has lost sight of nothing.
    kinds, namespaces = apply_set.names(parent, apply_set.KINDS), apply_set.names(parent, apply_set.NAMESPACES)
    union = kinds | set(params['kinds']), namespaces | set(params['namespaces'])
    write_parent(module, kubectl, parent, *union)
    changed, after = apply(module, kubectl, files) if files else ([], {})
    pruned = prune(module, kubectl, parent, after if not module.check_mode else set(params['keys']))
    reached = apply_set.parent_of(params['apply_set'], params['apply_set_namespace'], *union) if union[0] else parent
    write_parent(module, kubectl, reached, params['kinds'], params['namespaces'])
    return changed + pruned, after


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
            # Secrets may be among them.
            'manifests': {'type': 'list', 'elements': 'str', 'required': True, 'no_log': True},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
            'field_manager': {'type': 'str', 'default': 'k8s-ans'},
            'state': {'type': 'str', 'choices': ['present', 'absent'], 'default': 'present'},
            'apply_set': {'type': 'str'},
            'apply_set_namespace': {'type': 'str', 'default': 'kube-system'},
            'ready': {'type': 'int', 'default': 0},
            'required': {'type': 'list', 'elements': 'str'},
            'wait': {'type': 'list', 'elements': 'dict', 'default': [], 'options': wait_options},
            'retry_seconds': {'type': 'int', 'default': 30},
            # Names of objects: no secret, whatever the option's own name makes Ansible think.
            'keys': {'type': 'list', 'elements': 'str', 'default': [], 'no_log': False},
            'kinds': {'type': 'list', 'elements': 'str', 'default': []},
            'namespaces': {'type': 'list', 'elements': 'str', 'default': []},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.access(params['kubectl'], os.X_OK):
        if module.check_mode:
            keys = foretold(module)
            module.exit_json(changed=True, changed_objects=keys, changed_files=keys)
        module.fail_json(msg='%s is not there; the binaries come before the manifests' % params['kubectl'])
    files = write_documents(module, 'manifests')
    kubectl = Kubectl(module, params['retry_seconds'])
    if params['state'] == 'absent':
        changed, after = (delete(module, kubectl, files) if files else []), {}
    elif params['apply_set']:
        changed, after = apply_as_set(module, kubectl, files)
    else:
        changed, after = apply(module, kubectl, files) if files else ([], {})
    waiting = []
    if params['state'] == 'present' and not module.check_mode:
        required = params['required']
        waits = [readiness.Wait(**item) for item in params['wait']]
        if params['ready']:
            waits += readiness.waits(after, params['ready'], None if required is None else set(required))
        failed, waiting = readiness.wait_for(kubectl, waits)
        if failed:
            module.fail_json(
                msg='; '.join('%s: %s' % (wait.told(), last) for wait, last in failed),
                stderr=readiness.last_warnings(kubectl, failed[0][0]),
                changed=bool(changed),
                changed_objects=changed,
                changed_files=changed,
                waiting=waiting,
            )
    module.exit_json(changed=bool(changed), changed_objects=changed, changed_files=changed, waiting=waiting)


if __name__ == '__main__':
    main()
