import copy
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.module_utils import preflight

GOOD = {
    'architecture': 'amd64',
    'os': {'id': 'debian', 'version': '12', 'name': 'Debian GNU/Linux 12 (bookworm)', 'family': 'debian'},
    'kernel': '6.1.0-30-amd64',
    'cgroup_version': 2,
    'cpus': 2,
    'memory_mib': 3900,
    'disks': {'/': {'free_mib': 40000, 'total_mib': 50000, 'device': 1}, '/data': {'free_mib': 40000, 'total_mib': 50000, 'device': 1}},
    'default_interface': 'eth0',
    'swap': [],
    'python': '3.11.2',
    'systemd': 252,
    'ports': [],
    'kernel_modules': {'br_netfilter': 'loadable', 'overlay': 'loaded', 'vxlan': 'builtin', 'nf_tables': 'loadable',
                       'nf_conntrack': 'loaded', 'ip_vs': 'missing'},
    'units': {},
    'other_kubernetes': [],
    'other_runtime': {},
}  # fmt: skip


def host(number, **changes):
    facts = copy.deepcopy(GOOD)
    facts.update(
        hostname='m%d' % number,
        machine_id='id%d' % number,
        product_uuid='uuid%d' % number,
        interfaces={
            'lo': {'mac': '00:00:00:00:00:00', 'addresses': ['127.0.0.1', '::1']},
            'eth0': {'mac': '02:00:00:00:00:0%d' % number, 'addresses': ['10.0.0.%d' % number, 'fe80::1']},
        },
        clock={'epoch': 1.0, 'offset': 0.1, 'uncertainty': 0.2},
    )
    facts.update(changes)
    return facts


class Rules(unittest.TestCase):
    maxDiff = None

    def run_one(self, roles=('masters', 'etcd'), requirements=None, **changes):
        return preflight.check(
            {'m1': host(1, **changes)}, {'m1': {'address': '10.0.0.1', 'roles': list(roles)}}, requirements
        )

    def only(self, code, message, then, requirements=None, roles=('masters', 'etcd'), **changes):
        found = self.run_one(roles, requirements, **changes)
        self.assertEqual(found['problems'], [{'host': 'm1', 'code': code, 'message': message, 'next': then}])

    def test_good_hosts(self):
        facts = {'m%d' % number: host(number) for number in (1, 2, 3)}
        hosts = {name: {'address': '10.0.0.' + name[1], 'roles': ['masters', 'etcd']} for name in facts}
        self.assertEqual(
            preflight.check(facts, hosts, {}),
            {'architecture': {'m1': 'amd64', 'm2': 'amd64', 'm3': 'amd64'}, 'problems': [], 'notices': []},
        )

    def test_unreachable(self):
        found = preflight.check({'m1': None}, {'m1': {'address': '10.0.0.1', 'roles': ['nodes']}})
        self.assertEqual([item['code'] for item in found['problems']], ['unreachable'])

    def test_supported_systems(self):
        for name, version in (
            ('debian', '13'), ('ubuntu', '22.04'), ('ubuntu', '24.04'), ('rhel', '9.6'), ('rocky', '10.0'), ('almalinux', '9.4'),
        ):  # fmt: skip
            self.assertEqual(self.run_one(os={'id': name, 'version': version})['problems'], [], (name, version))

    def test_unsupported_system(self):
        then = 'use one of Debian 12 and 13, Ubuntu 22.04 and 24.04, RHEL, Rocky and Alma 9 and 10'
        for name, version in (('ubuntu', '20.04'), ('debian', '11'), ('alpine', '3.20'), ('ubuntu', '22.10')):
            self.only(
                'os-unsupported',
                'runs %s %s, which is not supported' % (name, version),
                then,
                os={'id': name, 'version': version},
            )
        found = self.run_one(os={'id': 'arch', 'version': ''}, requirements={'any_os': True})
        self.assertEqual((found['problems'], len(found['notices'])), ([], 1))

    def test_architecture(self):
        self.only(
            'arch-unsupported',
            'is a riscv64 machine; there are binaries for amd64 and arm64',
            'take the host out of the spec or replace it',
            architecture='riscv64',
        )

    def test_python(self):
        self.only(
            'python',
            'has Python 3.6.8; 3.9 or newer is needed',
            "install a newer Python and name it in the host's vars as ansible_python_interpreter",
            python='3.6.8',
        )

    def test_systemd(self):
        self.only(
            'systemd-missing',
            'is not run by systemd',
            'boot the host with systemd; the components are its units',
            systemd=0,
        )

    def test_memory_by_role(self):
        self.only(
            'memory',
            'has 1000 MiB of memory; a master needs 1700',
            'give it more memory, or lower requirements.masterMemoryMiB in the spec if you know better',
            memory_mib=1000,
        )
        self.assertEqual(self.run_one(roles=['nodes'], requirements={'node_memory_mib': 900}, memory_mib=1000)['problems'], [])

    def test_cpus(self):
        self.only(
            'cpus',
            'has 1 processor; 2 are needed',
            'give it more processors, or lower requirements.cpus in the spec if you know better',
            cpus=1,
        )

    def test_disk_once_a_file_system(self):
        small = {'free_mib': 2000, 'total_mib': 50000, 'device': 1}
        self.only(
            'disk',
            'has 2000 MiB free on the file system of /; 10240 are needed',
            'free some space or add a disk, or lower requirements.diskGiB in the spec if you know better',
            disks={'/': small, '/data': small},
        )

    def test_disk_of_an_installed_host(self):
        small = {'/': {'free_mib': 2000, 'total_mib': 50000, 'device': 1}}
        ours = {'kubelet.service': {'active': 'active', 'enabled': True, 'ours': True}}
        self.assertEqual(self.run_one(disks=small, units=ours)['problems'], [])

    def test_address_missing(self):
        other = {'eth0': {'mac': '02:00:00:00:00:01', 'addresses': ['10.0.0.7', 'fe80::1']}}
        self.only(
            'address-missing',
            'does not have the address 10.0.0.1; it has 10.0.0.7',
            'correct the address of the host in the spec, or give the address to the host',
            interfaces=other,
        )

    def test_interface_missing(self):
        self.only(
            'interface-missing',
            'has no interface ens3; it has eth0',
            'correct network.interface in the spec, or leave it out: then the interface of the address is taken',
            requirements={'interface': 'ens3'},
        )

    def test_hostname_is_a_notice(self):
        found = self.run_one(hostname='other')
        self.assertEqual(found['problems'], [])
        self.assertEqual(found['notices'][0]['message'], 'calls itself other')

    def port(self, number, proto='tcp', address='0.0.0.0', process='apache2', unit='apache2.service', **more):
        return dict({'proto': proto, 'port': number, 'address': address, 'process': process, 'unit': unit, 'exe': '', 'ours': False}, **more)

    def test_port_taken(self):
        self.only(
            'port-taken',
            'TCP port 6443, which kube-apiserver needs, is taken by apache2 of apache2.service',
            'stop it (systemctl disable --now apache2.service) or move it to another port',
            ports=[self.port(6443), self.port(6443, address='::')],
        )
        self.only(
            'port-taken',
            'TCP port 9443, which kube-nginx needs, is taken by an unknown process',
            'stop it or move it to another port',
            requirements={'proxy_port': 9443},
            ports=[self.port(9443, process='', unit='')],
        )

    def test_port_not_taken(self):
        nodes = ['nodes']
        self.assertEqual(self.run_one(nodes, ports=[self.port(6443)])['problems'], [], 'a worker has no API server')
        other = [self.port(8443, address='10.0.0.1')]
        self.assertEqual(self.run_one(nodes, ports=other)['problems'], [], 'the proxy takes 127.0.0.1 only')
        kernel = [self.port(8472, proto='udp', process='', unit='')]
        self.assertEqual(self.run_one(nodes, ports=kernel)['problems'], [], "the kernel's socket of flannel.1")
        self.assertEqual(self.run_one(nodes, ports=[self.port(10250, ours=True)])['problems'], [])
        nginx = [self.port(8443, process='nginx', unit='kube-nginx.service')]
        units = {'kube-nginx.service': {'active': 'active', 'enabled': True, 'ours': True}}
        self.assertEqual(self.run_one(nodes, ports=nginx, units=units)['problems'], [])
        self.assertEqual(len(self.run_one(nodes, ports=nginx)['problems']), 1)

    def test_kernel_feature(self):
        then = (
            'install the modules of the running kernel (kernel-modules-extra on RHEL, linux-modules-extra on Ubuntu), '
            'or boot a kernel that has it'
        )
        self.only(
            'kernel-feature',
            "has a kernel without ip_vs, which kube-proxy's ipvs mode needs",
            then + ', or choose another kubeProxy.mode in the spec',
            requirements={'proxy_mode': 'ipvs'},
        )
        found = self.run_one(kernel_modules={})
        self.assertEqual((found['problems'], len(found['notices'])), ([], 5))

    def test_old_kernel_for_nftables(self):
        self.only(
            'kernel-feature',
            "has kernel 5.4.0-1; kube-proxy's nftables mode needs 5.13 or newer",
            'boot a newer kernel, or set kubeProxy.mode: iptables in the spec',
            kernel='5.4.0-1',
        )

    def test_cgroup_v1(self):
        self.only(
            'cgroup-v1',
            'uses cgroup v1, which the kubelet refuses since 1.35',
            'boot with systemd.unified_cgroup_hierarchy=1, or set kubelet.config.failCgroupV1: false in the spec',
            cgroup_version=1,
        )
        self.assertEqual(self.run_one(cgroup_version=1, requirements={'cgroup_v1_allowed': True})['problems'], [])

    def test_swap(self):
        self.assertEqual(self.run_one(swap=['/dev/sda2'])['problems'], [])
        self.only(
            'swap',
            'has swap on /dev/sda2, and hostprep.swapOff is false',
            'let hostprep switch it off (hostprep.swapOff: true), or set kubelet.config.failSwapOn: false in the spec',
            requirements={'swap_off': False},
            swap=['/dev/sda2'],
        )

    def test_requirements_as_text(self):
        text = {'cpus': '2', 'disk_gib': '10', 'master_memory_mib': '900', 'api_port': '6443', 'swap_off': 'True',
                'cgroup_v1_allowed': 'True', 'any_os': 'False'}  # fmt: skip
        self.assertEqual(self.run_one(requirements=text, cgroup_version=1, swap=['/dev/sda2'])['problems'], [])
        found = self.run_one(requirements=dict(text, swap_off='False', cgroup_v1_allowed='False'), cgroup_version=1, swap=['/x'])
        self.assertEqual([item['code'] for item in found['problems']], ['cgroup-v1', 'swap'])

    def test_other_kubernetes(self):
        self.only(
            'other-kubernetes',
            'has another Kubernetes (kubeadm): process kubelet (/usr/bin/kubelet, pid 7), /var/lib/kubelet/kubeadm-flags.env',
            'take it away with its own tool (kubeadm reset, k3s-uninstall.sh, …) or use another host',
            other_kubernetes=[
                {'kind': 'unknown', 'evidence': 'process kubelet (/usr/bin/kubelet, pid 7)'},
                {'kind': 'kubeadm', 'evidence': '/var/lib/kubelet/kubeadm-flags.env'},
            ],
        )

    def test_other_runtime(self):
        runtime = {'name': 'containerd', 'exe': '/usr/bin/containerd', 'unit': 'containerd.service', 'socket': True}
        self.only(
            'other-runtime',
            'runs a containerd of its own (/usr/bin/containerd), whose socket ours needs',
            'take it away with the package that brought it (containerd, containerd.io, docker.io)',
            other_runtime=runtime,
        )
        self.assertEqual(self.run_one(other_runtime=dict(runtime, socket=False))['problems'], [])

    def test_another_docker(self):
        runtime = {'name': 'dockerd', 'exe': '/usr/bin/dockerd', 'unit': 'docker.service', 'socket': False}
        self.assertEqual(self.run_one(other_runtime=runtime)['problems'], [])
        self.only(
            'other-runtime',
            'runs a Docker Engine of its own (/usr/bin/dockerd), whose unit and socket ours needs',
            'take it away with the package that brought it (docker-ce, docker.io)',
            {'runtime': 'docker'},
            other_runtime=runtime,
        )


class Across(unittest.TestCase):
    def run_hosts(self, **changes):
        """changes: by host name, what differs from a good host."""
        facts = {'m%d' % number: host(number, **changes.get('m%d' % number, {})) for number in (1, 2, 3)}
        hosts = {name: {'address': '10.0.0.' + name[1], 'roles': ['nodes']} for name in facts}
        return preflight.check(facts, hosts, {})

    def test_duplicates(self):
        twin = {'product_uuid': 'same', 'machine_id': 'same'}
        found = self.run_hosts(m1=twin, m3=twin)
        self.assertEqual(
            [(item['host'], item['code'], item['message']) for item in found['problems']],
            [
                ('m1', 'product-uuid-duplicate', 'has the same product_uuid as m3 (same)'),
                ('m3', 'product-uuid-duplicate', 'has the same product_uuid as m1 (same)'),
                ('m1', 'machine-id-duplicate', 'has the same machine-id as m3 (same)'),
                ('m3', 'machine-id-duplicate', 'has the same machine-id as m1 (same)'),
            ],
        )

    def test_no_uuid_is_no_duplicate(self):
        self.assertEqual(self.run_hosts(m1={'product_uuid': ''}, m2={'product_uuid': ''})['problems'], [])

    def test_mac_of_the_cluster_interface_only(self):
        def nets(number, mac, bridge):
            return {
                'eth0': {'mac': mac, 'addresses': ['10.0.0.%d' % number]},
                'docker0': {'mac': bridge, 'addresses': ['172.17.0.1']},
            }

        same = '02:42:00:00:00:01'
        found = self.run_hosts(m1={'interfaces': nets(1, 'a', same)}, m2={'interfaces': nets(2, 'b', same)})
        self.assertEqual(found['problems'], [])
        found = self.run_hosts(m1={'interfaces': nets(1, same, 'x')}, m2={'interfaces': nets(2, same, 'y')})
        self.assertEqual([item['code'] for item in found['problems']], ['mac-duplicate'] * 2)

    def clock(self, offset, uncertainty=0.2):
        return {'clock': {'epoch': 0.0, 'offset': offset, 'uncertainty': uncertainty}}

    def test_clock_ten_minutes_off(self):
        found = self.run_hosts(m2=self.clock(-600))
        self.assertEqual(
            found['problems'],
            [
                {
                    'host': 'm2',
                    'code': 'clock-skew',
                    'message': "has a clock that is 600 s behind the other hosts'",
                    'next': 'set the clock and switch on time synchronization: timedatectl set-ntp true',
                }
            ],
        )

    def test_clock_a_little_off(self):
        found = self.run_hosts(m2=self.clock(10))
        self.assertEqual((found['problems'], [item['code'] for item in found['notices']]), ([], ['clock-skew']))
        # A slow connection explains the difference.
        found = self.run_hosts(m2=self.clock(10, 8))
        self.assertEqual((found['problems'], found['notices']), ([], []))

    def test_control_machine_off(self):
        found = self.run_hosts(m1=self.clock(300), m2=self.clock(300), m3=self.clock(300))
        self.assertEqual(
            [(item['host'], item['message']) for item in found['problems']],
            [('control machine', "has a clock that is 300 s behind the hosts'")],
        )

    def test_summary(self):
        found = self.run_hosts(m2=dict(self.clock(-600), cpus=1))
        self.assertEqual(
            preflight.summary(found['problems']),
            'preflight refused 1 host, nothing was changed. m2: has 1 processor; 2 are needed; give it more processors, or '
            "lower requirements.cpus in the spec if you know better | m2: has a clock that is 600 s behind the other hosts'; "
            'set the clock and switch on time synchronization: timedatectl set-ntp true',
        )


if __name__ == '__main__':
    unittest.main()
