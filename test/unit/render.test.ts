import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { renderCluster } from '../../ts/render/render.js';
import { writeRendered } from '../../ts/render/write.js';
import { ansibleYaml } from '../../ts/render/yaml.js';
import { parseSpec } from '../../ts/spec/load.js';
import { resolveCluster } from '../../ts/spec/resolve.js';
import type { Cluster } from '../../ts/types/cluster.js';
import { clusterHome } from '../../ts/types/home.js';
import { testAnsible } from './ansible.js';

const fixtures = path.join(import.meta.dirname, '../fixtures');

function cluster(name: string): Cluster {
  const parsed = parseSpec(readFileSync(path.join(fixtures, `specs/good/${name}.yaml`), 'utf8'), name);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return resolveCluster(parsed.spec, '/home/user/inventory/demo');
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'k8s-ans-render-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('renderCluster', () => {
  it.each(['guide', 'full', 'minimal'])('renders %s to the byte', async (name) => {
    for (const [file, content] of renderCluster(cluster(name))) {
      await expect(content).toMatchFileSnapshot(path.join(fixtures, 'render', name, file));
    }
  });

  it('does not depend on the order in which mappings are written', () => {
    const one = cluster('full');
    const reversed = <T extends object>(value: T): T => Object.fromEntries(Object.entries(value).reverse()) as T;
    const other: Cluster = {
      ...one,
      kubernetes: { ...one.kubernetes, featureGates: reversed(one.kubernetes.featureGates) },
      kubelet: { ...one.kubelet, config: reversed(one.kubelet.config) },
      hostprep: { ...one.hostprep, sysctls: reversed(one.hostprep.sysctls) },
      runtime: { ...one.runtime, registryMirrors: reversed(one.runtime.registryMirrors) },
      hosts: one.hosts.map((host) => ({ ...host, labels: reversed(host.labels), vars: reversed(host.vars) })),
    };
    expect(renderCluster(other)).toEqual(renderCluster(one));
  });

  it('has no template but the three on purpose, and marks those of the user as unsafe', () => {
    const files = renderCluster(cluster('full'));
    const lines = [...files.values()]
      .join('')
      .split('\n')
      .filter((line) => line.includes('{{'));
    expect(lines.map((line) => line.trim())).toEqual([
      'greeting: !unsafe "{{ not a template }}"',
      'k8s_pki_dir: "{{ inventory_dir }}/pki"',
      'k8s_trust_dir: "{{ inventory_dir }}/pki/trust"',
      'k8s_environment_file: "{{ inventory_dir }}/environment.sh"',
    ]);
  });

  it('puts every host into all, and into its groups', () => {
    const inventory = parse(renderCluster(cluster('guide')).get('hosts.yml') ?? '');
    expect(Object.keys(inventory.all.hosts)).toEqual(cluster('guide').hosts.map(({ name }) => name));
    const { masters, nodes, etcd } = inventory.all.children.k8s.children;
    expect(Object.keys(masters.hosts)).toEqual(['k8smaster01', 'k8smaster02', 'k8smaster03']);
    expect(Object.keys(nodes.hosts)).toEqual(['k8snode01', 'k8snode02']);
    expect(Object.keys(etcd.hosts)).toEqual(['k8smaster01', 'k8smaster02', 'k8smaster03']);
  });
});

describe('the inventory', () => {
  it.each(['guide', 'full', 'minimal'])(
    'of %s is accepted by ansible-inventory',
    { timeout: 300_000 },
    async (name) => {
      const spec = cluster(name);
      const home = clusterHome(path.join(folder, name));
      await writeRendered(home, renderCluster(spec));
      const ansible = await testAnsible();
      const { stdout, stderr } = await execa(
        path.join(path.dirname(ansible.playbook), 'ansible-inventory'),
        ['-i', home.inventory, '--list'],
        { env: { ANSIBLE_CONFIG: ansible.config, ANSIBLE_COLLECTIONS_PATH: ansible.collections, LC_ALL: 'C.UTF-8' } },
      );
      expect(stderr).toBe('');
      const list = JSON.parse(stdout) as Record<string, { hosts?: string[]; children?: string[] }> & {
        _meta: { hostvars: Record<string, Record<string, unknown>> };
      };
      const names = (role: string): string[] =>
        spec.hosts.filter((host) => host.roles.some((own) => own === role)).map((host) => host.name);
      expect(list.masters?.hosts).toEqual(names('masters'));
      expect(list.k8s?.children?.slice().sort()).toEqual(['etcd', 'masters', 'nodes']);
      for (const host of spec.hosts) {
        expect(list._meta.hostvars[host.name]).toMatchObject({
          ansible_host: host.address,
          k8s_cluster_name: spec.name,
          k8s_version: spec.kubernetes.version,
        });
      }
    },
  );
});

describe('ansibleYaml', () => {
  it('quotes what YAML 1.1 would read otherwise', () => {
    expect(ansibleYaml({ a: 'yes', b: 'off', c: '1.36', d: '0123', e: '12:30', f: '~', g: '1_000' })).toBe(
      'a: "yes"\nb: "off"\nc: "1.36"\nd: "0123"\ne: "12:30"\nf: "~"\ng: "1_000"\n',
    );
  });

  it('writes the same list twice, without anchors', () => {
    const list = [{ x: 1 }];
    expect(ansibleYaml({ a: list, b: list })).not.toMatch(/[&*]/);
  });
});

describe('environment.sh', () => {
  it('can be sourced by bash and has all variables of the guide', async () => {
    const file = path.join(folder, 'environment.sh');
    writeFileSync(file, renderCluster(cluster('guide')).get('environment.sh') ?? '');
    const names = [
      ...['ETCD_ENDPOINTS', 'ETCD_NODES', 'KUBE_APISERVER', 'IFACE', 'ETCD_DATA_DIR', 'ETCD_WAL_DIR', 'K8S_DIR'],
      ...['DOCKER_DIR', 'SERVICE_CIDR', 'CLUSTER_CIDR', 'NODE_PORT_RANGE', 'FLANNEL_ETCD_PREFIX'],
      ...['CLUSTER_KUBERNETES_SVC_IP', 'CLUSTER_DNS_SVC_IP', 'CLUSTER_DNS_DOMAIN', 'PATH'],
    ];
    const arrays = ['MASTER_IPS', 'MASTER_NAMES', 'NODE_IPS', 'NODE_NAMES', 'ALL_IPS', 'ALL_NAMES'];
    const commands = [
      'set -eu',
      `source ${file}`,
      ...arrays.map((name) => `echo "${name}=\${#${name}[@]}:\${${name}[*]}"`),
      ...names.map((name) => `echo "${name}=$${name}"`),
      `echo "secrets=\${ENCRYPTION_KEY-none},\${BOOTSTRAP_TOKEN-none}"`,
    ];
    const { stdout } = await execa('bash', ['--norc', '--noprofile', '-c', commands.join('\n')], {
      env: { PATH: '/usr/bin:/bin' },
      extendEnv: false,
    });
    expect(stdout.split('\n')).toEqual([
      'MASTER_IPS=3:172.24.8.71 172.24.8.72 172.24.8.73',
      'MASTER_NAMES=3:k8smaster01 k8smaster02 k8smaster03',
      'NODE_IPS=2:172.24.8.74 172.24.8.75',
      'NODE_NAMES=2:k8snode01 k8snode02',
      'ALL_IPS=5:172.24.8.71 172.24.8.72 172.24.8.73 172.24.8.74 172.24.8.75',
      'ALL_NAMES=5:k8smaster01 k8smaster02 k8smaster03 k8snode01 k8snode02',
      'ETCD_ENDPOINTS=https://172.24.8.71:2379,https://172.24.8.72:2379,https://172.24.8.73:2379',
      'ETCD_NODES=k8smaster01=https://172.24.8.71:2380,k8smaster02=https://172.24.8.72:2380,k8smaster03=https://172.24.8.73:2380',
      'KUBE_APISERVER=https://127.0.0.1:8443',
      'IFACE=eth0',
      'ETCD_DATA_DIR=/data/k8s/etcd/data',
      'ETCD_WAL_DIR=/data/k8s/etcd/wal',
      'K8S_DIR=/data/k8s/k8s',
      'DOCKER_DIR=/data/k8s/containerd',
      'SERVICE_CIDR=10.254.0.0/16',
      'CLUSTER_CIDR=172.30.0.0/16',
      'NODE_PORT_RANGE=30000-32767',
      'FLANNEL_ETCD_PREFIX=/kubernetes/network',
      'CLUSTER_KUBERNETES_SVC_IP=10.254.0.1',
      'CLUSTER_DNS_SVC_IP=10.254.0.2',
      'CLUSTER_DNS_DOMAIN=cluster.local',
      'PATH=/opt/k8s/bin:/usr/bin:/bin',
      'secrets=none,none',
    ]);
  });
});

describe('writeRendered', () => {
  const mode = (file: string): string => (statSync(file).mode & 0o777).toString(8);

  it('writes what differs, and says so', async () => {
    const home = clusterHome(path.join(folder, 'demo'));
    const files = renderCluster(cluster('guide'));
    expect(await writeRendered(home, files)).toEqual(['environment.sh', 'group_vars/all.yml', 'hosts.yml']);
    const before = statSync(home.inventory).mtimeMs;
    expect(await writeRendered(home, files)).toEqual([]);
    expect(statSync(home.inventory).mtimeMs).toBe(before);
    writeFileSync(home.environment, 'changed\n');
    expect(await writeRendered(home, files)).toEqual(['environment.sh']);
    expect(readFileSync(home.environment, 'utf8')).toBe(files.get('environment.sh'));
  });

  it('keeps the files to their owner, also those that are there', async () => {
    const home = clusterHome(path.join(folder, 'demo'));
    const files = renderCluster(cluster('guide'));
    await writeRendered(home, files);
    chmodSync(home.inventory, 0o644);
    chmodSync(home.groupVars, 0o755);
    await writeRendered(home, files);
    expect([mode(home.root), mode(home.groupVars)]).toEqual(['700', '700']);
    for (const file of [home.inventory, home.environment, path.join(home.groupVars, 'all.yml')]) {
      expect(mode(file)).toBe('600');
    }
  });
});
