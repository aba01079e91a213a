#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Tells whether a kubelet holds certificates that the cluster accepts, or has to be given new ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_state
short_description: Tell whether a kubelet's certificates are good
description:
  - A kubelet has joined when its client certificate is there, has not expired and was signed by the CA that signs now;
    its serving certificate, if it has one, must be so too. Otherwise it has to join (again) with a bootstrap token.
  - Asks nothing of the API server, which may not answer when certificates have expired.
options:
  folder: {description: Where the kubelet keeps its certificates., type: path, required: true}
  issuer: {description: 'The CA that signs the kubelets'' certificates, as PEM.', type: str, required: true}
attributes:
  check_mode: {support: full, description: Looks only.}
requirements:
  - python3-cryptography 3.4 or newer on hosts that have a certificate
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Learn whether this kubelet has joined
  k8s_ans.cluster.kubelet_state:
    folder: /var/lib/kubelet/pki
    issuer: "{{ lookup('ansible.builtin.file', k8s_pki_dir ~ '/ca.crt') }}"
  register: kubelet
"""

RETURN = r"""
joined: {description: Whether the certificates are good., type: bool, returned: always}
reason: {description: 'Why not, in words.', type: str, returned: always}
"""

import datetime
import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.backends import default_backend
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

# The client certificate, without which the kubelet cannot speak to the API server, and the one it serves with, which
# it may not have yet, or never where it serves with one of its own making.
CLIENT = "kubelet-client-current.pem"
SERVER = "kubelet-server-current.pem"


def read(path):
    """The file's bytes; None where there is none, as behind a link whose target is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def not_after(certificate):
    """When it ends, with the time zone that libraries before 42 do not give."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


def verify_signature(certificate, key):
    """Raise InvalidSignature unless this key has signed the certificate: RSA, as the CLI's CAs, or a team's own of another
    kind. (verify_directly_issued_by of cryptography 40 is too new for the supported systems.)"""
    signed = [certificate.signature, certificate.tbs_certificate_bytes]
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(*signed, padding.PKCS1v15(), certificate.signature_hash_algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(*signed, ec.ECDSA(certificate.signature_hash_algorithm))
    else:
        # Ed25519 and Ed448, whose hash is part of the algorithm.
        key.verify(*signed)


def fault(pem, issuer, now):
    """What is wrong with the certificate, or None."""
    try:
        certificate = x509.load_pem_x509_certificate(pem, default_backend())
    except ValueError:
        return "cannot be read"
    end = not_after(certificate)
    if end <= now:
        return "expired on %s" % end.strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        if certificate.issuer != issuer.subject:
            raise InvalidSignature
        verify_signature(certificate, issuer.public_key())
    except InvalidSignature:
        return "was not signed by the CA that signs now"
    return None


def judge(client, server, issuer, now):
    """Why the kubelet has to join (again); '' if it need not."""
    if client is None:
        return "it has no client certificate"
    for name, pem in (("client", client), ("serving", server)):
        wrong = None if pem is None else fault(pem, issuer, now)
        if wrong:
            return "its %s certificate %s" % (name, wrong)
    return ""


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "issuer": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    client, server = (read(os.path.join(module.params["folder"], name)) for name in (CLIENT, SERVER))
    if client is None:
        # Nothing to look into: a new host needs no library for that.
        module.exit_json(changed=False, joined=False, reason="it has no client certificate")
    if not HAS_CRYPTOGRAPHY:
        module.fail_json(msg=missing_required_lib("cryptography"))
    issuer = x509.load_pem_x509_certificate(module.params["issuer"].encode(), default_backend())
    reason = judge(client, server, issuer, datetime.datetime.now(datetime.timezone.utc))
    module.exit_json(changed=False, joined=reason == "", reason=reason)


if __name__ == "__main__":
    main()
