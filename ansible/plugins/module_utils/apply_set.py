# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Apply sets: which objects belong together, so that one that is no longer wanted is found and deleted.

As https://github.com/kubernetes/enhancements/tree/master/keps/sig-cli/3659-kubectl-apply-prune has them: each member
carries the set's id in a label; the set's parent, here a ConfigMap, names the kinds and namespaces in which members are
looked for.
"""

from __future__ import annotations

import base64
import hashlib

PART_OF = 'applyset.kubernetes.io/part-of'
ID = 'applyset.kubernetes.io/id'
TOOLING = 'applyset.kubernetes.io/tooling'
KINDS = 'applyset.kubernetes.io/contains-group-kinds'
NAMESPACES = 'applyset.kubernetes.io/additional-namespaces'


def set_id(name, namespace):
    """Return the id of the set whose parent is this ConfigMap."""
    digest = hashlib.sha256(('%s.%s.ConfigMap.' % (name, namespace)).encode()).digest()
    return 'applyset-%s-v1' % base64.urlsafe_b64encode(digest).decode().rstrip('=')


def group_kind(item):
    """Return KIND.GROUP of an object, or KIND of one in the core group; kubectl takes it as a resource."""
    group, _slash, version = item.get('apiVersion', '').rpartition('/')
    return '%s.%s' % (item['kind'], group) if version and group else item['kind']


def labelled(item, identity):
    """Return the object with the label of a member."""
    meta = dict(item.get('metadata') or {})
    meta['labels'] = dict(meta.get('labels') or {}, **{PART_OF: identity})
    return dict(item, metadata=meta)


def names(parent, annotation):
    """Return what an annotation of the parent lists; nothing if there is no parent yet."""
    text = ((parent or {}).get('metadata', {}).get('annotations') or {}).get(annotation, '')
    return {name for name in text.split(',') if name}


def parent_of(name, namespace, kinds, namespaces):
    """Return the parent of a set that has members of these kinds in these namespaces."""
    return {
        'apiVersion': 'v1',
        'kind': 'ConfigMap',
        'metadata': {
            'name': name,
            'namespace': namespace,
            'labels': {ID: set_id(name, namespace)},
            'annotations': {
                TOOLING: 'k8s-ans/v1',
                KINDS: ','.join(sorted(kinds)),
                NAMESPACES: ','.join(sorted(set(namespaces) - {namespace})),
            },
        },
    }


def stages(items):
    """Return the objects in the order in which they are deleted: two lists.

    First those of namespaces with volume claims: while what provided their volumes still runs and can take those back.
    """
    claiming = {item['metadata'].get('namespace') for item in items if item['kind'] == 'PersistentVolumeClaim'}
    first = [item for item in items if item['metadata'].get('namespace') in claiming]
    return first, [item for item in items if item not in first]
