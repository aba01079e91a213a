# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""TLS to the cluster's own servers, from its hosts."""

from __future__ import annotations

import ssl

# ssl.VERIFY_X509_PARTIAL_CHAIN, which Python has a name for since 3.10: X509_V_FLAG_PARTIAL_CHAIN of OpenSSL,
# https://docs.openssl.org/3.0/man3/X509_VERIFY_PARAM_set_flags/
_PARTIAL_CHAIN = 0x80000


def client_context(ca=None, cert=None, key=None):
    """Return a context that verifies servers against the CAs in the file `ca` (without it: the system's).

    A CA that is itself issued by another may stand there without it, as the Go programs of the cluster take it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= _PARTIAL_CHAIN
    if ca:
        context.load_verify_locations(cafile=ca)
    else:
        context.load_default_certs()
    if cert:
        context.load_cert_chain(cert, key)
    return context
