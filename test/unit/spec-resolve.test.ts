import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { parseSpec } from '../../ts/spec/load.js';
import { resolveCluster } from '../../ts/spec/resolve.js';
import { jsonSchema } from '../../ts/spec/schema.js';
import { defaultVersion, minorOf, supportedMinors } from '../../ts/spec/versions.js';
import type { Cluster } from '../../ts/types/cluster.js';

const folder = path.join(import.meta.dirname, '../fixtures/specs/good');

function resolved(name: string): Cluster {
  const parsed = parseSpec(readFileSync(path.join(folder, `${name}.yaml`), 'utf8'), name);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return resolveCluster(parsed.spec, '/home/user/inventory/demo');
}

describe('resolveCluster', () => {
  it("gives the guide's cluster the guide's values", () => {
    const cluster = resolved('guide');
    const { hosts, masters, nodes, etcdHosts, ...rest } = cluster;
    expect(masters.map(({ name }) => name)).toEqual(['k8smaster01', 'k8smaster02', 'k8smaster03']);
    expect(nodes.map(({ name }) => name)).toEqual(['k8snode01', 'k8snode02']);
    expect(etcdHosts).toEqual(masters);
    expect(hosts[0]).toEqual({
      name: 'k8smaster01',
      address: '172.24.8.71',
      roles: ['masters'],
      ssh: { user: 'root', port: 22 },
      labels: {},
      taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }],
      vars: {},
    });
    expect(hosts[4]).toMatchObject({ name: 'k8snode02', roles: ['nodes'], taints: [] });
    expect(rest).toEqual({
      name: 'guide',
      kubernetes: { version: '1.36.4', minor: '1.36', featureGates: {} },
      ssh: { privateKey: undefined, knownHosts: undefined, extraArgs: undefined },
      network: {
        pods: '172.30.0.0/16',
        services: '10.254.0.0/16',
        nodePrefix: 24,
        apiServiceAddress: '10.254.0.1',
        dnsAddress: '10.254.0.2',
        dnsDomain: 'cluster.local',
        nodePorts: { from: 30000, to: 32767 },
        interface: 'eth0',
        flannel: {
          datastore: 'kubernetes',
          backend: 'vxlan',
          etcdPrefix: '/kubernetes/network',
          vni: 1,
          port: 8472,
        },
      },
      api: {
        port: 6443,
        proxyPort: 8443,
        localEndpoint: 'https://127.0.0.1:8443',
        externalEndpoint: 'https://172.24.8.71:6443',
        sans: [
          'kubernetes',
          'kubernetes.default',
          'kubernetes.default.svc',
          'kubernetes.default.svc.cluster.local',
          'localhost',
          '127.0.0.1',
          '10.254.0.1',
        ],
      },
      etcd: {
        endpoints: 'https://172.24.8.71:2379,https://172.24.8.72:2379,https://172.24.8.73:2379',
        initialCluster:
          'k8smaster01=https://172.24.8.71:2380,k8smaster02=https://172.24.8.72:2380,k8smaster03=https://172.24.8.73:2380',
        dataDir: '/data/k8s/etcd/data',
        walDir: '/data/k8s/etcd/wal',
        quotaBytes: 8 * 1024 ** 3,
        backup: { enabled: false, schedule: 'daily', keep: 7, directory: '/data/k8s/etcd/backup' },
      },
      kubeProxy: { mode: 'nftables', scheduler: 'rr', config: {} },
      kubelet: { maxPods: 110, config: {} },
      runtime: {
        type: 'containerd',
        cgroupDriver: 'systemd',
        dataDir: '/data/k8s/containerd',
        restrictOomScoreAdj: false,
        registryMirrors: {},
      },
      paths: { bin: '/opt/k8s/bin', work: '/opt/k8s/work', data: '/data/k8s/k8s' },
      hostprep: {
        firewall: 'configure',
        selinux: 'permissive',
        swapOff: true,
        packages: true,
        disableIpv6: false,
        sysctls: {},
        timeSync: true,
      },
      pki: { caDays: 3650, certificateDays: 365, keyBits: 2048 },
      encryption: { provider: 'secretbox' },
      audit: { enabled: true, maxAgeDays: 30, maxBackups: 10, maxSizeMiB: 100, policyFile: undefined },
      addons: {
        coredns: { enabled: true, replicas: 2, nodeCache: { enabled: false, address: '169.254.20.10' } },
        metricsServer: { enabled: false, replicas: 1 },
        localPath: { enabled: false, directory: '/data/k8s/volumes', className: 'local-path', defaultClass: true },
        registry: { enabled: false, name: 'registry.cluster.local', nodePort: 30500, size: '20Gi' },
        dashboard: {
          enabled: false,
          access: 'portForward',
          nodePort: 30443,
          adminAccount: true,
          viewerAccount: true,
          sessionHours: 24,
        },
        logging: {
          enabled: false,
          collector: 'fluentd',
          replicas: 1,
          memory: '2Gi',
          size: '30Gi',
          retentionDays: 7,
          access: 'portForward',
          nodePort: 30601,
        },
      },
      artifacts: { source: { kind: 'auto' } },
      requirements: { masterMemoryMiB: 1700, nodeMemoryMiB: 900, cpus: 2, diskGiB: 10 },
    });
  });

  it('lets a host that is master and node take workloads', () => {
    const cluster = resolved('minimal');
    expect(cluster.hosts[0]?.taints).toEqual([]);
    expect(cluster.masters).toEqual(cluster.hosts);
    expect(cluster.nodes).toEqual(cluster.hosts);
    expect(cluster.etcd.initialCluster).toBe('one=https://192.0.2.11:2380');
  });

  it('takes every field from a full spec', () => {
    const cluster = resolved('full');
    expect(cluster.ssh).toEqual({
      privateKey: '/home/user/inventory/demo/keys/id_ed25519',
      knownHosts: '/etc/k8s-ans/known hosts',
      extraArgs: '-J bastion.example.com',
    });
    expect(cluster.hosts.map(({ name, ssh, taints }) => [name, ssh.user, ssh.port, taints.length])).toEqual([
      ['m1.example.com', 'admin', 2222, 0],
      ['e1.example.com', 'root', 22, 0],
      ['w1.example.com', 'admin', 2222, 2],
    ]);
    expect(cluster.etcdHosts.map(({ name }) => name)).toEqual(['e1.example.com']);
    expect(cluster.network).toMatchObject({ apiServiceAddress: '10.96.0.1', dnsAddress: '10.96.0.10' });
    expect(cluster.api).toEqual({
      port: 7443,
      proxyPort: 9443,
      localEndpoint: 'https://127.0.0.1:9443',
      externalEndpoint: 'https://api.example.com',
      sans: [
        'kubernetes',
        'kubernetes.default',
        'kubernetes.default.svc',
        'kubernetes.default.svc.k8s.example.com',
        'localhost',
        '127.0.0.1',
        '10.96.0.1',
        'api.example.com',
        '198.51.100.7',
        '*.api.example.com',
      ],
    });
    expect(cluster.hostprep.sysctls).toEqual({ 'vm.max_map_count': '262144', 'net.core.somaxconn': '4096' });
    expect(cluster.audit.policyFile).toBe('/home/user/inventory/demo/policy.yaml');
    expect(cluster.artifacts).toEqual({
      source: { kind: 'directory', path: '/home/user/inventory/artifacts' },
      imageRegistry: 'registry.example.com/mirror',
    });
    expect(cluster.encryption.provider).toBe('none');
  });
});

describe("CoreDNS's replicas", () => {
  const replicas = (nodes: number, coredns: object = {}): number => {
    const hosts = Array.from({ length: nodes }, (_, index) => ({
      name: `n${index}`,
      address: `10.0.0.${index + 1}`,
      roles: [index === 0 ? 'masters' : 'nodes'],
    }));
    const parsed = parseSpec(stringify({ name: 'many', hosts, addons: { coredns } }), 'many.yaml');
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    return resolveCluster(parsed.spec, '/').addons.coredns.replicas;
  };

  it('grow with the cluster, one for each 16 nodes', () => {
    expect([1, 32, 33, 48, 49].map((nodes) => replicas(nodes))).toEqual([2, 2, 3, 3, 4]);
  });

  it('grow otherwise, or not, as the spec says', () => {
    expect(replicas(33, { nodesPerReplica: 8 })).toBe(5);
    expect(replicas(33, { nodesPerReplica: 0 })).toBe(2);
    expect(replicas(33, { replicas: 4 })).toBe(4);
  });
});

describe('jsonSchema', () => {
  it('describes every field', () => {
    const bare: string[] = [];
    const visit = (schema: Record<string, unknown>, at: string): void => {
      if (at !== '' && schema.description === undefined) bare.push(at);
      const properties = (schema.properties ?? {}) as Record<string, Record<string, unknown>>;
      for (const [name, inner] of Object.entries(properties)) visit(inner, `${at}.${name}`);
      const items = schema.items as Record<string, unknown> | undefined;
      if (items?.properties !== undefined) visit({ description: '', ...items }, `${at}[]`);
    };
    visit(jsonSchema(), '');
    expect(bare).toEqual([]);
  });

  it('asks for name and hosts only, and refuses other keys', () => {
    expect(jsonSchema()).toMatchObject({ required: ['name', 'hosts'], additionalProperties: false });
  });
});

describe('versions', () => {
  it('has a default that can be deployed', () => {
    expect(supportedMinors).toContain(minorOf(defaultVersion));
  });

  it("are those of the catalog's lanes", () => {
    const catalog = parse(readFileSync(path.join(import.meta.dirname, '../../artifacts/catalog.yaml'), 'utf8'));
    expect(Object.keys(catalog.lanes)).toEqual(supportedMinors);
    expect(catalog.lanes[catalog.default].kubernetes).toBe(defaultVersion);
  });
});
