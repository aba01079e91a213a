/** Hosts come and go while a client works: workers, masters (the first one too), lost ones, and what is refused. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { faults } from '../../ts/lab/index.js';
import {
  context,
  eventually,
  home,
  kubectl,
  lab,
  labName,
  labSubnet,
  masters,
  nodes,
  on,
  start,
  tryOn,
} from '../e2e/harness.js';
import { allowDisruptions, deployWeb, importWeb, removeWeb } from '../e2e/web.js';
import { startClient } from './client.js';

const cluster = ['--cluster', labName];

interface Failure {
  readonly error: { code: string; message: string; next: string; exitCode: number };
}

/** Runs a command that is to be refused. */
async function refused(args: ReadonlyArray<string>): Promise<Failure['error']> {
  const result = await start(['--json', '--yes', ...args, ...cluster]);
  expect(result.exitCode, String(result.all)).not.toBe(0);
  return (JSON.parse(String(result.stdout)) as Failure).error;
}

async function done(args: ReadonlyArray<string>): Promise<void> {
  const result = await start(['--yes', ...args, ...cluster]);
  expect(result.exitCode, String(result.all)).toBe(0);
}

const specHosts = async (): Promise<string[]> =>
  (parse(await readFile(home.spec, 'utf8')) as { hosts: Array<{ name: string }> }).hosts.map(({ name }) => name);

const readyNodes = async (): Promise<string[]> => {
  const list = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as {
    items: Array<{
      metadata: { name: string };
      spec: { unschedulable?: boolean };
      status: { conditions: Array<{ type: string; status: string }> };
    }>;
  };
  return list.items
    .filter(({ status }) => status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'))
    .filter(({ spec }) => !spec.unschedulable)
    .map(({ metadata }) => metadata.name)
    .sort();
};

/** The voting members of etcd, as one of them lists them. */
async function etcdVoters(through: string): Promise<string[]> {
  const files = '--cacert /etc/etcd/cert/ca.crt --cert /etc/etcd/cert/etcd-peer.crt --key /etc/etcd/cert/etcd-peer.key';
  const text = await on(
    through,
    `/opt/k8s/bin/etcdctl --endpoints https://127.0.0.1:2379 ${files} member list -w json`,
  );
  const { members } = JSON.parse(text) as { members: Array<{ name: string; isLearner?: boolean }> };
  return members
    .filter(({ isLearner }) => isLearner !== true)
    .map(({ name }) => name)
    .sort();
}

/** When etcd started on a host: unchanged where it was not restarted. */
const etcdStart = (host: string): Promise<string> =>
  on(host, 'systemctl show --property=ExecMainStartTimestampMonotonic etcd');

let spares: ReadonlyArray<{ name: string; address: string }>;

beforeAll(async () => {
  spares = (await lab()).plan.hosts.filter(({ role }) => role === 'spares');
  expect(spares.length, 'this file needs a lab with two spare hosts').toBeGreaterThanOrEqual(2);
  await deployWeb(nodes);
});

const spare = (index: number): { name: string; address: string } => spares[index] as never;

describe('refused, with nothing changed', () => {
  test('a host that is not there', async () => {
    const error = await refused(['node', 'remove', 'k8snode1']);
    expect(error).toMatchObject({ code: 'node-unknown', exitCode: 2 });
    expect(error.message).toContain('did you mean k8snode01?');
  });

  test('a master without which etcd would have no quorum', async () => {
    await on('k8smaster02', 'systemctl stop etcd');
    try {
      const error = await refused(['node', 'remove', 'k8smaster03']);
      expect(error).toMatchObject({ code: 'quorum-would-be-lost', exitCode: 3 });
      expect(error.message).toContain('Bring k8smaster02 back');
      expect(error.message).toContain('etcd restore');
    } finally {
      await on('k8smaster02', 'systemctl start etcd');
    }
    expect(await specHosts()).toContain('k8smaster03');
    await eventually(30, async () => expect(await readyNodes()).toEqual([...masters, ...nodes].sort()));
  });

  test('a drain that a budget holds: the pods and the budget are named, and the node takes pods again', async () => {
    await allowDisruptions(2);
    try {
      const error = await refused(['node', 'remove', 'k8snode02', '--timeout', '20s']);
      expect(error).toMatchObject({ code: 'drain-blocked', exitCode: 1 });
      expect(error.message).toMatch(/default\/web-\S+ is held by the PodDisruptionBudget default\/web/);
    } finally {
      await allowDisruptions(1);
    }
    expect(await readyNodes()).toContain('k8snode02');
    expect(await specHosts()).toContain('k8snode02');
  });

  test('a host that is said to be dead and answers, and one that does not answer', async () => {
    expect(await refused(['node', 'remove', 'k8snode02', '--dead'])).toMatchObject({ code: 'node-unreachable' });
    const found = await lab();
    await faults.disconnect(context, found, 'k8snode02');
    try {
      const error = await refused(['node', 'remove', 'k8snode02']);
      expect(error).toMatchObject({ code: 'node-unreachable', exitCode: 3 });
      expect(error.message).toContain('--dead');
    } finally {
      await faults.connect(context, found, 'k8snode02');
    }
    await eventually(90, async () => expect(await readyNodes()).toContain('k8snode02'));
  });

  test('a new host that preflight refuses is not in the spec', async () => {
    const error = await refused(['node', 'add', 'k8snode09', '--address', labSubnet.replace('0/24', '250')]);
    expect(error).toMatchObject({ code: 'preflight-refused', exitCode: 3 });
    expect(await specHosts()).not.toContain('k8snode09');
    expect(await readFile(home.inventory, 'utf8')).not.toContain('k8snode09');
  });
});

test('a worker is added with its label and taint, and removed again', async () => {
  const { name, address } = spare(0);
  await done(['node', 'add', name, '--address', address, '--label', 'disk=fast', '--taint', 'gpu=yes:NoSchedule']);
  expect(await readyNodes()).toContain(name);
  const node = JSON.parse(await kubectl(['get', 'node', name, '-o', 'json'])) as {
    metadata: { labels: Record<string, string> };
    spec: { taints: unknown[] };
  };
  expect(node.metadata.labels.disk).toBe('fast');
  expect(node.spec.taints).toEqual([{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }]);
  expect(await on('k8smaster01', 'cat /etc/hosts')).toContain(name);

  await done(['node', 'remove', name]);
  expect(await readyNodes()).not.toContain(name);
  expect(await specHosts()).not.toContain(name);
  expect(await on('k8smaster01', 'cat /etc/hosts')).not.toContain(name);
  expect((await tryOn(address, 'systemctl is-active kubelet')).exitCode).not.toBe(0);
});

test('a lost worker is removed, and its pods are made anew elsewhere', async () => {
  const { name, address } = spare(1);
  await done(['node', 'add', name, '--address', address]);
  await importWeb([name]);
  await kubectl(['scale', 'deployment/web', '--replicas=3']);
  await kubectl(['rollout', 'status', 'deployment/web', '--timeout=120s']);
  await faults.kill(context, await lab(), name);
  await done(['node', 'remove', name, '--dead']);
  expect(await readyNodes()).toEqual([...masters, ...nodes].sort());
  // Where they were before depends on who was drained last.
  const places = async (): Promise<string[]> =>
    (await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'jsonpath={.items[*].spec.nodeName}'])).split(' ');
  await eventually(180, async () => {
    expect(await places()).toHaveLength(3);
    expect((await places()).filter((host) => !nodes.includes(host))).toEqual([]);
    expect(await kubectl(['get', 'deployment', 'web', '-o', 'jsonpath={.status.readyReplicas}'])).toBe('3');
  });
  await kubectl(['scale', 'deployment/web', '--replicas=2']);
  await eventually(60, async () => expect(await places()).toHaveLength(2));
});

describe('a master is replaced under load', () => {
  // With an address: when it is added again, the spec no longer has it.
  let addresses: Record<string, string>;
  beforeAll(async () => {
    addresses = Object.fromEntries((await lab()).plan.hosts.map((host) => [host.name, host.address]));
  });

  test.each(['k8smaster03', 'k8smaster01'])('%s', async (name) => {
    const others = masters.filter((master) => master !== name);
    const before = await Promise.all(others.map(etcdStart));
    const client = await startClient();
    await done(['node', 'remove', name]);
    const removed = await client.stop(`node remove ${name}`);
    expect(removed.lost).toEqual([]);
    expect(removed.writes.done).toBeGreaterThan(100);
    expect(await etcdVoters(others[0] as string)).toEqual(others);
    expect(await readFile(home.kubeconfig, 'utf8')).not.toContain(`https://${addresses[name]}:`);

    const again = await startClient();
    await done(['node', 'add', name, '--address', addresses[name] as string, '--roles', 'masters']);
    const added = await again.stop(`node add ${name}`);
    expect(added.lost).toEqual([]);
    expect(await etcdVoters(others[0] as string)).toEqual([...masters].sort());
    // Neither restarted the members that stayed.
    expect(await Promise.all(others.map(etcdStart))).toEqual(before);
    expect(await readyNodes()).toEqual([...masters, ...nodes].sort());
  });

  test('killed in the middle, the same command ends it', async () => {
    const name = 'k8smaster02';
    await killed(['node', 'remove', name], /etcd: started/);
    const error = await refused(['deploy']);
    expect(error).toMatchObject({ code: 'operation-pending' });
    expect(error.next).toContain(`node remove ${name}`);
    await done(['node', 'remove', name]);
    expect(await etcdVoters('k8smaster01')).toEqual(['k8smaster01', 'k8smaster03']);

    const add = ['node', 'add', name, '--address', addresses[name] as string, '--roles', 'masters'];
    await killed(add, /etcd: started/);
    await done(add);
    expect(await etcdVoters('k8smaster01')).toEqual([...masters].sort());
    expect(await readyNodes()).toEqual([...masters, ...nodes].sort());
  });

  /** Starts a command and kills it with SIGKILL when its output has the text. */
  async function killed(args: ReadonlyArray<string>, when: RegExp): Promise<void> {
    const child = start(['--yes', ...args, ...cluster], { buffer: false });
    let seen = '';
    child.all?.on('data', (part: Buffer) => {
      seen += String(part);
      if (when.test(seen)) child.kill('SIGKILL');
    });
    const result = await child;
    expect(result.signal, seen).toBe('SIGKILL');
  }
});

test('afterwards, deploy has nothing to do', async () => {
  const result = await start(['--json', 'deploy', ...cluster]);
  expect(result.exitCode, String(result.all)).toBe(0);
  const { totals } = (JSON.parse(String(result.stdout)) as { result: { totals: { changed: number } } }).result;
  expect(totals.changed).toBe(0);
});

afterAll(removeWeb);
