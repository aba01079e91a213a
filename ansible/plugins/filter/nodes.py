"""Filters that make, from a host's variables, what the API server is told about its node."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nodes
short_description: Make a node's manifest and its readiness condition
author: The k8s-ans founders
description:
  - C(node_labels) makes the Node manifest that holds the labels a kubelet may not give itself.
  - C(node_taints) makes, for k8s_ans.cluster.node_taints, the node and its taints.
  - C(node_condition) makes the condition that the node is ready.
"""

import json

# https://kubernetes.io/docs/reference/labels-annotations-taints/#node-role-kubernetes-io
_ROLE_LABEL = "node-role.kubernetes.io/{role}"


def node_labels(variables):
    """The Node manifest, as JSON, of a host's variables: its roles' labels and those of k8s_node_labels."""
    labels = dict(variables.get("k8s_node_labels") or {})
    if "masters" in variables["group_names"]:
        labels[_ROLE_LABEL.format(role="control-plane")] = ""
    if "nodes" in variables["group_names"]:
        labels[_ROLE_LABEL.format(role="node")] = ""
    metadata = {"name": variables["k8s_node_name"], "labels": {key: str(value) for key, value in sorted(labels.items())}}
    return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata}, sort_keys=True)


def node_taints(variables):
    """The node of a host and the taints that the spec gives it."""
    return {"name": variables["k8s_node_name"], "taints": variables.get("k8s_node_taints") or []}


def node_condition(variables, timeout):
    """The condition, for k8s_ans.cluster.manifests, that a host's node is ready; timeout in seconds."""
    return {"kind": "Node", "name": variables["k8s_node_name"], "condition": "Ready", "timeout": int(timeout)}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"node_labels": node_labels, "node_taints": node_taints, "node_condition": node_condition}
