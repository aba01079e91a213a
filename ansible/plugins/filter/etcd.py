"""Filters that make, from what etcd_state found on all members, how each has to start."""

from __future__ import annotations

DOCUMENTATION = r"""
name: etcd
short_description: Tell which etcd members have to join, and the initial cluster of the others
author: The k8s-ans founders
description:
  - C(etcd_joining) lists the hosts that have to join a living cluster, in the order in which they can.
  - C(etcd_initial_cluster) is a host's initial cluster. It fails where a host would have to join a cluster that is down.
"""

from ansible.errors import AnsibleFilterError


def etcd_joining(hosts):
    """The names of hosts, given by their variables, that have to join; those that began come first.

    etcd has one learner at a time: one that began to join has to end before another begins.
    """
    states = {host["inventory_hostname"]: host.get("__etcd_state", {}).get("joining", "") for host in hosts}
    return [name for wanted in ("begun", "new") for name, joining in states.items() if joining == wanted]


def etcd_initial_cluster(own, hosts, otherwise):
    """The initial cluster of the host with the variables `own`, among `hosts`; `otherwise` where its state is not known."""
    state = own.get("__etcd_state", {})
    name = own["k8s_node_name"]
    if not state.get("has_data") and not state.get("alive"):
        for host in hosts:
            other = host.get("__etcd_state", {})
            known = [pair.split("=", 1)[0] for pair in other.get("initial_cluster", "").split(",")]
            if other.get("has_data") and name not in known:
                raise AnsibleFilterError(
                    f"{name} is a new member of an etcd cluster that does not answer: {host['k8s_node_name']} has its data. "
                    f"Bring a majority of its members back first"
                )
    return state.get("initial_cluster") or otherwise


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"etcd_joining": etcd_joining, "etcd_initial_cluster": etcd_initial_cluster}
