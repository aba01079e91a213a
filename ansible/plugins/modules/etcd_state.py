#!/usr/bin/python
"""Tells whether an etcd member is new, and refuses one that has lost its data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_state
short_description: Tell how an etcd member has to start
author: The k8s-ans founders
description:
  - An etcd member without data joins in one of two ways, and the wrong one makes a second cluster or a member that
    votes twice. This module looks at the member's data and asks the other members.
  - A member that has data starts as it is.
  - A member without data that the living cluster has never seen started joins with C(new) while the cluster was
    made with it, and with C(existing) when it was added later.
  - A member without data that the living cluster has seen before has lost its data. It is refused, since it could
    have voted for what it no longer knows; it has to be removed and added again.
options:
  name: {description: The member's name., type: str, required: true}
  data_dir: {description: The member's data folder., type: path, required: true}
  config:
    description: The member's configuration file; a member that has data keeps the state that stands there.
    type: path
    required: true
  endpoints: {description: Client URLs of all members, comma-separated., type: str, required: true}
  etcdctl: {description: Path of etcdctl., type: path, required: true}
  ca: {description: Path of the etcd CA., type: path, required: true}
  cert: {description: Path of a client certificate., type: path, required: true}
  key: {description: Path of its key., type: path, required: true}
attributes:
  check_mode: {support: full, description: Reads only.}
"""

EXAMPLES = r"""
- name: Learn how this member has to start
  k8s_ans.cluster.etcd_state:
    name: k8smaster01
    data_dir: /var/lib/etcd/data
    config: /etc/etcd/etcd.yaml
    endpoints: https://172.24.8.71:2379,https://172.24.8.72:2379
    etcdctl: /opt/k8s/bin/etcdctl
    ca: /etc/etcd/cert/ca.crt
    cert: /etc/etcd/cert/etcd-peer.crt
    key: /etc/etcd/cert/etcd-peer.key
"""

RETURN = r"""
initial_state: {description: What initial-cluster-state has to be., type: str, returned: always}
has_data: {description: Whether the member has data., type: bool, returned: always}
"""

import json
import os
import re
import socket
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule


def decide(name, has_data, members):
    """How the member has to start: (initial state, error).

    `members` is the member list of a living cluster, or None where no member answers. In a cluster that was made
    with this member, its name stands in the list from the beginning, while its client URLs appear when it has
    started for the first time; one that was added by `member add` has no name until then.
    """
    if has_data or members is None:
        return "new", None
    for member in members:
        if member.get("name") != name:
            continue
        if member.get("clientURLs"):
            return None, (
                f"etcd member {name} has no data, but the living cluster knows it as a member that has run before: "
                f"its data was lost. Starting it empty could lose acknowledged writes. Put its data back, or remove the "
                f"member (etcdctl member remove {member['ID']:x}) and add it again as a new one"
            )
        return "new", None
    return "existing", None


def written_state(config):
    """The initial-cluster-state in the configuration that the member runs with, or None."""
    try:
        with open(config, encoding="utf-8") as file:
            match = re.search(r"^initial-cluster-state: (new|existing)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return match.group(1) if match else None


def listens(endpoint):
    """Whether something accepts connections there: etcdctl would wait for its timeouts where nothing does."""
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname, url.port), timeout=1).close()
    except OSError:
        return False
    return True


def member_list(module):
    """The members as the first endpoint that answers knows them, or None where none does."""
    args = module.params
    for endpoint in filter(listens, args["endpoints"].split(",")):
        command = [args["etcdctl"], "--endpoints", endpoint, "--cacert", args["ca"], "--cert", args["cert"], "--key", args["key"]]
        command += ["--dial-timeout=1s", "--command-timeout=2s", "member", "list", "-w", "json"]
        code, out, _err = module.run_command(command)
        if code == 0:
            return json.loads(out)["members"]
    return None


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "data_dir": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "endpoints": {"type": "str", "required": True},
            "etcdctl": {"type": "path", "required": True},
            "ca": {"type": "path", "required": True},
            "cert": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    has_data = os.path.isdir(os.path.join(module.params["data_dir"], "member"))
    ready = has_data or not all(os.path.exists(module.params[path]) for path in ("etcdctl", "ca", "cert", "key"))
    members = None if ready else member_list(module)
    state, error = decide(module.params["name"], has_data, members)
    if error:
        module.fail_json(msg=error)
    if has_data:
        state = written_state(module.params["config"]) or state
    module.exit_json(changed=False, initial_state=state, has_data=has_data)


if __name__ == "__main__":
    main()
