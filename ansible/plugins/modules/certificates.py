#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Collects the certificates that a host's files hold and its ports serve."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: Collect the certificates in a host's files and behind its ports
description:
  - Certificates only, never a key. What they say is read by whoever asked, so that the host needs no library.
  - A port that does not answer is no failure; what it said is in the result.
options:
  files:
    description:
      - Paths or globs of PEM files and kubeconfigs. Of a kubeconfig the embedded client certificate is taken.
    type: list
    elements: str
    default: []
  ports:
    description: TLS ports.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: What listens there., type: str, required: true}
      address: {description: Where to ask., type: str, default: 127.0.0.1}
      port: {description: The port., type: int, required: true}
      file: {description: The file that it should serve., type: path}
      cert: {description: 'A client certificate, for a server that would log a complaint without.', type: path}
      key: {description: Its key., type: path}
attributes:
  check_mode: {support: full, description: Looks only.}
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: See which certificate the API server serves
  k8s_ans.cluster.certificates:
    files: [/etc/kubernetes/cert/*.crt]
    ports:
      - {name: kube-apiserver, port: 6443, file: /etc/kubernetes/cert/apiserver.crt}
"""

RETURN = r"""
certificates:
  description: C(files) and C(ports); each certificate as DER in base64, in the order of the file.
  returned: always
  type: dict
  sample:
    files: [{path: /etc/kubernetes/cert/ca.crt, der: [MIIC...]}]
    ports: [{name: kube-apiserver, port: 6443, file: /etc/kubernetes/cert/apiserver.crt, der: [MIIC...]}]
"""

import base64
import glob
import os
import re
import socket
import ssl

from ansible.module_utils.basic import AnsibleModule

SECONDS = 5
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_EMBEDDED = re.compile(r"^\s*client-certificate-data:\s*(\S+)\s*$", re.MULTILINE)


def pem_certificates(text):
    """The certificates in a text, each as DER in base64; of a kubeconfig, those of its users."""
    found = ["".join(body.split()) for body in _PEM.findall(text)]
    for data in _EMBEDDED.findall(text):
        try:
            found += pem_certificates(base64.b64decode(data.strip("\"'")).decode("ascii"))
        except ValueError:
            continue
    return found


def look_into(path):
    """What a file holds; None if it holds no certificate, as a kubeconfig that only refers to one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            der = pem_certificates(file.read())
    except OSError as error:
        return {"path": path, "der": [], "error": error.strerror}
    return {"path": path, "der": der} if der else None


def ask(port):
    """What a port serves. Nothing is verified: what is served is what is wanted, expired or not."""
    result = {"name": port["name"], "port": port["port"], "file": port.get("file"), "der": []}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if port.get("cert") and os.path.exists(port["cert"]):
            context.load_cert_chain(port["cert"], port.get("key"))
        with socket.create_connection((port["address"], port["port"]), SECONDS) as raw:
            with context.wrap_socket(raw) as stream:
                der = stream.getpeercert(binary_form=True)
        result["der"] = [base64.b64encode(der).decode("ascii")]
    except (OSError, ValueError) as error:
        result["error"] = str(error) or type(error).__name__
    return result


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "str", "default": []},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "default": "127.0.0.1"},
                    "port": {"type": "int", "required": True},
                    "file": {"type": "path"},
                    "cert": {"type": "path"},
                    "key": {"type": "path", "no_log": False},
                },
            },
        },
        supports_check_mode=True,
    )
    paths = sorted({path for pattern in module.params["files"] for path in glob.glob(pattern)})
    files = [found for found in map(look_into, paths) if found]
    ports = [ask(port) for port in module.params["ports"]]
    module.exit_json(changed=False, certificates={"files": files, "ports": ports})


if __name__ == "__main__":
    main()
