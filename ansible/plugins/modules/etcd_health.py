#!/usr/bin/python
"""Tells how the etcd member of this host is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_health
short_description: Tell how the etcd member of this host is
author: The k8s-ans founders
description:
  - Asks the member on this host alone. One that does not answer is no failure of the task.
options:
  name: {description: The member's name., type: str, required: true}
  endpoint: {description: The member's own client URL., type: str, default: 'https://127.0.0.1:2379'}
  etcdctl: {description: Path of etcdctl., type: path, required: true}
  ca: {description: Path of the etcd CA., type: path, required: true}
  cert: {description: Path of a client certificate., type: path, required: true}
  key: {description: Path of its key., type: path, required: true}
attributes:
  check_mode: {support: full, description: Reads only.}
"""

EXAMPLES = r"""
- name: Look at this member
  k8s_ans.cluster.etcd_health:
    name: k8smaster01
    etcdctl: /opt/k8s/bin/etcdctl
    ca: /etc/etcd/cert/ca.crt
    cert: /etc/etcd/cert/etcd-healthcheck-client.crt
    key: /etc/etcd/cert/etcd-healthcheck-client.key
"""

RETURN = r"""
etcd:
  description:
    - C(member), C(answers), C(healthy) (it reads with a quorum), C(leads), C(revision), C(index) (the last raft entry that
      it has applied), C(db_size) in bytes, C(version), and C(reason) where it does not answer.
  type: dict
  returned: always
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule


def describe(name, status, healthy):
    """What `etcdctl endpoint status -w json` says of one member, in our words."""
    header = status["header"]
    return {
        "member": name,
        "answers": True,
        "healthy": healthy,
        "leads": status.get("leader") == header["member_id"],
        "revision": header["revision"],
        "index": status.get("raftAppliedIndex", 0),
        "db_size": status["dbSize"],
        "version": status["version"],
    }


def silent(name, reason):
    """A member that does not answer."""
    return {"member": name, "answers": False, "healthy": False, "leads": False, "reason": reason}


def look(module):
    """Ask the member."""
    args = module.params
    missing = [args[key] for key in ("etcdctl", "ca", "cert", "key") if not os.path.exists(args[key])]
    if missing:
        return silent(args["name"], "%s is not there" % missing[0])
    command = [args["etcdctl"], "--endpoints", args["endpoint"], "--cacert", args["ca"], "--cert", args["cert"]]
    command += ["--key", args["key"], "--dial-timeout=2s", "--command-timeout=5s", "-w", "json", "endpoint"]
    code, out, err = module.run_command(command + ["status"])
    if code != 0:
        lines = err.strip().splitlines()
        return silent(args["name"], lines[-1] if lines else "etcdctl ended with code %d" % code)
    # A linearizable read: it needs the quorum.
    healthy = module.run_command(command + ["health"])[0] == 0
    return describe(args["name"], json.loads(out)[0]["Status"], healthy)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "endpoint": {"type": "str", "default": "https://127.0.0.1:2379"},
            "etcdctl": {"type": "path", "required": True},
            "ca": {"type": "path", "required": True},
            "cert": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, etcd=look(module))


if __name__ == "__main__":
    main()
