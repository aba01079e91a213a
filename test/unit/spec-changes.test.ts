/** What a spec may not have changed while its cluster runs. */
import { stat, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { watchDeployed } from '../../ts/commands/run/deployed.js';
import { forbiddenChanges, refuseForbiddenChanges } from '../../ts/spec/changes.js';
import { begunFacts, deployedFacts, readDeployed, removeDeployed, writeDeployed } from '../../ts/spec/deployed.js';
import { loadCluster } from '../../ts/spec/load.js';
import type { Cluster } from '../../ts/types/cluster.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

const before = exampleCluster();
const changed = (cluster: Partial<Cluster>): string[] =>
  forbiddenChanges(deployedFacts(before), exampleCluster(cluster)).map(({ path: at, message }) => {
    return `${at.join('.')}: ${message}`;
  });

describe('forbiddenChanges', () => {
  test('has nothing against the same cluster, nor against what may change', () => {
    expect(changed({})).toEqual([]);
    expect(
      changed({
        kubernetes: { ...before.kubernetes, featureGates: { SomeGate: true } },
        hosts: [
          ...before.hosts.map((host) => ({ ...host, labels: { zone: 'a' }, taints: [] })),
          exampleHost('k8snode03', '172.24.8.76', ['nodes']),
        ],
        ssh: { privateKey: '/elsewhere' },
        network: { ...before.network, nodePorts: { from: 31000, to: 31999 }, interface: 'eth1' },
        api: { ...before.api, sans: ['k8s.example.com'], externalEndpoint: 'https://k8s.example.com' },
        etcd: { ...before.etcd, quotaBytes: 4 * 1024 ** 3 },
        kubeProxy: { mode: 'iptables', scheduler: 'rr', config: { oomScoreAdj: -1 } },
        kubelet: { maxPods: 50, config: { imageGCHighThresholdPercent: 90 } },
        runtime: { ...before.runtime, registryMirrors: { 'docker.io': ['https://mirror.example.com'] } },
        audit: { ...before.audit, enabled: false },
        addons: { ...before.addons, coredns: { ...before.addons.coredns, enabled: false, replicas: 1 } },
        encryption: { provider: 'aescbc' },
        pki: { ...before.pki, certificateDays: 30 },
      }),
    ).toEqual([]);
  });

  test('says of a value what it is, what it was, why it stays and what to do', () => {
    const [change] = forbiddenChanges(deployedFacts(before), {
      ...before,
      network: { ...before.network, pods: '172.31.0.0/16' },
    });
    expect(change).toEqual({
      path: ['network', 'pods'],
      was: '172.30.0.0/16',
      is: '172.31.0.0/16',
      message:
        '"172.31.0.0/16" cannot replace "172.30.0.0/16": every node has its part of this network, ' +
        'and the running pods have addresses of it',
      hint: 'write 172.30.0.0/16 again; only a new cluster can have another',
    });
  });

  test('finds every one of them at once', () => {
    const { network, runtime } = before;
    const found = forbiddenChanges(deployedFacts(before), {
      ...before,
      name: 'other',
      kubernetes: { ...before.kubernetes, version: '1.36.5' },
      network: {
        ...network,
        pods: '172.29.0.0/16',
        services: '10.253.0.0/16',
        nodePrefix: 25,
        dnsAddress: '10.253.0.2',
        dnsDomain: 'k8s.local',
        flannel: { ...network.flannel, datastore: 'etcd', backend: 'host-gw', vni: 2 },
      },
      api: { ...before.api, port: 7443, proxyPort: 9443 },
      etcd: { ...before.etcd, dataDir: '/a', walDir: '/b' },
      runtime: { ...runtime, type: 'docker', cgroupDriver: 'cgroupfs', dataDir: '/c' },
      paths: { bin: '/d', work: '/e', data: '/f' },
    });
    expect(found.map(({ path: at }) => at.join('.'))).toEqual([
      'name',
      'network.pods',
      'network.services',
      'network.nodePrefix',
      'network.dnsAddress',
      'network.dnsDomain',
      'network.flannel.datastore',
      'network.flannel.backend',
      'network.flannel.vni',
      'api.port',
      'api.proxyPort',
      'etcd.dataDir',
      'etcd.walDir',
      'runtime.type',
      'runtime.cgroupDriver',
      'runtime.dataDir',
      'paths.bin',
      'paths.work',
      'paths.data',
      'kubernetes.version',
    ]);
    expect(found.at(-1)).toEqual({
      path: ['kubernetes', 'version'],
      was: '1.36.4',
      is: '1.36.5',
      message:
        '1.36.5 cannot replace 1.36.4 by a deploy: hosts go to another version one after another, checked and drained',
      hint: 'write 1.36.4 again, then run `k8s-ans upgrade --to 1.36.5`, which puts the version here by itself',
    });
  });

  test('refers to `node remove` for a host that is gone, renamed, moved or of another kind', () => {
    const [m1, m2, m3, n1, n2] = before.hosts as [
      Cluster['hosts'][number],
      Cluster['hosts'][number],
      Cluster['hosts'][number],
      Cluster['hosts'][number],
      Cluster['hosts'][number],
    ];
    expect(changed({ hosts: [m1, m2, m3, n1] })).toEqual([
      'hosts: k8snode02 is missing, and it is a part of the running cluster',
    ]);
    expect(changed({ hosts: [m1, m2, m3, n1, { ...n2, name: 'worker' }] })).toEqual([
      'hosts.4.name: "worker" cannot replace "k8snode02": the name is that of the Kubernetes node and of its certificates',
    ]);
    expect(changed({ hosts: [m1, m2, m3, { ...n1, address: '172.24.8.99' }, n2] })).toEqual([
      'hosts.3.address: 172.24.8.99 cannot replace 172.24.8.74: the certificates, etcd and the proxies of all hosts know k8snode01 by its address',
    ]);
    expect(changed({ hosts: [m1, m2, { ...m3, roles: ['masters'] }, n1, n2] })).toEqual([
      'hosts.2.roles: k8smaster03 cannot become masters while it is masters, etcd: what it was would go on running beside what it is',
    ]);
    // Whether a master takes workloads is a taint, and that may change.
    expect(changed({ hosts: [m1, m2, { ...m3, roles: ['masters', 'etcd', 'nodes'] }, n1, n2] })).toEqual([]);
  });

  test('masters are etcd members where the spec names no others, and stay so when it names them', () => {
    const bare = before.hosts.map((host) => ({ ...host, roles: host.roles.filter((role) => role !== 'etcd') }));
    const cluster = exampleCluster({ hosts: bare, etcdHosts: bare.slice(0, 3) });
    expect(forbiddenChanges(deployedFacts(before), cluster)).toEqual([]);
  });
});

describe('deployed.json', () => {
  const spec = (pods: string): string =>
    `name: demo\nhosts:\n  - {name: m1, address: 10.0.0.1, roles: [masters]}\nnetwork:\n  pods: ${pods}\n`;
  const homeWith = async (text: string): Promise<ClusterHome> => {
    const home = clusterHome(await temporaryFolder());
    await writeFile(home.spec, text);
    return home;
  };

  test('is private, and read again as it was written', async () => {
    const home = await homeWith(spec('172.30.0.0/16'));
    const facts = deployedFacts(await loadCluster(home));
    await writeDeployed(home, facts, 'done', new Date('2026-11-24T08:00:00Z'));
    expect((await stat(home.deployed)).mode & 0o777).toBe(0o600);
    expect(await readDeployed(home)).toMatchObject({
      version: 1,
      state: 'done',
      time: '2026-11-24T08:00:00.000Z',
      cluster: facts,
    });
    await removeDeployed(home);
    expect(await readDeployed(home)).toBeUndefined();
  });

  test.each(['{', '{"version": 2}'])('that cannot be read is an error: %s', async (text) => {
    const home = await homeWith(spec('172.30.0.0/16'));
    await writeFile(home.deployed, text);
    await expect(readDeployed(home)).rejects.toMatchObject({ code: 'deployed-unreadable', exitCode: 4 });
  });

  test('the refusal names the line of the spec', async () => {
    const home = await homeWith(spec('172.30.0.0/16'));
    await refuseForbiddenChanges(home, await loadCluster(home));
    await writeDeployed(home, deployedFacts(await loadCluster(home)), 'done');
    await refuseForbiddenChanges(home, await loadCluster(home));
    await writeFile(home.spec, spec('172.29.0.0/16'));
    const refused = refuseForbiddenChanges(home, await loadCluster(home));
    await expect(refused).rejects.toMatchObject({ code: 'spec-immutable', exitCode: 2 });
    await expect(refused).rejects.toMatchObject({
      problems: [{ line: 5, column: 9, path: 'network.pods', value: '172.29.0.0/16' }],
    });
  });

  test('what follows from a refused change is not named beside it', async () => {
    const home = await homeWith(spec('172.30.0.0/16'));
    await writeDeployed(home, deployedFacts(await loadCluster(home)), 'done');
    const paths = async (text: string): Promise<string[]> => {
      await writeFile(home.spec, text);
      return refuseForbiddenChanges(home, await loadCluster(home)).then(
        () => [],
        (error) => error.problems.map((problem: { path: string }) => problem.path),
      );
    };
    const moved = spec('172.30.0.0/16\n  services: 10.253.0.0/16');
    expect(await paths(moved)).toEqual(['network.services']);
    expect(await paths(`${moved}  dnsAddress: 10.253.0.10\n`)).toEqual(['network.services', 'network.dnsAddress']);
    expect(await paths(spec('172.30.0.0/16\n  dnsAddress: 10.254.0.10'))).toEqual(['network.dnsAddress']);
  });

  test('a command may make the change that it is there for', async () => {
    const home = await homeWith(spec('172.30.0.0/16'));
    const cluster = await loadCluster(home);
    await writeDeployed(home, { ...deployedFacts(cluster), kubernetesVersion: '1.35.4' }, 'done');
    await expect(refuseForbiddenChanges(home, cluster)).rejects.toMatchObject({ code: 'spec-immutable' });
    await refuseForbiddenChanges(home, cluster, ['kubernetes.version']);
  });

  test('a run records the hosts that it begins to change, and the whole cluster when it ends well', async () => {
    const home = await homeWith(spec('172.30.0.0/16'));
    const play = (phase: string, hosts: string[]) =>
      ({ event: 'play_start', time: 0, play: phase, phase, hosts }) as const;
    const watch = await watchDeployed(home, before);
    watch.handle(
      play(
        'preflight',
        before.hosts.map(({ name }) => name),
      ),
    );
    await watch.end(false);
    expect(await readDeployed(home)).toBeUndefined();
    watch.handle(play('hostprep', ['k8smaster01']));
    watch.handle(play('nodes', ['k8smaster01', 'k8snode01']));
    await watch.end(false);
    const begun = await readDeployed(home);
    expect(begun?.state).toBe('begun');
    expect(begun?.cluster.hosts.map(({ name }) => name)).toEqual(['k8smaster01', 'k8snode01']);
    expect(begun?.cluster.members).toEqual(['k8smaster01']);
    await watch.end(true);
    expect(await readDeployed(home)).toMatchObject({ state: 'done', cluster: deployedFacts(before) });
  });

  test('a run on some hosts leaves the others recorded as they were', () => {
    const moved = exampleCluster({ hosts: before.hosts.map((host) => ({ ...host, address: `9${host.address}` })) });
    const facts = begunFacts(deployedFacts(before), moved, new Set(['k8snode01']));
    expect(facts.hosts.map(({ address }) => address)).toEqual([
      '172.24.8.71',
      '172.24.8.72',
      '172.24.8.73',
      '9172.24.8.74',
      '172.24.8.75',
    ]);
  });
});
