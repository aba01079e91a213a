# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster may go to a version: https://kubernetes.io/releases/version-skew-policy/ as pure functions.

`judge` takes what the cluster answered and returns `problems` (what refuses the upgrade) and `notices`, each with code,
message, host (where it is of one) and next.
"""

from __future__ import annotations

import re

# A kubelet may be so many minors older than its API server.
KUBELET_MINORS = 3

_VERSION = re.compile(r'^v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$')
_METRIC = re.compile(r'^apiserver_requested_deprecated_apis\{(.*)\} (\S+)$')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class NotAVersion(ValueError):
    """The text is no version."""


def parse(text):
    """Return (major, minor, patch) of v1.36.4; what follows the patch does not count. NotAVersion otherwise."""
    match = _VERSION.match(text or '')
    if not match:
        raise NotAVersion('%r is no version such as 1.36.4' % (text,))
    return tuple(int(part) for part in match.groups())


def plain(text):
    """Return a version without the leading v."""
    return (text or '').lstrip('v')


def minor_text(version):
    """Return 1.36 of (1, 36, 4)."""
    return '%d.%d' % version[:2]


def join(names):
    """Return names as in a sentence."""
    names = list(names)
    return names[0] if len(names) == 1 else '%s and %s' % (', '.join(names[:-1]), names[-1])


def deprecated_apis(metrics):
    """Return the deprecated APIs that clients have called, from an API server's /metrics: dictionaries of the labels.

    Those whose end is not decided (`removed_release` is empty) are left out: the controllers themselves call some.
    """
    found = []
    for line in metrics.splitlines():
        match = _METRIC.match(line)
        if not match or float(match.group(2)) == 0:
            continue
        labels = dict(_LABEL.findall(match.group(1)))
        if labels.get('removed_release'):
            found.append(labels)
    return found


def api_name(labels):
    """Return resource.version.group as kubectl knows it, e.g. ipaddresses.v1beta1.networking.k8s.io."""
    parts = [labels.get('resource', '?'), labels.get('version', '?'), labels.get('group', '')]
    return '.'.join(part for part in parts if part) + ('/%s' % labels['subresource'] if labels.get('subresource') else '')


def judge_deprecated(target, found):
    """Return (APIs that the target lacks, APIs that a later release lacks), each {api, removed_release}, without doubles."""
    gone, going = {}, {}
    for labels in found:
        release = labels['removed_release']
        try:
            removed = parse(release + '.0')
        except NotAVersion:
            continue
        (gone if removed[:2] <= target[:2] else going)[api_name(labels)] = release
    return tuple(
        [{'api': api, 'removed_release': release} for api, release in sorted(group.items())] for group in (gone, going)
    )


def judge_minor(target, servers, lanes):
    """Return the problems of the API servers' versions, {host: version}, with the target."""
    newest = max(servers.values())
    oldest = min(servers.values())
    if target[:2] < newest[:2]:
        hosts = join(sorted(host for host, version in servers.items() if version[:2] == newest[:2]))
        return [
            {
                'code': 'skew-down',
                'message': 'Kubernetes does not go back a minor: the API server on %s runs %s, which is newer than %s'
                % (hosts, '.'.join(map(str, newest)), minor_text(target)),
                'next': 'within %s any patch version will do; the state before is in the snapshot that was taken before the '
                'upgrade (see docs/upgrade.md)' % minor_text(newest),
            }
        ]
    if target[:2] > (oldest[0], oldest[1] + 1):
        step = '%d.%d' % (oldest[0], oldest[1] + 1)
        hosts = join(sorted(host for host, version in servers.items() if version[:2] == oldest[:2]))
        return [
            {
                'code': 'skew-step',
                'message': 'Kubernetes goes up one minor at a time: the API server on %s runs %s, and %s is %d minors on'
                % (hosts, '.'.join(map(str, oldest)), '.'.join(map(str, target)), target[1] - oldest[1]),
                'next': 'first upgrade to %s' % lanes.get(step, 'a version of %s' % step),
            }
        ]
    return []


def judge_kubelets(target, nodes, lanes):
    """Return the problems of the kubelets' versions, {node: version}, with the target's API servers."""
    problems = []
    for node, version in sorted(nodes.items()):
        text = '.'.join(map(str, version))
        if version[:2] > target[:2]:
            problems.append(
                {
                    'code': 'skew-kubelet-newer',
                    'host': node,
                    'message': 'its kubelet runs %s, and none may be newer than the API servers (%s)'
                    % (text, '.'.join(map(str, target))),
                    'next': 'upgrade to %s' % lanes.get(minor_text(version), 'a version of %s' % minor_text(version)),
                }
            )
        elif target[1] - version[1] > KUBELET_MINORS:
            problems.append(
                {
                    'code': 'skew-kubelet-older',
                    'host': node,
                    'message': 'its kubelet runs %s, and none may be more than %d minors older than the API servers (%s)'
                    % (text, KUBELET_MINORS, '.'.join(map(str, target))),
                    'next': 'bring this node to %s first'
                    % lanes.get('%d.%d' % (target[0], target[1] - 1), 'a version of %d.%d' % (target[0], target[1] - 1)),
                }
            )
    return problems


def judge_health(found, going_on):
    """Return (problems, notices) of members that do not answer or are not ready.

    While an upgrade goes on, a member may be ill from it, and what follows can be its cure.
    """
    ill = []
    for server in found['api_servers']:
        if server.get('problem'):
            ill.append(
                {
                    'code': 'api-server-ill',
                    'host': server['host'],
                    'message': 'its API server is not ready: %s' % server['problem'],
                    'next': 'on the host: journalctl -u kube-apiserver',
                }
            )
    for member in found['etcd']:
        if member.get('problem'):
            ill.append(
                {
                    'code': 'etcd-ill',
                    'host': member['host'],
                    'message': 'its etcd member is not healthy: %s' % member['problem'],
                    'next': 'on the host: journalctl -u etcd',
                }
            )
    for node in found['nodes']:
        if not node['ready']:
            ill.append(
                {
                    'code': 'node-not-ready',
                    'host': node['name'],
                    'message': 'the node is not ready: %s' % (node.get('reason') or 'no reason is given'),
                    'next': 'kubectl describe node %s, and on the host: journalctl -u kubelet' % node['name'],
                }
            )
    for leader in found.get('leaders', []):
        if leader.get('problem'):
            ill.append(
                {
                    'code': 'no-leader',
                    'host': None,
                    'message': '%s has no leader: %s' % (leader['name'], leader['problem']),
                    'next': 'on the masters: journalctl -u %s' % leader['name'],
                }
            )
    return ([], ill) if going_on else (ill, [])


def judge(target_text, found, lanes, going_on=False):
    """Return what keeps the cluster from going to the version, and what is to be known before.

    found: api_servers [{host, version, problem}], etcd [{host, problem}], nodes [{name, version, ready, reason}],
        leaders [{name, problem}], deprecated [labels]
    lanes: the known minors and the version to use of each
    going_on: the upgrade was begun before
    """
    target = parse(target_text)
    servers = dict((item['host'], parse(item['version'])) for item in found['api_servers'] if item.get('version'))
    nodes = dict((item['name'], parse(item['version'])) for item in found['nodes'] if item.get('version'))
    problems, notices = judge_health(found, going_on)
    if servers:
        # Where the API servers may not go there, the kubelets need not be asked.
        problems = (judge_minor(target, servers, lanes) or judge_kubelets(target, nodes, lanes)) + problems
    elif not problems:
        problems = notices
    gone, going = judge_deprecated(target, found['deprecated'])
    versions = list(servers.values()) + list(nodes.values())
    reached = len(servers) == len(found['api_servers']) and all(version == target for version in versions)
    closed = any(node.get('ours') for node in found['nodes'])
    return {
        'target': '.'.join(map(str, target)),
        'from': '.'.join(map(str, min(versions))) if versions else None,
        'reached': reached and not closed,
        'problems': problems,
        'notices': notices,
        'removed_apis': gone,
        'later_removed_apis': going,
    }


def summary(problems):
    """Return the problems as a message."""
    lines = []
    for item in problems:
        where = '%s: ' % item['host'] if item.get('host') else ''
        lines.append('%s%s (%s)' % (where, item['message'], item['next']))
    return '; '.join(lines)
