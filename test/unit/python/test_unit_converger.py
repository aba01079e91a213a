import base64
import json
import os
import socket
import tempfile
import time
import unittest
import zlib
from unittest import mock

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_writer
from ansible_collections.k8s_ans.cluster.plugins.module_utils import unit_converger as converger


def unit(name, **more):
    return dict({'name': name, 'state': 'started', 'enabled': None, 'files': [], 'reload_files': [], 'wait': None}, **more)


class Module:
    """A module on a host whose units are `states`; `systemctl start` makes of them what `after` says."""

    _diff = False
    check_mode = False

    def __init__(self, units, states, after=None, journal=''):
        self.params = {'units': units, 'timeout': 5, 'max_restarts': 3, 'pending_files': [], 'hold': [], 'gate': []}
        self.states, self.after, self.journal = states, after or {}, journal
        self.commands = []

    def selinux_enabled(self):
        return False

    def run_command(self, words, **_more):
        self.commands.append(words)
        if words[0] == 'journalctl':
            return 0, self.journal, ''
        if words[1] == 'show':
            blocks = []
            for name in words[4:]:
                blocks.append(''.join('%s=%s\n' % item for item in self.states[name].items()))
            return 0, '\n'.join(blocks), ''
        if words[1] in ('start', 'restart'):
            self.states.update(self.after)
        return 0, '', ''


class Converge(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name
        for name in ('STAMPS', 'UNIT_FOLDER'):
            patch = mock.patch.object(converger, name, os.path.join(self.base, name))
            patch.start()
            self.addCleanup(patch.stop)
        isdir = os.path.isdir
        patch = mock.patch.object(os.path, 'isdir', lambda path: path == '/run/systemd/system' or isdir(path))
        patch.start()
        self.addCleanup(patch.stop)

    def write(self, module, *entries):
        filled = [dict({'state': 'file', 'parents': False, 'secret': False, 'recursive': False, 'mode': 0o644,
                        'b64': base64.b64encode(b'new\n').decode()}, **entry) for entry in entries]  # fmt: skip
        payload = base64.b64encode(zlib.compress(json.dumps(filled).encode())).decode()
        return file_writer.Writer(module, payload)

    def running(self, **more):
        stamp = time.strftime('%a %Y-%m-%d %H:%M:%S UTC', time.gmtime(time.time() + 60))
        return dict({'LoadState': 'loaded', 'ActiveState': 'active', 'Type': 'notify', 'UnitFileState': 'enabled',
                     'InvocationID': 'i1', 'ExecMainStartTimestamp': stamp, 'NRestarts': '0'}, **more)  # fmt: skip

    def test_check_mode_foretells_from_the_files_of_the_task(self):
        paths = {name: os.path.join(self.base, name) for name in ('content', 'mode', 'gone')}
        for path in paths.values():
            with open(path, 'w') as handle:
                handle.write('old\n' if path.endswith('content') else 'new\n')
            os.chmod(path, 0o644)
        units = [unit(name, files=[path]) for name, path in paths.items()]
        module = Module(units, {name + '.service': self.running() for name in paths})
        module.check_mode = True
        entries = [{'dest': paths['content']}, {'dest': paths['mode'], 'mode': 0o600}]
        entries.append({'dest': paths['gone'], 'state': 'absent'})
        writer = self.write(module, *entries)
        self.assertEqual(writer.write(), {'changed': True, 'changed_files': list(paths.values())})
        done = converger.Converger(module).converge(writer.replaced, writer.touched)
        # Without a stamp a new mode looks like a new file; a file that goes restarts nothing.
        self.assertEqual(done['restarted'], ['content.service', 'mode.service'])
        os.makedirs(converger.STAMPS)
        marks = converger.unit_state.fingerprints([paths['mode']])
        converger.write_stamp('mode.service', {'invocation': 'i1', 'files': marks, 'reload_files': {}})
        done = converger.Converger(module).converge(writer.replaced, writer.touched)
        self.assertEqual(done['restarted'], ['content.service'])
        self.assertEqual([words[1] for words in module.commands], ['show', 'show'])

    def test_a_unit_that_works_is_held_only_for_a_change(self):
        path = os.path.join(self.base, 'file')
        with open(path, 'w') as handle:
            handle.write('old\n')
        with socket.create_server(('127.0.0.1', 0)) as server:
            wait = {'tcp': '127.0.0.1:%d' % server.getsockname()[1]}
            module = Module([unit('api', files=[path], wait=wait)], {'api.service': self.running()})
            module.params['hold'] = ['api']
            held = converger.Converger(module).held
            self.assertTrue(held(True, [path], []))
            # Nothing to do, neither for the files nor for the unit.
            self.assertFalse(held(False, [], []))
            # The file is right, but the unit would be switched on.
            module.states['api.service'] = self.running(UnitFileState='disabled')
            self.assertTrue(held(False, [], []))
            # It does not run, or does not answer: nothing to protect.
            module.states['api.service'] = self.running(ActiveState='failed')
            self.assertFalse(held(True, [path], []))
        module.states['api.service'] = self.running()
        self.assertFalse(held(True, [path], []))
        self.assertEqual({words[1] for words in module.commands}, {'show'})

    def test_the_gate_names_the_peer_that_does_not_answer(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            up = {'tcp': '127.0.0.1:%d' % server.getsockname()[1]}
            module = Module([], {})
            module.params.update(gate=[up], gate_timeout=0)
            converger.pass_gate(module)
        module.params['gate'] = [up, {'tcp': '127.0.0.1:1'}]
        with self.assertRaises(converger.Failed) as caught:
            converger.pass_gate(module)
        self.assertIn('nothing was changed on this host', str(caught.exception))
        self.assertIn('127.0.0.1:1: [Errno 111] Connection refused', str(caught.exception))

    def test_a_crash_loop_fails_with_one_journal(self):
        noise = '2026-01-02T03:04:05+0000 h systemd[1]: a.service: Scheduled restart job, restart counter is at %d.\n'
        says = '2026-01-02T03:04:05+0000 h a[%d]: bad flag\n'
        journal = ''.join(says % number + noise % number for number in range(9))
        dead = self.running(ActiveState='inactive')
        broken = self.running(ActiveState='failed', InvocationID='i2', Result='exit-code', ExecMainStatus='2', NRestarts='5')
        module = Module([unit('a'), unit('b')], {'a.service': dead, 'b.service': dead},
                        {'a.service': broken, 'b.service': broken}, journal)  # fmt: skip
        with self.assertRaises(converger.Failed) as caught:
            converger.Converger(module).converge()
        result = caught.exception.result
        reason = 'failed: Result=exit-code ExecMainStatus=2'
        self.assertEqual(
            result['failed_units'], [{'name': 'a.service', 'reason': reason}, {'name': 'b.service', 'reason': reason}]
        )
        self.assertEqual(result['journal'], [(says % 8).rstrip()])
        self.assertEqual((result['changed'], result['started']), (True, ['a.service', 'b.service']))
        self.assertIn('b.service ' + reason, str(caught.exception))

    def test_errors_of_the_system_keep_the_result(self):
        module = Module([unit('a')], {'a.service': self.running(ActiveState='inactive')})
        with mock.patch.object(converger, 'read_stamp', side_effect=PermissionError(13, 'no', '/x')):
            with self.assertRaises(converger.Failed) as caught:
                converger.Converger(module).converge()
        self.assertEqual((str(caught.exception), caught.exception.result['changed']), ('/x: no', False))

    def test_refused_before_anything_is_done(self):
        for units in ([unit('a'), unit('a.service')], [unit('a', wait={'tcp': 'a:1', 'unix': '/a'})]):
            with self.assertRaises(converger.Failed):
                converger.Converger(Module(units, {}))


if __name__ == '__main__':
    unittest.main()
