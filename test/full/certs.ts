/**
 * Certificates of a running cluster: seen, renewed, their CAs replaced while a client works, and a cluster brought back
 * whose certificates have all expired.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { leavesToRenew } from '../../ts/commands/certs/renew.js';
import { ensurePki } from '../../ts/pki/ensure.js';
import { inspectPki } from '../../ts/pki/inspect.js';
import { editSpec } from '../../ts/spec/edit.js';
import { loadCluster } from '../../ts/spec/load.js';
import {
  eventually,
  home,
  hosts,
  kubectl,
  labName,
  masters,
  nodes,
  on,
  start,
  succeed,
  tryOn,
} from '../e2e/harness.js';
import { deployWeb } from '../e2e/web.js';
import { startClient } from './client.js';

const cluster = ['--cluster', labName];
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const DISTRUST =
  'certificate signed by unknown authority|certificate has expired|bad certificate|unknown certificate authority';

interface Shown {
  readonly certificates: ReadonlyArray<{ path: string; serial: string; daysLeft: number }>;
  readonly hosts: ReadonlyArray<{ host: string; place: string; issuerCommonName: string; remark: string }>;
  readonly silent: ReadonlyArray<{ host: string; place: string; reason: string }>;
}

async function show(...args: string[]): Promise<Shown> {
  return (JSON.parse(await succeed(['--json', 'certs', 'show', ...cluster, ...args])) as { result: Shown }).result;
}

/** Lines of all hosts' journals since then in which one component distrusts another. */
async function distrust(since: Date): Promise<string[]> {
  const units = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-csr-approver', 'kubelet'];
  const list = [...units, 'kube-proxy', 'flanneld'].map((unit) => `-u ${unit}`).join(' ');
  const found = await Promise.all(
    hosts.map(async (host) => {
      const line = `journalctl --no-pager -q --since=@${Math.floor(since.getTime() / 1000)} ${list} | grep -E '${DISTRUST}' || true`;
      return (await on(host, line)).split('\n').filter((text) => text !== '');
    }),
  );
  return found.flat();
}

/** What a port of a host serves is accepted under this CA alone. */
async function verifiesUnder(host: string, port: number, authority: string): Promise<void> {
  const client = '-cert /etc/etcd/cert/etcd-healthcheck-client.crt -key /etc/etcd/cert/etcd-healthcheck-client.key';
  const address = port === 2380 ? '$(hostname -i | cut -d" " -f1)' : '127.0.0.1';
  await on(host, 'cat > /run/test-ca.crt', await readFile(path.join(home.pki, authority)));
  const { all } = await tryOn(
    host,
    `openssl s_client -connect ${address}:${port} -no-CApath -no-CAstore -CAfile /run/test-ca.crt ${port === 2379 || port === 2380 ? client : ''} </dev/null 2>&1 | grep 'Verify return code'`,
  );
  expect(all, `${host}:${port}`).toContain('Verify return code: 0 (ok)');
}

/** Starts the command and kills it some time after its journal says that it is at work (at the stage). */
async function killedInTheMiddle(args: string[], milliseconds: number, stage?: string): Promise<void> {
  const child = start(args, { detached: true });
  await eventually(600, async () => {
    const { data } = JSON.parse(await readFile(home.operation, 'utf8')) as { data: { stage?: string } };
    if (stage !== undefined && data.stage !== stage) throw new Error(`still at the stage ${data.stage}`);
  });
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  child.kill('SIGKILL');
  await child;
}

beforeAll(async () => {
  await deployWeb(nodes);
}, 300_000);

test('show lists what ports serve, and nothing differs', async () => {
  const { hosts: rows, silent } = await show();
  expect(silent).toEqual([]);
  expect(rows.filter(({ remark }) => remark !== '')).toEqual([]);
  const places = rows.filter(({ host }) => host === 'k8smaster01').map(({ place }) => place);
  expect(places).toEqual([
    'etcd, clients, port 2379',
    'etcd, peers, port 2380',
    'kube-apiserver, port 6443',
    'kube-controller-manager, port 10257',
    'kube-scheduler, port 10259',
    'kubelet, port 10250',
    expect.stringMatching(/kubelet-client-current\.pem$/),
    expect.stringMatching(/kubelet-server-current\.pem$/),
  ]);
});

describe('renewal', () => {
  test('killed in the middle and run again, under a client', async () => {
    const before = await show('--local');
    const since = new Date();
    const client = await startClient();
    await killedInTheMiddle(['certs', 'renew', ...cluster], 5_000);
    const refused = await start(['deploy', ...cluster]);
    expect(refused.exitCode).toBe(4);
    expect(refused.all).toContain('certs renew');
    await succeed(['certs', 'renew', ...cluster]);
    const result = await client.stop('certs renew');
    expect(result.lost).toEqual([]);
    expect(await distrust(since)).toEqual([]);

    const after = await show();
    const old = new Set(before.certificates.map(({ serial }) => serial));
    const kept = after.certificates.filter(({ serial }) => old.has(serial)).map((entry) => entry.path);
    expect(kept).toEqual(['pki/ca.crt', 'pki/etcd-ca.crt', 'pki/front-proxy-ca.crt']);
    expect(after.hosts.filter(({ remark }) => remark !== '')).toEqual([]);
  }, 900_000);

  test('after it, deploy has nothing to do', async () => {
    expect(await succeed(['deploy', ...cluster])).toContain('nothing had to be changed');
  }, 300_000);
});

describe('rotation of all CAs', () => {
  test('in stages and killed in one of them, under a client', async () => {
    const since = new Date();
    const client = await startClient();
    const first = await succeed(['certs', 'rotate-ca', ...cluster, '--until', 'trust']);
    expect(first).toContain('Stopped after the stage "trust"');
    expect((await readFile(path.join(home.pki, 'trust', 'ca.crt'), 'utf8')).match(/BEGIN CERTIFICATE/g)).toHaveLength(
      2,
    );
    await killedInTheMiddle(['certs', 'rotate-ca', ...cluster], 20_000, 'reissue');
    const last = await succeed(['certs', 'rotate-ca', ...cluster]);
    expect(last).toContain('kubeconfig is void');
    const result = await client.stop('certs rotate-ca');
    expect(result.lost).toEqual([]);
    expect(await distrust(since)).toEqual([]);

    const { hosts: rows, silent } = await show();
    expect(silent).toEqual([]);
    expect(rows.filter(({ issuerCommonName }) => !issuerCommonName.endsWith('-2'))).toEqual([]);
    for (const host of hosts) await verifiesUnder(host, 10250, 'ca.crt');
    for (const host of masters) {
      for (const port of [6443, 10257, 10259]) await verifiesUnder(host, port, 'ca.crt');
      for (const port of [2379, 2380]) await verifiesUnder(host, port, 'etcd-ca.crt');
      expect(await on(host, 'grep -c BEGIN /etc/kubernetes/cert/ca.crt')).toBe('1');
    }
    await kubectl(['-n', 'kube-system', 'logs', 'deployment/coredns', '--tail=1']);
  }, 1_800_000);

  test('after it, deploy has nothing to do', async () => {
    expect(await succeed(['deploy', ...cluster])).toContain('nothing had to be changed');
  }, 300_000);

  test('with nothing under way there is nothing to undo', async () => {
    const { exitCode, all } = await start(['certs', 'rotate-ca', 'etcd', ...cluster, '--undo']);
    expect(exitCode).toBe(2);
    expect(all).toContain('No rotation is under way');
  });

  test('undone after the first stage, the old CA is as it was', async () => {
    const before = await readFile(path.join(home.pki, 'etcd-ca.crt'), 'utf8');
    await succeed(['certs', 'rotate-ca', 'etcd', ...cluster, '--until', 'trust']);
    await succeed(['certs', 'rotate-ca', 'etcd', ...cluster, '--undo']);
    expect(await readFile(path.join(home.pki, 'trust', 'etcd-ca.crt'), 'utf8')).toBe(before);
    expect(await on('k8smaster01', 'cat /etc/etcd/cert/ca.crt')).toBe(before.trimEnd());
  }, 900_000);
});

describe('a cluster whose certificates have all expired', () => {
  const signFor = (duration: string | undefined): Promise<unknown> =>
    editSpec(home, (document) => {
      for (const index of masters.keys()) {
        const where = ['hosts', index, 'vars', 'masters_controller_manager_extra_flags'];
        if (duration === undefined) document.deleteIn(where.slice(0, 3));
        else document.setIn(where, document.createNode({ 'cluster-signing-duration': duration }));
      }
    });

  afterAll(async () => {
    await signFor(undefined);
    await succeed(['deploy', ...cluster]);
  }, 600_000);

  test('is brought back by certs renew', async () => {
    // The kubelets first: theirs last ten minutes, the shortest that a signer gives.
    await signFor('10m');
    await succeed(['deploy', ...cluster]);
    const { hosts: rows } = await show();
    for (const { host, place } of rows.filter(({ place }) => place.endsWith('.pem'))) await on(host, `rm ${place}`);
    await succeed(['deploy', ...cluster]);
    const kubelets = Date.now();
    const resolved = await loadCluster(home);
    const serials = leavesToRenew(await inspectPki(home), undefined);
    const now = new Date(Date.now() + 6 * 60_000 - resolved.pki.certificateDays * DAY);
    await ensurePki(resolved, home, { now, renew: new Map(Object.entries(serials)) });
    await succeed(['deploy', ...cluster]);
    const shown = await start(['certs', 'show', ...cluster, '--days', '1']);
    expect(shown.exitCode).toBe(1);

    const ends = new X509Certificate(await readFile(path.join(home.pki, 'admin.crt'))).validTo;
    await new Promise((resolve) =>
      setTimeout(resolve, Math.max(new Date(ends).getTime(), kubelets + 10 * 60_000) + 30_000 - Date.now()),
    );
    await expect(kubectl(['get', 'nodes'])).rejects.toThrow();
    await succeed(['certs', 'renew', ...cluster]);
    await eventually(60, () => kubectl(['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=30s']));
    const after = await show('--days', '0');
    expect(after.silent).toEqual([]);
    expect(after.hosts.filter(({ remark }) => remark !== '')).toEqual([]);
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=60s']);
  }, 1_800_000);
});
