import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  enterHost,
  etcdNotice,
  knownHost,
  parseLabel,
  parseTaint,
  refuseRemoval,
  unknownHost,
} from '../../ts/commands/node/hosts.js';
import { leaveError } from '../../ts/commands/node/remove.js';
import { duration } from '../../ts/commands/node.js';
import { renderCluster } from '../../ts/render/render.js';
import { deployedFacts, factsWithout } from '../../ts/spec/deployed.js';
import { draftSpec, editSpec, removeHost } from '../../ts/spec/edit.js';
import { loadCluster } from '../../ts/spec/load.js';
import type { Cluster } from '../../ts/types/cluster.js';
import { ExitCode } from '../../ts/types/errors.js';
import type { ResultEvent } from '../../ts/types/events.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';

const nothing = { labels: {}, taints: [] };
const code = (expected: string) => expect.objectContaining({ code: expected });

describe('the words of node add', () => {
  it('are labels and taints as kubectl writes them', () => {
    expect(parseLabel('disk=fast')).toEqual(['disk', 'fast']);
    expect(parseLabel('example.com/x=')).toEqual(['example.com/x', '']);
    expect(() => parseLabel('disk')).toThrow(code('usage'));
    expect(parseTaint('example.com/gpu=yes:NoSchedule')).toEqual({
      key: 'example.com/gpu',
      value: 'yes',
      effect: 'NoSchedule',
    });
    expect(parseTaint('gpu:NoExecute')).toEqual({ key: 'gpu', effect: 'NoExecute' });
    expect(() => parseTaint('gpu:Never')).toThrow(code('usage'));
  });

  it('are durations', () => {
    expect([duration('90'), duration('90s'), duration('5m'), duration('1h')]).toEqual([90, 90, 300, 3600]);
    expect(() => duration('0')).toThrow('at most a day');
    expect(() => duration('soon')).toThrow('at most a day');
  });
});

describe('a host that is in the spec', () => {
  const cluster = exampleCluster();

  it('is gone on with when it is the same', () => {
    expect(knownHost(cluster, { name: 'k8snode01', ...nothing })?.address).toBe('172.24.8.74');
    expect(
      knownHost(cluster, { name: 'k8snode01', address: '172.24.8.74', roles: ['nodes'], ...nothing }),
    ).toBeDefined();
    expect(knownHost(cluster, { name: 'new', address: '172.24.8.90', ...nothing })).toBeUndefined();
  });

  it('is refused when it is another, saying in what', () => {
    expect(() =>
      knownHost(cluster, { name: 'k8snode01', address: '172.24.8.99', roles: ['masters'], ...nothing }),
    ).toThrow('the spec has a host k8snode01 already: its address is 172.24.8.74, its roles are nodes');
    expect(() => knownHost(cluster, { name: 'k8snode01', labels: { disk: 'fast' }, taints: [] })).toThrow(
      code('node-exists'),
    );
  });

  it('needs an address when it is new', () => {
    expect(() => knownHost(cluster, { name: 'new', ...nothing })).toThrow(code('usage'));
  });
});

describe('the spec of a running cluster', () => {
  let home: ClusterHome;
  const spec = (hosts: string): Promise<void> => writeFile(home.spec, `name: k8s\nhosts:\n${hosts}`);
  const master = (number: number, roles = '[masters]') =>
    `  - { name: m${number}, address: 10.0.0.${number}, roles: ${roles} }\n`;

  beforeEach(async () => {
    home = clusterHome(await mkdtemp(path.join(os.tmpdir(), 'node-')));
    await mkdir(home.pki);
    await writeFile(path.join(home.pki, 'etcd-ca.crt'), '');
  });
  afterEach(() => rm(home.root, { recursive: true }));

  const enter = async (wanted: Parameters<typeof enterHost>[2]): Promise<Cluster> => {
    const cluster = await loadCluster(home);
    return (await draftSpec(home, (document) => enterHost(document, cluster, wanted))).cluster;
  };

  it('may have an even number of masters, which one that is not deployed may not', async () => {
    await spec(master(1) + master(2) + master(3));
    const after = await editSpec(home, (document) => void removeHost(document, 'm1'));
    expect(after.etcdHosts.map(({ name }) => name)).toEqual(['m2', 'm3']);
    expect(etcdNotice(after)).toContain('neither of them can fail');
    await rm(home.pki, { recursive: true });
    await expect(loadCluster(home)).rejects.toThrow('make an even number');
  });

  it('gets a worker with all that was said of it', async () => {
    await spec(master(1));
    await editSpec(home, (document) =>
      enterHost(document, exampleCluster(), {
        name: 'n1',
        address: '10.0.0.11',
        user: 'admin',
        port: 2222,
        labels: { disk: 'fast', numbered: '1' },
        taints: [{ key: 'gpu', effect: 'NoSchedule' }],
      }),
    );
    expect(parse(await readFile(home.spec, 'utf8')).hosts[1]).toEqual({
      name: 'n1',
      address: '10.0.0.11',
      ssh: { user: 'admin', port: 2222 },
      labels: { disk: 'fast', numbered: '1' },
      taints: [{ key: 'gpu', effect: 'NoSchedule' }],
    });
  });

  it('keeps its etcd members when a host becomes one that is no master', async () => {
    await spec(master(1) + master(2) + master(3));
    const after = await enter({ name: 'e1', address: '10.0.0.9', roles: ['etcd'], ...nothing });
    expect(after.etcdHosts.map(({ name }) => name)).toEqual(['m1', 'm2', 'm3', 'e1']);
  });

  it('does not make a new master the only member', async () => {
    await spec(master(1) + master(2) + master(3));
    const after = await enter({ name: 'm4', address: '10.0.0.4', roles: ['masters', 'etcd'], ...nothing });
    expect(after.etcdHosts.map(({ name }) => name)).toEqual(['m1', 'm2', 'm3', 'm4']);
  });
});

describe('a removal', () => {
  it('leaves the record of what is deployed without the host', () => {
    const before = deployedFacts(exampleCluster());
    const after = factsWithout(before, 'k8smaster01');
    expect(after.members).toEqual(['k8smaster02', 'k8smaster03']);
    expect(after.hosts.map(({ name }) => name)).toEqual(['k8smaster02', 'k8smaster03', 'k8snode01', 'k8snode02']);
    expect({ ...after, hosts: before.hosts, members: before.members }).toEqual(before);
  });

  it('of a host that is not there names the nearest, and all', () => {
    expect(unknownHost(exampleCluster(), 'k8snode1')).toMatchObject({
      code: 'node-unknown',
      message: 'the cluster has no host "k8snode1"; did you mean k8snode01?',
      next: 'Its hosts are k8smaster01, k8smaster02, k8smaster03, k8snode01, k8snode02.',
    });
  });

  it('of the last master or member is refused', () => {
    const [master, node] = [exampleHost('m', '10.0.0.1', ['masters', 'etcd']), exampleHost('n', '10.0.0.2', ['nodes'])];
    const small = exampleCluster({ hosts: [master, node] });
    expect(refuseRemoval(small, master)).toMatchObject({ code: 'last-master', exitCode: ExitCode.usage });
    expect(refuseRemoval(small, node)).toBeUndefined();
    const apart = exampleCluster({
      hosts: [exampleHost('m', '10.0.0.1', ['masters']), exampleHost('e', '10.0.0.3', ['etcd'])],
    });
    expect(refuseRemoval(apart, apart.hosts[1] as never)).toMatchObject({ code: 'last-etcd-member' });
    const three = exampleCluster();
    expect(refuseRemoval(three, three.hosts[0] as never)).toBeUndefined();
  });

  const leaving = {
    host: exampleHost('k8snode02', '172.24.8.75', ['nodes']),
    dead: false,
    master: false,
    timeoutSeconds: 300,
  };
  const failure = (module: string, msg: string): ResultEvent => ({
    event: 'result',
    time: 0,
    task: 't',
    host: 'k8smaster01',
    status: 'failed',
    duration: 0,
    module,
    msg,
  });

  it('that is refused on the hosts says so as its own', () => {
    expect(leaveError(failure('k8s_ans.cluster.drain', 'held by a budget'), leaving)).toMatchObject({
      code: 'drain-blocked',
      exitCode: ExitCode.runFailed,
      message: 'held by a budget',
    });
    expect(leaveError(failure('k8s_ans.cluster.etcd_member', 'no quorum'), leaving)).toMatchObject({
      code: 'quorum-would-be-lost',
      exitCode: ExitCode.preflightRefused,
    });
    expect(leaveError(failure('k8s_ans.cluster.probes', 'answers 500'), leaving)).toMatchObject({
      code: 'masters-unhealthy',
      message: 'k8smaster01 is not ready: answers 500',
    });
    expect(leaveError(failure('ansible.builtin.copy', 'no'), leaving)).toBeUndefined();
    expect(leaveError(undefined, leaving)).toBeUndefined();
  });

  it('keeps the host in the inventory, in a group of its own', () => {
    const cluster = exampleCluster();
    const after = exampleCluster({ hosts: cluster.hosts.filter(({ name }) => name !== 'k8snode02') });
    const { all } = parse(renderCluster(after, { leaving }).get('hosts.yml') ?? '');
    expect(all.children.leaving).toEqual({ hosts: { k8snode02: {} } });
    expect(all.children.k8s.children.nodes.hosts).toEqual({ k8snode01: {} });
    expect(all.hosts.k8snode02).toMatchObject({
      ansible_host: '172.24.8.75',
      k8s_node_name: 'k8snode02',
      k8s_leaving_dead: false,
      k8s_leaving_master: false,
      k8s_leaving_timeout: 300,
    });
    expect(renderCluster(after, { leaving }).get('group_vars/all.yml')).not.toContain('172.24.8.75');
  });
});
