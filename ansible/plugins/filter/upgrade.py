"""Filters that tell which hosts an upgrade still has to touch."""

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade
short_description: Tell which hosts an upgrade still has to touch
author: The k8s-ans founders
description:
  - C(upgrade_parts) takes what C(k8s_ans.cluster.cluster_versions) answered, and returns what is to be done on a host.
  - C(component_version) finds a component's version in C(k8s_artifacts).
  - C(ready_probe) makes the question whether a master's API server is ready.
"""

import os

# Installed before the hosts are emptied one by one: these run no pods.
_APART = {"kube-apiserver", "kubeadm", "kubectl", "kube-controller-manager", "kube-scheduler"}
_ETCD = {"etcd", "etcdctl", "etcdutl"}


def upgrade_parts(state, name, missing, version, etcd_version):
    """What is to be done on a host: a list of the groups upgrade_etcd, upgrade_ill (its API server does not work) and
    upgrade_node that it is in.

    state: of cluster_versions; missing: paths of binaries that are not installed as wanted; etcd_version: the wanted one
    or an empty text where it is not known.
    """
    lacking = {os.path.basename(path) for path in missing}
    member = next((item for item in state["etcd"] if item["host"] == name), None)
    server = next((item for item in state["api_servers"] if item["host"] == name), None)
    node = next((item for item in state["nodes"] if item["name"] == name), None)
    parts = []
    if member and (lacking & _ETCD or (etcd_version and member["version"] != etcd_version)):
        parts.append("upgrade_etcd")
    if server and server["problem"]:
        parts.append("upgrade_ill")
    if node and (lacking - _APART - _ETCD or node["version"] != version or node["ours"] or not node["ready"]):
        parts.append("upgrade_node")
    return parts


def component_version(artifacts, component):
    """The version of a component among the artifacts of a run, or an empty text."""
    for architecture in artifacts.values():
        for entry in architecture.get("binaries") or []:
            if entry["component"] == component:
                return entry["version"]
    return ""


def ready_probe(address, port, ca):
    """What asks a master's API server whether it is ready, for k8s_ans.cluster.probes."""
    return {"url": f"https://{address}:{port}/readyz", "ca": ca}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {
            "upgrade_parts": upgrade_parts,
            "component_version": component_version,
            "ready_probe": ready_probe,
        }
