"""Filters that pick, from the artifacts of a run, those that belong on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: artifacts
short_description: Pick a host's binaries and images from k8s_artifacts
author: The k8s-ans founders
description:
  - C(host_binaries) and C(host_images) filter C(k8s_artifacts) by architecture and by the groups a host is in.
  - C(mirror_file) makes the C(files) entry of one registry's mirrors.
"""

# What `uname -m` says, and what Go and the artifacts call it.
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def _of_host(artifacts, kind, architecture, groups):
    name = _ARCHITECTURES.get(architecture, architecture)
    entries = (artifacts.get(name) or {}).get(kind) or []
    return [entry for entry in entries if set(entry["groups"]) & set(groups)]


def host_binaries(artifacts, architecture, groups, directories, only=()):
    """The binaries of a host of this architecture in these groups, each with its absolute path on the host.

    only: names of binaries or of components; empty: all.
    """
    return [
        {
            "name": entry["name"],
            "path": entry["path"],
            "sha256": entry["sha256"],
            "dest": f"{directories[entry['dest']]}/{entry['name']}",
            "mode": "0755",
        }
        for entry in _of_host(artifacts, "binaries", architecture, groups)
        if not only or {entry["name"], entry["component"]} & set(only)
    ]


def host_images(artifacts, architecture, groups):
    """The image archives of a host; images that are pulled from a registry have no archive and are left out."""
    return [
        {"ref": entry["ref"], "path": entry["path"], "sha256": entry["sha256"]}
        for entry in _of_host(artifacts, "images", architecture, groups)
        if entry.get("path")
    ]


def mirror_file(item, folder):
    """An entry for k8s_ans.cluster.files: containerd's hosts.toml of one registry."""
    lines = [f'server = "https://{item["key"]}"', ""]
    for mirror in item["value"]:
        lines += [f'[host."{mirror}"]', '  capabilities = ["pull", "resolve"]', ""]
    return {
        "dest": f"{folder}/{item['key']}/hosts.toml",
        "content": "\n".join(lines),
        "mode": "0644",
        "parents": True,
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"host_binaries": host_binaries, "host_images": host_images, "mirror_file": mirror_file}
