# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting until what was applied is ready, and telling what only lacks its image from what is broken."""

from __future__ import annotations

import json
import subprocess
import time

# Kind -> what is waited for.
CONDITIONS = {
    'Deployment': 'rollout',
    'DaemonSet': 'rollout',
    'StatefulSet': 'rollout',
    'Job': 'Complete',
    'APIService': 'Available',
}
# The kubelet's reason once it has failed to pull an image more than once:
# https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff
NOT_PULLED = 'ImagePullBackOff'
# Seconds between two looks.
PAUSE = 2


class Wait:
    """One object that is waited for."""

    def __init__(self, kind, name, namespace=None, condition='rollout', timeout=120):
        self.kind, self.name, self.namespace = kind, name, namespace
        self.condition, self.timeout = condition, timeout
        # Of a workload that may wait for its images: these, and its pods' labels.
        self.labels, self.images = {}, set()
        # Of an APIService that may: NAMESPACE/NAME of the service, and by our habit of the workload behind it.
        self.service = None

    def space(self):
        return ['--namespace', self.namespace] if self.namespace else []

    def words(self):
        """Return kubectl's arguments that wait for it."""
        target, limit = '%s/%s' % (self.kind.lower(), self.name), '--timeout=%ds' % self.timeout
        if self.condition == 'rollout':
            return self.space() + ['rollout', 'status', target, limit]
        return self.space() + ['wait', target, '--for=condition=' + self.condition, limit]

    def told(self):
        """Return, for people, what did not come."""
        name = '%s/%s' % (self.kind.lower(), self.name)
        return '%s was not ready (%s) within %d s' % (name, self.condition, self.timeout)


def settled(item):
    """Tell whether an object that was just applied is ready already, so that nobody need wait for it."""
    status, spec = item.get('status') or {}, item.get('spec') or {}
    if item['kind'] in ('APIService', 'Job'):
        wanted = CONDITIONS[item['kind']]
        return any(one['type'] == wanted and one['status'] == 'True' for one in status.get('conditions') or [])
    if status.get('observedGeneration') != item['metadata'].get('generation'):
        return False
    if item['kind'] == 'DaemonSet':
        wanted = status.get('desiredNumberScheduled')
        return wanted == status.get('updatedNumberScheduled', 0) == status.get('numberAvailable', 0)
    counts = [status.get(name, 0) for name in ('replicas', 'updatedReplicas', 'availableReplicas')]
    return counts == [spec.get('replicas')] * 3


def waits(found, timeout, required=None):
    """Return what is to be waited for until the objects, {key: object}, are ready.

    required: the keys of those that must not wait for an image; None: all.
    """
    result = []
    for key, item in found.items():
        if item['kind'] not in CONDITIONS or settled(item):
            continue
        meta, spec = item['metadata'], item.get('spec') or {}
        wait = Wait(item['kind'], meta['name'], meta.get('namespace'), CONDITIONS[item['kind']], timeout)
        if required is not None and key not in required:
            wait.labels = (spec.get('selector') or {}).get('matchLabels') or {}
            wait.images = {container['image'] for container in containers((spec.get('template') or {}).get('spec') or {})}
            service = spec.get('service') or {}
            wait.service = '%s/%s' % (service['namespace'], service['name']) if service else None
        result.append(wait)
    return result


def wait_for(kubectl, wanted):
    """Wait for all at once. Return ([(wait, last words) of those that did not come], [what waits for its image])."""
    running = [
        (wait, subprocess.Popen(
            kubectl.base + wait.words(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        ))
        for wait in wanted
    ]  # fmt: skip
    lacking, failed = {}, []
    while running:
        left = []
        for wait, process in running:
            images = lacked(kubectl, wait) if process.poll() is None else []
            if images:
                lacking['%s/%s' % (wait.namespace, wait.name)] = images
            if images or (wait.service in lacking and process.poll() is None):
                process.terminate()
                process.communicate()
            elif process.poll() is None:
                left.append((wait, process))
            elif process.returncode != 0:
                failed.append((wait, (process.communicate()[0].strip().splitlines() or ['no answer'])[-1]))
            else:
                process.communicate()
        running = left
        if running:
            time.sleep(PAUSE)
    return failed, ['%s waits for its image %s' % (name, ', '.join(images)) for name, images in sorted(lacking.items())]


def lacked(kubectl, wait):
    """Return the images that pods of it cannot pull; none where it may not wait for one."""
    if not wait.labels:
        return []
    selector = ','.join('%s=%s' % pair for pair in sorted(wait.labels.items()))
    code, out, _err = kubectl.run('get', 'pods', '-o', 'json', '--selector', selector, *wait.space())
    # Pods of an earlier state may lack what it named.
    return sorted(unpulled(json.loads(out)) & wait.images) if code == 0 and out.strip() else []


def containers(pod):
    """Return the containers of a pod's specification."""
    return (pod.get('initContainers') or []) + (pod.get('containers') or [])


def unpulled(pods):
    """Return the images, as the pods name them, that the kubelets have failed to pull."""
    images = set()
    for pod in pods.get('items', []):
        named = {container['name']: container['image'] for container in containers(pod['spec'])}
        status = pod.get('status') or {}
        for container in (status.get('initContainerStatuses') or []) + (status.get('containerStatuses') or []):
            if ((container.get('state') or {}).get('waiting') or {}).get('reason') == NOT_PULLED:
                images.add(named[container['name']])
    return images


def last_warnings(kubectl, wait):
    """Return the last warnings of the namespace, as kubectl prints them."""
    _code, out, _err = kubectl.run(
        'get', 'events', '--sort-by=.lastTimestamp', '--field-selector=type=Warning', *wait.space()
    )
    return '\n'.join(out.strip().splitlines()[-10:])
