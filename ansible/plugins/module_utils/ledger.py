# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""What was made on this host, and what was there before: the memory that `reset` goes by.

Notes are written before the host is changed, so that a run killed in between leaves nothing unknown; what was noted and
then never made does no harm. The ledger is a file of its own on the host. It begins when a task makes its folder
(hostprep's first), and without that folder nothing is noted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile

FOLDER = '/var/lib/k8s-ans'
FILE = 'ledger.json'
COPIES = 'before'
VERSION = 1

# Files that every host of ours has, under names that nobody else uses: a host that has them and no ledger was deployed
# by a version that kept none.
EVIDENCE = ('/etc/profile.d/k8s-ans.sh', '/etc/sysctl.d/90-k8s-ans.conf', '/etc/modules-load.d/k8s-ans.conf')

# Units that are written or switched: where a host had one of that name of its own, it gets it back.
UNITS = (
    *('etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-csr-approver'),
    *('containerd', 'docker', 'cri-dockerd', 'kubelet', 'kube-proxy', 'flanneld', 'kube-nginx'),
    *('nginx', 'chrony', 'chronyd', 'firewalld', 'ufw'),
)

# Kernel parameters that kube-proxy sets while it runs (kubernetes/pkg/proxy: conntrack/sysctls.go, iptables/proxier.go,
# ipvs/proxier.go) and that keep their value when it is gone.
RUNTIME_SYSCTLS = (
    'net.netfilter.nf_conntrack_max',
    'net.netfilter.nf_conntrack_tcp_timeout_established',
    'net.netfilter.nf_conntrack_tcp_timeout_close_wait',
    'net.netfilter.nf_conntrack_tcp_be_liberal',
    'net.netfilter.nf_conntrack_udp_timeout',
    'net.netfilter.nf_conntrack_udp_timeout_stream',
    'net.ipv4.conf.all.route_localnet',
    'net.ipv4.conf.all.arp_ignore',
    'net.ipv4.conf.all.arp_announce',
    'net.ipv4.vs.conntrack',
    'net.ipv4.vs.conn_reuse_mode',
    'net.ipv4.vs.expire_nodest_conn',
    'net.ipv4.vs.expire_quiescent_template',
)

# Folders that components make themselves while they run. Where one was there before, what it held then stays.
RUNTIME_FOLDERS = (
    *('/var/lib/kubelet', '/var/lib/cni', '/var/log/pods', '/var/log/containers', '/usr/libexec/kubernetes', '/opt/containerd'),
    *('/run/containerd', '/run/docker', '/run/nri', '/run/flannel', '/run/kube-nginx', '/run/k8s-ans', '/run/netns'),
    # Of kubectl, as root on the masters.
    *('/root/.kube', '/root/.kube/cache'),
    # Of Ansible itself.
    *('/root/.ansible', '/root/.ansible/tmp'),
)

UNIT_PROPERTIES = ('LoadState', 'UnitFileState', 'ActiveState')


class Damaged(Exception):
    """The ledger cannot be read; the message is for the user."""


def is_ours():
    """Tell whether the host carries files of a deployment."""
    return any(os.path.lexists(path) for path in EVIDENCE)


def exists():
    """Tell whether the host has a ledger."""
    return os.path.lexists(os.path.join(FOLDER, FILE))


def load():
    """Return the host's ledger, None where it has none."""
    path = os.path.join(FOLDER, FILE)
    try:
        with open(path, encoding='utf-8') as handle:
            content = json.load(handle)
        if content['version'] != VERSION:
            raise Damaged(
                '%s was written by a newer k8s-ans (its version is %s): use that one' % (path, content['version'])
            )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            '%s, the list of what was made on this host, is damaged (%s). Move it away: a reset then goes by what '
            'k8s-ans is known to make' % (path, error)
        ) from error
    return Ledger(content)


def begin(module, adopted=None):
    """Return a new ledger that holds how the host is now; it is written by its first `save`.

    adopted: the host was deployed before there was a ledger, so that what is there now says nothing of what it was;
    None: see for itself.
    """
    adopted = is_ours() if adopted is None else adopted
    content = {'version': VERSION, 'adopted': adopted, 'host': {} if adopted else look(module)}
    for kind in ('made', 'replaced', 'attributes', 'blocks', 'found', 'sysctls', 'selinux'):
        content[kind] = {}
    for kind in ('modules', 'swaps', 'fstab'):
        content[kind] = []
    if not adopted:
        content['found'] = dict((path, sorted(os.listdir(path))) for path in RUNTIME_FOLDERS if os.path.isdir(path))
    ledger = Ledger(content)
    ledger.changed = True
    return ledger


def look(module):
    """Return how the host is now, in all that roles change by other means than files."""
    return {
        'hostname': hostname(),
        'accounts': names_in('/etc/passwd'),
        'groups': names_in('/etc/group'),
        'units': unit_states(module, UNITS),
        'links': sorted(os.listdir('/sys/class/net')),
        'mounts': mount_points(),
        'tables': tables(module),
        'sysctls': dict((key, value) for key in RUNTIME_SYSCTLS for value in [read_sysctl(key)] if value is not None),
        'ports': open_ports(module),
    }


def hostname():
    """Return the host's name as it is and as it will be at boot."""
    try:
        with open('/etc/hostname', encoding='utf-8') as handle:
            static = handle.read().strip()
    except OSError:
        static = ''
    return {'running': os.uname().nodename, 'static': static}


def names_in(path):
    """Return the names of an account file's lines."""
    try:
        with open(path, encoding='utf-8', errors='replace') as handle:
            return [line.split(':', 1)[0] for line in handle if ':' in line]
    except OSError:
        return []


def unit_states(module, names):
    """Return {name: {LoadState, UnitFileState, ActiveState}} of services."""
    code, out, _err = module.run_command(
        ['systemctl', 'show', '--property=Id,' + ','.join(UNIT_PROPERTIES)] + [service(name) for name in names]
    )
    found = {}
    if code == 0:
        # In the order asked for; an alias shows another Id.
        for name, block in zip(names, out.strip().split('\n\n')):
            pairs = dict(line.split('=', 1) for line in block.splitlines() if '=' in line)
            found[name] = dict((key, pairs.get(key, '')) for key in UNIT_PROPERTIES)
    return found


def service(name):
    """Return a unit's full name."""
    known = ('.service', '.socket', '.timer', '.mount', '.path', '.target', '.slice')
    return name if name.endswith(known) else name + '.service'


def mount_points():
    """Return the mount points of this mount namespace, in the order in which they were mounted."""
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as handle:
        return [unescape(line.split(' ')[4]) for line in handle]


def unescape(text):
    """Return a path of mountinfo as it is: blanks and the like are octal there."""
    for code, char in (('\\040', ' '), ('\\011', '\t'), ('\\012', '\n'), ('\\134', '\\')):
        text = text.replace(code, char)
    return text


def tables(module):
    """Return nftables' tables as `family name`; None where nft is not installed."""
    nft = module.get_bin_path('nft')
    if nft is None:
        return None
    code, out, _err = module.run_command([nft, 'list', 'tables'])
    return [line.split(' ', 1)[1].strip() for line in out.splitlines() if line.startswith('table ')] if code == 0 else None


def open_ports(module):
    """Return {firewalld: {permanent, runtime}, ufw: [rules]} of the firewalls that are there and answer."""
    found = {}
    command = module.get_bin_path('firewall-cmd')
    if command is not None:
        for kind, more in (('permanent', ['--permanent']), ('runtime', [])):
            lists = {}
            for what in ('ports', 'sources'):
                code, out, _err = module.run_command([command, '--list-' + what] + more)
                if code == 0:
                    lists[what] = out.split()
            if lists:
                found.setdefault('firewalld', {})[kind] = lists
    command = module.get_bin_path('ufw')
    if command is not None:
        code, out, _err = module.run_command([command, 'show', 'added'])
        if code == 0:
            found['ufw'] = [line.strip() for line in out.splitlines() if line.startswith('ufw ')]
    return found


def sysctl_path(key):
    """Return where a kernel parameter lies."""
    return '/proc/sys/' + key.replace('.', '/')


def read_sysctl(key):
    """Return a kernel parameter's value with single blanks, None where the kernel has none of that name."""
    try:
        with open(sysctl_path(key), encoding='ascii') as handle:
            return ' '.join(handle.read().split())
    except OSError:
        return None


def owner_of(status):
    """Return mode and owner for a note."""
    return {'mode': stat.S_IMODE(status.st_mode), 'uid': status.st_uid, 'gid': status.st_gid}


class Ledger:
    """Notes of one host.

    made: {path: kind} that were not there before; replaced: {path: what stood there}; attributes: mode and owner before
    they were changed; blocks: {file: [[begin, end]]}; found: {folder: names} of folders that were there, and what was
    in them.
    """

    def __init__(self, content):
        self.content = content
        self.changed = False

    @property
    def adopted(self):
        """Whether the deployment is older than the ledger."""
        return self.content['adopted']

    @property
    def host(self):
        """How the host was; empty if adopted."""
        return self.content['host']

    def made(self, path, kind):
        """Note that `path` is about to be made, and each folder above it that is missing."""
        parent = os.path.dirname(path)
        if parent != path and not os.path.lexists(parent):
            self.made(parent, 'directory')
        if not os.path.lexists(path) and path not in self.content['made'] and path not in self.content['replaced']:
            self.put('made', path, kind)

    def replacing(self, path):
        """Note what stands at `path` and is about to go or to be written over, and keep a copy."""
        if self.knows(path):
            return
        status = os.lstat(path)
        if self.adopted:
            # Whose it is cannot be told any more, and it lies where we write.
            self.put('made', path, 'link' if stat.S_ISLNK(status.st_mode) else 'file')
        elif stat.S_ISLNK(status.st_mode):
            self.put('replaced', path, {'target': os.readlink(path)})
        elif stat.S_ISREG(status.st_mode):
            self.put('replaced', path, dict(owner_of(status), copy=self.keep(path)))

    def keep(self, path):
        """Copy a file that is about to be written over; return the copy's name."""
        folder = os.path.join(FOLDER, COPIES)
        make_folder(folder)
        name = hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]
        handle, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, 'wb') as out, open(path, 'rb') as source:
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, os.path.join(folder, name))
        return name

    def attributes(self, path):
        """Note mode and owner of something that is not ours and whose mode or owner is about to change."""
        if not self.knows(path) and not self.adopted and path not in self.content['attributes']:
            self.put('attributes', path, owner_of(os.stat(path)))

    def block(self, path, begin, end, exists):
        """Note a block that is about to be put into a file."""
        if not exists:
            self.made(path, 'file')
        marks = self.content['blocks'].get(path, [])
        if [begin, end] not in [mark[:2] for mark in marks]:
            self.put('blocks', path, marks + [[begin, end, exists and lacks_newline(path)]])

    def found_folder(self, path):
        """Note a folder that is used and was there already, with what was in it."""
        if not self.knows(path) and not self.adopted and path not in self.content['found']:
            self.put('found', path, sorted(os.listdir(path)))

    def sysctl(self, key, before, value):
        """Note a kernel parameter's value before the first change, and what it is set to."""
        before = self.content['sysctls'].get(key, [before])[0]
        if self.content['sysctls'].get(key) != [before, value]:
            self.put('sysctls', key, [before, value])

    def add(self, kind, values):
        """Note further values of a list: modules, swaps, fstab."""
        more = [value for value in values if value not in self.content[kind]]
        if more:
            self.content[kind].extend(more)
            self.changed = True

    def once(self, kind, key, value):
        """Note the first value of a key."""
        if key not in self.content[kind]:
            self.put(kind, key, value)

    def knows(self, path):
        """Tell whether it is noted how `path` came about."""
        return path in self.content['made'] or path in self.content['replaced']

    def put(self, kind, key, value):
        """Note a value under a key."""
        self.content[kind][key] = value
        self.changed = True

    def save(self):
        """Write what was noted, to the disk, before the host is changed."""
        if not self.changed:
            return
        make_folder(FOLDER)
        handle, temporary = tempfile.mkstemp(dir=FOLDER)
        with os.fdopen(handle, 'w', encoding='utf-8') as out:
            json.dump(self.content, out, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, os.path.join(FOLDER, FILE))
        self.changed = False


def make_folder(path):
    """Make one of the ledger's own folders."""
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.mkdir(path, 0o700)


def lacks_newline(path):
    """Tell whether a file's last line has no end: a block put after it gives it one."""
    with open(path, 'rb') as handle:
        content = handle.read()
    return bool(content) and not content.endswith(b'\n')
