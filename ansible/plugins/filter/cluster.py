"""Filters from which the cluster's variables follow where no command line has computed them."""

from __future__ import annotations

import ipaddress

DOCUMENTATION = r"""
name: cluster
short_description: Compute what follows from the inventory
author: The k8s-ans founders
description:
  - C(named_addresses) makes name and address of hosts from their variables C(k8s_node_name) and C(k8s_node_address).
  - C(address_of) is the address of a network with a number, counted from the network's own.
"""


def named_addresses(hosts):
    """The hosts, each with name and address; in the order given."""
    return [{"name": host["k8s_node_name"], "address": host["k8s_node_address"]} for host in hosts]


def address_of(network, number):
    """The address with this number in the network, as text."""
    return str(ipaddress.ip_network(network)[number])


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"named_addresses": named_addresses, "address_of": address_of}
