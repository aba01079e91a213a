"""Tests of modules/etcd_restore.py: what stands where after any interruption; and of the choice of a member."""

import itertools
import os
import shutil
import tempfile
import unittest
from unittest import mock

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.filter import etcd_source as filters
from ansible_collections.k8s_ans.cluster.plugins.modules import etcd_health, etcd_restore

MEMBERS = 'a=https://172.24.8.71:2380'


class Killed(BaseException):
    pass


class Case(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name
        self.data, self.wal = os.path.join(self.base, 'data'), os.path.join(self.base, 'wal')
        self.places = etcd_restore.Places(self.data, self.wal, 'one')

    def put(self, path, content):
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, 'what'), 'w') as handle:
            handle.write(content)

    def what(self, *path):
        try:
            with open(os.path.join(self.base, *path, 'what')) as handle:
                return handle.read()
        except FileNotFoundError:
            return None

    def old(self):
        self.put(os.path.join(self.data, 'member'), 'old data')
        self.put(os.path.join(self.wal, 'member'), 'old log')

    def staged(self, name='new'):
        self.put(os.path.join(self.data, '.restore', 'member'), name + ' data')
        self.put(os.path.join(self.wal, '.restore'), name + ' log')

    def seen(self):
        return {
            'data': self.what('data', 'member'),
            'log': self.what('wal', 'member'),
            'old data': self.what('data', 'member.before-restore-one'),
            'old log': self.what('wal', 'member.before-restore-one'),
        }

    SWAPPED = {'data': 'new data', 'log': 'new log', 'old data': 'old data', 'old log': 'old log'}


class Swap(Case):
    def test_puts_the_new_in_place_and_keeps_the_old(self):
        self.old()
        self.staged()
        etcd_restore.swap(self.places)
        self.assertEqual(self.seen(), self.SWAPPED)
        self.assertFalse(os.path.exists(self.places.staged_data))
        etcd_restore.swap(self.places)
        self.assertEqual(self.seen(), self.SWAPPED)

    def test_works_on_an_empty_host(self):
        self.staged()
        etcd_restore.swap(self.places)
        self.assertEqual(self.seen(), {'data': 'new data', 'log': 'new log', 'old data': None, 'old log': None})

    def test_killed_before_any_rename_it_is_finished_by_the_next_call(self):
        for step in itertools.count():
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.rmtree(self.wal, ignore_errors=True)
            self.old()
            self.staged()
            left = [step]

            def rename(source, target, left=left):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                os.replace(source, target)

            try:
                with mock.patch.object(etcd_restore.os, 'rename', rename):
                    etcd_restore.swap(self.places)
                break
            except Killed:
                stamp = {'id': 'one', 'members': MEMBERS, 'state': 'prepared'}
                self.assertEqual(etcd_restore.state_of(self.places, stamp, 'one', MEMBERS), 'prepared')
                etcd_restore.swap(self.places)
            self.assertEqual(self.seen(), self.SWAPPED, 'killed before rename %d' % step)
        self.assertEqual(step, 4)

    def test_begun_anew_it_does_not_take_restored_data_for_the_old(self):
        self.old()
        self.staged('first')
        etcd_restore.swap(self.places)
        self.staged()
        etcd_restore.swap(self.places)
        self.assertEqual(self.seen(), self.SWAPPED)

    def test_keeps_one_generation(self):
        self.old()
        self.put(os.path.join(self.data, 'member.before-restore-zero'), 'older')
        self.staged()
        etcd_restore.swap(self.places)
        etcd_restore.forget_older(self.places)
        self.assertEqual(sorted(os.listdir(self.data)), ['member', 'member.before-restore-one'])

    def test_keeps_an_earlier_generation_where_this_restore_found_no_data(self):
        self.put(os.path.join(self.data, 'member.before-restore-zero'), 'older')
        self.staged()
        etcd_restore.swap(self.places)
        etcd_restore.forget_older(self.places)
        self.assertEqual(sorted(os.listdir(self.data)), ['member', 'member.before-restore-zero'])


class State(Case):
    def state(self, **stamp):
        return etcd_restore.state_of(self.places, stamp, 'one', MEMBERS)

    def test_is_none_without_a_stamp_of_this_restore(self):
        self.old()
        self.assertEqual(self.state(), 'none')
        self.assertEqual(self.state(id='zero', members=MEMBERS, state='done'), 'none')
        self.assertEqual(self.state(id='one', members='b=https://172.24.8.72:2380', state='done'), 'none')

    def test_is_done_only_where_the_data_is(self):
        self.assertEqual(self.state(id='one', members=MEMBERS, state='done'), 'none')
        self.old()
        self.assertEqual(self.state(id='one', members=MEMBERS, state='done'), 'done')

    def test_is_prepared_where_the_new_data_stands(self):
        self.assertEqual(self.state(id='one', members=MEMBERS, state='prepared'), 'none')
        self.staged()
        self.assertEqual(self.state(id='one', members=MEMBERS, state='prepared'), 'prepared')


class Source(unittest.TestCase):
    def choose(self, **members):
        hosts = [
            {'inventory_hostname': name, 'r': None if state is None else {'etcd': state}} for name, state in members.items()
        ]
        return filters.etcd_source(hosts, 'r')

    def member(self, healthy=True, leads=False, index=1):
        return {'answers': True, 'healthy': healthy, 'leads': leads, 'index': index}

    def test_is_a_healthy_follower(self):
        self.assertEqual(self.choose(a=self.member(leads=True), b=self.member(), c=self.member()), 'b')

    def test_is_the_leader_where_it_is_alone(self):
        self.assertEqual(self.choose(a={'answers': False}, b=self.member(leads=True), c=None), 'b')

    def test_is_the_one_that_has_most_where_there_is_no_quorum(self):
        self.assertEqual(self.choose(a=self.member(healthy=False, index=7), b=self.member(healthy=False, index=9)), 'b')
        self.assertEqual(self.choose(a=self.member(healthy=False, index=9), b=self.member(index=7)), 'b')

    def test_is_none_where_nobody_answers(self):
        self.assertEqual(self.choose(a={'answers': False}, b=None), '')


class Member(unittest.TestCase):
    def test_is_described_in_our_words(self):
        status = {
            'header': {'member_id': 16881259979192056699, 'revision': 568},
            'version': '3.6.14',
            'dbSize': 991232,
            'leader': 2941018772437683524,
            'raftAppliedIndex': 730,
        }
        self.assertEqual(
            etcd_health.describe('a', status, True),
            {
                'member': 'a',
                'answers': True,
                'healthy': True,
                'leads': False,
                'revision': 568,
                'index': 730,
                'db_size': 991232,
                'version': '3.6.14',
            },
        )


if __name__ == '__main__':
    unittest.main()
