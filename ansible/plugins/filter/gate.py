"""Filter that makes the gate of a change: what must answer before the next of several hosts is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gate
short_description: Make the probes of the peers that worked
author: The k8s-ans founders
description:
  - Takes the variables of a host's peers, the name of the variable that holds the result of an earlier task, and a URL
    with C({}) for the peer's address.
  - A peer counts if that task was carried out on it and did not fail. One that was down or failed before is left out.
"""


def gate(peers, registered, url, **options):
    """The probes, for the C(gate) of k8s_ans.cluster.files."""
    probes = []
    for peer in peers:
        result = peer.get(registered)
        if not result or result.get("failed") or result.get("unreachable") or result.get("skipped"):
            continue
        probes.append(dict(options, url=url.format(peer["k8s_node_address"])))
    return probes


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"gate": gate}
