import base64
import json
import os
import sys
import tempfile
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import host_status

PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----'
KEY = '-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----'


class Certificates(unittest.TestCase):
    def test_never_a_key(self):
        self.assertEqual(host_status.certificates_in(PEM + '\n' + KEY + '\n' + PEM), [PEM, PEM])

    def test_kubeconfig(self):
        embedded = base64.b64encode(PEM.encode()).decode()
        text = 'client-certificate-data: %s\nclient-key-data: c2VjcmV0\n' % embedded
        self.assertEqual(host_status.certificates_in(text), [PEM])
        self.assertEqual(host_status.certificates_in('client-certificate-data: "%%%"'), [])

    def test_files(self):
        with tempfile.TemporaryDirectory() as base:
            for name in ('b.crt', 'a.crt', 'c.txt'):
                with open(os.path.join(base, name), 'w') as handle:
                    handle.write(PEM)
            found = host_status.read_certificates([base + '/*.crt', base + '/a.crt', base + '/nothing.pem'])
            self.assertEqual([os.path.basename(entry['file']) for entry in found], ['a.crt', 'b.crt'])


class Clients(unittest.TestCase):
    def ask(self, code, timeout=20):
        return host_status.ask([sys.executable, '-c', code], timeout)

    def test_answer(self):
        self.assertEqual(self.ask('print("{\\"a\\": 1}")'), {'a': 1})

    def test_failures(self):
        for code, said in (
            ('import sys; sys.exit("first\\nlast")', 'last'),
            ('import sys; sys.exit(3)', 'exit code 3'),
            ('import sys; sys.exit("{\\"level\\": \\"warn\\", \\"error\\": \\"context deadline exceeded\\"}")', 'context deadline exceeded'),
            ('print("x")', 'its answer is no JSON'),
        ):
            with self.assertRaisesRegex(host_status.Unanswered, '^%s$' % said):
                self.ask(code)
        with self.assertRaisesRegex(host_status.Unanswered, 'no answer within 1 s'):
            self.ask('import time; time.sleep(20)', 1)
        with self.assertRaisesRegex(host_status.Unanswered, '/nowhere/etcdctl: No such file'):
            host_status.ask(['/nowhere/etcdctl'], 1)


class Answers(unittest.TestCase):
    def test_member(self):
        answer = [
            {
                'Endpoint': 'https://127.0.0.1:2379',
                'Status': {
                    'header': {'cluster_id': 1, 'member_id': 18249187646912138824, 'revision': 3},
                    'version': '3.6.14', 'dbSize': 20480, 'dbSizeInUse': 16384, 'leader': 18249187646912138824,
                    'raftTerm': 2, 'raftIndex': 9, 'errors': ['memberID:1 alarm:NOSPACE '],
                },
            }
        ]  # fmt: skip
        found = host_status.member_of(answer)
        # JSON numbers of JavaScript end at 2^53: ids are text.
        self.assertEqual((found['id'], found['leader']), ('fd422379fda50e48', 'fd422379fda50e48'))
        self.assertEqual((found['db_bytes'], found['quota_bytes'], found['learner']), (20480, 0, False))
        self.assertEqual(found['errors'], ['memberID:1 alarm:NOSPACE '])

    def test_no_leader(self):
        self.assertEqual(host_status.member_of([{'Status': {'header': {'member_id': 1}}}])['leader'], '')

    def test_members(self):
        answer = {'members': [{'ID': 255, 'name': 'a', 'clientURLs': ['u']}, {'ID': 16, 'isLearner': True}]}
        self.assertEqual(
            host_status.members_of(answer),
            [
                {'id': 'ff', 'name': 'a', 'learner': False, 'started': True},
                {'id': '10', 'name': '', 'learner': True, 'started': False},
            ],
        )

    def test_objects(self):
        conditions = [
            {'type': 'Ready', 'status': 'False', 'reason': 'KubeletNotReady', 'message': 'runtime is down'},
            {'type': 'DiskPressure', 'status': 'True'},
            {'type': 'MemoryPressure', 'status': 'False'},
        ]
        node = {
            'metadata': {'name': 'n'},
            'spec': {'unschedulable': True},
            'status': {'conditions': conditions, 'nodeInfo': {'kubeletVersion': 'v1.36.4', 'containerRuntimeVersion': 'c'}},
        }
        self.assertEqual(
            host_status.node_of(node),
            {
                'name': 'n', 'ready': False, 'reason': 'runtime is down', 'version': 'v1.36.4', 'runtime': 'c',
                'cordoned': True, 'conditions': ['DiskPressure'],
            },
        )  # fmt: skip
        lease = {'metadata': {'name': 'kube-scheduler'}, 'spec': {'holderIdentity': 'my_host_0-1', 'leaseDurationSeconds': 15}}
        self.assertEqual(
            host_status.lease_of(lease), {'name': 'kube-scheduler', 'holder': 'my_host', 'renewed': '', 'seconds': 15}
        )
        deployment = {'kind': 'Deployment', 'metadata': {'name': 'd'}, 'spec': {'replicas': 2}, 'status': {'availableReplicas': 1}}
        self.assertEqual(
            host_status.deployment_of(deployment),
            {'kind': 'Deployment', 'name': 'd', 'wanted': 2, 'available': 1, 'updated': 0},
        )


class Units(unittest.TestCase):
    def test_without_an_endpoint(self):
        state = {'LoadState': 'loaded', 'ActiveState': 'active', 'SubState': 'running', 'NRestarts': '2'}
        found = host_status.unit_of('a.service', state, None)
        self.assertEqual((found['answers'], found['restarts'], found['since']), (None, 2, 0.0))
        json.dumps(found)

    def test_with_one_that_does_not_answer(self):
        found = host_status.unit_of('a.service', {}, {'unix': '/nowhere/socket'})
        self.assertEqual((found['answers'], 'No such file' in found['said']), (False, True))


if __name__ == '__main__':
    unittest.main()
