import base64
import hashlib
import json
import tempfile
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import apply_set, manifest_keys
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
        return manifests.apply(module, manifests.Kubectl(module, 0), ['-f', 'x'])[0]

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


class ApplySet(unittest.TestCase):
    def test_id_as_the_specification_has_it(self):
        # base64url(sha256('name.namespace.ConfigMap.')), as ApplySet.ID of k8s.io/kubectl/pkg/cmd/apply/applyset.go
        digest = hashlib.sha256(b'addons.kube-system.ConfigMap.').digest()
        self.assertEqual(
            apply_set.set_id('addons', 'kube-system'),
            'applyset-' + base64.urlsafe_b64encode(digest).decode().rstrip('=') + '-v1',
        )
        self.assertLessEqual(len(apply_set.set_id('addons', 'kube-system')), 63)

    def test_kinds(self):
        self.assertEqual(apply_set.group_kind({'apiVersion': 'v1', 'kind': 'Service'}), 'Service')
        self.assertEqual(apply_set.group_kind({'apiVersion': 'apps/v1', 'kind': 'Deployment'}), 'Deployment.apps')

    def test_a_member_keeps_its_labels(self):
        given = {'kind': 'Node', 'metadata': {'name': 'a', 'labels': {'x': 'y'}}}
        member = apply_set.labelled(given, 'i')
        self.assertEqual(member['metadata']['labels'], {'x': 'y', 'applyset.kubernetes.io/part-of': 'i'})
        self.assertEqual(given['metadata']['labels'], {'x': 'y'})

    def test_claims_go_before_what_provides_their_volumes(self):
        make = lambda kind, name, namespace=None: {'kind': kind, 'metadata': {'name': name, 'namespace': namespace}}  # noqa: E731
        items = [make('Namespace', 's'), make('Deployment', 'p', 's'), make('Deployment', 'r', 'r')]
        items += [make('PersistentVolumeClaim', 'c', 'r'), make('StorageClass', 'l')]
        first, then = apply_set.stages(items)
        self.assertEqual([item['metadata']['name'] for item in first], ['r', 'c'])
        self.assertEqual([item['metadata']['name'] for item in then], ['s', 'p', 'l'])
        self.assertEqual(apply_set.stages(then), ([], then))


class FakeServer:
    """The words of kubectl that the module uses, on a dictionary of objects."""

    def __init__(self, tmpdir, found=()):
        self.objects = {manifests.key_of(item): item for item in found}
        self.tmpdir = tmpdir
        self.check_mode = False
        self.calls = []
        self.params = {'field_manager': 'k8s-ans', 'apply_set': 'addons', 'apply_set_namespace': 'kube-system'}
        self.params.update(kubectl='kubectl', kubeconfig='k', retry_seconds=0, keys=[], kinds=[], namespaces=[])

    def fail_json(self, **result):
        raise AssertionError(result)

    def run_command(self, words):
        verb, rest = words[3], words[4:]
        self.calls.append(' '.join([verb] + [word for word in rest if not word.startswith('/')]))
        if '--dry-run=server' in rest or verb == 'wait':
            return 0, json.dumps(self.given(rest)[0]) if verb == 'apply' else '', ''
        if verb == 'apply':
            for item in self.given(rest):
                applied = dict(item, metadata=dict(item['metadata'], managedFields=[{'manager': 'k8s-ans', 'operation': 'Apply'}]))
                self.objects[manifests.key_of(item)] = applied
            return 0, json.dumps({'kind': 'List', 'items': self.given(rest)}), ''
        if verb == 'delete':
            keys = [manifests.key_of(item) for item in self.given(rest)] or ['configmap/%s/%s' % (rest[4], rest[6])]
            for key in keys:
                self.objects.pop(key)
            return 0, '', ''
        if '--selector' in rest:
            label = rest[rest.index('--selector') + 1].split('=')
            kinds = rest[0].split(',')
            found = [
                item
                for item in self.objects.values()
                if item['metadata'].get('labels', {}).get(label[0]) == label[1] and apply_set.group_kind(item) in kinds
            ]
        elif 'configmap' in rest:
            found = [item for key, item in self.objects.items() if key == 'configmap/kube-system/addons']
            return 0, json.dumps(found[0]) if found else '', ''
        else:
            found = [self.objects[key] for key in map(manifests.key_of, self.given(rest)) if key in self.objects]
        return 0, json.dumps({'kind': 'List', 'items': found}), ''

    @staticmethod
    def given(words):
        items = []
        for place, word in enumerate(words):
            if word == '-f':
                with open(words[place + 1], encoding='utf-8') as handle:
                    for document in handle.read().split('---\n'):
                        items += manifest_keys.items_of(json.loads(document))
        return items

    def apply(self, *items, check=False):
        self.calls, self.check_mode = [], check
        identity = apply_set.set_id('addons', 'kube-system')
        self.params['manifests'] = [json.dumps(apply_set.labelled(item, identity)) for item in items]
        self.params['keys'] = [manifests.key_of(item) for item in items]
        self.params['kinds'] = [apply_set.group_kind(item) for item in items]
        self.params['namespaces'] = [item['metadata']['namespace'] for item in items if 'namespace' in item['metadata']]
        files = manifests.write_documents(self, 'manifests')
        return manifests.apply_as_set(self, manifests.Kubectl(self, 0), files)[0]


class ApplyAsSet(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def server(self, *found):
        return FakeServer(self.folder.name, found)

    one = dict(config_map({'a': '1'}, name='one'), apiVersion='v1')
    two = dict(config_map({'a': '2'}, name='two'), apiVersion='v1')
    role = {'apiVersion': 'rbac.authorization.k8s.io/v1', 'kind': 'ClusterRole', 'metadata': {'name': 'r'}}

    def test_a_dropped_object_is_deleted_and_the_parent_follows(self):
        server = self.server()
        self.assertEqual(server.apply(self.one, self.role), ['configmap/n/one', 'clusterrole/r'])
        annotations = server.objects['configmap/kube-system/addons']['metadata']['annotations']
        self.assertEqual(annotations[apply_set.KINDS], 'ClusterRole.rbac.authorization.k8s.io,ConfigMap')
        self.assertEqual(annotations[apply_set.NAMESPACES], 'n')
        self.assertEqual(server.apply(self.one), ['clusterrole/r'])
        annotations = server.objects['configmap/kube-system/addons']['metadata']['annotations']
        self.assertEqual(annotations[apply_set.KINDS], 'ConfigMap')

    def test_the_second_time_only_looks(self):
        server = self.server()
        server.apply(self.one)
        self.assertEqual(server.apply(self.one), [])
        self.assertEqual([call.split()[0] for call in server.calls], ['get', 'get', 'apply', 'get'])

    def test_an_empty_set_leaves_nothing(self):
        server = self.server(self.two)
        server.apply(self.one, self.role)
        self.assertEqual(server.apply(), ['clusterrole/r', 'configmap/n/one'])
        self.assertEqual(list(server.objects), ['configmap/n/two'])
        self.assertEqual(server.apply(), [])
        self.assertEqual([call.split()[0] for call in server.calls], ['get'])

    def test_what_carries_the_label_but_is_not_ours_stays(self):
        copied = apply_set.labelled(self.two, apply_set.set_id('addons', 'kube-system'))
        server = self.server(copied)
        self.assertEqual(server.apply(self.one), ['configmap/n/one'])
        self.assertIn('configmap/n/two', server.objects)

    def test_check_mode_foretells_and_deletes_nothing(self):
        server = self.server()
        server.apply(self.one, self.role)
        before = dict(server.objects)
        self.assertEqual(server.apply(self.one, check=True), ['clusterrole/r'])
        self.assertEqual(server.objects, before)


if __name__ == '__main__':
    unittest.main()
