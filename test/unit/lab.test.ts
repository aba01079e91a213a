/** The lab's plans: addresses, containers, the image's recipe, the spec. No engine is needed. */
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { engineConfig, engineFolder, mountPoints } from '../../ts/lab/engine.js';
import { baseRecipe, finishScript, imageName, mirrorIn } from '../../ts/lab/image.js';
import { remoteCommand } from '../../ts/lab/index.js';
import { type MachineFacts, readProbe } from '../../ts/lab/machine.js';
import { nodeRows } from '../../ts/lab/nodes.js';
import {
  capabilityNames,
  hostArgs,
  networkArgs,
  overlapping,
  type PlannedHost,
  planLab,
  privileges,
} from '../../ts/lab/plan.js';
import { asRoot } from '../../ts/lab/root.js';
import { labSpec, specHosts, withHosts } from '../../ts/lab/spec.js';
import { knownHosts, sshArgs } from '../../ts/lab/ssh.js';
import { labHome } from '../../ts/lab/state.js';
import { parseSpec } from '../../ts/spec/load.js';

const options = { name: 'lab', masters: 3, nodes: 2, subnet: '172.24.8.0/24' };
const restricted: MachineFacts = {
  privilege: { kind: 'capabilities', names: ['CHOWN', 'SYS_ADMIN'] },
  cgroupVersion: 1,
  swap: true,
  cpus: 2,
  memoryMiB: 8000,
  sysResource: false,
  sysctls: {},
};
const ordinary: MachineFacts = {
  ...restricted,
  privilege: { kind: 'privileged' },
  cgroupVersion: 2,
  swap: false,
  sysResource: true,
};

describe('plan', () => {
  test("three masters and two nodes have the guide's names and addresses", () => {
    const plan = planLab(options);
    expect(plan.hosts.map(({ name, address, role }) => `${name} ${address} ${role}`)).toEqual([
      'k8smaster01 172.24.8.71 masters',
      'k8smaster02 172.24.8.72 masters',
      'k8smaster03 172.24.8.73 masters',
      'k8snode01 172.24.8.74 nodes',
      'k8snode02 172.24.8.75 nodes',
    ]);
    expect(plan.network).toEqual({
      name: 'k8s-ans-lab',
      subnet: '172.24.8.0/24',
      gateway: '172.24.8.1',
      nowhere: '172.24.8.254',
    });
  });

  test('a host keeps its address when the lab grows, and no two share one', () => {
    const small = planLab({ ...options, masters: 1, nodes: 1 });
    const large = planLab({ ...options, masters: 7, nodes: 60 });
    for (const host of small.hosts.filter(({ role }) => role === 'masters')) expect(large.hosts).toContainEqual(host);
    expect(planLab(options).hosts).toContainEqual(small.hosts[1]);
    expect(new Set(large.hosts.map(({ address }) => address)).size).toBe(67);
  });

  test('spares are in no spec, and keep their addresses when the lab grows', () => {
    const plan = planLab({ ...options, spares: 2 });
    expect(plan.hosts.slice(5).map(({ name, address, role }) => `${name} ${address} ${role}`)).toEqual([
      'k8sspare01 172.24.8.201 spares',
      'k8sspare02 172.24.8.202 spares',
    ]);
    expect(planLab({ ...options, nodes: 9, spares: 2 }).hosts.slice(-2)).toEqual(plan.hosts.slice(-2));
    expect(specHosts(plan)).toEqual(specHosts(planLab(options)));
    expect(labSpec(plan, ordinary)).toBe(labSpec(planLab(options), ordinary));
  });

  test.each([
    [{ spares: 51 }, '--spares is 51'],
    [{ masters: 0 }, '--masters is 0'],
    [{ masters: 2.5 }, '--masters is 2.5'],
    [{ nodes: -1 }, '--nodes is -1'],
    [{ masters: 90, nodes: 100 }, '90 masters and 100 nodes are too many'],
    [{ subnet: '172.24.8.0' }, '--subnet is 172.24.8.0'],
    [{ subnet: '172.24.8.0/28' }, '--subnet is 172.24.8.0/28'],
    [{ name: 'Lab_1' }, 'a lab cannot be named "Lab_1"'],
    [{ name: '../x' }, 'a lab cannot be named "../x"'],
  ])('%j is refused', (change, message) => {
    expect(() => planLab({ ...options, ...change })).toThrow(
      expect.objectContaining({ message, exitCode: 2, code: 'lab-options' }),
    );
  });

  test.each([
    ['172.24.8.0/24', '172.24.8.0/24'],
    ['172.24.0.0/16', '172.24.0.0/16'],
    ['172.24.8.128/25', '172.24.8.128/25'],
    ['172.24.8.9', '172.24.8.9'],
    ['172.24.9.0/24', undefined],
    ['default', undefined],
    ['broken', undefined],
  ])('a route to %s', (destination, expected) => {
    expect(overlapping('172.24.8.0/24', [{ destination, device: 'eth1' }])?.destination).toBe(expected);
  });
});

describe('containers', () => {
  test('capabilities are read from the bounding set', () => {
    expect(capabilityNames('0')).toEqual([]);
    expect(capabilityNames('1')).toEqual(['CHOWN']);
    expect(capabilityNames('1ffffffffff')).toHaveLength(41);
    const names = capabilityNames('000001fffeffffff');
    expect(names).not.toContain('SYS_RESOURCE');
    expect(names).toHaveLength(40);
  });

  test('the most privilege is tried first, and old engines are not asked for what they do not know', () => {
    const [first, second, third] = privileges('000001fffeffffff');
    expect(first).toEqual({ kind: 'privileged' });
    expect(second).toMatchObject({ names: expect.arrayContaining(['BPF', 'SYS_ADMIN']) });
    expect(third).toMatchObject({ names: expect.not.arrayContaining(['BPF', 'PERFMON', 'CHECKPOINT_RESTORE']) });
  });

  test('a host is a container with an address, an identity and volumes of its own', () => {
    const plan = planLab(options);
    const identity = { machineId: 'm', productUuid: 'u', authorizedKey: 'ssh-ed25519 AAAA lab' };
    const args = hostArgs(plan, plan.hosts[0] as PlannedHost, identity, 'image:1', { kind: 'privileged' }, 'c0ffee');
    const line = args.join(' ');
    expect(line).toMatch(/^run --detach --name lab-k8smaster01 --hostname k8smaster01 /);
    expect(line).toContain('--network k8s-ans-lab --ip 172.24.8.71 --privileged --cgroupns=private');
    expect(line).toContain('--volume /var --volume /data');
    expect(line).toContain('--label k8s-ans.lab=lab --label k8s-ans.lab.config=c0ffee');
    expect(args).toContain('K8S_LAB_AUTHORIZED_KEY=ssh-ed25519 AAAA lab');
    expect(args.slice(-2)).toEqual(['image:1', '/usr/local/sbin/k8s-lab-init']);
    const bare = hostArgs(plan, plan.hosts[0] as PlannedHost, identity, 'i', restricted.privilege, 'c').join(' ');
    expect(bare).not.toContain('--privileged');
    expect(bare).toContain('--cap-add CHOWN --cap-add SYS_ADMIN --security-opt seccomp=unconfined');
  });

  test("the lab's network leads nowhere", () => {
    expect(networkArgs('lab', planLab(options).network).join(' ')).toBe(
      'network create --internal --label k8s-ans.lab=lab --subnet 172.24.8.0/24 --gateway 172.24.8.1 k8s-ans-lab',
    );
  });
});

describe('engine', () => {
  test('an engine of our own touches no firewall and makes no bridge', () => {
    const folder = engineFolder('/home/u/.cache/k8s-ans');
    expect(folder.socket).toBe('/home/u/.cache/k8s-ans/engine/docker.sock');
    expect(engineConfig(folder, 1000)).toMatchObject({
      bridge: 'none',
      iptables: false,
      ip6tables: false,
      'ip-forward': false,
      group: '1000',
      hosts: ['unix:///home/u/.cache/k8s-ans/engine/docker.sock'],
    });
  });

  test('a cache folder with a long path has its sockets elsewhere', () => {
    const folder = engineFolder(`/home/${'long/'.repeat(30)}`);
    expect(folder.socket).toMatch(/^\/run\/k8s-ans-[0-9a-f]{8}\/docker\.sock$/);
    expect(folder.data).toContain('/long/');
  });

  test('mount points with blanks', () => {
    const text = '36 35 0:3 / /mnt/a\\040b rw - ext4 /dev/x rw\n37 35 0:4 / /data rw - tmpfs t rw\n';
    expect(mountPoints(text)).toEqual(['/mnt/a b', '/data']);
  });

  test('root is asked for only by others', () => {
    expect(asRoot(['kill', '1'], 0)).toEqual(['kill', '1']);
    expect(asRoot(['kill', '1'], 1000)).toEqual(['sudo', 'kill', '1']);
  });
});

describe('image', () => {
  test('its name changes with its recipe and architecture', async () => {
    const recipe = await baseRecipe();
    const name = imageName(recipe, 'x64');
    expect(name).toMatch(/^k8s-ans-lab:bookworm-[0-9a-f]{12}$/);
    expect(imageName(recipe, 'x64')).toBe(name);
    expect(imageName(recipe, 'arm64')).not.toBe(name);
    expect(imageName({ ...recipe, packages: [...recipe.packages, 'vim'] }, 'x64')).not.toBe(name);
  });

  test('its shell scripts are well-formed', async () => {
    const recipe = await baseRecipe();
    await execa('sh', ['-n'], { input: finishScript(recipe) });
    await execa('sh', ['-n'], { input: recipe.files['/usr/local/sbin/k8s-lab-init']?.text ?? '' });
    expect(recipe.files['/usr/local/sbin/k8s-lab-init']?.text).toMatch(/^#!\/bin\/sh\n/);
  });

  test.each([
    ['one line', 'deb http://mirror.example/debian bookworm main contrib\n', 'http://mirror.example/debian'],
    [
      'options',
      'deb [signed-by=/x.gpg arch=amd64] https://m.example/debian/ trixie main\n',
      'https://m.example/debian/',
    ],
    [
      'deb822',
      'Types: deb deb-src\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n',
      'http://m.example/debian',
    ],
    ['a comment', '# deb http://m.example/debian bookworm main\n', undefined],
    ['security updates', 'deb http://m.example/debian-security bookworm-security main\n', undefined],
    ['Ubuntu', 'Types: deb\nURIs: http://m.example/ubuntu\nSuites: noble\nComponents: main universe\n', undefined],
    ['sources only', 'Types: deb-src\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n', undefined],
    [
      'the second stanza',
      'Types: deb\nURIs: https://x.example/node\nSuites: a\nComponents: main\n\nTypes: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n',
      'http://m.example/debian',
    ],
  ])('the mirror in sources.list: %s', (_, text, expected) => {
    expect(mirrorIn(text)).toBe(expected);
  });
});

describe('machine', () => {
  test('the probe is read', () => {
    const text = [
      'CapBnd:\t000001fffeffffff',
      'Cgroup: 1',
      'Swaps: 1',
      'Cpus: 2',
      'MemTotal:       24683656 kB',
      'fs.inotify.max_user_instances: 128',
      'kernel.panic: ',
    ].join('\n');
    expect(readProbe(text, { kind: 'privileged' })).toEqual({
      privilege: { kind: 'privileged' },
      cgroupVersion: 1,
      swap: true,
      cpus: 2,
      memoryMiB: 24105,
      sysResource: false,
      sysctls: { 'fs.inotify.max_user_instances': '128' },
    });
    expect(readProbe('CapBnd: 1ffffffffff\nCgroup: 2\nSwaps: 0', { kind: 'privileged' })).toMatchObject({
      cgroupVersion: 2,
      swap: false,
      sysResource: true,
    });
  });
});

describe('spec', () => {
  test.each([
    ['restricted', restricted],
    ['ordinary', ordinary],
  ])('what is written for the %s machine is valid', (_, facts) => {
    expect(parseSpec(labSpec(planLab(options), facts), 'cluster.yaml')).toMatchObject({ ok: true });
  });

  test('a restricted machine gets what it needs, with the reason; an ordinary one does not', () => {
    const text = labSpec(planLab(options), restricted);
    expect(parse(text)).toMatchObject({
      kubelet: { config: { failCgroupV1: false, failSwapOn: false } },
      runtime: { cgroupDriver: 'cgroupfs', restrictOomScoreAdj: true },
      kubeProxy: { config: { conntrack: { maxPerCore: 0 } } },
    });
    expect(text).toContain('    # This machine has cgroup v1.\n    failCgroupV1: false\n');
    expect(text).toContain('# Processes here lack CAP_SYS_RESOURCE.\n');
    const plain = parse(labSpec(planLab(options), ordinary));
    expect(plain.runtime).toEqual({ cgroupDriver: 'systemd' });
    expect(plain.kubelet.config).not.toHaveProperty('failCgroupV1');
  });

  test('other hosts are put into a spec, and what a person changed in it stays', () => {
    const text = labSpec(planLab(options), ordinary)
      .replace('cpus: 1', 'cpus: 1 # mine')
      .replace('    address: 172.24.8.71\n', '    address: 172.24.8.71\n    labels: {rack: a}\n');
    expect(withHosts(text, planLab(options))).toBeUndefined();
    const changed = withHosts(text, planLab({ ...options, nodes: 3 })) ?? '';
    expect(changed).toContain('cpus: 1 # mine');
    expect(parse(changed).hosts).toHaveLength(6);
    expect(parse(changed).hosts[0].labels).toEqual({ rack: 'a' });
    expect(parseSpec(changed, 'cluster.yaml')).toMatchObject({ ok: true });
    expect(withHosts('hosts: [', planLab(options))).toBeUndefined();
  });
});

describe('ssh', () => {
  test('host keys are pinned by name and address', () => {
    const key = 'ssh-ed25519 AAAAC3Nz root@k8smaster01\n';
    expect(knownHosts([{ name: 'k8smaster01', address: '172.24.8.71', key }])).toBe(
      'k8smaster01,172.24.8.71 ssh-ed25519 AAAAC3Nz\n',
    );
  });

  test('host keys are checked', () => {
    const args = sshArgs(labHome('/w', 'lab'), '172.24.8.71').join(' ');
    expect(args).toContain('-o StrictHostKeyChecking=yes');
    expect(args).toContain('-o UserKnownHostsFile="/w/inventory/lab/ssh/known_hosts"');
  });

  test('a command keeps its words; one word alone is a line for the shell', () => {
    expect(remoteCommand(['echo', 'a b', "it's", 'x=1'])).toBe(`echo 'a b' 'it'\\''s' x=1`);
    expect(remoteCommand(['echo $HOSTNAME | cat'])).toBe('echo $HOSTNAME | cat');
  });
});

test('nodes as the API lists them', () => {
  const node = (name: string, status: string, labels?: Record<string, string>) => ({
    metadata: { name, ...(labels ? { labels } : {}) },
    status: {
      conditions: [
        { type: 'MemoryPressure', status: 'False' },
        { type: 'Ready', status },
      ],
      addresses: [
        { type: 'Hostname', address: name },
        { type: 'InternalIP', address: '172.24.8.71' },
      ],
      nodeInfo: { kubeletVersion: 'v1.36.4', containerRuntimeVersion: 'containerd://2.3.0' },
    },
  });
  const rows = nodeRows({
    items: [
      node('k8snode01', 'Unknown'),
      node('k8smaster01', 'True', { 'node-role.kubernetes.io/control-plane': '', x: 'y' }),
    ],
  });
  expect(rows.map(({ name, ready, roles }) => ({ name, ready, roles }))).toEqual([
    { name: 'k8smaster01', ready: true, roles: 'control-plane' },
    { name: 'k8snode01', ready: false, roles: '-' },
  ]);
});
