# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Which certificates a host's roles need, and what must be in them: the table of docs/pki.md, as far as it is binding.

Pure. What our own PKI puts into a certificate beyond this (ts/pki/plan.ts) is no condition: other CAs have other habits.
"""

from __future__ import annotations

from typing import NamedTuple

PARTS = ('etcd', 'masters', 'nodes', 'network', 'metrics-server', 'registry', 'dashboard', 'logging')

# The CA certificates to trust, by the name of the CA.
BUNDLES = {'kubernetes': 'ca.crt', 'etcd': 'etcd-ca.crt', 'front-proxy': 'front-proxy-ca.crt'}


class Place(NamedTuple):
    """What the names in a host's certificates follow from."""

    address: str
    dns_domain: str = ''
    service_address: str = ''
    # Host part of the URL at which clients from outside reach the API, if there is one.
    external: str = ''


class Needed(NamedTuple):
    """One certificate with its key."""

    # Without .crt and .key; below the host's folder if `own`, else below the PKI folder.
    path: str
    issuer: str
    own: bool = False
    # None where nothing reads it.
    common_name: str | None = None
    organization: str | None = None
    usages: tuple[str, ...] = ('client',)
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    # Path of a kubeconfig below the PKI folder that holds both, and counts instead of the two files where it is there.
    kubeconfig: str = ''


def bundles(part):
    """Return the names of the CAs whose certificates the part takes to the hosts."""
    return {'etcd': ('etcd',), 'masters': tuple(BUNDLES)}.get(part, ('kubernetes',))


def needed(part, place):
    """Return the certificates that `part` (a role, or an add-on of the role addons) takes to a host."""
    if part == 'etcd':
        # etcd's gateway dials with the certificate that it serves with, and so do peers:
        # https://etcd.io/docs/v3.6/op-guide/security/
        both = ('server', 'client')
        return [
            Needed('etcd-server', 'etcd', True, usages=both, addresses=('127.0.0.1', place.address)),
            Needed('etcd-peer', 'etcd', True, usages=both, addresses=(place.address,)),
            Needed('etcd-healthcheck-client', 'etcd', True),
        ]
    if part == 'masters':
        return [
            Needed(
                'apiserver',
                'kubernetes',
                True,
                usages=('server',),
                dns_names=_api_names(place),
                addresses=_api_addresses(place),
            ),
            Needed('apiserver-etcd-client', 'etcd', True),
            Needed('apiserver-kubelet-client', 'kubernetes', True, 'kube-apiserver-kubelet-client'),
            Needed('front-proxy-client', 'front-proxy', True, 'front-proxy-client'),
            Needed('controller-manager', 'kubernetes', True, usages=('server',), addresses=('127.0.0.1',)),
            Needed('scheduler', 'kubernetes', True, usages=('server',), addresses=('127.0.0.1',)),
            _client('controller-manager', 'system:kube-controller-manager'),
            _client('scheduler', 'system:kube-scheduler'),
            Needed('kubeconfigs/csr-approver', 'kubernetes', common_name='k8s-ans:csr-approver'),
            Needed('admin', 'kubernetes', organization='system:masters', kubeconfig='kubeconfigs/admin.conf'),
        ]
    if part == 'nodes':
        return [_client('kube-proxy', 'system:kube-proxy')]
    if part == 'network':
        return [_client('flanneld', 'flanneld')]
    if part == 'metrics-server':
        # The API server asks for NAME.NAMESPACE.svc, whatever address it dials:
        # https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
        names = ('metrics-server.kube-system.svc',)
        return [Needed('addons/metrics-server', 'kubernetes', usages=('server',), dns_names=names)]
    if part == 'registry':
        # Each host's containerd reaches it at the host's own address.
        return [Needed('addons/registry', 'kubernetes', usages=('server',), addresses=(place.address,))]
    if part == 'dashboard':
        # kubectl port-forward needs none of its names, and those of the hosts are the team's choice.
        return [Needed('addons/dashboard', 'kubernetes', usages=('server',))]
    if part == 'logging':
        # Elasticsearch's nodes are each other's clients as well.
        both = ('server', 'client')
        names = ('elasticsearch.logging.svc',)
        return [
            Needed('addons/elasticsearch', 'kubernetes', usages=both, dns_names=names),
            Needed('addons/kibana', 'kubernetes', usages=('server',)),
        ]
    raise ValueError('there is no part %s; there are %s' % (part, ', '.join(PARTS)))


def _client(name, common_name):
    path = 'kubeconfigs/' + name
    return Needed(path, 'kubernetes', common_name=common_name, kubeconfig=path + '.conf')


def _api_names(place):
    names = ('kubernetes', 'kubernetes.default', 'kubernetes.default.svc')
    if place.dns_domain:
        names += ('kubernetes.default.svc.' + place.dns_domain,)
    return names + ((place.external,) if place.external and not _is_address(place.external) else ())


def _api_addresses(place):
    wanted = ('127.0.0.1', place.address, place.service_address)
    return tuple(filter(None, wanted)) + ((place.external,) if _is_address(place.external) else ())


def _is_address(text):
    return text.replace('.', '').isdigit() or ':' in text
