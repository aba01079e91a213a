import hashlib
import os
import tempfile
import unittest
from unittest import mock

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_store as store


def sha(content):
    return hashlib.sha256(content).hexdigest()


class Case(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.base = temporary.name

    def write(self, name, content):
        path = os.path.join(self.base, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as handle:
            handle.write(content)
        return path


class Alone(Case):
    def test_the_next_begins_when_the_one_before_has_ended(self):
        import fcntl

        lock = os.path.join(self.base, 'run', 'x.lock')
        with store.alone('x', os.path.dirname(lock)), open(lock) as other:
            with self.assertRaises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(lock) as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_one_that_fails_gives_it_back(self):
        with self.assertRaises(KeyError):
            with store.alone('x', self.base):
                raise KeyError
        with store.alone('x', self.base):
            pass


class Cache(Case):
    def setUp(self):
        super().setUp()
        self.stamp = os.path.join(self.base, 'stamp.json')
        self.hashed = []

    def cache(self):
        def hasher(path):
            self.hashed.append(path)
            return store.file_digest(path)

        return store.DigestCache(self.stamp, hasher)

    def test_reads_again_only_what_was_touched(self):
        path = self.write('a', b'one')
        cache = self.cache()
        self.assertEqual(cache.digest(path), sha(b'one'))
        cache.save()
        self.assertEqual(os.stat(self.stamp).st_mode & 0o777, 0o600)
        self.assertEqual(self.cache().digest(path), sha(b'one'))
        self.assertEqual(self.hashed, [path])

        # Same size, and the old mtime set back: the ctime tells.
        status = os.stat(path)
        with open(path, 'wb') as handle:
            handle.write(b'two')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(self.cache().digest(path), sha(b'two'))
        self.assertEqual(len(self.hashed), 2)

    def test_a_broken_stamp_is_no_error(self):
        path = self.write('a', b'one')
        for text in (b'{"%s": 1}' % path.encode(), b'[]', b'{', b'\xff'):
            self.write('stamp.json', text)
            self.assertEqual(self.cache().digest(path), sha(b'one'))

    def test_nothing_there(self):
        self.assertIsNone(self.cache().digest(os.path.join(self.base, 'none')))
        os.mkdir(os.path.join(self.base, 'folder'))
        self.assertIsNone(self.cache().digest(os.path.join(self.base, 'folder')))


class Incoming(Case):
    def test_complete_files_of_a_killed_run_are_kept_others_go(self):
        whole, cut, old = b'whole', b'cut', b'old'
        for content, stored in ((whole, whole), (cut, b'c'), (old, old)):
            self.write('.incoming/' + sha(content), stored)
        folder, there = store.prepare(self.base, {sha(whole): 5, sha(cut): 3}, '')
        self.assertEqual(there, {sha(whole)})
        self.assertEqual(sorted(os.listdir(folder)), sorted([sha(whole), sha(cut)]))
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)

    def test_altered_is_refused_and_taken_away(self):
        path = self.write('in/' + sha(b'good'), b'evil')
        with self.assertRaises(store.StoreError) as caught:
            store.verify(os.path.dirname(path), sha(b'good'), 'kubelet')
        self.assertEqual(
            str(caught.exception),
            'kubelet: what arrived has the sha256 %s and not %s; it was not installed. Check the file on the control '
            'machine (k8s-ans artifacts verify) and run again' % (sha(b'evil'), sha(b'good')),
        )
        self.assertFalse(os.path.exists(path))

    def test_missing_is_refused(self):
        with self.assertRaisesRegex(store.StoreError, '^kubelet did not arrive on the host; run again$'):
            store.verify(self.base, sha(b'x'), 'kubelet')

    def test_move_replaces_and_sets_mode(self):
        path = self.write('in/x', b'new')
        dest = self.write('bin/x', b'old')
        store.move(path, sha(b'new'), dest, 0o750, os.geteuid(), os.getegid())
        self.assertEqual((open(dest, 'rb').read(), os.stat(dest).st_mode & 0o777), (b'new', 0o750))
        self.assertFalse(os.path.exists(path))

    def test_a_file_of_another_user_is_copied_and_verified(self):
        path = self.write('in/x', b'evil')
        dest = self.write('bin/x', b'old')
        real = os.stat

        def stat(name, *rest, **more):
            status = real(name, *rest, **more)
            if name != path:
                return status
            return os.stat_result([status[0], status[1], status[2], status[3], status.st_uid + 1] + list(status[5:]))

        with mock.patch.object(store.os, 'stat', stat):
            with self.assertRaisesRegex(store.StoreError, 'changed while it was being installed'):
                store.move(path, sha(b'good'), dest, 0o755, os.geteuid(), os.getegid())
        self.assertEqual(open(dest, 'rb').read(), b'old')
        self.assertEqual(os.listdir(os.path.dirname(dest)), ['x'])

    def test_full_disk_keeps_the_old_version(self):
        path = self.write('in/x', b'new')
        dest = self.write('bin/x', b'old')
        full = OSError(28, 'No space left on device')
        with mock.patch.object(store.os, 'rename', side_effect=full):
            with self.assertRaisesRegex(store.StoreError, 'is full; .*bin/x was not replaced. Free some space'):
                store.move(path, sha(b'new'), dest, 0o755, os.geteuid(), os.getegid())
        self.assertEqual(open(dest, 'rb').read(), b'old')

    def test_no_room_is_said_before_anything_is_sent(self):
        with self.assertRaisesRegex(store.StoreError, r'^no room on the file system of .*: \d+ MiB are needed, \d+ MiB are '
                                                      r'free. Nothing was sent'):
            store.check_room([(os.path.join(self.base, 'not', 'yet'), 1 << 60)])
        store.check_room([(self.base, 1)])


if __name__ == '__main__':
    unittest.main()
