/** Backup and restore of etcd, up to two of three members that are destroyed. */
import { copyFile, open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { pendingOperation } from '../../ts/commands/run/operation.js';
import { editSpec } from '../../ts/spec/edit.js';
import {
  eventually,
  home,
  json,
  kubectl,
  labName,
  masters,
  nodes,
  on,
  start,
  succeed,
  tryOn,
  workspace,
} from '../e2e/harness.js';
import { deployWeb } from '../e2e/web.js';
import { startClient } from './client.js';

interface Snapshot {
  readonly file: string;
  readonly member: string;
  readonly revision: number;
  readonly sha256: string;
}

const cluster = ['--cluster', labName];
const program = '/opt/k8s/bin/etcdctl --cacert=/etc/etcd/cert/ca.crt --cert=/etc/etcd/cert/etcd-healthcheck-client.crt';
const etcdctl = `${program} --key=/etc/etcd/cert/etcd-healthcheck-client.key --endpoints=https://127.0.0.1:2379`;

async function backup(...more: string[]): Promise<{ snapshot: Snapshot; removed: string[] }> {
  return json(['etcd', 'backup', ...cluster, ...more]);
}

const names = async (kind: string): Promise<string[]> =>
  (await kubectl(['get', kind, '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ');

/** All nodes are Ready by what their kubelets have said just now. */
async function nodesReady(): Promise<void> {
  const since = Date.now();
  await eventually(120, async () => {
    const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as {
      items: Array<{ status: { conditions: Array<{ type: string; status: string; lastHeartbeatTime: string }> } }>;
    };
    for (const { status } of items) {
      expect(status.conditions.find(({ type }) => type === 'Ready')).toMatchObject({ status: 'True' });
    }
    const leases = JSON.parse(await kubectl(['get', 'leases', '-n', 'kube-node-lease', '-o', 'json'])) as {
      items: Array<{ spec: { renewTime: string } }>;
    };
    for (const { spec } of leases.items) expect(Date.parse(spec.renewTime)).toBeGreaterThan(since - 15_000);
  });
}

beforeAll(async () => {
  await deployWeb(nodes);
});

describe('etcd backup', () => {
  test('fetches a proved snapshot of a follower, and leaves nothing on the host', async () => {
    const { snapshot } = await backup();
    const leader = await on(snapshot.member, `${etcdctl} endpoint status -w json`);
    const [{ Status }] = JSON.parse(leader) as [{ Status: { leader: number; header: { member_id: number } } }];
    expect(Status.leader).not.toBe(Status.header.member_id);
    expect((await stat(snapshot.file)).mode & 0o777).toBe(0o600);
    expect(path.dirname(snapshot.file)).toBe(home.backups);
    for (const host of masters) expect(await on(host, 'ls -A /opt/k8s/work')).not.toContain('etcd');
  });

  test('keeps the newest, and lists them', async () => {
    await backup();
    const { snapshot, removed } = await backup('--keep', '2');
    expect(removed.length).toBeGreaterThan(0);
    const { snapshots } = await json<{ snapshots: Snapshot[] }>(['etcd', 'backup', 'list', ...cluster]);
    expect(snapshots).toHaveLength(2);
    expect(snapshots[0]?.file).toBe(snapshot.file);
    expect((await readdir(home.backups)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('passes over a member that is down', async () => {
    await on('k8smaster02', 'systemctl stop etcd');
    try {
      const result = await start(['etcd', 'backup', ...cluster]);
      expect(result.exitCode, String(result.all)).toBe(0);
      expect(String(result.all)).toContain('k8smaster02: its etcd does not answer');
    } finally {
      await on('k8smaster02', 'systemctl start etcd');
    }
  });
});

describe('the timer', () => {
  test('takes a snapshot on each member, and goes away again', async () => {
    const backupSpec = { enabled: true, schedule: 'daily', keep: 1, directory: '/data/k8s/etcd/backup' };
    await editSpec(home, (document) => document.setIn(['etcd', 'backup'], backupSpec));
    await succeed(['deploy', ...cluster, '--tags', 'etcd']);
    for (const host of masters) {
      await on(host, 'systemctl start etcd-backup.service && sleep 1 && systemctl start etcd-backup.service');
      expect(await on(host, 'ls /data/k8s/etcd/backup')).toMatch(/^\S+-\d{8}T\d{6}Z\.db\n\S+\.json$/);
      expect(await on(host, 'systemctl is-active etcd-backup.timer')).toBe('active');
      expect(await on(host, "stat -c '%U %a' /data/k8s/etcd/backup /data/k8s/etcd/backup/*.db")).toBe(
        'etcd 700\netcd 600',
      );
    }
    await on('k8smaster01', 'mv /opt/k8s/bin/etcdutl /opt/k8s/bin/etcdutl.away');
    try {
      await tryOn('k8smaster01', 'systemctl start etcd-backup.service');
      expect(await on('k8smaster01', 'systemctl --failed --plain --no-legend')).toContain('etcd-backup.service');
    } finally {
      await on('k8smaster01', 'mv /opt/k8s/bin/etcdutl.away /opt/k8s/bin/etcdutl');
      await on('k8smaster01', 'systemctl reset-failed etcd-backup.service');
    }
    await editSpec(home, (document) => void document.deleteIn(['etcd', 'backup']));
    await succeed(['deploy', ...cluster, '--tags', 'etcd']);
    for (const host of masters) {
      expect(await on(host, 'ls /etc/systemd/system')).not.toContain('etcd-backup');
      await on(host, 'rm -r /data/k8s/etcd/backup');
    }
  });
});

describe('etcd restore', () => {
  let snapshot: Snapshot;

  beforeAll(async () => {
    await kubectl(['create', 'configmap', 'in-the-snapshot', '--from-literal=a=1']);
    ({ snapshot } = await backup());
    await kubectl(['delete', 'configmap', 'in-the-snapshot']);
    await kubectl(['create', 'configmap', 'after-the-snapshot', '--from-literal=a=1']);
  });

  async function expectRestored(): Promise<void> {
    const found = await names('configmaps');
    expect(found).toContain('in-the-snapshot');
    expect(found).not.toContain('after-the-snapshot');
    await nodesReady();
    const client = await startClient();
    await sleep(5000);
    const { writes, service, lost } = await client.stop('after a restore of etcd');
    expect([writes.failed, service.failed, lost]).toEqual([0, 0, []]);
    expect(writes.done).toBeGreaterThan(10);
    for (const host of masters) expect(await on(host, `${etcdctl} endpoint health 2>&1`)).toContain('is healthy');
  }

  test('refuses a damaged snapshot before anything is touched', async () => {
    const bad = path.join(workspace, 'bad.db');
    await copyFile(snapshot.file, bad);
    const handle = await open(bad, 'r+');
    await handle.write('x', 5000);
    await handle.close();
    const result = await start(['--yes', 'etcd', 'restore', bad, ...cluster]);
    expect([result.exitCode, String(result.all)]).toEqual([2, expect.stringContaining('bad.db is damaged')]);
    expect(await pendingOperation(home)).toBeUndefined();
  });

  test('asks first, and names what would be lost', async () => {
    const result = await start(['etcd', 'restore', snapshot.file, ...cluster]);
    expect(result.exitCode).toBe(2);
    expect(String(result.all)).toMatch(
      /The living cluster is at revision \d+: \d+ changes? since the snapshot will be lost/,
    );
    expect(await names('configmaps')).toContain('after-the-snapshot');
  });

  test('brings back all objects after two of three members were destroyed', async () => {
    const client = await startClient();
    for (const host of masters.slice(1)) {
      await on(
        host,
        'systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /data/k8s/etcd/data/* /data/k8s/etcd/wal/*',
      );
    }
    await succeed(['--yes', 'etcd', 'restore', snapshot.file, ...cluster]);
    // Its writes are lost, of course: the snapshot is older. Services answer without the API.
    const { service } = await client.stop('etcd restore, from the loss of two members on');
    expect(service.longestGapMs).toBeLessThan(15_000);
    await expectRestored();
    expect(await on('k8smaster01', 'ls /data/k8s/etcd/data /data/k8s/etcd/wal')).toContain('member.before-restore-');
    // Nothing is left to be done.
    const deployed = await json<{ totals: { changed: number } }>(['deploy', ...cluster]);
    expect(deployed.totals.changed).toBe(0);
  });

  test.each([
    'stop',
    'restore',
    'masters',
  ])('killed in its phase %s, it is finished by the same command', async (phase) => {
    await kubectl(['delete', 'configmap', 'in-the-snapshot']);
    await kubectl(['create', 'configmap', 'after-the-snapshot', '--from-literal=a=1']);
    const run = start(['--yes', 'etcd', 'restore', snapshot.file, ...cluster]);
    await new Promise<void>((resolve) => {
      run.stdout?.on('data', (chunk: Buffer) => {
        if (new RegExp(`^${phase}: started`, 'm').test(chunk.toString())) resolve();
      });
      run.finally(() => resolve());
    });
    await sleep(1500);
    run.kill('SIGKILL');
    await run;
    expect(await pendingOperation(home)).toMatchObject({ command: 'etcd restore' });
    const other = await start(['deploy', ...cluster]);
    expect([other.exitCode, String(other.all)]).toEqual([4, expect.stringContaining('is not finished yet')]);
    // Without --yes: the person has agreed already.
    await succeed(['etcd', 'restore', snapshot.file, ...cluster]);
    expect(await pendingOperation(home)).toBeUndefined();
    await expectRestored();
  });
});
