#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.node_taints: brings the taints of nodes to what is wanted, and leaves those of others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_taints
short_description: Bring the taints of nodes to what is wanted
author: The k8s-ans founders
description:
  - A node's taints are one list, which the node lifecycle controller, other controllers and people write as well. The
    annotation C(k8s-ans/taints) tells which of them are ours. Those are set, and those that were ours and are wanted no
    more are removed; all others stay.
  - Runs on a host with kubectl and a kubeconfig. A node that the cluster does not have is left out.
options:
  nodes:
    description: The nodes, each with its name and taints.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The node's name., type: str, required: true}
      taints: {description: 'Taints, each with C(key), C(effect) and perhaps C(value).', type: list, elements: dict, default: []}
extends_documentation_fragment: [k8s_ans.cluster.kubectl, k8s_ans.cluster.kubectl.retry]
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Keep pods that do not tolerate it off the node
  k8s_ans.cluster.node_taints:
    kubeconfig: /etc/kubernetes/admin.kubeconfig
    nodes:
      - name: k8snode01
        taints: [{key: example.com/gpu, effect: NoSchedule}]
"""

RETURN = r"""
changed_objects:
  description: The nodes whose taints were (in check mode, would be) changed, as node/NAME.
  returned: success
  type: list
  elements: str
changed_files: {description: 'The same, for the run''s report.', returned: success, type: list, elements: str}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils.kubectl import Kubectl

ANNOTATION = 'k8s-ans/taints'


def identity(taint):
    """Return what tells one taint of a node from another: Kubernetes has one value for a key and effect."""
    return '%s:%s' % (taint['key'], taint['effect'])


def bare(taint):
    """Return a taint as the API writes it."""
    found = {'key': taint['key'], 'effect': taint['effect']}
    return dict(found, value=str(taint['value'])) if taint.get('value') not in (None, '') else found


def ours(annotation):
    """Return the identities that the annotation holds; one that is not ours to read is none."""
    try:
        found = json.loads(annotation or '[]')
    except ValueError:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def plan(node, wanted):
    """Return the merge patch that brings a node to the wanted taints, or None.

    The patch holds the node's resource version: where somebody wrote a taint meanwhile, it is refused and made anew.
    """
    meta = node['metadata']
    before = (meta.get('annotations') or {}).get(ANNOTATION)
    current = node['spec'].get('taints') or []
    wanted = {identity(taint): bare(taint) for taint in wanted}
    gone = [name for name in ours(before) if name not in wanted]
    kept = [taint for taint in current if identity(taint) not in gone]
    merged = [
        # timeAdded and the like stay where the taint does.
        taint if bare(taint) == wanted.get(identity(taint), bare(taint)) else wanted[identity(taint)]
        for taint in kept
    ]
    merged += [taint for name, taint in wanted.items() if name not in [identity(item) for item in kept]]
    after = json.dumps(sorted(wanted)) if wanted else None
    if merged == current and after == before:
        return None
    return {
        'metadata': {'resourceVersion': meta['resourceVersion'], 'annotations': {ANNOTATION: after}},
        'spec': {'taints': merged or None},
    }


def converge(module, kubectl):
    """Return the names of the changed nodes."""
    changed = []
    wanted = {node['name']: node['taints'] for node in module.params['nodes']}
    listed = kubectl.get('nodes') or {'items': []}
    for found in listed['items']:
        name = found['metadata']['name']
        if name not in wanted:
            continue
        node = found
        for _attempt in range(10):
            patch = plan(node, wanted[name]) if node is not None else None
            if patch is None:
                break
            changed = changed if name in changed else changed + [name]
            if module.check_mode:
                break
            code, _out, err = kubectl.run('patch', 'node', name, '--type', 'merge', '-p', json.dumps(patch))
            if code == 0:
                break
            if 'Conflict' not in err and 'the object has been modified' not in err:
                module.fail_json(msg='the taints of %s could not be set: %s' % (name, err.strip()[-2000:]))
            node = kubectl.get('node', name)
        else:
            module.fail_json(msg='the taints of %s could not be set: the node is being changed all the time' % name)
    return changed


def main():
    """Entry point."""
    node_options = {
        'name': {'type': 'str', 'required': True},
        'taints': {'type': 'list', 'elements': 'dict', 'default': []},
    }
    module = AnsibleModule(
        argument_spec={
            'nodes': {'type': 'list', 'elements': 'dict', 'required': True, 'options': node_options},
            'kubectl': {'type': 'path', 'default': '/opt/k8s/bin/kubectl'},
            'kubeconfig': {'type': 'path', 'required': True},
            'retry_seconds': {'type': 'int', 'default': 30},
        },
        supports_check_mode=True,
    )
    if not os.access(module.params['kubectl'], os.X_OK):
        if module.check_mode:
            module.exit_json(changed=False, changed_objects=[], changed_files=[])
        module.fail_json(msg='%s is not there: this module runs on a master' % module.params['kubectl'])
    changed = ['node/%s' % name for name in converge(module, Kubectl(module, module.params['retry_seconds']))]
    module.exit_json(changed=bool(changed), changed_objects=changed, changed_files=changed)


if __name__ == '__main__':
    main()
