import json
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import manifest_keys
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


class Foretold(unittest.TestCase):
    """Check mode on a host where the API cannot be asked yet."""

    KEYS = ['deployment/kube-system/coredns', 'node/a']

    class Module:
        check_mode = True
        tmpdir = '/nowhere'

        def __init__(self, answer):
            self.answer = answer
            self.params = {
                'kubectl': 'kubectl', 'kubeconfig': 'k', 'retry_seconds': 0, 'field_manager': 'f', 'keys': Foretold.KEYS,
            }  # fmt: skip

        def run_command(self, words):
            return self.answer(words)

    def changed(self, answer):
        module = self.Module(answer)
        return manifests.apply(module, manifests.Kubectl(module, 0), ['-f', 'x'])

    def test_no_kubeconfig_no_server_old_certificates(self):
        for err in (
            'error: stat /etc/kubernetes/admin.kubeconfig: no such file or directory',
            'The connection to the server 127.0.0.1:8443 was refused - did you specify the right host or port?',
            'Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown',
            'error: You must be logged in to the server (Unauthorized)',
        ):
            self.assertEqual(self.changed(lambda words, err=err: (1, '', err)), self.KEYS)

    def test_objects_in_a_namespace_yet_to_be_made(self):
        node = json.dumps({'kind': 'Node', 'metadata': {'name': 'a'}})

        def answer(words):
            return (0, node, '') if 'get' in words else (1, node, 'Error from server (NotFound): namespaces "n" not found')

        self.assertEqual(self.changed(answer), ['deployment/kube-system/coredns'])

    def test_keys(self):
        listed = {'kind': 'List', 'items': [config_map({}), {'kind': 'Node', 'metadata': {'name': 'a'}}]}
        self.assertEqual(manifest_keys.keys_of(listed), ['configmap/n/c', 'node/a'])


if __name__ == '__main__':
    unittest.main()
