"""The decision whether a kubelet has joined, with certificates made here."""

import datetime
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import kubelet_state
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 11, 24, 8, 0, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(subject, issuer, public, signer, end):
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public)
    builder = builder.serial_number(7).not_valid_before(NOW - 10 * DAY).not_valid_after(end)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def authority(subject, key=None):
    key = key or rsa.generate_private_key(65537, 2048)
    return key, issue(subject, subject, key.public_key(), key, NOW + 100 * DAY)


def pem(certificate):
    """As the kubelet keeps it: with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


class Judge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.old_key, cls.old = authority('kubernetes-ca')
        cls.new_key, cls.new = authority('kubernetes-ca-2')
        cls.leaf_key = ec.generate_private_key(ec.SECP256R1()).public_key()

    def leaf(self, issuer='kubernetes-ca', signer=None, end=NOW + DAY):
        return pem(issue('system:node:n1', issuer, self.leaf_key, signer or self.old_key, end))

    def judge(self, client, server=None, issuer=None):
        return kubelet_state.judge(client, server, issuer or self.old, NOW)

    def test_good(self):
        self.assertEqual(self.judge(self.leaf()), '')
        self.assertEqual(self.judge(self.leaf(), self.leaf()), '')

    def test_a_ca_of_another_kind(self):
        for make in (lambda: ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate):
            key, certificate = authority('corporate-ca', make())
            leaf = self.leaf('corporate-ca', key)
            self.assertEqual(self.judge(leaf, leaf, certificate), '')
            self.assertIn('was not signed by the CA', self.judge(self.leaf('corporate-ca', make()), None, certificate))

    def test_none(self):
        self.assertEqual(self.judge(None), 'it has no client certificate')

    def test_expired(self):
        old = self.leaf(end=NOW)
        self.assertEqual(self.judge(old), 'its client certificate expired on 2026-11-24T08:00:00Z')
        self.assertEqual(self.judge(self.leaf(), old), 'its serving certificate expired on 2026-11-24T08:00:00Z')

    def test_another_ca(self):
        said = 'its client certificate was not signed by the CA that signs now'
        self.assertEqual(self.judge(self.leaf(), issuer=self.new), said)
        # The name is right, the signature is not.
        self.assertEqual(self.judge(self.leaf(signer=self.new_key)), said)
        self.assertEqual(
            self.judge(self.leaf('kubernetes-ca-2', self.new_key), self.leaf(), self.new),
            'its serving certificate was not signed by the CA that signs now',
        )

    def test_unreadable(self):
        self.assertEqual(self.judge(b'nothing'), 'its client certificate cannot be read')


if __name__ == '__main__':
    unittest.main()
