# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Compares certificate files on the control machine with what the roles need (pki_table).

All that is wrong is found at once. No message holds anything of a key.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.k8s_ans.cluster.plugins.plugin_utils import pki_table

# A certificate that ends sooner is told of.
WARN_DAYS = 30
MIN_RSA_BITS = 2048
USAGES = {'server': 'serverAuth', 'client': 'clientAuth'}


class Unusable(Exception):
    """A file that cannot be used; the message says why, without the file's name."""


class Checker:
    """One host's files: `read` returns the bytes of a path or raises OSError; `now` is aware of its time zone."""

    def __init__(self, pki_dir, trust_dir, host_pki_dir, read, now):
        self.pki_dir, self.trust_dir, self.host_pki_dir = pki_dir, trust_dir, host_pki_dir
        self.read, self.now = read, now
        self.problems, self.warnings = [], []
        self.trusted = {}

    def check(self, parts, place):
        """Return (problems, warnings), as lines that begin with the path of the file."""
        for name in sorted({name for part in parts for name in pki_table.bundles(part)}):
            self._bundle(name)
        self._apart()
        for part in parts:
            for need in pki_table.needed(part, place):
                self._certificate(need)
        if 'masters' in parts:
            self._signer()
            self._service_account()
            self._readable(os.path.join(self.pki_dir, 'encryption-config.yaml'))
        return self.problems, self.warnings

    def _problem(self, path, text):
        self.problems.append('%s %s' % (path, text))

    def _readable(self, path):
        """Return the file's bytes; None, with a problem noted, where it cannot be read."""
        try:
            return self.read(path)
        except OSError as error:
            self._problem(path, 'cannot be read (%s)' % (error.strerror or error))
        return None

    def _certificates(self, path):
        """Return the certificates of the file, none where there is a problem."""
        data = self._readable(path)
        if data is None:
            return []
        try:
            return certificates_of(data)
        except Unusable as error:
            self._problem(path, str(error))
            return []

    def _bundle(self, name):
        path = os.path.join(self.trust_dir, pki_table.BUNDLES[name])
        found = self._certificates(path)
        for certificate in found:
            if not is_authority(certificate):
                self._problem(path, 'holds %s, which is no CA' % subject_of(certificate))
        self.trusted[name] = (path, found)

    def _apart(self):
        """Whoever is trusted by two of them could use the one's certificates with the other.

        Every kubelet holds a certificate of the kubernetes CA; etcd and the front proxy must not take it for one of
        their clients'. That a CA is issued by another's comes to the same, with the right chain in the handshake.
        """
        names = sorted(self.trusted)
        for name in names:
            for other in names:
                if name == other:
                    continue
                path, ours = self.trusted[name]
                other_path, theirs = self.trusted[other]
                if any(issued(their, our) or (name < other and same_key(their, our)) for our in ours for their in theirs):
                    self._problem(
                        path,
                        'vouches for a CA in %s as well: what one of them signs would be accepted where only the other '
                        'may be. Give each its own intermediate, without the root' % other_path,
                    )

    def _certificate(self, need):
        base = os.path.join(self.host_pki_dir if need.own else self.pki_dir, need.path)
        kubeconfig = os.path.join(self.pki_dir, need.kubeconfig) if need.kubeconfig else ''
        if kubeconfig and self._exists(kubeconfig):
            path, key_path = kubeconfig, kubeconfig
            data = self._readable(kubeconfig)
            try:
                certificate, key = (None, None) if data is None else embedded(data)
            except Unusable as error:
                self._problem(path, str(error))
                return
        else:
            path, key_path = base + '.crt', base + '.key'
            certificate, key = self._readable(path), self._readable(key_path)
        try:
            chain = [] if certificate is None else certificates_of(certificate)
        except Unusable as error:
            self._problem(path, str(error))
            return
        if not chain:
            return
        self._leaf(path, chain, need)
        self._key(key_path, key, chain[0], path)

    def _exists(self, path):
        try:
            self.read(path)
        except OSError:
            return False
        return True

    def _leaf(self, path, chain, need):
        leaf = chain[0]
        self._lifetime(path, leaf)
        self._strength(path, leaf)
        bundle_path, bundle = self.trusted[need.issuer]
        if bundle and not vouched(leaf, chain[1:], bundle, self.now):
            self._problem(
                path, 'was not issued by a CA in %s; its issuer is %s' % (bundle_path, leaf.issuer.rfc4514_string())
            )
        common_names, organizations = names_of(leaf)
        if need.common_name is not None and common_names != [need.common_name]:
            self._problem(path, 'must have the subject CN=%s, and has %s' % (need.common_name, subject_of(leaf)))
        if need.organization is not None and need.organization not in organizations:
            self._problem(path, 'must have O=%s in its subject, and has %s' % (need.organization, subject_of(leaf)))
        # Go reads a subject's O and CN for clients only, and nothing but the alternative names for servers.
        absent = [usage for usage in need.usages if not may(leaf, usage)]
        if absent:
            self._problem(path, 'lacks the extended key usage %s' % ' and '.join(USAGES[usage] for usage in absent))
        dns_names, addresses = alternative_names(leaf)
        missing = [name for name in need.dns_names if name.lower() not in dns_names]
        missing += [text for text in need.addresses if ipaddress.ip_address(text) not in addresses]
        if missing:
            self._problem(path, 'lacks the subject alternative name %s' % ', '.join(missing))

    def _lifetime(self, path, certificate):
        start, end = validity(certificate)
        if self.now > end:
            self._problem(path, 'expired on %s' % end.date())
        elif self.now < start:
            self._problem(path, 'is not valid before %s' % start.isoformat(sep=' '))
        elif end - self.now < datetime.timedelta(days=WARN_DAYS):
            self.warnings.append('%s expires on %s' % (path, end.date()))

    def _strength(self, path, certificate):
        # Both are refused by Go, in which Kubernetes and etcd are written.
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name in ('md5', 'sha1'):
            self._problem(path, 'is signed with %s, which is not accepted any more' % algorithm.name.upper())
        key = certificate.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            self._problem(path, 'has an RSA key of %d bits; at least %d are needed' % (key.key_size, MIN_RSA_BITS))

    def _key(self, path, data, certificate, certificate_path):
        if data is None:
            return
        try:
            public = public_of(data)
        except Unusable as error:
            self._problem(path, str(error))
            return
        if public != public_bytes(certificate.public_key()):
            self._problem(path, 'is not the key of %s' % certificate_path)

    def _signer(self):
        """The controller-manager signs the kubelets' certificates with it, and takes exactly one certificate."""
        path = os.path.join(self.pki_dir, pki_table.BUNDLES['kubernetes'])
        found = self._certificates(path)
        if not found:
            return
        if len(found) > 1:
            self._problem(path, 'holds %d certificates; the one that signs has to be alone' % len(found))
        signer = found[0]
        if not is_authority(signer):
            self._problem(path, 'is no CA: it has no basic constraint CA:TRUE, or its key usage lacks keyCertSign')
        self._lifetime(path, signer)
        bundle_path, bundle = self.trusted['kubernetes']
        if bundle and not any(same_key(signer, trusted) for trusted in bundle):
            self._problem(path, 'is not in %s, so that nobody would trust the kubelets' % bundle_path)
        key_path = os.path.join(self.pki_dir, 'ca.key')
        self._key(key_path, self._readable(key_path), signer, path)

    def _service_account(self):
        key_path, public_path = (os.path.join(self.pki_dir, name) for name in ('sa.key', 'sa.pub'))
        key, public = self._readable(key_path), self._readable(public_path)
        if key is None or public is None:
            return
        try:
            if public_of(key) != public_bytes(public_key_of(public)):
                self._problem(key_path, 'is not the key of %s' % public_path)
        except Unusable as error:
            self._problem(key_path, str(error))


def certificates_of(data):
    """Return the certificates in PEM data. Errors: Unusable."""
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise Unusable('holds no certificate in PEM form') from None


def embedded(data):
    """Return (certificate, key), PEM, of a kubeconfig's user. Errors: Unusable."""
    try:
        user = yaml.safe_load(data)['users'][0]['user']
        return tuple(base64.b64decode(user[name]) for name in ('client-certificate-data', 'client-key-data'))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError):
        raise Unusable('is no kubeconfig with client-certificate-data and client-key-data') from None


def public_of(data):
    """Return the public half of a private key in PEM, as DER. Errors: Unusable."""
    try:
        return public_bytes(serialization.load_pem_private_key(data, None).public_key())
    except TypeError:
        raise Unusable('is encrypted with a passphrase, which no component can ask for') from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable('holds no private key in PEM form') from None


def public_key_of(data):
    """Return a public key in PEM. Errors: Unusable."""
    try:
        return serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable('belongs to a public key that is not in PEM form') from None


def public_bytes(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def same_key(one, other):
    return public_bytes(one.public_key()) == public_bytes(other.public_key())


def validity(certificate):
    """Return start and end, with their time zone."""
    if hasattr(certificate, 'not_valid_after_utc'):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # cryptography before 42.
    return tuple(
        moment.replace(tzinfo=datetime.timezone.utc) for moment in (certificate.not_valid_before, certificate.not_valid_after)
    )


def extension(certificate, name):
    """Return the value of an extension by its class's name, or None."""
    try:
        return certificate.extensions.get_extension_for_class(getattr(x509, name)).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate):
    constraints, usage = extension(certificate, 'BasicConstraints'), extension(certificate, 'KeyUsage')
    return constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)


def issued(certificate, authority):
    """Tell whether the signature of `certificate` is `authority`'s."""
    if not is_authority(authority):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def vouched(leaf, between, bundle, now):
    """Tell whether a CA of the bundle vouches for the leaf, by itself or through those between."""

    def valid(authority):
        start, end = validity(authority)
        return start <= now <= end

    waiting, left = [leaf], [authority for authority in between if valid(authority)]
    while waiting:
        certificate = waiting.pop()
        if any(valid(authority) and issued(certificate, authority) for authority in bundle):
            return True
        found = [authority for authority in left if issued(certificate, authority)]
        left = [authority for authority in left if authority not in found]
        waiting += found
    return False


def may(certificate, usage):
    """Tell whether the extended key usages allow it; without any, all is allowed."""
    found = extension(certificate, 'ExtendedKeyUsage')
    wanted = {'server': ExtendedKeyUsageOID.SERVER_AUTH, 'client': ExtendedKeyUsageOID.CLIENT_AUTH}[usage]
    return found is None or wanted in found or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in found


def names_of(certificate):
    """Return the common names and the organizations of the subject."""
    subject = certificate.subject
    return [
        [part.value for part in subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    ]


def subject_of(certificate):
    return certificate.subject.rfc4514_string() or 'an empty subject'


def alternative_names(certificate):
    """Return the DNS names, in lower case, and the addresses."""
    found = extension(certificate, 'SubjectAlternativeName')
    if found is None:
        return [], []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)], found.get_values_for_type(x509.IPAddress)
