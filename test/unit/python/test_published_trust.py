"""Which workloads are restarted for a new bundle, and which pods are named."""

import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import published_trust


def workload(name, manager='k8s-ans', annotations=None, **spec):
    return {
        'kind': 'Deployment',
        'metadata': {'name': name, 'namespace': 'n', 'managedFields': [{'manager': manager, 'operation': 'Apply'}]},
        'spec': {'template': {'metadata': {'annotations': annotations}, 'spec': dict({'serviceAccountName': 'a'}, **spec)}},
    }


def pod(name, started, phase='Running', deleted=None, config_map='kube-root-ca.crt'):
    return {
        'metadata': {'name': name, 'namespace': 'n', 'deletionTimestamp': deleted},
        'spec': {'volumes': [{'name': 'e', 'emptyDir': {}}, {'projected': {'sources': [{'configMap': {'name': config_map}}]}}]},
        'status': {'phase': phase, 'startTime': started},
    }


class Stale(unittest.TestCase):
    def test_ours_once_for_each_bundle(self):
        items = [
            workload('new'),
            workload('done', annotations={'k8s-ans/trust-bundle': 'abc'}),
            workload('other-bundle', annotations={'k8s-ans/trust-bundle': 'xyz'}),
            workload('theirs', manager='helm'),
            workload('without', automountServiceAccountToken=False),
            workload('nobody', serviceAccountName=None),
        ]
        found = published_trust.stale(items, 'k8s-ans', 'abc')
        self.assertEqual([item['metadata']['name'] for item in found], ['new', 'other-bundle'])


class OldPods(unittest.TestCase):
    def test_running_ones_that_started_before(self):
        config_maps = [
            {
                'metadata': {
                    'namespace': 'n',
                    'managedFields': [{'time': '2026-11-20T08:00:00Z'}, {'time': '2026-11-24T08:00:00Z'}],
                }
            }
        ]
        pods = [
            pod('old', '2026-11-24T07:59:59Z'),
            pod('new', '2026-11-24T08:00:00Z'),
            pod('done', '2026-11-23T08:00:00Z', phase='Succeeded'),
            pod('leaving', '2026-11-23T08:00:00Z', deleted='2026-11-24T08:00:01Z'),
            pod('no-account', '2026-11-23T08:00:00Z', config_map='other'),
        ]
        self.assertEqual(published_trust.old_pods(pods, config_maps), ['n/old'])


if __name__ == '__main__':
    unittest.main()
