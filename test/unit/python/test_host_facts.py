import gzip
import os
import tempfile
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import host_facts as facts


class Tree(unittest.TestCase):
    """A made-up root of /proc, /sys and /etc."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = temporary.name
        os.makedirs(os.path.join(self.root, 'proc'))

    def write(self, name, text):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as handle:
            handle.write(text)
        return path


class System(Tree):
    def test_os_release(self):
        self.write('etc/os-release', 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4"\n')
        self.assertEqual(
            facts.os_release(self.root), {'id': 'rocky', 'version': '9.4', 'name': 'Rocky Linux 9.4', 'family': 'redhat'}
        )

    def test_family_by_likeness(self):
        self.write('etc/os-release', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n')
        self.assertEqual(facts.os_release(self.root)['family'], 'debian')

    def test_numbers(self):
        self.write('proc/meminfo', 'MemTotal:        4030028 kB\nMemFree: 1 kB\n')
        self.write('proc/swaps', 'Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n')
        self.assertEqual(facts.memory_mib(self.root), 3935)
        self.assertEqual(facts.swaps(self.root), ['/dev/sda2'])
        self.assertEqual(facts.cgroup_version(self.root), 1)
        self.write('sys/fs/cgroup/cgroup.controllers', 'cpu')
        self.assertEqual(facts.cgroup_version(self.root), 2)
        self.assertEqual(facts.selinux(self.root), 'disabled')
        self.write('sys/fs/selinux/enforce', '1')
        self.assertEqual(facts.selinux(self.root), 'enforcing')

    def test_default_interface(self):
        self.write(
            'proc/net/route',
            'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n'
            'wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n'
            'eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n'
            'eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n',
        )
        self.assertEqual(facts.default_interface(self.root), 'eth0')


class Ports(Tree):
    def test_listening(self):
        head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n'
        self.write(
            'proc/net/tcp',
            head + '   0: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0\n'
            '   1: 0100007F:20FB 0100007F:1234 01 00000000:00000000 00:00000000 00000000  0 0 4712 1 0\n',
        )
        self.write(
            'proc/net/tcp6',
            head + '   0: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A '
            '00000000:00000000 00:00000000 00000000  0 0 4713 1 0\n',
        )
        self.assertEqual(
            facts.sockets(self.root),
            [
                {'proto': 'tcp', 'address': '127.0.0.1', 'port': 8443, 'inode': '4711'},
                {'proto': 'tcp', 'address': '::', 'port': 6443, 'inode': '4713'},
            ],
        )
        os.makedirs(os.path.join(self.root, 'proc/77/fd'))
        os.symlink('socket:[4711]', os.path.join(self.root, 'proc/77/fd/3'))
        self.assertEqual(facts.owners(['4711', '4713'], self.root), {'4711': 77})

    def test_processes(self):
        self.write('proc/77/comm', 'nginx\n')
        self.write('proc/77/cgroup', '5:pids:/system.slice/kube-nginx.service\n1:name=systemd:/system.slice/kube-nginx.service\n')
        os.symlink('/usr/sbin/nginx (deleted)', os.path.join(self.root, 'proc/77/exe'))
        self.assertEqual(
            facts.processes(self.root), {77: {'name': 'nginx', 'exe': '/usr/sbin/nginx', 'unit': 'kube-nginx.service'}}
        )

    def test_units_of_cgroups(self):
        for text, unit in (
            ('0::/system.slice/etcd.service', 'etcd.service'),
            ('0::/docker/ab12/system.slice/ssh.service', 'ssh.service'),
            ('0::/kubepods/burstable/podabc/def', 'pod'),
            ('0::/user.slice/user-0.slice/session-3.scope', 'session-3.scope'),
            ('0::/', ''),
        ):
            self.assertEqual(facts.unit_of(text), unit, text)


class Modules(Tree):
    def state(self, name):
        return facts.KernelModules('6.1', self.root).state(name)

    def config(self, text):
        with gzip.open(os.path.join(self.root, 'proc/config.gz'), 'wt') as handle:
            handle.write(text)

    def test_loaded_and_builtin(self):
        self.write('sys/module/overlay/initstate', 'live')
        os.makedirs(os.path.join(self.root, 'sys/module/vxlan'))
        self.write('lib/modules/6.1/modules.builtin', 'kernel/net/ipv4/nf-foo.ko\n')
        self.write('lib/modules/6.1/modules.dep', 'kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/x.ko\n')
        self.assertEqual(
            [self.state(name) for name in ('overlay', 'vxlan', 'nf_foo', 'ip_vs', 'wireguard')],
            ['loaded', 'builtin', 'builtin', 'loadable', 'missing'],
        )

    def test_built_in_without_a_module_tree(self):
        self.config('CONFIG_NF_TABLES=y\nCONFIG_WIREGUARD=m\n# CONFIG_IP_VS is not set\n')
        self.write('proc/filesystems', 'nodev\toverlay\n')
        os.makedirs(os.path.join(self.root, 'proc/sys/net/bridge'))
        self.assertEqual(
            [self.state(name) for name in ('br_netfilter', 'overlay', 'nf_tables', 'wireguard', 'ip_vs')],
            ['builtin', 'builtin', 'builtin', 'missing', 'missing'],
        )

    def test_only_the_symbols_tell(self):
        self.write('proc/kallsyms', '0000000000000000 t vxlan_xmit\n0000000000000000 T printk\n')
        self.assertEqual([self.state(name) for name in ('vxlan', 'nf_tables')], ['builtin', 'unknown'])


if __name__ == '__main__':
    unittest.main()
