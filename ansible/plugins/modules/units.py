#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Module of k8s_ans.cluster.units: brings a host's systemd units to their state together, and waits for them once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Start, restart and wait for systemd units together
description:
  - Enables the units, starts those that do not run, restarts those whose files were replaced after they started, and
    waits B(once) until all are active and answer.
  - The decision to restart does not need a handler or the result of an earlier task. It compares the files named in
    O(units[].files) with the start of the unit, so a run that was killed between writing a file and restarting the unit
    is made good by the next run. A stamp in C(/run/k8s-ans/units) keeps a fingerprint (inode, size, mtime) of the files
    the running process has read; where there is no fitting stamp, ctime is compared with the start time.
  - A unit that fails or crashes again and again ends the task at once, with the unit's last journal lines.
  - M(k8s_ans.cluster.files) takes the same arguments and converges the units in the call that writes their files.
options:
  units:
    description: The units, in the order in which they are started.
    required: true
attributes:
  check_mode:
    support: full
author: k8s-ans authors
extends_documentation_fragment: k8s_ans.cluster.units
"""

EXAMPLES = r"""
- name: Units of the master
  k8s_ans.cluster.units:
    pending_files: '{{ masters_files.changed_files }}'
    units:
      - name: kube-apiserver
        files: [/opt/k8s/bin/kube-apiserver, /etc/kubernetes/apiserver/*.yaml]
        wait:
          url: https://127.0.0.1:6443/readyz
          ca: /etc/kubernetes/cert/ca.crt
      - name: kube-nginx
        files: [/opt/k8s/bin/kube-nginx]
        reload_files: [/etc/kubernetes/kube-nginx.conf]
        wait: {tcp: '127.0.0.1:8443'}
"""

RETURN = r"""
started:
  description: Units that were (in check mode, would be) started.
  returned: always
  type: list
  elements: str
restarted:
  description: Units that were restarted because of their files.
  returned: always
  type: list
  elements: str
reloaded:
  description: Units that were reloaded.
  returned: always
  type: list
  elements: str
stopped:
  description: Units that were stopped.
  returned: always
  type: list
  elements: str
enabled:
  description: Units whose start at boot was switched on or off.
  returned: always
  type: list
  elements: str
removed:
  description: Units whose files were taken away.
  returned: always
  type: list
  elements: str
waited:
  description: Seconds from the first start to the last unit being ready.
  returned: success
  type: float
failed_units:
  description: For each unit that failed, C(name) and C(reason).
  returned: failure
  type: list
  elements: dict
journal:
  description:
    - The last 30 journal lines of the first unit that failed. Of one that crashes again and again, each message once,
      without stack traces and without systemd's account of the restarts.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import unit_converger


def main():
    arguments = dict(unit_converger.ARGUMENTS)
    arguments['units'] = dict(arguments['units'], required=True)
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    try:
        result = unit_converger.Converger(module).converge()
    except unit_converger.Failed as error:
        module.fail_json(msg=str(error), **error.result)
    module.exit_json(**result)


if __name__ == '__main__':
    main()
