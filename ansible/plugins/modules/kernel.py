#!/usr/bin/python
"""Brings the running kernel to the state that hostprep's files ask for at boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel
short_description: Load modules, set kernel parameters, switch swap off, set SELinux's mode
author: The k8s-ans founders
description:
  - Looks at what the kernel runs with, not at files alone, so that a run that was killed between writing a file and
    applying it is made good by the next one.
  - A module that is built into the kernel counts as loaded.
  - What it changes it first notes in the host's ledger, where the host has one, so that a reset can put it back.
options:
  modules: {description: Kernel modules., type: list, elements: str, default: []}
  sysctls: {description: Kernel parameters and their values., type: dict, default: {}}
  swap_off: {description: Whether swap is switched off now and commented out in C(/etc/fstab)., type: bool, default: false}
  selinux:
    description: SELinux's mode, where the host has SELinux.
    type: str
    choices: [enforcing, permissive, disabled]
attributes:
  check_mode: {support: full, description: Says what it would do.}
"""

EXAMPLES = r"""
- name: Route between pods
  k8s_ans.cluster.kernel:
    modules: [br_netfilter]
    sysctls:
      net.ipv4.ip_forward: "1"
    swap_off: true
"""

RETURN = r"""
done: {description: What was done or would be done, a line each., type: list, elements: str, returned: always}
reboot_required: {description: Whether a setting waits for a reboot., type: bool, returned: always}
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger

FSTAB = "/etc/fstab"
SELINUX_CONFIG = "/etc/selinux/config"
SELINUX_ENFORCE = "/sys/fs/selinux/enforce"
SWAP_ENTRY = re.compile(r"^(?!\s*#)(\s*\S+\s+\S+\s+swap\s.*)$", re.MULTILINE)

# What a module that is built in shows, on kernels that do not list it under /sys/module.
EVIDENCE = {
    "br_netfilter": "/proc/sys/net/bridge",
    "nf_conntrack": "/proc/sys/net/netfilter",
    "ip_vs": "/proc/net/ip_vs",
}


def is_loaded(name):
    """Whether the kernel has the module, loaded or built in."""
    if os.path.isdir(f"/sys/module/{name}") or os.path.exists(EVIDENCE.get(name, "/nonexistent")):
        return True
    with open("/proc/filesystems", encoding="ascii") as file:
        return name in file.read().split()


def without_swap(fstab):
    """The text of fstab with every swap entry commented out."""
    return SWAP_ENTRY.sub(r"#\1", fstab)


def note(module, notes, kind, values):
    """Adds to a list of the ledger, before the change."""
    if notes is not None and not module.check_mode:
        notes.add(kind, values)
        notes.save()


def load_modules(module, notes, done):
    """Loads what is missing."""
    missing = [name for name in module.params["modules"] if not is_loaded(name)]
    note(module, notes, "modules", missing)
    for name in missing:
        done.append(f"module {name} loaded")
        if not module.check_mode:
            code, _out, err = module.run_command(["modprobe", "--", name])
            if code != 0:
                module.fail_json(msg=f"the kernel has no module {name}: {err.strip()}. Install the kernel's extra modules")


def set_sysctls(module, notes, done, loading):
    """Sets what differs from the running value; loading: in check mode, a kernel module is still to be loaded."""
    wrong = []
    for key, value in sorted(module.params["sysctls"].items()):
        path = "/proc/sys/" + key.replace(".", "/")
        try:
            with open(path, encoding="ascii") as file:
                current = file.read().split()
        except FileNotFoundError:
            if module.check_mode and loading:
                # It comes with the module.
                done.append(f"{key}: {value}")
                continue
            module.fail_json(msg=f"this kernel has no parameter {key}: take it out of hostprep_sysctls")
        if current != str(value).split():
            wrong.append((key, path, " ".join(current), str(value)))
    if notes is not None and not module.check_mode:
        for key, _path, current, value in wrong:
            notes.sysctl(key, current, " ".join(value.split()))
        notes.save()
    for key, path, current, value in wrong:
        done.append(f"{key}: {current} -> {value}")
        if not module.check_mode:
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                module.fail_json(msg=f"cannot set {key} to {value}: {error.strerror}")


def switch_swap_off(module, notes, done):
    """Swap off now, and at the next boot."""
    with open("/proc/swaps", encoding="utf-8") as file:
        active = file.read().splitlines()[1:]
    if active:
        done.append("swap off")
        note(module, notes, "swaps", [line.split()[0] for line in active])
        if not module.check_mode:
            module.run_command(["swapoff", "-a"], check_rc=True)
    if not os.path.exists(FSTAB):
        return
    with open(FSTAB, encoding="utf-8") as file:
        before = file.read()
    after = without_swap(before)
    if after != before:
        done.append("swap taken out of /etc/fstab")
        note(module, notes, "fstab", SWAP_ENTRY.findall(before))
        if not module.check_mode:
            temporary = os.path.join(module.tmpdir, "fstab")
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(after)
            module.atomic_move(temporary, FSTAB)


def set_selinux(module, notes, done):
    """Sets SELinux's mode now and at boot; returns whether a reboot is needed."""
    wanted = module.params["selinux"]
    if wanted is None or not os.path.exists(SELINUX_CONFIG):
        return False
    with open(SELINUX_CONFIG, encoding="utf-8") as file:
        before = file.read()
    after = re.sub(r"^SELINUX=.*$", f"SELINUX={wanted}", before, flags=re.MULTILINE)
    if notes is not None and not module.check_mode:
        notes.once("selinux", "boot", re.findall(r"^SELINUX=(.*)$", before, flags=re.MULTILINE)[-1:])
        notes.once("selinux", "enforcing", read_enforcing())
        notes.save()
    if after != before:
        done.append(f"SELinux {wanted} at boot")
        if not module.check_mode:
            temporary = os.path.join(module.tmpdir, "selinux")
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(after)
            module.atomic_move(temporary, SELINUX_CONFIG)
    enforcing = read_enforcing()
    if enforcing is None:
        # Off since boot: it comes back by a reboot only.
        return wanted != "disabled"
    if enforcing != (wanted == "enforcing"):
        done.append(f"SELinux {wanted} now" if wanted != "disabled" else "SELinux permissive until the reboot")
        if not module.check_mode:
            module.run_command(["setenforce", "1" if wanted == "enforcing" else "0"], check_rc=True)
    return wanted == "disabled"


def read_enforcing():
    """Whether SELinux enforces now; None where it is off."""
    try:
        with open(SELINUX_ENFORCE, encoding="ascii") as file:
            return file.read().strip() == "1"
    except FileNotFoundError:
        return None


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "sysctls": {"type": "dict", "default": {}},
            "swap_off": {"type": "bool", "default": False},
            "selinux": {"type": "str", "choices": ["enforcing", "permissive", "disabled"]},
        },
        supports_check_mode=True,
    )
    done = []
    try:
        notes = ledger.load()
    except ledger.Damaged as error:
        module.fail_json(msg=str(error))
    load_modules(module, notes, done)
    set_sysctls(module, notes, done, bool(done))
    if module.params["swap_off"]:
        switch_swap_off(module, notes, done)
    reboot = set_selinux(module, notes, done)
    module.exit_json(changed=bool(done), done=done, reboot_required=reboot)


if __name__ == "__main__":
    main()
