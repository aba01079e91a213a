import json
import unittest
from unittest import mock

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import readiness


def deployment(**status):
    return {
        'kind': 'Deployment',
        'metadata': {'name': 'd', 'namespace': 'n', 'generation': 2},
        'spec': {
            'replicas': 2,
            'selector': {'matchLabels': {'app': 'd'}},
            'template': {'spec': {'containers': [{'name': 'c', 'image': 'example.com/new:2'}]}},
        },
        'status': dict({'observedGeneration': 2}, **status),
    }


def api_service(available):
    return {
        'kind': 'APIService',
        'metadata': {'name': 's'},
        'spec': {'service': {'namespace': 'n', 'name': 'd'}},
        'status': {'conditions': [{'type': 'Available', 'status': available}]},
    }


def pod(image, reason):
    waiting = {'waiting': {'reason': reason}} if reason else {'running': {}}
    return {
        'spec': {'containers': [{'name': 'c', 'image': image}]},
        # The runtime's name of an image is another than the pod's.
        'status': {'containerStatuses': [{'name': 'c', 'image': 'sha256:0', 'state': waiting}]},
    }


class Waits(unittest.TestCase):
    def test_what_is_ready_is_not_waited_for(self):
        there = {
            'd': deployment(replicas=2, updatedReplicas=2, availableReplicas=2),
            's': api_service('True'),
            'c': {'kind': 'ConfigMap', 'metadata': {'name': 'c', 'namespace': 'n'}},
        }
        self.assertEqual(readiness.waits(there, 5), [])

    def test_what_is_not(self):
        found = readiness.waits({'d': deployment(replicas=2, updatedReplicas=1), 's': api_service('False')}, 5)
        self.assertEqual(
            [wait.words() for wait in found],
            [
                ['--namespace', 'n', 'rollout', 'status', 'deployment/d', '--timeout=5s'],
                ['wait', 'apiservice/s', '--for=condition=Available', '--timeout=5s'],
            ],
        )

    def test_a_daemon_set_without_status_is_waited_for(self):
        new = {'kind': 'DaemonSet', 'metadata': {'name': 'd', 'generation': 1}, 'spec': {}}
        self.assertFalse(readiness.settled(new))
        counts = {'desiredNumberScheduled': 0, 'observedGeneration': 1}
        self.assertTrue(readiness.settled(dict(new, status=counts)))


class Kubectl:
    """Whatever is waited for does not come by itself; `pods` are what is found."""

    base = ['sh', '-c', 'exec sleep 60']

    def __init__(self, *pods):
        self.pods = pods

    def run(self, *words):
        assert words[:2] == ('get', 'pods'), words
        return 0, json.dumps({'items': self.pods}), ''


class Images(unittest.TestCase):
    def wait(self, kubectl, required=None):
        found = {'deployment/n/d': deployment(), 'apiservice/s': api_service('False')}
        with mock.patch.object(readiness, 'PAUSE', 0.01):
            return readiness.wait_for(kubectl, readiness.waits(found, 60, required))

    def test_what_lacks_its_image_is_told_with_what_needs_it(self):
        kubectl = Kubectl(pod('example.com/new:2', 'ImagePullBackOff'), pod('example.com/new:2', None))
        self.assertEqual(self.wait(kubectl, set()), ([], ['n/d waits for its image example.com/new:2']))

    def test_pods_of_an_earlier_state_and_first_attempts_do_not_count(self):
        kubectl = Kubectl(pod('example.com/old:1', 'ImagePullBackOff'), pod('example.com/new:2', 'ErrImagePull'))
        kubectl.base = ['sh', '-c', 'echo timed out; exit 1']
        failed, waiting = self.wait(kubectl, set())
        self.assertEqual([(wait.name, last) for wait, last in failed], [('d', 'timed out'), ('s', 'timed out')])
        self.assertEqual(waiting, [])

    def test_what_is_required_fails(self):
        kubectl = Kubectl(pod('example.com/new:2', 'ImagePullBackOff'))
        kubectl.base = ['sh', '-c', 'echo timed out; exit 1']
        for required in (None, {'deployment/n/d', 'apiservice/s'}):
            failed, waiting = self.wait(kubectl, required)
            self.assertEqual([wait.name for wait, _last in failed], ['d', 's'])
            self.assertEqual(waiting, [])
        self.assertEqual(failed[0][0].told(), 'deployment/d was not ready (rollout) within 60 s')


if __name__ == '__main__':
    unittest.main()
