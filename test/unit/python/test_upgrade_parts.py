import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.filter import upgrade

STATE = {
    'api_servers': [{'host': 'm1', 'version': '1.36.4', 'problem': None}],
    'etcd': [{'host': 'm1', 'version': '3.6.14', 'problem': None}],
    'nodes': [
        {'name': 'm1', 'version': '1.36.4', 'ready': True, 'ours': False},
        {'name': 'n1', 'version': '1.36.4', 'ready': True, 'ours': False},
    ],
}


class Parts(unittest.TestCase):
    def parts(self, name='n1', missing=(), state=STATE, version='1.36.4', etcd='3.6.14'):
        return upgrade.upgrade_parts(state, name, missing, version, etcd)

    def node(self, **changes):
        return dict(STATE, nodes=[dict(STATE['nodes'][1], **changes)])

    def test_a_host_at_the_version_is_in_no_group(self):
        self.assertEqual([], self.parts('m1'))
        self.assertEqual([], self.parts('n1'))
        self.assertEqual([], self.parts('etcd-only'))

    def test_what_runs_no_pods_is_no_reason_to_empty_a_host(self):
        missing = ['/opt/k8s/bin/' + name for name in ('kube-apiserver', 'kubeadm', 'kubectl', 'kube-scheduler')]
        self.assertEqual([], self.parts('m1', missing))

    def test_a_binary_of_the_node_an_old_kubelet_our_mark_or_an_ill_node_are(self):
        self.assertEqual(['upgrade_node'], self.parts(missing=['/opt/k8s/cni/bin/flannel']))
        self.assertEqual(['upgrade_node'], self.parts(version='1.36.5'))
        self.assertEqual(['upgrade_node'], self.parts(state=self.node(ours=True)))
        self.assertEqual(['upgrade_node'], self.parts(state=self.node(ready=False)))

    def test_etcd_is_changed_where_its_binary_or_its_version_differs(self):
        self.assertEqual(['upgrade_etcd'], self.parts('m1', ['/opt/k8s/bin/etcd']))
        self.assertEqual(['upgrade_etcd'], self.parts('m1', etcd='3.6.15'))
        self.assertEqual([], self.parts('m1', etcd=''))

    def test_a_master_whose_api_server_is_ill_is_told(self):
        state = dict(STATE, api_servers=[{'host': 'm1', 'version': None, 'problem': 'connection refused'}])
        self.assertEqual(['upgrade_ill'], self.parts('m1', state=state))


class Version(unittest.TestCase):
    def test_of_a_component(self):
        artifacts = {'amd64': {'binaries': [{'component': 'etcd', 'version': '3.6.14'}], 'images': []}}
        self.assertEqual('3.6.14', upgrade.component_version(artifacts, 'etcd'))
        self.assertEqual('', upgrade.component_version({}, 'etcd'))


if __name__ == '__main__':
    unittest.main()
