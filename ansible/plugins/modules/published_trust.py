#!/usr/bin/python
# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Waits until pods are given the CAs that hosts trust, restarts our own, and names those that have older ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: published_trust
short_description: Bring the CAs that hosts trust to the pods
description:
  - The controller-manager publishes its CA file as the ConfigMap C(kube-root-ca.crt) of each namespace, from which each
    pod that has a service account gets C(ca.crt). This waits until all of them hold the bundle.
  - Many programs read that file only when they start. Workloads that this project applied are therefore restarted, once
    for each bundle and by a rollout; running pods of others that started before the bundle was published are named.
options:
  bundle: {description: Path on the host of what the hosts trust., type: path, required: true}
  kubectl: {description: The client., type: path, required: true}
  kubeconfig: {description: Its credentials on the host., type: path, required: true}
  field_manager: {description: Owner of the fields of our own workloads., type: str, default: k8s-ans}
  timeout: {description: 'How long publishing, and then each rollout, may take, in seconds.', type: int, default: 180}
attributes:
  check_mode: {support: full, description: Foretells the restarts without waiting for anything.}
author: k8s-ans authors
"""

EXAMPLES = r"""
- name: Let the pods trust what the hosts trust
  k8s_ans.cluster.published_trust:
    bundle: /etc/kubernetes/cert/ca.crt
    kubectl: /opt/k8s/bin/kubectl
    kubeconfig: /etc/kubernetes/admin.kubeconfig
"""

RETURN = r"""
changed_objects:
  description: Our workloads that were (in check mode, would be) restarted, as kind/namespace/name.
  type: list
  elements: str
  returned: success
changed_files: {description: 'The same, for the run''s report.', type: list, elements: str, returned: success}
old_pods:
  description: "Running pods of others that started before, as NAMESPACE/NAME."
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import time

from ansible.module_utils.basic import AnsibleModule

CONFIG_MAP = "kube-root-ca.crt"
ANNOTATION = "k8s-ans/trust-bundle"
POLL_SECONDS = 1


def is_ours(workload, manager):
    """Whether the manager applied it."""
    return any(
        entry.get("manager") == manager and entry.get("operation") == "Apply"
        for entry in workload["metadata"].get("managedFields") or []
    )


def uses_service_account(workload):
    """Whether its pods are given ca.crt: those of the account `default` of our namespaces ask the API nothing."""
    spec = workload["spec"]["template"]["spec"]
    return bool(spec.get("serviceAccountName")) and spec.get("automountServiceAccountToken") is not False


def stale(workloads, manager, digest):
    """Our workloads whose pods were made for another bundle."""
    return [
        item
        for item in workloads
        if is_ours(item, manager)
        and uses_service_account(item)
        and (item["spec"]["template"]["metadata"].get("annotations") or {}).get(ANNOTATION) != digest
    ]


def published_at(config_map):
    """When the ConfigMap was last written, e.g. 2026-11-24T08:00:00Z, which sorts as text."""
    times = [entry.get("time") or "" for entry in config_map["metadata"].get("managedFields") or []]
    return max(times, default="")


def old_pods(pods, config_maps):
    """Running pods that mount the ConfigMap and started before it was written, as NAMESPACE/NAME."""
    since = {item["metadata"]["namespace"]: published_at(item) for item in config_maps}
    found = []
    for pod in pods:
        sources = [
            source
            for volume in pod["spec"].get("volumes") or []
            for source in (volume.get("projected") or {}).get("sources") or []
        ]
        mounts = any((source.get("configMap") or {}).get("name") == CONFIG_MAP for source in sources)
        started = pod.get("status", {}).get("startTime")
        namespace = pod["metadata"]["namespace"]
        running = pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        if mounts and running and started and started < since.get(namespace, ""):
            found.append("%s/%s" % (namespace, pod["metadata"]["name"]))
    return sorted(found)


class Cluster:
    """kubectl with its kubeconfig."""

    def __init__(self, module):
        self.module = module
        self.base = [module.params["kubectl"], "--kubeconfig", module.params["kubeconfig"], "--request-timeout=20s"]

    def run(self, *words):
        """Return (code, stdout, stderr)."""
        return self.module.run_command(self.base + list(words))

    def items(self, *words):
        """Objects of all namespaces; None while the API server does not answer."""
        code, out, _err = self.run("get", *words, "--all-namespaces", "--show-managed-fields", "-o", "json")
        return json.loads(out)["items"] if code == 0 else None

    def config_maps(self):
        """The published CAs."""
        return self.items("configmaps", "--field-selector", "metadata.name=" + CONFIG_MAP)

    def must(self, found, what):
        """What was found; ends the task where nothing was."""
        if found is None:
            self.module.fail_json(msg="the API server did not list the %s" % what)
        return found


def wait_for_publication(cluster, bundle):
    """The ConfigMaps, once all of them hold the bundle."""
    module = cluster.module
    deadline = time.monotonic() + module.params["timeout"]
    while True:
        found = cluster.config_maps()
        behind = None if found is None else [item for item in found if (item.get("data") or {}).get("ca.crt", "").strip() != bundle]
        if found and not behind:
            return found
        if time.monotonic() > deadline:
            where = ", ".join(item["metadata"]["namespace"] for item in behind or []) or "every namespace"
            module.fail_json(
                msg="the controller-manager has not published the CAs of %s within %d s; missing in: %s. See its "
                "journal: journalctl -u kube-controller-manager" % (module.params["bundle"], module.params["timeout"], where)
            )
        time.sleep(POLL_SECONDS)


def restart(cluster, workloads, digest):
    """Roll each workload, all at once, and wait for them."""
    module = cluster.module
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": {ANNOTATION: digest}}}}})
    targets = [(item["kind"].lower(), item["metadata"]["namespace"], item["metadata"]["name"]) for item in workloads]
    for kind, namespace, name in targets:
        code, _out, err = cluster.run("patch", "--namespace", namespace, kind, name, "--type=merge", "--patch", patch)
        if code != 0:
            module.fail_json(msg="%s/%s cannot be restarted: %s" % (namespace, name, err.strip()[-500:]), changed=True)
    for kind, namespace, name in targets:
        limit = "--timeout=%ds" % module.params["timeout"]
        code, out, err = cluster.run("rollout", "status", "--namespace", namespace, "%s/%s" % (kind, name), limit, "--request-timeout=0")
        if code != 0:
            module.fail_json(msg="%s/%s did not come back: %s" % (namespace, name, (err or out).strip()[-500:]), changed=True)
    return ["%s/%s/%s" % target for target in targets]


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "path", "required": True},
            "kubectl": {"type": "path", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "field_manager": {"type": "str", "default": "k8s-ans"},
            "timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    with open(module.params["bundle"], encoding="utf-8") as file:
        bundle = file.read().strip()
    digest = hashlib.sha256(bundle.encode()).hexdigest()[:16]
    cluster = Cluster(module)
    config_maps = cluster.must(cluster.config_maps(), "ConfigMaps") if module.check_mode else wait_for_publication(cluster, bundle)
    workloads = cluster.must(cluster.items("deployments,daemonsets,statefulsets"), "workloads")
    ours = stale(workloads, module.params["field_manager"], digest)
    if module.check_mode:
        restarted = ["%s/%s/%s" % (item["kind"].lower(), item["metadata"]["namespace"], item["metadata"]["name"]) for item in ours]
    else:
        restarted = restart(cluster, ours, digest)
    left = old_pods(cluster.must(cluster.items("pods"), "pods"), config_maps)
    module.exit_json(changed=bool(restarted), changed_objects=restarted, changed_files=restarted, old_pods=left)


if __name__ == "__main__":
    main()
