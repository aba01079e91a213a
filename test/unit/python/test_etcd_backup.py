"""Tests of roles/etcd/files/etcd-backup.py, with programs in place of etcd's that write what etcd's would."""

import hashlib
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[3] / 'roles' / 'etcd' / 'files' / 'etcd-backup.py'
_spec = importlib.util.spec_from_file_location('etcd_backup', PROGRAM)
backup = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(backup)

ETCDCTL = """#!%s
import hashlib, json, os, sys
if 'status' in sys.argv:
    print(json.dumps([{'Status': {'dbSize': int(os.environ.get('DB_SIZE', '4096')), 'version': '3.6.14'}}]))
elif os.environ.get('FAILS'):
    sys.exit('Error: context deadline exceeded')
else:
    content = b'7' * 4096
    with open(sys.argv[-1], 'wb') as file:
        file.write(content + (b'0' * 32 if os.environ.get('DAMAGED') else hashlib.sha256(content).digest()))
"""
ETCDUTL = """#!%s
import json
print(json.dumps({'hash': 102457835, 'revision': 568, 'totalKey': 333, 'totalSize': 4096, 'version': '3.6.0'}))
"""


class Names(unittest.TestCase):
    def test_all_but_the_newest_are_outdated(self):
        names = ['a-20261101T000000Z.db', 'a-20261103T000000Z.db', 'a-20261102T000000Z.db', 'a-20261102T000000Z.json']
        names += ['b-20261101T000000Z.db', 'a-b-20261101T000000Z.db', 'a-mine.db', '.lock']
        self.assertEqual(backup.outdated(names, 'a', 2), ['a-20261101T000000Z'])
        self.assertEqual(backup.outdated(names, 'a', 1), ['a-20261101T000000Z', 'a-20261102T000000Z'])
        self.assertEqual(backup.outdated(names, 'c', 1), [])


class Program(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name
        self.folder = os.path.join(self.base, 'backup')
        for name, text in (('etcdctl', ETCDCTL), ('etcdutl', ETCDUTL)):
            path = os.path.join(self.base, name)
            with open(path, 'w') as handle:
                handle.write(text % sys.executable)
            os.chmod(path, 0o755)

    def run_it(self, keep=7, **environment):
        words = ['--cluster=demo', '--member=a', '--kubernetes=1.36.4', '--directory', self.folder, '--keep', str(keep)]
        words += ['--etcdctl', os.path.join(self.base, 'etcdctl'), '--etcdutl', os.path.join(self.base, 'etcdutl')]
        words += ['--endpoint=https://127.0.0.1:2379', '--cacert=ca', '--cert=cert', '--key=key']
        return subprocess.run(
            [sys.executable, '-B', str(PROGRAM)] + words,
            capture_output=True,
            text=True,
            env=dict(os.environ, **environment),
            check=False,
        )

    def names(self):
        return sorted(name for name in os.listdir(self.folder) if name != '.lock')

    def test_takes_proves_and_describes_a_snapshot(self):
        done = self.run_it()
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        with open(said['file'], 'rb') as handle:
            self.assertEqual(said['sha256'], hashlib.sha256(handle.read()).hexdigest())
        self.assertEqual(stat.S_IMODE(os.stat(said['file']).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o700)
        stem = os.path.basename(said['file'])[:-3]
        self.assertRegex(stem, r'^demo-\d{8}T\d{6}Z$')
        self.assertEqual(self.names(), [stem + '.db', stem + '.json'])
        with open(os.path.join(self.folder, stem + '.json')) as handle:
            about = json.load(handle)
        self.assertEqual(dict(about, file=said['file'], removed=[]), said)
        expected = {'cluster': 'demo', 'member': 'a', 'revision': 568, 'hash': '061b61eb', 'keys': 333, 'size': 4128}
        expected.update({'etcd': '3.6.14', 'storage': '3.6.0', 'kubernetes': '1.36.4', 'version': 1})
        self.assertEqual({key: about[key] for key in expected}, expected)

    def test_keeps_the_newest_and_takes_leftovers_away(self):
        os.mkdir(self.folder)
        for name in ('demo-20200101T000000Z', 'demo-20200102T000000Z'):
            for suffix in ('.db', '.json'):
                Path(self.folder, name + suffix).touch()
        Path(self.folder, '.draft-demo-20200103T000000Z.db').touch()
        Path(self.folder, 'demo-20190101T000000Z.json').touch()
        Path(self.folder, 'mine.db').touch()
        said = json.loads(self.run_it(keep=2).stdout)
        self.assertEqual(said['removed'], ['demo-20200101T000000Z'])
        stem = os.path.basename(said['file'])[:-3]
        kept = ['demo-20200102T000000Z.db', 'demo-20200102T000000Z.json', stem + '.db', stem + '.json', 'mine.db']
        self.assertEqual(self.names(), kept)

    def test_leaves_nothing_of_one_that_fails(self):
        for environment, reason in (
            ({'FAILS': '1'}, 'etcdctl failed: Error: context deadline exceeded'),
            ({'DAMAGED': '1'}, "the snapshot's own checksum does not fit its content"),
            ({'DB_SIZE': str(1 << 60)}, 'no room in '),
        ):
            done = self.run_it(**environment)
            self.assertEqual(done.returncode, 1)
            self.assertIn('etcd-backup: ' + reason, done.stderr)
            self.assertEqual(self.names(), [])

    def test_is_alone_in_its_folder(self):
        import fcntl

        os.mkdir(self.folder)
        with open(os.path.join(self.folder, '.lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self.run_it()
        self.assertEqual(done.returncode, 1)
        self.assertIn('another backup into', done.stderr)


if __name__ == '__main__':
    unittest.main()
