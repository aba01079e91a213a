import json
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import manifests


def config_map(data, **meta):
    return {'kind': 'ConfigMap', 'metadata': dict({'name': 'c', 'namespace': 'n'}, **meta), 'data': data}


class Compare(unittest.TestCase):
    def test_bookkeeping_is_no_change(self):
        before = {'k': dict(config_map({'a': '1'}, resourceVersion='1', managedFields=[1]), status={'x': 1})}
        after = {'k': config_map({'a': '1'}, resourceVersion='2', managedFields=[2])}
        self.assertEqual(manifests.compare(before, after), [])

    def test_changes(self):
        before = {'k': config_map({'a': '1'})}
        after = {'k': config_map({'a': '2'}), 'new': config_map({})}
        self.assertEqual(manifests.compare(before, after), ['k', 'new'])

    def test_output_of_kubectl(self):
        one = config_map({})
        role = {'kind': 'ClusterRole', 'metadata': {'name': 'r'}}
        listed = {'kind': 'List', 'items': [one, role]}
        self.assertEqual(list(manifests.objects(json.dumps(listed))), ['configmap/n/c', 'clusterrole/r'])
        self.assertEqual(
            list(manifests.objects(json.dumps(one) + '\n' + json.dumps(role) + '\n')), ['configmap/n/c', 'clusterrole/r']
        )

    def test_what_others_made_is_not_owned(self):
        by = lambda manager, operation: [{'manager': manager, 'operation': operation}]  # noqa: E731
        found = {
            'ours': config_map({}, managedFields=by('kubectl', 'Update') + by('k8s-ans', 'Apply')),
            'edited': config_map({}, managedFields=by('k8s-ans', 'Update')),
            'theirs': config_map({}, managedFields=by('helm', 'Apply')),
            'unknown': config_map({}),
        }
        self.assertEqual(list(manifests.owned_by('k8s-ans', found)), ['ours'])


if __name__ == '__main__':
    unittest.main()
