# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""The options that k8s_ans.cluster.units and k8s_ans.cluster.files share."""

from __future__ import annotations

import textwrap

# What one probe is, for `wait` and `gate`.
_PROBE = r"""
url:
  description: An C(https://) or C(http://) URL that must answer with C(status).
  type: str
ca:
  description: CA certificates on the host; without them the system's.
  type: path
cert:
  description: Client certificate on the host.
  type: path
key:
  description: Its key.
  type: path
server_name:
  description: The name to expect in the server's certificate; by default the URL's host.
  type: str
status:
  description: The expected status.
  type: int
  default: 200
tcp:
  description: C(host:port) that must accept a connection.
  type: str
unix:
  description: A socket that must accept a connection.
  type: path
"""


class ModuleDocFragment:
    """Options of module_utils/unit_converger.py."""

    DOCUMENTATION = (
        r"""
options:
  units:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the unit; C(.service) may be left out.
        type: str
        required: true
      state:
        description:
          - V(absent) stops and disables the unit and takes its file in C(/etc/systemd/system) away.
          - V(loaded) leaves it as it is, but has systemd read its file anew, as for the service of a timer.
        type: str
        choices: [started, stopped, absent, loaded]
        default: started
      enabled:
        description: Start at boot. The default is true for V(started), false otherwise.
        type: bool
      files:
        description:
          - Paths and globs of files that make the unit restart when they were replaced after its start. The unit file
            itself and its drop-ins in C(/etc/systemd/system) are always among them.
        type: list
        elements: str
        default: []
      reload_files:
        description: Paths and globs of files that make the unit reload.
        type: list
        elements: str
        default: []
      wait:
        description:
          - What must answer before the unit counts as ready. Asked at each run, also when nothing was started.
        type: dict
        suboptions:
"""
        + textwrap.indent(_PROBE, ' ' * 10)
        + r"""
          timeout:
            description: Seconds for this unit, instead of O(timeout).
            type: int
  timeout:
    description: Seconds until all units must be ready.
    type: int
    default: 120
  max_restarts:
    description: Automatic restarts since the start that count as a crash loop.
    type: int
    default: 3
  pending_files:
    description:
      - In check mode, the C(changed_files) of earlier tasks, so that the restarts they would bring are foretold. Files
        of this task need not be named. Ignored otherwise.
    type: list
    elements: str
    default: []
"""
    )

    # Of module files alone.
    GATE = (
        r"""
options:
  gate:
    description:
      - What must answer before anything is changed, each as O(units[].wait). Where one does not in O(gate_timeout) seconds,
        the task fails and the host stays as it is, so that a fault of the first host does not reach the others.
    type: list
    elements: dict
    default: []
    suboptions:
"""
        + textwrap.indent(_PROBE, ' ' * 6)
        + r"""
  gate_timeout:
    description: Seconds that all probes of O(gate) have together.
    type: int
    default: 60
"""
    )
