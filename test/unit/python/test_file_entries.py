import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import file_entries as files


class Normalize(unittest.TestCase):
    def refused(self, raw, message, defaults=None):
        with self.assertRaises(files.EntryError) as caught:
            files.normalize(raw, defaults or {}, 3)
        self.assertEqual(str(caught.exception), message)

    def test_defaults(self):
        entry = files.normalize({'dest': '/a/b', 'content': 'x'}, {'mode': '0644', 'group': 'etcd'}, 0)
        self.assertEqual(entry['mode'], 0o644)
        self.assertEqual((entry['owner'], entry['group']), ('root', 'etcd'))
        self.assertFalse(entry['secret'])

    def test_directory_does_not_take_the_files_mode(self):
        self.assertEqual(files.normalize({'dest': '/a', 'state': 'directory'}, {'mode': '0600'}, 0)['mode'], 0o755)

    def test_block_keeps_owner_and_mode(self):
        entry = files.normalize({'dest': '/etc/hosts', 'block': 'x'}, {'mode': '0600', 'owner': 'etcd'}, 0)
        self.assertEqual((entry['mode'], entry['owner'], entry['group']), (None, None, None))

    def test_booleans_of_jinja(self):
        self.assertTrue(files.normalize({'dest': '/a', 'content': '', 'mode': '0600', 'secret': 'True'}, {}, 0)['secret'])

    def test_refusals(self):
        where = 'files[3] (/a)'
        self.refused({'dest': '/a', 'content': 'x', 'mod': '0644'}, where + ': unknown key mod (did you mean mode?)')
        self.refused({'content': 'x'}, 'files[3]: dest must be an absolute path on the host')
        self.refused({'dest': '/a', 'content': 'x'}, where + ": mode is required, as a quoted octal string such as '0644'")
        for mode in (420, 'u=rw', '0888'):
            self.refused(
                {'dest': '/a', 'content': 'x', 'mode': mode},
                where + ": mode must be a quoted octal string such as '0644', got %r" % (mode,),
            )
        self.refused(
            {'dest': '/a', 'content': 'x', 'src': 'y', 'mode': '0644'},
            where + ': give exactly one of template, src, content, block (got src, content)',
        )
        self.refused({'dest': '/a', 'state': 'gone'}, where + ': state must be one of file, absent, directory, link, got gone')
        self.refused({'dest': '/a', 'state': 'link'}, where + ': state: link needs target')
        self.refused({'dest': '/a', 'state': 'directory', 'content': 'x'}, where + ': content does not go with state: directory')
        self.refused(
            {'dest': '/a', 'content': 'x', 'mode': '0644', 'validate': 'true'},
            where + ': validate must contain %s, the place of the file to be checked',
        )
        self.refused(
            {'dest': '/a', 'content': 'x', 'mode': '0644', 'secret': 'maybe'},
            where + ".secret: expected true or false, got 'maybe'",
        )


class Block(unittest.TestCase):
    def put(self, text, block):
        return files.put_block(text, block, '# B', '# E')

    def test_goes_to_the_end(self):
        self.assertEqual(self.put('one', 'x\n'), 'one\n# B\nx\n# E\n')
        self.assertEqual(self.put('', 'x'), '# B\nx\n# E\n')

    def test_stays_in_its_place(self):
        text = 'one\n# B\nold\nolder\n# E\ntwo'
        self.assertEqual(self.put(text, 'new'), 'one\n# B\nnew\n# E\ntwo')

    def test_is_idempotent(self):
        once = self.put('one\n\ntwo\n', 'x\ny\n')
        self.assertEqual(self.put(once, 'x\ny\n'), once)

    def test_goes_away(self):
        self.assertEqual(self.put('one\n# B\nx\n# E\ntwo\n', ''), 'one\ntwo\n')
        self.assertEqual(self.put('one\n', ''), 'one\n')

    def test_a_lost_end_loses_nothing(self):
        self.assertEqual(self.put('one\n# B\nx\ny\n', 'new'), 'one\n# B\nnew\n# E\nx\ny\n')

    def test_a_second_block_is_taken_away(self):
        self.assertEqual(self.put('# B\na\n# E\nmid\n# B\nb\n# E\n', 'n'), '# B\nn\n# E\nmid\n')


class Diff(unittest.TestCase):
    def test_plain(self):
        diff = files.make_diff('/a', b'1\n', b'2\n', 'root:root 0644', 'root:root 0644', False)
        self.assertEqual(diff, {'before_header': '/a', 'after_header': '/a', 'before': '1\n', 'after': '2\n'})

    def test_declared_secret(self):
        diff = files.make_diff('/a', b'CANARY', b'CANARY2', '', '', True)
        self.assertNotIn('CANARY', str(diff))
        self.assertEqual(diff['before'], '<secret, sha256 %s…>\n' % files.digest(b'CANARY')[:12])

    def test_recognized_secret_masks_both_sides(self):
        for content in (
            b'-----BEGIN RSA PRIVATE KEY-----\nCANARY',
            b'users:\n- user:\n    client-key-data: CANARY\n',
            b'users:\n- user:\n    token: CANARY\n',
            b'kind: EncryptionConfiguration\n# CANARY',
            b'keys:\n- name: k\n  secret: CANARY\n',
        ):
            self.assertTrue(files.is_secret(content), content)
            self.assertNotIn('CANARY', str(files.make_diff('/a', content, b'plain', '', '', False)))
            self.assertNotIn('CANARY', str(files.make_diff('/a', b'CANARY', content, '', '', False)))
        self.assertFalse(files.is_secret(b'-----BEGIN CERTIFICATE-----\ntokenTTL: 3\n'))

    def test_only_attributes(self):
        diff = files.make_diff('/a', b'1', b'1', 'root:root 0644', 'root:root 0600', True)
        self.assertEqual((diff['before'], diff['after']), ('root:root 0644\n', 'root:root 0600\n'))

    def test_large_and_binary(self):
        self.assertTrue(files.shown(b'x' * 70000, False).startswith('<70000 bytes, sha256 '))
        self.assertTrue(files.shown(b'\0', False).startswith('<1 bytes'))


if __name__ == '__main__':
    unittest.main()
