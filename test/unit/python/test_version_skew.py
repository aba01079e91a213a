import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import version_skew as skew

LANES = {'1.35': '1.35.4', '1.36': '1.36.4', '1.37': '1.37.1'}


def cluster(servers='1.36.4', nodes='1.36.4', **more):
    """A healthy cluster of three masters and a worker; versions by host or one for all."""
    names = ['m1', 'm2', 'm3']
    servers = servers if isinstance(servers, dict) else dict.fromkeys(names, servers)
    nodes = nodes if isinstance(nodes, dict) else dict.fromkeys(names + ['n1'], nodes)
    found = {
        'api_servers': [{'host': name, 'version': version, 'problem': None} for name, version in servers.items()],
        'etcd': [{'host': name, 'version': '3.6.14', 'problem': None} for name in names],
        'nodes': [
            {'name': name, 'version': version, 'ready': True, 'reason': None, 'ours': False}
            for name, version in nodes.items()
        ],
        'leaders': [{'name': 'kube-scheduler', 'problem': None}],
        'deprecated': [],
    }
    found.update(more)
    return found


class Skew(unittest.TestCase):
    maxDiff = None

    def codes(self, target, found, **options):
        return [(item['code'], item.get('host')) for item in skew.judge(target, found, LANES, **options)['problems']]

    def test_a_minor_up_and_a_patch_up_or_down_are_allowed(self):
        for servers, target in (('1.35.4', '1.36.4'), ('1.36.3', '1.36.4'), ('1.36.4', '1.36.3')):
            judged = skew.judge(target, cluster(servers, servers), LANES)
            self.assertEqual(([], [], False), (judged['problems'], judged['notices'], judged['reached']))
            self.assertEqual(servers, judged['from'])

    def test_more_than_one_minor_up_names_the_step_that_comes_first(self):
        problem = skew.judge('1.37.1', cluster('1.35.4', '1.35.4'), LANES)['problems'][0]
        self.assertEqual(
            {
                'code': 'skew-step',
                'message': 'Kubernetes goes up one minor at a time: the API server on m1, m2 and m3 runs 1.35.4, and '
                '1.37.1 is 2 minors on',
                'next': 'first upgrade to 1.36.4',
            },
            problem,
        )

    def test_the_step_of_a_minor_without_a_lane_is_named_by_its_minor(self):
        problem = skew.judge('1.36.4', cluster('1.33.1', '1.33.1'), LANES)['problems'][0]
        self.assertEqual('first upgrade to a version of 1.34', problem['next'])

    def test_a_minor_down_is_refused_also_when_only_one_api_server_has_gone_up(self):
        self.assertEqual([('skew-down', None)], self.codes('1.35.4', cluster('1.36.4', '1.35.4')))
        mixed = cluster({'m1': '1.36.4', 'm2': '1.35.4', 'm3': '1.35.4'}, '1.35.4')
        self.assertEqual([('skew-down', None)], self.codes('1.35.4', mixed, going_on=True))
        self.assertIn('the API server on m1 runs 1.36.4', skew.judge('1.35.4', mixed, LANES)['problems'][0]['message'])

    def test_an_upgrade_stopped_half_way_goes_on_to_its_minor_and_no_further(self):
        mixed = cluster({'m1': '1.36.4', 'm2': '1.35.4', 'm3': '1.35.4'}, '1.35.4')
        self.assertEqual([], self.codes('1.36.4', mixed, going_on=True))
        self.assertEqual([('skew-step', None)], self.codes('1.37.1', mixed, going_on=True))

    def test_a_kubelet_newer_than_the_target_is_named(self):
        found = cluster('1.35.4', {'m1': '1.35.4', 'n1': '1.36.4'})
        judged = skew.judge('1.35.5', found, LANES)
        self.assertEqual(
            [
                {
                    'code': 'skew-kubelet-newer',
                    'host': 'n1',
                    'message': 'its kubelet runs 1.36.4, and none may be newer than the API servers (1.35.5)',
                    'next': 'upgrade to 1.36.4',
                }
            ],
            judged['problems'],
        )

    def test_a_kubelet_more_than_three_minors_older_is_named(self):
        found = cluster('1.36.4', {'m1': '1.36.4', 'n1': '1.34.9', 'n2': '1.33.2'})
        self.assertEqual([('skew-kubelet-older', 'n2')], self.codes('1.37.1', found))

    def test_it_is_reached_when_all_run_it_and_no_node_is_closed_by_us(self):
        self.assertTrue(skew.judge('1.36.4', cluster(), LANES)['reached'])
        found = cluster()
        found['nodes'][3]['ours'] = True
        self.assertFalse(skew.judge('1.36.4', found, LANES)['reached'])
        self.assertFalse(skew.judge('1.36.4', cluster(nodes={'m1': '1.36.4', 'n1': '1.36.3'}), LANES)['reached'])


class Health(unittest.TestCase):
    def test_what_is_not_healthy_is_refused_with_how_to_see_it(self):
        found = cluster('1.36.3', '1.36.3')
        found['api_servers'][1].update(version=None, problem='connection refused')
        found['etcd'][2]['problem'] = 'timed out'
        found['nodes'][3].update(ready=False, reason='kubelet stopped posting node status.')
        found['leaders'] = [{'name': 'kube-scheduler', 'problem': 'nobody holds its lease'}]
        judged = skew.judge('1.36.4', found, LANES)
        self.assertEqual(
            [
                ('m2', 'its API server is not ready: connection refused', 'on the host: journalctl -u kube-apiserver'),
                ('m3', 'its etcd member is not healthy: timed out', 'on the host: journalctl -u etcd'),
                (
                    'n1',
                    'the node is not ready: kubelet stopped posting node status.',
                    'kubectl describe node n1, and on the host: journalctl -u kubelet',
                ),
                (
                    None,
                    'kube-scheduler has no leader: nobody holds its lease',
                    'on the masters: journalctl -u kube-scheduler',
                ),
            ],
            [(item['host'], item['message'], item['next']) for item in judged['problems']],
        )

    def test_while_an_upgrade_goes_on_it_is_a_notice_since_what_follows_may_cure_it(self):
        found = cluster('1.36.3', '1.36.3')
        found['api_servers'][1].update(version=None, problem='connection refused')
        judged = skew.judge('1.36.3', found, LANES, going_on=True)
        self.assertEqual([], judged['problems'])
        self.assertEqual(['api-server-ill'], [item['code'] for item in judged['notices']])
        self.assertFalse(judged['reached'])

    def test_without_any_api_server_there_is_no_going_on(self):
        found = cluster(dict.fromkeys(('m1', 'm2'), None))
        for server in found['api_servers']:
            server['problem'] = 'connection refused'
        judged = skew.judge('1.36.4', found, LANES, going_on=True)
        self.assertEqual(['api-server-ill', 'api-server-ill'], [item['code'] for item in judged['problems']])


class Deprecated(unittest.TestCase):
    METRICS = '''# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="status",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="networking.k8s.io",removed_release="1.37",resource="ipaddresses",subresource="",version="v1beta1"} 1
apiserver_request_total{code="200"} 12
'''

    def test_those_with_an_end_are_read_from_the_metrics(self):
        found = skew.deprecated_apis(self.METRICS)
        self.assertEqual(['flowschemas', 'ipaddresses'], [labels['resource'] for labels in found])

    def test_what_the_target_lacks_is_told_from_what_goes_later(self):
        found = skew.deprecated_apis(self.METRICS) * 3
        self.assertEqual(
            (
                [{'api': 'flowschemas.v1beta3.flowcontrol.apiserver.k8s.io/status', 'removed_release': '1.32'}],
                [{'api': 'ipaddresses.v1beta1.networking.k8s.io', 'removed_release': '1.37'}],
            ),
            skew.judge_deprecated((1, 36, 4), found),
        )
        self.assertEqual(2, len(skew.judge_deprecated((1, 37, 0), found)[0]))


class Versions(unittest.TestCase):
    def test_text_becomes_numbers(self):
        self.assertEqual((1, 36, 4), skew.parse('v1.36.4'))
        self.assertEqual((1, 36, 4), skew.parse('1.36.4-rc.1+abc'))
        for text in ('1.36', '', None, 'latest'):
            with self.assertRaises(skew.NotAVersion):
                skew.parse(text)


if __name__ == '__main__':
    unittest.main()
