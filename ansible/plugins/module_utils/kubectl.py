# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""kubectl for modules: its credentials, and patience while the API server is not there."""

from __future__ import annotations

import json
import time

# kubectl's words for an API server that is not (yet) there.
NOT_THERE = (
    'connection refused', 'was refused', 'EOF', 'TLS handshake timeout', 'i/o timeout', 'ServiceUnavailable',
    'not ready', 'unable to handle the request', 'etcdserver: leader changed', 'etcdserver: request timed out',
    'connection reset by peer', 'no such host',
)  # fmt: skip


def not_there(err):
    """Tell whether kubectl failed since the API server cannot be reached or is not ready to serve."""
    return any(text in err for text in NOT_THERE)


class Kubectl:
    """kubectl with its kubeconfig; trouble of the server is waited for.

    module: has the params `kubectl` and `kubeconfig`.
    retry_seconds: how long from now on; not in check mode.
    """

    def __init__(self, module, retry_seconds):
        self.module = module
        self.base = [module.params['kubectl'], '--kubeconfig', module.params['kubeconfig']]
        self.deadline = time.monotonic() + (0 if module.check_mode else retry_seconds)

    def run(self, *words):
        """Return (code, stdout, stderr); tries again while the server is not there."""
        while True:
            code, out, err = self.module.run_command(self.base + list(words))
            if code == 0 or not not_there(err) or time.monotonic() > self.deadline:
                return code, out, err
            time.sleep(0.5)

    def get(self, *words):
        """Return the object or list that `get` finds, None where nothing is; fail_json when it cannot be read."""
        code, out, err = self.run('get', '--ignore-not-found', '-o', 'json', *words)
        if code != 0:
            self.module.fail_json(msg='kubectl get %s failed: %s' % (' '.join(words), err.strip()[-2000:]))
        return json.loads(out) if out.strip() else None
