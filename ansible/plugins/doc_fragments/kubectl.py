# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""The options of the modules that run kubectl."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that module_utils/kubectl.py reads."""

    DOCUMENTATION = r"""
options:
  kubectl: {description: The client., type: path, default: /opt/k8s/bin/kubectl}
  kubeconfig: {description: Its credentials on the host., type: path, required: true}
"""

    # Also of those that wait for the API server.
    RETRY = r"""
options:
  retry_seconds:
    description: How long to try again while the API server cannot be reached or is not ready to serve.
    type: int
    default: 30
"""
