# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""The options of the modules that ask an etcd cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/etcd_cluster.py."""

    DOCUMENTATION = r"""
options:
  endpoints: {description: 'Client URLs of the members, comma-separated.', type: str, required: true}
  etcdctl: {description: Path of etcdctl., type: path, required: true}
  ca: {description: Path of the etcd CA., type: path, required: true}
  cert: {description: Path of a client certificate., type: path, required: true}
  key: {description: Path of its key., type: path, required: true}
"""
