# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Gives a host its name, accounts, kernel settings, services and firewall back."""

from __future__ import annotations

import os
import re

from ansible_collections.k8s_ans.cluster.plugins.module_utils import ledger
from ansible_collections.k8s_ans.cluster.plugins.module_utils.reset_files import write
from ansible_collections.k8s_ans.cluster.plugins.module_utils.reset_report import run

FSTAB = '/etc/fstab'
SELINUX_CONFIG = '/etc/selinux/config'
SELINUX_ENFORCE = '/sys/fs/selinux/enforce'
# How our roles make accounts; it tells ours where there is no ledger of what was there before.
ACCOUNT = re.compile(r'^[^:]+:[^:]*:(\d+):\d+:[^:]*:/nonexistent:\S*/nologin$')


def remove_accounts(module, report, notes, names):
    """Delete the accounts that roles made for their services."""
    for name in names:
        lines = [line for line in _lines('/etc/passwd') if line.startswith(name + ':')]
        if lines and (name not in notes.host.get('accounts', [name]) or (notes.adopted and ACCOUNT.match(lines[0]))):
            report.do('removed', 'account %s' % name, lambda name=name: run(module, ['userdel', name]))
        if name in ledger.names_in('/etc/group') and name not in notes.host.get('groups', [name]) and not report.check:
            # userdel takes the group along unless somebody else is in it, or the host is set up otherwise.
            report.do('removed', 'group %s' % name, lambda name=name: run(module, ['groupdel', name]))


def _lines(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as handle:
            return handle.read().splitlines()
    except OSError:
        return []


def restore_hostname(module, report, notes, name):
    """Give the host its old name, if it still has the one that we gave it."""
    before = notes.host.get('hostname')
    now = ledger.hostname()
    if not before or before == now or name not in now.values():
        return
    if before['static'] and now['static'] != before['static']:
        what = 'host name %s' % before['static']
        report.do('restored', what, lambda: run(module, ['hostnamectl', 'set-hostname', before['static']]))
    elif not before['static']:
        report.leave('host name %s' % now['static'], 'the host had none at boot')


def restore_sysctls(report, notes):
    """Set kernel parameters back that still are as we, or kube-proxy, set them."""
    wanted = dict((key, (before, value)) for key, (before, value) in notes.content['sysctls'].items())
    for key, before in notes.host.get('sysctls', {}).items():
        wanted.setdefault(key, (before, None))
    for key, (before, value) in sorted(wanted.items()):
        now = ledger.read_sysctl(key)
        if now is None or now == before:
            continue
        if value is not None and now != value:
            report.leave('kernel parameter %s' % key, 'somebody set it to %s since' % now)
            continue
        report.do('restored', '%s = %s' % (key, before), lambda key=key, before=before: _set_sysctl(key, before))
    for name in notes.content['modules']:
        if os.path.isdir('/sys/module/%s' % name):
            report.leave('kernel module %s' % name, 'it stays loaded until the next boot')


def _set_sysctl(key, value):
    with open(ledger.sysctl_path(key), 'w', encoding='ascii') as handle:
        handle.write(value)


def restore_swap(module, report, notes):
    """Put swap back into fstab, and switch it on where it was."""
    entries = notes.content['fstab']
    if entries and os.path.exists(FSTAB):
        with open(FSTAB, encoding='utf-8') as handle:
            before = handle.read()
        after = before
        for entry in entries:
            after = re.sub(r'^#%s$' % re.escape(entry), lambda _match, entry=entry: entry, after, flags=re.MULTILINE)
        if after != before:
            report.do('restored', '%s (swap)' % FSTAB, lambda: write(FSTAB, after.encode(), os.stat(FSTAB)))
    active = [line.split()[0] for line in _lines('/proc/swaps')[1:]]
    for device in notes.content['swaps']:
        if device not in active:
            path = ledger.unescape(device)
            report.do('restored', 'swap on %s' % path, lambda path=path: run(module, ['swapon', path]))


def restore_selinux(module, report, notes):
    """Set SELinux's mode back; what waits for a boot is told."""
    old = notes.content['selinux']
    boot = (old.get('boot') or [None])[0]
    if boot and os.path.exists(SELINUX_CONFIG):
        with open(SELINUX_CONFIG, encoding='utf-8') as handle:
            before = handle.read()
        after = re.sub(r'^SELINUX=.*$', lambda _match: 'SELINUX=' + boot, before, flags=re.MULTILINE)
        if after != before:
            report.do(
                'restored', 'SELinux %s at boot' % boot, lambda: write(SELINUX_CONFIG, after.encode(), os.stat(SELINUX_CONFIG))
            )
    running = _lines(SELINUX_ENFORCE)
    if old.get('enforcing') is not None and not running:
        report.reboot.append('SELinux comes back at the next boot')
    elif old.get('enforcing') is None and 'enforcing' in old and running:
        report.reboot.append('SELinux goes off at the next boot')
    elif running and (running[0].strip() == '1') != old.get('enforcing', running[0].strip() == '1'):
        mode = '1' if old['enforcing'] else '0'
        what = 'SELinux %s now' % ('enforcing' if old['enforcing'] else 'permissive')
        report.do('restored', what, lambda: run(module, ['setenforce', mode]))


def restore_firewall(module, report, notes, ports, pods):
    """Close the ports that were opened and that were not open before."""
    before = notes.host.get('ports', {})
    now = ledger.open_ports(module)
    for kind, more in (('permanent', ['--permanent']), ('runtime', [])):
        old, new = before.get('firewalld', {}).get(kind), now.get('firewalld', {}).get(kind)
        if old is None or new is None:
            continue
        words = ['--remove-port=' + port for port in ports if port in new.get('ports', []) and port not in old.get('ports', [])]
        words += ['--remove-source=' + pods] if pods in new.get('sources', []) and pods not in old.get('sources', []) else []
        if words:
            what = 'firewalld (%s): %s' % (kind, ', '.join(word.split('=')[1] for word in words))
            report.do('restored', what, lambda more=more, words=words: run(module, ['firewall-cmd'] + more + words))
    for port in ports:
        rule = 'allow %s' % port.replace('-', ':')
        if 'ufw ' + rule in now.get('ufw', []) and 'ufw ' + rule not in before.get('ufw', ['ufw ' + rule]):
            report.do('restored', 'ufw: %s' % port, lambda rule=rule: run(module, ['ufw', 'delete'] + rule.split(' ')))


def restore_services(module, report, notes):
    """Give services that the host had before their state back, also those in whose place ours stood."""
    old = notes.host.get('units', {})
    now = ledger.unit_states(module, [name for name in ledger.UNITS if name in old])
    nginx = old.get('nginx', {})
    if nginx.get('LoadState') == 'not-found' and now.get('nginx', {}).get('LoadState') == 'masked':
        # It came with a package, for kube-nginx: neither masked nor started at the next boot.
        report.do('restored', 'nginx unmasked, not enabled', lambda: _unmask(module, 'nginx'))
    for name in ledger.UNITS:
        before, after = old.get(name, {}), now.get(name, {})
        if before.get('LoadState') == 'not-found' and name.startswith('chrony') and after.get('ActiveState') == 'active':
            report.leave(name, 'its package stays, and keeps the clock')
        if name == 'nginx' or before.get('LoadState') != 'loaded' or after.get('LoadState') != 'loaded':
            continue
        state = before.get('UnitFileState')
        if state in ('enabled', 'disabled') and after.get('UnitFileState') != state:
            verb = state[:-1]
            report.do('restored', '%s %s' % (name, state), lambda name=name, verb=verb: run(module, ['systemctl', verb, name]))
        active = before.get('ActiveState') == 'active'
        if before.get('ActiveState') in ('active', 'inactive') and active != (after.get('ActiveState') == 'active'):
            verb = 'start' if active else 'stop'
            what = '%s %s' % (name, 'started' if active else 'stopped')
            report.do('restored', what, lambda name=name, verb=verb: run(module, ['systemctl', verb, name]))


def _unmask(module, name):
    run(module, ['systemctl', 'unmask', name])
    run(module, ['systemctl', 'disable', name])
