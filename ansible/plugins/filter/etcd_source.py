"""Filter that chooses the etcd member which a snapshot is taken from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: etcd_source
short_description: Choose the etcd member to take a snapshot from
author: The k8s-ans founders
description:
  - Takes the variables of all members and the name of the variable that holds what M(k8s_ans.cluster.etcd_health) said.
  - A healthy follower comes first, so that the leader is left alone; then a healthy leader. Where there is no quorum, the
    member that has applied most.
  - The result is the member's C(inventory_hostname), or empty where none answers.
"""


def etcd_source(members, registered):
    """The host to take the snapshot from; '' where no member answers."""
    found = []
    for member in members:
        state = (member.get(registered) or {}).get("etcd") or {}
        if state.get("answers"):
            found.append((state, member["inventory_hostname"]))
    if not found:
        return ""
    # max() keeps the first of equals: the order of the inventory.
    best = max(found, key=lambda one: (one[0]["healthy"], not one[0]["leads"] if one[0]["healthy"] else one[0]["index"]))
    return best[1]


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"etcd_source": etcd_source}
