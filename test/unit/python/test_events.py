import datetime
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.callback import events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(name, serial):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2026, 1, 1)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName('localhost')]), False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


class Diff(unittest.TestCase):
    def test_a_changed_file(self):
        entry = {'before_header': '/etc/a', 'after_header': '/etc/a', 'before': '  x: 1\ny: 2\n', 'after': '  x: 3\ny: 2\n'}
        self.assertEqual(
            events.diff_of(entry),
            {'file': '/etc/a', 'added': 1, 'removed': 1, 'text': '@@ -1,2 +1,2 @@\n-  x: 1\n+  x: 3\n y: 2'},
        )

    def test_a_new_file(self):
        entry = {'before_header': '/a (absent)', 'after_header': '/a (root:root 0644)', 'before': '', 'after': 'x\n'}
        found = events.diff_of(entry)
        self.assertEqual((found['file'], found['before']), ('/a (root:root 0644)', '/a (absent)'))
        self.assertEqual((found['added'], found['removed']), (1, 0))

    def test_secrets_do_not_pass_even_when_nobody_masked_them(self):
        key = '-----BEGIN RSA PRIVATE KEY-----\nMIIsecret\n-----END RSA PRIVATE KEY-----\n'
        entry = {'before': '', 'after': key + 'token: abcdef.0123456789abcdef\nAuthorization: Bearer eyJhbGciOi.x\n'}
        text = events.diff_of(dict(entry, after_header='/a'))['text']
        for secret in ('MIIsecret', '0123456789abcdef', 'eyJhbGciOi'):
            self.assertNotIn(secret, text)
        self.assertIn('+(hidden: private key)', text)

    def test_a_certificate_is_told_in_words(self):
        before, after = certificate('kube-apiserver', 10), certificate('kube-apiserver', 11)
        found = events.diff_of({'after_header': '/a.crt', 'before': before, 'after': after})
        self.assertEqual(
            found['text'],
            '@@ -1,5 +1,5 @@\n certificate CN=kube-apiserver\n issuer CN=kube-apiserver\n-serial number a\n+serial number b\n'
            ' expires 2027-01-01\n name localhost',
        )
        broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
        self.assertIn('AAAA', events.diff_of({'after_header': '/a.crt', 'before': '', 'after': broken})['text'])

    def test_bounds(self):
        many = ''.join('line %d\n' % number for number in range(5000))
        found = events.diff_of({'after_header': '/a', 'before': '', 'after': many})
        self.assertEqual((found['added'], found['cut']), (5000, True))
        self.assertLessEqual(len(found['text']), events.DIFF_LIMIT)
        self.assertEqual(events.diff_of({'after_header': '/a', 'before': '', 'after': 'x' * 70000}), {'file': '/a'})
        sources = [{'changed': True, 'diff': [{'after_header': '/%d' % number, 'before': '', 'after': many} for number in range(40)]}]
        found = events.diffs_of(sources)
        self.assertEqual(len(found), 40)
        self.assertLessEqual(sum(len(one['text']) for one in found), events.DIFFS_LIMIT)

    def test_what_is_no_difference(self):
        self.assertEqual(events.diffs_of([{'diff': {'before': 'a', 'after': 'b', 'after_header': '/a'}}]), [])
        self.assertEqual(events.diffs_of([{'changed': True, 'diff': [{'before': {'path': 1}, 'after': {'path': 2}}, 'x']}]), [])
        found = events.diffs_of([{'changed': True, 'diff': {'prepared': 'Inst conntrack\nConf conntrack'}}])
        self.assertEqual(found, [{'file': '', 'added': 0, 'removed': 0, 'text': 'Inst conntrack\nConf conntrack'}])


if __name__ == '__main__':
    unittest.main()
