#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.images: tells which images containerd lacks, and imports what was sent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: images
short_description: Import OCI archives from the control machine into containerd
description:
  - Asks containerd which of the images it lacks, sends only those in one sftp session, verifies the archives on the host
    and imports them. One round trip where all are there.
  - What was imported is noted in C(WORK_DIR/.images.json) with the archive's sha256 and the image's digest, so that a
    reference that somebody moved to other content is imported again.
options:
  images:
    description: The images. Other keys of an artifact list are allowed and ignored.
    type: list
    elements: dict
    required: true
    suboptions:
      ref: {description: The image's full reference., type: str, required: true}
      path: {description: OCI archive on the control machine., type: path, required: true}
      sha256: {description: The archive's digest in hex., type: str, required: true}
      name: {description: A name for messages., type: str}
      pinned:
        description:
          - Keep the image from the kubelet's garbage collection. By default true for the pause image, without which no
            pod starts.
        type: bool
  work_dir:
    description: Folder on the host for the notes and for what arrives.
    type: path
    default: /opt/k8s/work
  ctr: {description: containerd's client on the host., type: path, default: /opt/k8s/bin/ctr}
  address: {description: containerd's socket., type: path, default: /run/containerd/containerd.sock}
  namespace: {description: containerd's namespace; the kubelet's is k8s.io., type: str, default: k8s.io}
  step: {description: Internal., type: str}
  remote_user: {description: Internal., type: str}
attributes:
  check_mode:
    support: full
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Images without a registry
  k8s_ans.cluster.images:
    images: "{{ k8s_artifacts[k8s_architecture].images }}"
"""

RETURN = r"""
changed_files:
  description: References of the images that were (in check mode, would be) imported or pinned.
  returned: always
  type: list
  elements: str
bytes_sent:
  description: Bytes sent to the host.
  returned: always
  type: int
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_store

STAMP = '.images.json'
PINNED = 'io.cri-containerd.pinned=pinned'


def parse_list(text):
    """Return {ref: (digest, labels as text)} of `ctr images ls`."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        digest = next((word for word in words if word.startswith('sha256:')), None)
        if digest:
            found[words[0]] = (digest, words[-1])
    return found


def wants_pin(item):
    if item['pinned'] is not None:
        return item['pinned']
    return item['name'] == 'pause' or re.search(r'/pause[:@]', item['ref']) is not None


class Containerd:
    """containerd through its client."""

    def __init__(self, module):
        self.module = module
        params = module.params
        self.base = [params['ctr'], '--address', params['address'], '--namespace', params['namespace'], 'images']
        self.there = os.path.exists(params['ctr']) and os.path.exists(params['address'])

    def run(self, *words):
        code, out, err = self.module.run_command(self.base + list(words))
        if code != 0:
            raise host_store.StoreError('ctr images %s failed: %s' % (words[0], (err or out).strip()[-1000:]))
        return out

    def images(self):
        return parse_list(self.run('ls'))


def query(module, items, containerd, stamp):
    present = containerd.images() if containerd.there else {}
    if not containerd.there and not module.check_mode:
        raise host_store.StoreError(
            'containerd does not run here (no %s or no %s); start it before images are imported'
            % (module.params['ctr'], module.params['address'])
        )
    missing, pin = [], []
    for item in items:
        digest, labels = present.get(item['ref'], (None, ''))
        noted = stamp.get(item['ref'], {})
        if digest is None or noted != {'archive': item['sha256'], 'digest': digest}:
            missing.append(item)
        elif wants_pin(item) and PINNED not in labels:
            pin.append(item['ref'])
            if not module.check_mode:
                containerd.run('label', item['ref'], PINNED)
    result = {
        'changed': bool(missing or pin),
        'changed_files': [item['ref'] for item in items if item in missing or item['ref'] in pin],
        'missing': [item['ref'] for item in missing],
    }
    if missing and not module.check_mode:
        work = module.params['work_dir']
        wanted = dict((item['sha256'], item['size']) for item in missing)
        folder, there = host_store.prepare(work, wanted, module.params['remote_user'])
        host_store.check_room([(work, size) for sha256, size in wanted.items() if sha256 not in there])
        result['incoming'] = folder
        result['send'] = [sha256 for sha256 in wanted if sha256 not in there]
        result['changed_files'] = pin
    return result


def install(module, items, containerd, stamp):
    work = module.params['work_dir']
    folder = os.path.join(work, host_store.INCOMING)
    present = containerd.images()
    missing = [
        item
        for item in items
        if stamp.get(item['ref'], {}) != {'archive': item['sha256'], 'digest': present.get(item['ref'], ('',))[0]}
    ]
    paths = [host_store.verify(folder, item['sha256'], item['ref']) for item in missing]
    for item, path in zip(missing, paths):
        containerd.run('import', '--digests=false', path)
    present = containerd.images() if missing else {}
    for item in missing:
        if item['ref'] not in present:
            raise host_store.StoreError(
                'the archive of %s was imported, but the image is not there under this reference; its index.json must '
                'carry the annotation io.containerd.image.name' % item['ref']
            )
        if wants_pin(item):
            containerd.run('label', item['ref'], PINNED)
        stamp[item['ref']] = {'archive': item['sha256'], 'digest': present[item['ref']][0]}
    if missing:
        host_store.write_json(os.path.join(work, STAMP), stamp)
    host_store.clean(work)
    return {'changed': bool(missing), 'changed_files': [item['ref'] for item in missing]}


def main():
    item_options = {
        'ref': {'type': 'str', 'required': True},
        'path': {'type': 'str'},
        'sha256': {'type': 'str', 'required': True},
        'name': {'type': 'str', 'default': ''},
        'pinned': {'type': 'bool'},
        'size': {'type': 'int'},
        'component': {'type': 'str'},
        'version': {'type': 'str'},
        'groups': {'type': 'list', 'elements': 'str'},
    }
    module = AnsibleModule(
        argument_spec={
            'images': {'type': 'list', 'elements': 'dict', 'required': True, 'options': item_options},
            'work_dir': {'type': 'path', 'default': '/opt/k8s/work'},
            'ctr': {'type': 'path', 'default': '/opt/k8s/bin/ctr'},
            'address': {'type': 'path', 'default': '/run/containerd/containerd.sock'},
            'namespace': {'type': 'str', 'default': 'k8s.io'},
            'step': {'type': 'str', 'choices': ['query', 'install', 'room', 'clean']},
            'remote_user': {'type': 'str', 'default': ''},
        },
        supports_check_mode=True,
    )
    step, work = module.params['step'], module.params['work_dir']
    if not step:
        module.fail_json(msg='k8s_ans.cluster.images runs through its action plugin, which was not found')
    if step in ('room', 'clean'):
        free = host_store.free_mib(work)
        if step == 'clean':
            host_store.clean(work)
        module.exit_json(changed=False, free_mib=free)
    items = module.params['images']
    stamp = host_store.read_json(os.path.join(work, STAMP))
    try:
        act = query if step == 'query' else install
        result = act(module, items, Containerd(module), stamp)
    except host_store.StoreError as error:
        host_store.clean(work)
        module.fail_json(msg=str(error), changed=False, changed_files=[])
    except OSError as error:
        module.fail_json(
            msg='%s: %s' % (error.filename or work, error.strerror or error), changed=False, changed_files=[]
        )
    module.exit_json(**result)


if __name__ == '__main__':
    main()
