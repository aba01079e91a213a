import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import drain


def pod(name, labels=None, namespace='default', owner='ReplicaSet', phase='Running', **meta):
    owners = [{'kind': owner, 'controller': True}] if owner else []
    return {
        'metadata': dict({'name': name, 'namespace': namespace, 'labels': labels or {}, 'ownerReferences': owners}, **meta),
        'status': {'phase': phase},
    }


def budget(name, selector, namespace='default', wanted=2, healthy=2):
    return {
        'metadata': {'name': name, 'namespace': namespace},
        'spec': {'selector': selector},
        'status': {'desiredHealthy': wanted, 'currentHealthy': healthy},
    }


class Matches(unittest.TestCase):
    def test_labels(self):
        self.assertTrue(drain.matches({'matchLabels': {'app': 'web'}}, {'app': 'web', 'x': 'y'}))
        self.assertFalse(drain.matches({'matchLabels': {'app': 'web'}}, {'app': 'db'}))
        self.assertTrue(drain.matches({}, {}))
        self.assertFalse(drain.matches(None, {}))

    def test_expressions(self):
        def held(operator, labels, values=None):
            return drain.matches({'matchExpressions': [{'key': 'a', 'operator': operator, 'values': values}]}, labels)

        self.assertTrue(held('In', {'a': '1'}, ['1', '2']))
        self.assertFalse(held('In', {}, ['1']))
        self.assertTrue(held('NotIn', {}, ['1']))
        self.assertFalse(held('NotIn', {'a': '1'}, ['1']))
        self.assertTrue(held('Exists', {'a': ''}))
        self.assertTrue(held('DoesNotExist', {}))


class Blocked(unittest.TestCase):
    def test_names_pods_and_budgets(self):
        pods = [
            pod('web-2', {'app': 'web'}),
            pod('flannel', owner='DaemonSet'),
            pod('static', owner='Node', annotations={'kubernetes.io/config.mirror': 'x'}),
            pod('done', owner='Job', phase='Succeeded'),
            pod('slow', deletionTimestamp='2026-01-01T00:00:00Z', deletionGracePeriodSeconds=600, finalizers=['a/b']),
            pod('other', {'app': 'web'}, namespace='elsewhere'),
            pod('both', {'app': 'web', 'twice': ''}),
        ]
        budgets = [
            budget('web', {'matchLabels': {'app': 'web'}}),
            budget('twice', {'matchExpressions': [{'key': 'twice', 'operator': 'Exists'}]}),
        ]
        self.assertEqual(
            drain.blocked(pods, budgets),
            [
                {
                    'pod': 'default/both',
                    'reason': 'has more than one PodDisruptionBudget (default/web and default/twice), with which '
                    'Kubernetes evicts no pod',
                },
                {
                    'pod': 'default/slow',
                    'reason': 'is being ended, which may take 600 s and waits for the finalizers a/b',
                },
                {
                    'pod': 'default/web-2',
                    'reason': 'is held by the PodDisruptionBudget default/web, which wants 2 healthy pods and has 2',
                },
                {'pod': 'elsewhere/other', 'reason': 'was not evicted in time'},
            ],
        )


class Words(unittest.TestCase):
    def test_pods_of_a_dry_run(self):
        out = 'node/k8snode01 cordoned (dry run)\nevicting pod b/y (dry run)\nevicting pod a/x (dry run)\nnode/n drained (dry run)\n'
        self.assertEqual(drain.to_evict(out), ['a/x', 'b/y'])

    def test_attempts_are_left_out(self):
        err = 'Warning: ignoring DaemonSet-managed Pods\nerror when evicting pods/"a" (will retry after 5s): x\nerror: gone\n'
        self.assertEqual(drain.tidy(err), 'error: gone')


if __name__ == '__main__':
    unittest.main()
