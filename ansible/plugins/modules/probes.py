#!/usr/bin/python
"""Asks endpoints and name servers from a host until each answers as expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probes
short_description: Ask HTTPS endpoints and name servers until they answer as expected
author: The k8s-ans founders
description:
  - Asks from the host itself, so that what is proved is the path which the host's own components and pods take.
options:
  probes:
    description: What to ask.
    type: list
    elements: dict
    required: true
    suboptions:
      url: {description: An HTTP or HTTPS address that has to answer with status 200., type: str}
      ca: {description: Path of the CA that signed the server's certificate., type: path}
      dns: {description: Address of a name server., type: str}
      question: {description: The name to ask it for., type: str}
      answer: {description: The IPv4 address that has to be among the answers., type: str}
  timeout: {description: How long all may take together, in seconds., type: int, default: 30}
attributes:
  check_mode: {support: full, description: Asks only.}
"""

EXAMPLES = r"""
- name: Ask the cluster's DNS
  k8s_ans.cluster.probes:
    probes:
      - dns: 10.254.0.2
        question: kubernetes.default.svc.cluster.local
        answer: 10.254.0.1
"""

RETURN = r"""
attempts: {description: How often the slowest probe was tried., type: int, returned: always}
"""

import os
import socket
import struct
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils.tls import client_context

ATTEMPT_SECONDS = 2
PAUSE_SECONDS = 0.2


def dns_query(name, identifier):
    """A query for the A record of `name` (RFC 1035, section 4)."""
    header = struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return header + labels + b"\0" + struct.pack(">HH", 1, 1)


def skip_name(message, offset):
    """The offset behind a name, which may end in a pointer."""
    while message[offset]:
        if message[offset] & 0xC0:
            return offset + 2
        offset += message[offset] + 1
    return offset + 1


def dns_answers(message, identifier):
    """The IPv4 addresses in a response; ValueError when it is not an answer to our query."""
    received, flags, questions, answers = struct.unpack(">HHHH", message[:8])
    if received != identifier or not flags & 0x8000:
        raise ValueError("not an answer to our question")
    if flags & 0x000F:
        raise ValueError(f"the name server answered with code {flags & 0x000F}")
    offset = 12
    for _index in range(questions):
        offset = skip_name(message, offset) + 4
    found = []
    for _index in range(answers):
        offset = skip_name(message, offset)
        kind, _class, _ttl, length = struct.unpack(">HHIH", message[offset : offset + 10])
        offset += 10
        if kind == 1:
            found.append(socket.inet_ntoa(message[offset : offset + length]))
        offset += length
    return found


def ask_dns(probe):
    """None when the expected address is among the answers, else what was wrong."""
    identifier = int.from_bytes(os.urandom(2), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(ATTEMPT_SECONDS)
        client.connect((probe["dns"], 53))
        client.send(dns_query(probe["question"], identifier))
        found = dns_answers(client.recv(4096), identifier)
    return None if probe["answer"] in found else f"answers {found}, not {probe['answer']}"


def ask_url(probe):
    """None when the status is 200, else what was wrong."""
    context = client_context(probe["ca"]) if probe["url"].startswith("https:") else None
    with urllib.request.urlopen(probe["url"], timeout=ATTEMPT_SECONDS, context=context) as response:
        return None if response.status == 200 else f"answers {response.status}"


def attempt(probe):
    """None when the probe passes, else what was wrong."""
    try:
        return ask_url(probe) if probe["url"] else ask_dns(probe)
    except (OSError, ValueError) as error:
        return str(error)


def main():
    """Entry point."""
    suboptions = {
        "url": {"type": "str"},
        "ca": {"type": "path"},
        "dns": {"type": "str"},
        "question": {"type": "str"},
        "answer": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "probes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": suboptions,
                "required_one_of": [("url", "dns")],
                "mutually_exclusive": [("url", "dns")],
                "required_by": {"dns": ("question", "answer")},
            },
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["timeout"]
    most = 0
    for probe in module.params["probes"]:
        attempts = 1
        problem = attempt(probe)
        while problem and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            attempts += 1
            problem = attempt(probe)
        if problem:
            target = probe["url"] or f"{probe['question']} at name server {probe['dns']}"
            module.fail_json(msg=f"{target}: {problem} (tried {attempts} times in {module.params['timeout']} s)")
        most = max(most, attempts)
    module.exit_json(changed=False, attempts=most)


if __name__ == "__main__":
    main()
