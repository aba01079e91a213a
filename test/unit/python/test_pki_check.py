"""What the roles refuse of certificates that others have made, with certificates made here."""

import base64
import datetime
import ipaddress
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.plugin_utils import pki_table
from ansible_collections.k8s_ans.cluster.plugins.plugin_utils.pki_check import Checker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
PLACE = pki_table.Place('10.0.0.1', 'cluster.local', '10.254.0.1', 'k8s.example.com')
OIDS = {'server': ExtendedKeyUsageOID.SERVER_AUTH, 'client': ExtendedKeyUsageOID.CLIENT_AUTH}
PEM = serialization.Encoding.PEM


def days(count):
    return NOW + datetime.timedelta(days=count)


def make(subject, issuer=None, key=None, ca=False, usages=(), names=(), addresses=(), start=-1, end=365):
    """A (certificate, key); issuer: another such pair, or itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(getattr(NameOID, oid), value) for oid, value in subject.items()])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(days(start))
        .not_valid_after(days(end))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    alternatives = [x509.DNSName(text) for text in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage([OIDS[usage] for usage in usages]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def crt(*pairs):
    return b''.join(certificate.public_bytes(PEM) for certificate, _key in pairs)


def key(pair):
    return pair[1].private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class PkiCheck(unittest.TestCase):
    """A corporate root with an intermediate for each purpose; the roots are not among what is trusted."""

    @classmethod
    def setUpClass(cls):
        cls.root = make({'COMMON_NAME': 'Corporate root'}, ca=True)
        cls.cas = {name: make({'COMMON_NAME': name}, cls.root, ca=True, end=1000) for name in pki_table.BUNDLES}
        cls.good = {}
        for name, file in pki_table.BUNDLES.items():
            cls.good['/pki/' + file] = crt(cls.cas[name])
        cls.good['/pki/ca.key'] = key(cls.cas['kubernetes'])
        cls.pairs = {need.path: cls.leaf(need) for part in pki_table.PARTS for need in pki_table.needed(part, PLACE)}
        for part in pki_table.PARTS:
            for need in pki_table.needed(part, PLACE):
                cls.good[cls.base(need) + '.crt'] = crt(cls.pairs[need.path])
                cls.good[cls.base(need) + '.key'] = key(cls.pairs[need.path])
        pair = make({'COMMON_NAME': 'unused'})
        cls.good['/pki/sa.key'] = key(pair)
        cls.good['/pki/sa.pub'] = pair[1].public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        cls.good['/pki/encryption-config.yaml'] = b'kind: EncryptionConfiguration\n'

    @staticmethod
    def base(need):
        return ('/pki/hosts/m1/' if need.own else '/pki/') + need.path

    @classmethod
    def leaf(cls, need, **other):
        subject = {'COMMON_NAME': need.common_name or 'whatever.example.com'}
        if need.organization:
            subject['ORGANIZATION_NAME'] = need.organization
        given = {'usages': need.usages, 'names': need.dns_names, 'addresses': need.addresses, 'issuer': cls.cas[need.issuer]}
        return make(**{'subject': subject, **given, **other})

    @staticmethod
    def need(path):
        return next(
            need for part in pki_table.PARTS for need in pki_table.needed(part, PLACE) if need.path == path
        )

    def check(self, changed=None, parts=pki_table.PARTS, now=NOW):
        files = {**self.good, **(changed or {})}

        def read(path):
            if files.get(path) is None:
                raise FileNotFoundError(2, 'there is no such file')
            return files[path]

        return Checker('/pki', '/pki', '/pki/hosts/m1', read, now).check(parts, PLACE)

    def problem(self, changed, expected, parts=pki_table.PARTS):
        self.assertEqual(self.check(changed, parts)[0], [expected])

    def replaced(self, path, **other):
        need = self.need(path)
        pair = self.leaf(need, **other)
        return {self.base(need) + '.crt': crt(pair), self.base(need) + '.key': key(pair)}

    def test_what_others_have_made_is_taken(self):
        self.assertEqual(self.check(), ([], []))

    def test_wrong_subject(self):
        self.problem(
            self.replaced('kubeconfigs/scheduler', subject={'COMMON_NAME': 'scheduler'}),
            '/pki/kubeconfigs/scheduler.crt must have the subject CN=system:kube-scheduler, and has CN=scheduler',
        )
        self.problem(
            self.replaced('admin', subject={'COMMON_NAME': 'admin'}),
            '/pki/admin.crt must have O=system:masters in its subject, and has CN=admin',
        )

    def test_missing_names(self):
        self.problem(
            self.replaced('apiserver', names=['kubernetes', 'KUBERNETES.default', 'kubernetes.default.svc']),
            '/pki/hosts/m1/apiserver.crt lacks the subject alternative name kubernetes.default.svc.cluster.local, k8s.example.com',
        )
        self.problem(
            self.replaced('etcd-server', addresses=['10.0.0.1']),
            '/pki/hosts/m1/etcd-server.crt lacks the subject alternative name 127.0.0.1',
        )

    def test_wrong_ca(self):
        self.problem(
            self.replaced('etcd-peer', issuer=self.cas['kubernetes']),
            '/pki/hosts/m1/etcd-peer.crt was not issued by a CA in /pki/etcd-ca.crt; its issuer is CN=kubernetes',
        )
        # A CA of the same name with another key.
        twin = make({'COMMON_NAME': 'etcd'}, self.root, ca=True)
        self.problem(
            self.replaced('etcd-peer', issuer=twin),
            '/pki/hosts/m1/etcd-peer.crt was not issued by a CA in /pki/etcd-ca.crt; its issuer is CN=etcd',
        )

    def test_an_intermediate_may_stand_behind_the_certificate(self):
        need = self.need('kubeconfigs/kube-proxy')
        between = make({'COMMON_NAME': 'between'}, self.cas['kubernetes'], ca=True)
        pair = self.leaf(need, issuer=between)
        self.assertEqual(self.check({'/pki/kubeconfigs/kube-proxy.crt': crt(pair, between), '/pki/kubeconfigs/kube-proxy.key': key(pair)})[0], [])
        self.problem(
            {'/pki/kubeconfigs/kube-proxy.crt': crt(pair), '/pki/kubeconfigs/kube-proxy.key': key(pair)},
            '/pki/kubeconfigs/kube-proxy.crt was not issued by a CA in /pki/ca.crt; its issuer is CN=between',
        )

    def test_lifetime(self):
        problems, _warnings = self.check(self.replaced('apiserver', start=-10, end=-1))
        self.assertEqual(problems, ['/pki/hosts/m1/apiserver.crt expired on 2026-11-23'])
        problems, _warnings = self.check(self.replaced('apiserver', start=1))
        self.assertEqual(problems, ['/pki/hosts/m1/apiserver.crt is not valid before 2026-11-25 00:00:00+00:00'])
        self.assertEqual(
            self.check(self.replaced('apiserver', end=7)), ([], ['/pki/hosts/m1/apiserver.crt expires on 2026-12-01'])
        )

    def test_keys(self):
        self.problem(
            {'/pki/hosts/m1/apiserver.key': key(self.pairs['scheduler'])},
            '/pki/hosts/m1/apiserver.key is not the key of /pki/hosts/m1/apiserver.crt',
        )
        secret = self.pairs['apiserver'][1].private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b'secret')
        )
        self.problem(
            {'/pki/hosts/m1/apiserver.key': secret},
            '/pki/hosts/m1/apiserver.key is encrypted with a passphrase, which no component can ask for',
        )
        self.problem(
            {'/pki/sa.key': key(self.pairs['apiserver'])}, '/pki/sa.key is not the key of /pki/sa.pub'
        )
        self.problem({'/pki/ca.key': key(self.root)}, '/pki/ca.key is not the key of /pki/ca.crt')

    def test_usages(self):
        self.problem(
            self.replaced('etcd-server', usages=['server']),
            '/pki/hosts/m1/etcd-server.crt lacks the extended key usage clientAuth',
        )
        # None at all allows all.
        self.assertEqual(self.check(self.replaced('etcd-server', usages=[]))[0], [])

    def test_files_that_are_not_there_or_something_else(self):
        self.problem(
            {'/pki/hosts/m1/apiserver.crt': None},
            '/pki/hosts/m1/apiserver.crt cannot be read (there is no such file)',
        )
        self.problem(
            {'/pki/encryption-config.yaml': None},
            '/pki/encryption-config.yaml cannot be read (there is no such file)',
        )
        self.problem({'/pki/hosts/m1/apiserver.crt': b'?'}, '/pki/hosts/m1/apiserver.crt holds no certificate in PEM form')

    def test_cas_are_kept_apart(self):
        # With the root in both, etcd would take a kubelet's certificate for a client's.
        both = {'/pki/' + pki_table.BUNDLES[name]: crt(self.cas[name], self.root) for name in ('kubernetes', 'etcd')}
        problems, _warnings = self.check({**both, '/pki/ca.crt': both['/pki/ca.crt']})
        self.assertTrue(any(line.startswith('/pki/etcd-ca.crt vouches for a CA in /pki/ca.crt as well') for line in problems))
        self.assertEqual(self.check(parts=['etcd'], changed={'/pki/etcd-ca.crt': both['/pki/etcd-ca.crt']})[0], [])

    def test_the_one_that_signs(self):
        two = crt(self.cas['kubernetes'], make({'COMMON_NAME': 'old'}, ca=True))
        self.problem({'/pki/ca.crt': two}, '/pki/ca.crt holds 2 certificates; the one that signs has to be alone')

    def test_kubeconfigs(self):
        pair = self.pairs['kubeconfigs/kube-proxy']
        text = 'users:\n- user:\n    client-certificate-data: %s\n    client-key-data: %s\n'
        embedded = [base64.b64encode(data).decode() for data in (crt(pair), key(pair))]
        whole = {'/pki/kubeconfigs/kube-proxy.conf': (text % tuple(embedded)).encode(), '/pki/kubeconfigs/kube-proxy.crt': None}
        self.assertEqual(self.check(whole)[0], [])
        # It counts, and not the files beside it.
        other = self.pairs['kubeconfigs/scheduler']
        wrong = (text % tuple(base64.b64encode(data).decode() for data in (crt(other), key(other)))).encode()
        self.problem(
            {'/pki/kubeconfigs/kube-proxy.conf': wrong},
            '/pki/kubeconfigs/kube-proxy.conf must have the subject CN=system:kube-proxy, and has CN=system:kube-scheduler',
        )
        self.problem(
            {'/pki/kubeconfigs/kube-proxy.conf': b'{}'},
            '/pki/kubeconfigs/kube-proxy.conf is no kubeconfig with client-certificate-data and client-key-data',
        )

    def test_a_part_looks_at_its_own_only(self):
        self.assertEqual(self.check({'/pki/hosts/m1/etcd-peer.crt': None}, ['masters', 'nodes', 'network'])[0], [])


if __name__ == '__main__':
    unittest.main()
