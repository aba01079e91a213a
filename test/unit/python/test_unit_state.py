import os
import tempfile
import time
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import unit_state as units


def stamp_text(seconds):
    whole = time.strftime('%a %Y-%m-%d %H:%M:%S', time.gmtime(seconds))
    return '%s.%06d UTC' % (whole, int(seconds % 1 * 1e6))


class Show(unittest.TestCase):
    def test_blocks(self):
        text = 'Id=a.service\nActiveState=active\nFragmentPath=\n\nId=b.service\nResult=exit=code\n'
        self.assertEqual(
            units.parse_show(text),
            [{'Id': 'a.service', 'ActiveState': 'active', 'FragmentPath': ''}, {'Id': 'b.service', 'Result': 'exit=code'}],
        )

    def test_timestamps(self):
        self.assertEqual(units.parse_timestamp('Thu 1970-01-01 00:00:01.500000 UTC'), 1.5)
        self.assertEqual(units.parse_timestamp('Thu 1970-01-01 00:00:02 UTC'), 2.0)
        for text in ('', 'n/a', None):
            self.assertEqual(units.parse_timestamp(text), 0.0)

    def test_names(self):
        self.assertEqual(units.full_name('etcd'), 'etcd.service')
        self.assertEqual(units.full_name('etcd-backup.timer'), 'etcd-backup.timer')
        self.assertEqual(units.full_name('getty@tty1'), 'getty@tty1.service')


class Decide(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name
        self.file = os.path.join(self.base, 'a.yaml')
        self.replace('one')

    def replace(self, text):
        with open(self.file + '.new', 'w') as handle:
            handle.write(text)
        os.rename(self.file + '.new', self.file)

    def state(self, started, **more):
        return dict(
            {'ActiveState': 'active', 'SubState': 'running', 'InvocationID': 'i1',
             'ExecMainStartTimestamp': stamp_text(started)}, **more)  # fmt: skip

    def decide(self, state, stamp=None, pending=(), files=None, reload_files=()):
        wanted = {'files': [self.file] if files is None else files, 'reload_files': list(reload_files)}
        return units.decide(wanted, state, stamp, list(pending))

    def test_started_after_its_files(self):
        self.assertEqual(self.decide(self.state(time.time() + 1)), '')

    def test_file_replaced_after_the_start(self):
        # What a run that was killed before its restart leaves behind.
        self.assertEqual(self.decide(self.state(time.time() - 60)), 'restart')
        self.assertEqual(self.decide(self.state(time.time() - 60), files=[self.base + '/*.yaml']), 'restart')
        self.assertEqual(self.decide(self.state(time.time() - 60), files=[], reload_files=[self.file]), 'reload')
        self.assertEqual(self.decide(self.state(time.time() - 60), files=['/does/not/exist']), '')

    def test_not_running(self):
        for active, sub in (('inactive', 'dead'), ('failed', 'failed'), ('activating', 'auto-restart')):
            self.assertEqual(self.decide(self.state(time.time() + 1, ActiveState=active, SubState=sub)), 'start')

    def test_starting(self):
        state = self.state(time.time() + 1, ActiveState='activating', SubState='start')
        self.assertEqual(self.decide(state), '')
        state = self.state(time.time() - 60, ActiveState='activating', SubState='start')
        self.assertEqual(self.decide(state), 'restart')

    def test_stamp_wins_over_the_clock(self):
        stamp = {'invocation': 'i1', 'files': units.fingerprints([self.file])}
        # The clock was set back after the start, or a chmod moved the ctime: the fingerprint knows better.
        self.assertEqual(self.decide(self.state(time.time() - 60), stamp), '')
        self.replace('two')
        self.assertEqual(self.decide(self.state(time.time() + 3600), stamp), 'restart')

    def test_stamp_of_another_invocation_is_ignored(self):
        stamp = {'invocation': 'i0', 'files': {self.file: [0, 0, 0]}}
        self.assertEqual(self.decide(self.state(time.time() + 1), stamp), '')

    def test_file_declared_since(self):
        stamp = {'invocation': 'i1', 'files': {}}
        self.assertEqual(self.decide(self.state(time.time() + 1), stamp), '')
        self.assertEqual(self.decide(self.state(time.time() - 60), stamp), 'restart')

    def test_check_mode_foretells(self):
        state = self.state(time.time() + 1)
        self.assertEqual(self.decide(state, pending=[self.file]), 'restart')
        self.assertEqual(self.decide(state, pending=['/etc/x/new.yaml'], files=['/etc/x/*.yaml']), 'restart')
        self.assertEqual(self.decide(state, pending=['/etc/y'], files=['/etc/x/*.yaml']), '')
        self.assertEqual(self.decide(state, pending=['/n'], files=[], reload_files=['/n']), 'reload')


class Verdict(unittest.TestCase):
    def judge(self, before=None, restarts=0, **state):
        base = {'ActiveState': 'active', 'InvocationID': 'new', 'NRestarts': '0', 'Result': 'success', 'Type': 'notify'}
        return units.verdict(dict(base, **state), before, restarts, 3)

    def test_ready(self):
        self.assertEqual(self.judge(), ('ready', ''))
        self.assertEqual(self.judge(before='old'), ('ready', ''))
        self.assertEqual(self.judge(ActiveState='inactive', Type='oneshot'), ('ready', ''))

    def test_old_process_still_there(self):
        self.assertEqual(self.judge(before='new')[0], 'wait')
        self.assertEqual(self.judge(Job='12')[0], 'wait')

    def test_active_is_compared_exactly(self):
        self.assertEqual(self.judge(ActiveState='activating', SubState='start'), ('wait', 'is activating (start)'))
        self.assertEqual(self.judge(ActiveState='deactivating', SubState='stop')[0], 'wait')

    def test_failures(self):
        self.assertEqual(
            self.judge(ActiveState='failed', Result='exit-code', ExecMainStatus='1'),
            ('failed', 'failed: Result=exit-code ExecMainStatus=1'),
        )
        self.assertEqual(self.judge(ActiveState='inactive', ExecMainStatus='0')[0], 'failed')

    def test_crash_loop(self):
        state = {'ActiveState': 'activating', 'SubState': 'auto-restart', 'Result': 'exit-code', 'ExecMainStatus': '2'}
        self.assertEqual(self.judge(NRestarts='2', **state)[0], 'wait')
        self.assertEqual(
            self.judge(NRestarts='3', **state),
            ('failed', 'crashes again and again (3 automatic restarts since it was started): '
                       'Result=exit-code ExecMainStatus=2'),
        )
        # Met while it runs again: the crash that was seen before tells more.
        self.assertIn('Result=oom-kill', units.verdict({'NRestarts': '3'}, None, 0, 3, 'Result=oom-kill')[1])
        # Restarts of long ago do not count.
        self.assertEqual(self.judge(NRestarts='9', restarts=9), ('ready', ''))


class TellingLines(unittest.TestCase):
    def test_crash_loop(self):
        head = '2026-11-24T06:00:0%d+0000 host '
        lines = []
        for turn in (1, 2):
            texts = [
                'systemd[1]: Started app.service - App.',
                'app[1%d]: I1124 06:00:0%d.123456   1%d server.go:1] starting' % (turn, turn, turn),
                'app[1%d]: {"ts":"2026-11-24T06:00:0%d.5Z","msg":"no disk"}' % (turn, turn),
                'app[1%d]: panic: boom' % turn,
                'app[1%d]: ' % turn,
                'app[1%d]: goroutine 1 [running]:' % turn,
                'app[1%d]: main.main()' % turn,
                'systemd[1]: app.service: Main process exited, code=exited, status=2/INVALIDARGUMENT',
                "systemd[1]: app.service: Failed with result 'exit-code'.",
                'systemd[1]: app.service: Scheduled restart job, restart counter is at %d.' % turn,
            ]
            lines += [head % turn + text for text in texts]
        self.assertEqual(units.telling_lines(lines), [lines[11], lines[12], lines[13], lines[17]])

    def test_what_the_child_says_before_exec(self):
        line = '2026-11-24T06:00:00+0000 host systemd[77]: app.service: Failed at step EXEC spawning /x: No such file'
        self.assertEqual(units.telling_lines([line]), [line])
        flag = line.partition(': ')[0] + ': I1124 10:00:00.773528    2358 flags.go:64] FLAG: --audit-log-maxage="30"'
        self.assertEqual(units.telling_lines([flag, line, flag]), [line])


if __name__ == '__main__':
    unittest.main()
