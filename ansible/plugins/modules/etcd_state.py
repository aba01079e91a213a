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
  - A member that has data starts as it is, with the initial cluster that stands in its own configuration. etcd reads
    that only without data, so that a cluster that grows or shrinks is no reason to restart its other members.
  - A member without data that is in the living cluster's list and has never started was there when the cluster was made.
  - A member without data that is not in the list has to join (RV(joining)), which k8s_ans.cluster.etcd_member does. So
    has one that began to join and did not end.
  - A member without data that the living cluster has seen before has lost its data. It is refused, since it could
    have voted for what it no longer knows; it has to be removed and added again.
  - A member with data that is not in the living cluster's list was removed from it. It is refused as well.
options:
  name: {description: The member's name., type: str, required: true}
  peer_url: {description: Where the other members reach it., type: str, required: true}
  initial_cluster: {description: The members that a new etcd cluster is made of., type: str, required: true}
  data_dir: {description: The member's data folder., type: path, required: true}
  config:
    description: The member's configuration file; a member that has data keeps what stands there.
    type: path
    required: true
extends_documentation_fragment: k8s_ans.cluster.etcdctl
attributes:
  check_mode: {support: full, description: Reads only.}
"""

EXAMPLES = r"""
- name: Learn how this member has to start
  k8s_ans.cluster.etcd_state:
    name: k8smaster01
    peer_url: https://172.24.8.71:2380
    initial_cluster: k8smaster01=https://172.24.8.71:2380,k8smaster02=https://172.24.8.72:2380
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
initial_cluster: {description: What initial-cluster has to be., type: str, returned: always}
has_data: {description: Whether the member has data., type: bool, returned: always}
alive: {description: Whether a majority of the members answered., type: bool, returned: always}
joining:
  description: Whether this member has yet to join a living cluster, V(new), or has begun to, V(begun). Else empty.
  type: str
  returned: always
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import etcd_cluster


class Refused(Exception):
    """The member must not start; the message says why and what to do."""


def decide(name, peer_url, has_data, members):
    """How the member has to start: (initial state, joining).

    `members` is the member list of a living cluster, or None where no majority answers. In a cluster that was made
    with this member, its name stands in the list from the beginning, while its client URLs appear when it has
    started for the first time; one that was added by `member add` has no name until then.
    """
    if members is None:
        return "new", ""
    member = etcd_cluster.member_of(members, name, peer_url)
    if member is None:
        other = etcd_cluster.namesake_of(members, name, peer_url)
        if other is not None:
            raise Refused(
                f"the living etcd cluster has a member {etcd_cluster.label(other)} at {' '.join(other['peerURLs'])}, which "
                f"is not this {name} at {peer_url}. Remove that one first: k8s-ans node remove {etcd_cluster.label(other)}"
            )
        if has_data:
            raise Refused(
                f"etcd on {name} has data of a member that the living cluster has removed, or of another cluster. Remove "
                f"the host, which cleans it, and add it again: k8s-ans node remove {name}, then k8s-ans node add {name}"
            )
        return "existing", "new"
    if has_data:
        return "existing" if member.get("isLearner") else "new", "begun" if member.get("isLearner") else ""
    if member.get("clientURLs"):
        raise Refused(
            f"etcd member {name} has no data, but the living cluster knows it as a member that has run before: "
            f"its data was lost. Starting it empty could lose acknowledged writes. Put its data back, or remove the "
            f"host and add it again as a new one: k8s-ans node remove {name}, then k8s-ans node add {name}"
        )
    return ("new", "") if member.get("name") else ("existing", "begun")


def written(config, key):
    """The value of a key in the configuration that the member runs with, or None."""
    try:
        with open(config, encoding="utf-8") as file:
            match = re.search(rf"^{key}: (\S+)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return match.group(1) if match else None


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec=dict(
            etcd_cluster.ARGUMENTS,
            name={"type": "str", "required": True},
            peer_url={"type": "str", "required": True},
            initial_cluster={"type": "str", "required": True},
            data_dir={"type": "path", "required": True},
            config={"type": "path", "required": True},
        ),
        supports_check_mode=True,
    )
    args = module.params
    has_data = os.path.isdir(os.path.join(args["data_dir"], "member"))
    able = all(os.path.exists(args[path]) for path in ("etcdctl", "ca", "cert", "key"))
    members = etcd_cluster.Etcdctl(module).members() if able else None
    try:
        state, joining = decide(args["name"], args["peer_url"], has_data, members)
    except Refused as error:
        module.fail_json(msg=str(error))
    cluster = args["initial_cluster"]
    if members is not None:
        cluster = etcd_cluster.initial_cluster(members, args["name"], args["peer_url"])
    if has_data:
        state = written(args["config"], "initial-cluster-state") or state
        cluster = written(args["config"], "initial-cluster") or cluster
    module.exit_json(
        changed=False,
        initial_state=state,
        initial_cluster=cluster,
        has_data=has_data,
        alive=members is not None,
        joining=joining,
    )


if __name__ == "__main__":
    main()
