# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Takes the links, routes and packet rules of pods and services away, and no others."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex

from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger
from ansible_collections.k8s_ans.cluster.plugins.module_utils.reset_report import run

# flannel's devices by backend (flannel/pkg/backend), the bridge of its CNI plugin, and kube-proxy's for ipvs.
LINKS = re.compile(r'^(flannel\.\d+|flannel-v6\.\d+|flannel-wg|flannel-wg-v6|cni0|kube-ipvs0)$')
# kubernetes/pkg/proxy/nftables/proxier.go; flannel/pkg/trafficmngr/nftables/nftables.go
TABLES = ('ip kube-proxy', 'ip6 kube-proxy', 'ip flannel-ipv4', 'ip6 flannel-ipv6')
# Of the kubelet, kube-proxy, flannel, and the CNI plugins bridge and portmap.
CHAINS = re.compile(r'^(KUBE-|FLANNEL-|CNI-)')
IPTABLES = (('iptables', '/proc/net/ip_tables_names'), ('ip6tables', '/proc/net/ip6_tables_names'))
# Tables that iptables on nftables makes as soon as one of its chains is asked for.
IPTABLES_TABLES = tuple('%s %s' % (family, name) for family in ('ip', 'ip6') for name in ('filter', 'nat', 'mangle', 'raw'))


def remove_links(module, report, notes):
    """Delete flannel's, kube-proxy's and the pods' links."""
    before = notes.host.get('links', [])
    out = run(module, ['ip', '-j', 'link', 'show'])
    links = json.loads(out or '[]')
    ours = [link for link in links if LINKS.match(link['ifname']) and link['ifname'] not in before]
    bridges = [link['ifname'] for link in ours]
    # A pod's end goes with its namespace; what is left of it hangs on the bridge.
    pods = [link for link in links if link.get('master') in bridges and link['ifname'] not in before]
    for link in pods + ours:
        name = link['ifname']
        report.do('removed', 'link %s' % name, lambda name=name: _delete_link(module, name))


def _delete_link(module, name):
    if os.path.exists('/sys/class/net/%s' % name):
        run(module, ['ip', 'link', 'delete', 'dev', name])


def remove_routes(module, report, pods):
    """Delete the routes to other hosts' pods that flannel's host-gw leaves."""
    if not pods:
        return
    network = ipaddress.ip_network(pods)
    for route in json.loads(run(module, ['ip', '-j', 'route', 'show']) or '[]'):
        try:
            inside = ipaddress.ip_network(route['dst']).subnet_of(network)
        except (ValueError, TypeError, KeyError):
            continue
        if inside and not LINKS.match(route.get('dev', '')):
            words = ['ip', 'route', 'delete', route['dst'], 'dev', route['dev']]
            report.do('removed', 'route to %s' % route['dst'], lambda words=words: run(module, words))


def remove_ipvs(module, report, node_ports):
    """Delete kube-proxy's virtual services: those on its own link's addresses and on node ports."""
    ipvsadm = module.get_bin_path('ipvsadm')
    if ipvsadm is None or not os.path.exists('/sys/class/net/kube-ipvs0') or not os.path.exists('/proc/net/ip_vs'):
        return
    addresses = set()
    for link in json.loads(run(module, ['ip', '-j', 'address', 'show', 'dev', 'kube-ipvs0']) or '[]'):
        addresses.update(info['local'] for info in link.get('addr_info', []))
    first, last = node_ports
    for line in run(module, [ipvsadm, '--save', '--numeric']).splitlines():
        match = re.match(r'^-A (-[tu]) (\[?[0-9a-fA-F.:]+?\]?):(\d+)( |$)', line)
        if match and (match.group(2).strip('[]') in addresses or first <= int(match.group(3)) <= last):
            words = [ipvsadm, '--delete-service', match.group(1), '%s:%s' % (match.group(2), match.group(3))]
            report.do('removed', 'ipvs service %s' % words[-1], lambda words=words: run(module, words))


def remove_rules(module, report, notes):
    """Delete kube-proxy's and flannel's nftables tables and all chains of ours that iptables made."""
    _remove_tables(module, report, TABLES)
    for command, kernel in IPTABLES:
        for variant in ('', '-legacy'):
            # The old variant's tables come into being when they are asked for: not to be touched where there are none.
            if not variant or _has_lines(kernel):
                _remove_chains(module, report, command + variant)
    _remove_ipsets(module, report)
    before = notes.host.get('tables')
    if before is not None:
        gone = [name for name in IPTABLES_TABLES if name not in before]
        _remove_tables(module, report, [name for name in gone if _is_bare(module, report, name)])


def _has_lines(path):
    try:
        with open(path, encoding='ascii') as handle:
            return bool(handle.read().strip())
    except OSError:
        return False


def _remove_tables(module, report, names):
    nft = module.get_bin_path('nft')
    if nft is None:
        return
    there = ledger.tables(module) or []
    for name in names:
        if name in there:
            words = [nft, 'delete', 'table'] + name.split(' ')
            report.do('removed', 'nftables table %s' % name, lambda words=words: run(module, words))


def _is_bare(module, report, name):
    """Tell whether a table holds nothing but iptables' own empty chains (in check mode: and our chains)."""
    nft = module.get_bin_path('nft')
    code, out, _err = module.run_command([nft, '-j', 'list', 'table'] + name.split(' ')) if nft else (1, '', '')
    if code != 0:
        return False
    for item in json.loads(out)['nftables']:
        if 'rule' in item:
            rule = item['rule']
            if not report.check or not (CHAINS.match(rule['chain']) or CHAINS.match(_target(rule))):
                return False
        elif 'chain' in item:
            chain = item['chain']
            ours = report.check and CHAINS.match(chain['name'])
            if not ours and (chain.get('hook') is None or chain.get('policy', 'accept') != 'accept'):
                return False
        elif 'table' not in item and 'metainfo' not in item:
            return False
    return True


def _target(rule):
    for part in rule.get('expr', []):
        for verdict in ('jump', 'goto'):
            if isinstance(part, dict) and verdict in part:
                return part[verdict]['target']
    return ''


def cleanup_script(saved):
    """Return (input of iptables-restore --noflush, names) that takes our chains out of what iptables-save said.

    Rules in other chains go where they lead to a chain of ours. Names are `table CHAIN`.
    """
    script, names = [], []
    table, jumps, chains = '', [], []
    for line in saved.splitlines():
        if line.startswith('*'):
            table, jumps, chains = line[1:], [], []
        elif line.startswith(':'):
            chain = line[1:].split(' ', 1)[0]
            if CHAINS.match(chain):
                chains.append(chain)
        elif line.startswith('-A '):
            words = shlex.split(line)
            targets = [after for word, after in zip(words, words[1:]) if word in ('-j', '-g')]
            if not CHAINS.match(words[1]) and any(CHAINS.match(target) for target in targets):
                jumps.append('-D ' + line[3:])
        elif line == 'COMMIT' and (jumps or chains):
            script += ['*' + table] + jumps
            # All are emptied before the first is deleted: they lead to one another.
            script += ['-F ' + chain for chain in chains] + ['-X ' + chain for chain in chains] + ['COMMIT']
            names += ['%s %s' % (table, chain) for chain in chains]
    return ''.join(line + '\n' for line in script), names


def _remove_chains(module, report, command):
    save = module.get_bin_path(command + '-save')
    restore = module.get_bin_path(command + '-restore')
    if save is None or restore is None:
        return
    script, names = cleanup_script(run(module, [save]))
    if script:
        what = '%s chains %s' % (command, ', '.join(names))
        report.do('removed', what, lambda: run(module, [restore, '--noflush', '--wait=10'], data=script))


def _remove_ipsets(module, report):
    ipset = module.get_bin_path('ipset')
    if ipset is None:
        return
    code, out, _err = module.run_command([ipset, 'list', '-name'])
    for name in out.split() if code == 0 else []:
        if name.startswith('KUBE-'):
            report.do('removed', 'ipset %s' % name, lambda name=name: run(module, [ipset, 'destroy', name]))
