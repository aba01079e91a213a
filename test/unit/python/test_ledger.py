import json
import os
import stat
import tempfile
import unittest
from unittest import mock

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger


class Silent:
    """A module on a host without any of the commands that are asked."""

    def get_bin_path(self, _name):
        return None

    def run_command(self, _words, **_more):
        return 127, '', ''


class LedgerTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name
        patch = mock.patch.object(ledger, 'FOLDER', os.path.join(self.base, 'state', 'k8s-ans'))
        patch.start()
        self.addCleanup(patch.stop)

    def at(self, *names):
        return os.path.join(self.base, *names)

    def put(self, name, text='', mode=0o644):
        path = self.at(name)
        with open(path, 'w', encoding='utf-8') as handle:
            handle.write(text)
        os.chmod(path, mode)
        return path

    def fresh(self):
        return ledger.begin(Silent(), adopted=False)


class Notes(LedgerTest):
    def test_a_path_is_noted_with_each_missing_folder_above_it(self):
        notes = self.fresh()
        notes.made(self.at('a', 'b', 'c'), 'file')
        self.assertEqual(
            notes.content['made'],
            {self.at('a'): 'directory', self.at('a', 'b'): 'directory', self.at('a', 'b', 'c'): 'file'},
        )

    def test_what_is_there_is_not_made(self):
        notes = self.fresh()
        notes.made(self.put('there'), 'file')
        self.assertEqual(notes.content['made'], {})

    def test_a_file_that_is_written_over_is_kept_once(self):
        notes = self.fresh()
        path = self.put('app.conf', 'old\n', 0o640)
        notes.replacing(path)
        self.put('app.conf', 'new\n')
        notes.replacing(path)
        note = notes.content['replaced'][path]
        self.assertEqual((note['mode'], note['uid']), (0o640, os.geteuid()))
        with open(os.path.join(ledger.FOLDER, ledger.COPIES, note['copy']), encoding='utf-8') as handle:
            self.assertEqual(handle.read(), 'old\n')

    def test_what_we_made_is_not_kept_when_it_is_written_over(self):
        notes = self.fresh()
        notes.made(self.at('ours'), 'file')
        notes.replacing(self.put('ours', 'first'))
        self.assertEqual(notes.content['replaced'], {})

    def test_a_link_is_kept_by_its_target(self):
        notes = self.fresh()
        os.symlink('/somewhere', self.at('link'))
        notes.replacing(self.at('link'))
        self.assertEqual(notes.content['replaced'], {self.at('link'): {'target': '/somewhere'}})

    def test_where_the_ledger_came_later_all_that_is_written_counts_as_ours(self):
        notes = ledger.begin(Silent(), adopted=True)
        path = self.put('kubelet.yaml', 'x')
        notes.replacing(path)
        notes.found_folder(self.base)
        notes.attributes(path)
        self.assertEqual(notes.content['made'], {path: 'file'})
        self.assertEqual((notes.content['found'], notes.content['attributes'], notes.host), ({}, {}, {}))

    def test_the_names_in_a_folder_are_noted_at_first_use(self):
        notes = self.fresh()
        self.put('foreign')
        notes.found_folder(self.base)
        self.put('ours')
        notes.found_folder(self.base)
        self.assertEqual(notes.content['found'][self.base], ['foreign'])

    def test_a_kernel_parameter_keeps_its_first_value(self):
        notes = self.fresh()
        notes.sysctl('vm.swappiness', '60', '0')
        notes.sysctl('vm.swappiness', '0', '10')
        self.assertEqual(notes.content['sysctls'], {'vm.swappiness': ['60', '10']})

    def test_a_block_is_noted_with_the_newline_that_it_adds(self):
        notes = self.fresh()
        path = self.put('hosts', '127.0.0.1 localhost')
        notes.block(path, '# B', '# E', True)
        notes.block(path, '# B', '# E', True)
        self.assertEqual(notes.content['blocks'], {path: [['# B', '# E', True]]})


class Store(LedgerTest):
    def test_without_a_ledger_there_is_none(self):
        self.assertIsNone(ledger.load())

    def test_it_is_written_for_root_alone_and_read_back(self):
        notes = self.fresh()
        notes.made(self.at('x'), 'file')
        notes.save()
        self.assertEqual(stat.S_IMODE(os.stat(ledger.FOLDER).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(ledger.FOLDER, ledger.FILE)).st_mode), 0o600)
        self.assertEqual(ledger.load().content, json.loads(json.dumps(notes.content)))

    def test_nothing_is_written_where_nothing_is_new(self):
        notes = self.fresh()
        notes.save()
        before = os.stat(os.path.join(ledger.FOLDER, ledger.FILE)).st_mtime_ns
        again = ledger.load()
        again.found_folder(ledger.FOLDER) if ledger.FOLDER in again.content['found'] else None
        again.save()
        self.assertEqual(os.stat(os.path.join(ledger.FOLDER, ledger.FILE)).st_mtime_ns, before)

    def test_a_damaged_one_is_refused(self):
        os.makedirs(ledger.FOLDER)
        for text in ('', '[]', '{"version": 1', '{}'):
            with open(os.path.join(ledger.FOLDER, ledger.FILE), 'w', encoding='utf-8') as handle:
                handle.write(text)
            with self.assertRaisesRegex(ledger.Damaged, 'is damaged'):
                ledger.load()

    def test_one_of_a_later_version_is_refused(self):
        os.makedirs(ledger.FOLDER)
        with open(os.path.join(ledger.FOLDER, ledger.FILE), 'w', encoding='utf-8') as handle:
            handle.write('{"version": 2}')
        with self.assertRaisesRegex(ledger.Damaged, 'written by a newer k8s-ans'):
            ledger.load()


if __name__ == '__main__':
    unittest.main()
