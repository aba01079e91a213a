import unittest

import plugins_path  # noqa: F401
from ansible.errors import AnsibleFilterError
from ansible_collections.k8s_ans.cluster.plugins.filter import etcd as etcd_filter
from ansible_collections.k8s_ans.cluster.plugins.module_utils import etcd_cluster
from ansible_collections.k8s_ans.cluster.plugins.modules import etcd_member, etcd_state


def url(number):
    return 'https://192.0.2.%d:2380' % number


def member(number, name=None, started=True, learner=False):
    found = {'ID': number, 'peerURLs': [url(number)]}
    if name != '':
        found['name'] = name or 'm%d' % number
    if started:
        found['clientURLs'] = ['https://192.0.2.%d:2379' % number]
    if learner:
        found['isLearner'] = True
    return found


THREE = [member(1), member(2), member(3)]


class Decide(unittest.TestCase):
    def decide(self, has_data, members, number=4):
        return etcd_state.decide('m%d' % number, url(number), has_data, members)

    def test_no_cluster_answers(self):
        self.assertEqual(self.decide(False, None), ('new', ''))
        self.assertEqual(self.decide(True, None), ('new', ''))

    def test_a_member_that_runs(self):
        self.assertEqual(self.decide(True, THREE, 1), ('new', ''))

    def test_a_member_of_a_new_cluster_that_has_not_started(self):
        self.assertEqual(self.decide(False, [member(1), member(2), member(4, started=False)]), ('new', ''))

    def test_a_new_member_joins(self):
        self.assertEqual(self.decide(False, THREE), ('existing', 'new'))

    def test_one_that_began_to_join_goes_on(self):
        added = member(4, name='', started=False, learner=True)
        self.assertEqual(self.decide(False, THREE + [added]), ('existing', 'begun'))
        self.assertEqual(self.decide(True, THREE + [added]), ('existing', 'begun'))
        self.assertEqual(self.decide(True, THREE + [member(4, learner=True)]), ('existing', 'begun'))

    def test_lost_data(self):
        with self.assertRaisesRegex(etcd_state.Refused, 'etcd member m1 has no data.*node remove m1'):
            self.decide(False, THREE, 1)

    def test_data_of_a_removed_member(self):
        with self.assertRaisesRegex(etcd_state.Refused, 'node remove m4'):
            self.decide(True, THREE)

    def test_the_same_name_at_another_address(self):
        with self.assertRaisesRegex(etcd_state.Refused, 'm4 at https://192.0.2.9:2380'):
            self.decide(False, THREE + [member(9, name='m4')])


class InitialCluster(unittest.TestCase):
    def test_all_members_and_itself(self):
        members = [member(2), member(1), member(5, name='', started=False), member(4, name='', started=False)]
        self.assertEqual(
            etcd_cluster.initial_cluster(members, 'm4', url(4)),
            '5=%s,m1=%s,m2=%s,m4=%s' % (url(5), url(1), url(2), url(4)),
        )


class Removal(unittest.TestCase):
    def refusal(self, members, healthy, target):
        return etcd_cluster.removal_refusal(members, set(healthy), member(target))

    def test_allowed(self):
        self.assertIsNone(self.refusal(THREE, [1, 2, 3], 3))
        self.assertIsNone(self.refusal(THREE, [1, 2], 3))
        self.assertIsNone(self.refusal([member(1), member(2)], [1, 2], 2))
        self.assertIsNone(self.refusal(THREE + [member(4), member(5)], [1, 2, 3], 5))

    def test_a_learner_does_not_count(self):
        self.assertIsNone(self.refusal([member(1), member(2), member(4, learner=True)], [1, 2], 2))

    def test_refused(self):
        self.assertEqual(
            self.refusal(THREE, [1, 3], 3),
            'without m3 etcd would have no quorum: of the 2 members that remain, 2 have to be healthy, and only m1 is. '
            'Bring m2 back first. If they are lost for good, `k8s-ans etcd restore` makes a new etcd cluster from a '
            'snapshot',
        )
        self.assertIn('none is. Bring m1 and m2 back', self.refusal(THREE, [3], 3))
        self.assertEqual(
            self.refusal([member(1)], [1], 1), 'm1 is the last etcd member: without it there is no cluster'
        )


class Learner(unittest.TestCase):
    def test_one_at_a_time(self):
        self.assertIsNone(etcd_member.learner_refusal(THREE, 'm4', url(4)))
        refusal = etcd_member.learner_refusal(THREE + [member(5, learner=True)], 'm4', url(4))
        self.assertIn('m5 has not become a voter yet', refusal)

    def test_who_leads_next(self):
        self.assertEqual(etcd_member.new_leader(THREE, {2, 3}, member(3)), 2)
        self.assertIsNone(etcd_member.new_leader(THREE, {3}, member(3)))


class Words(unittest.TestCase):
    def test_the_error_behind_the_log(self):
        text = '{"level":"warn","msg":"retrying"}\nError: etcdserver: unhealthy cluster\n'
        self.assertEqual(etcd_cluster.last_words(text), 'etcdserver: unhealthy cluster')
        self.assertTrue(etcd_cluster.passing('etcdserver: unhealthy cluster'))
        self.assertFalse(etcd_cluster.passing('etcdserver: member not found'))


class Filters(unittest.TestCase):
    def host(self, name, **state):
        return {'inventory_hostname': name, 'k8s_node_name': name, '__etcd_state': state}

    def test_who_joins_in_which_order(self):
        hosts = [self.host('a', joining=''), self.host('b', joining='new'), self.host('c', joining='begun')]
        self.assertEqual(etcd_filter.etcd_joining(hosts), ['c', 'b'])

    def test_initial_cluster(self):
        old = self.host('a', has_data=True, initial_cluster='a=x,b=y')
        self.assertEqual(etcd_filter.etcd_initial_cluster(old, [old], 'spec'), 'a=x,b=y')
        early = self.host('b', has_data=False, alive=False, initial_cluster='a=x,b=y')
        self.assertEqual(etcd_filter.etcd_initial_cluster(early, [old, early], 'spec'), 'a=x,b=y')

    def test_no_second_cluster(self):
        old = self.host('a', has_data=True, initial_cluster='a=x')
        new = self.host('b', has_data=False, alive=False, initial_cluster='a=x,b=y')
        with self.assertRaisesRegex(AnsibleFilterError, 'a has its data'):
            etcd_filter.etcd_initial_cluster(new, [old, new], 'spec')


if __name__ == '__main__':
    unittest.main()
