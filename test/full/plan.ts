/** `plan` and `status`: what plan lists is what deploy changes, and status sees what is wrong. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { faults } from '../../ts/lab/index.js';
import { loadCluster } from '../../ts/spec/load.js';
import type { Plan } from '../../ts/types/plan.js';
import type { ClusterStatus } from '../../ts/types/status.js';
import {
  context,
  eventually,
  home,
  lab,
  labName,
  masters,
  nodes,
  on,
  prepareWorkspace,
  start,
  workspace,
} from '../e2e/harness.js';
import { type Answer, ask, deploy, gist, NOTHING, plan, SOMETHING } from './plans.js';

async function status(...args: string[]): Promise<Answer<ClusterStatus>> {
  return ask(['status', '--cluster', labName, ...args]);
}

/** The private parts of the cluster's keys: no output may hold any of them. */
async function secrets(): Promise<string[]> {
  const names = ['ca.key', 'sa.key', 'kubeconfigs/scheduler.key', `hosts/${masters[0]}/apiserver.key`];
  const keys = await Promise.all(names.map((name) => readFile(path.join(home.pki, name), 'utf8')));
  return keys.map((key) => (key.split('\n')[2] ?? '').slice(0, 48)).filter((line) => line.length === 48);
}

const silent = ({ problems }: ClusterStatus) => problems.filter(({ area }) => area === 'host').map(({ host }) => host);

describe('on hosts that were never deployed to', () => {
  const small = 'plan';
  const hosts = ['--name', small, '--subnet', '172.24.13.0/24'];
  beforeAll(async () => {
    await prepareWorkspace();
    const made = await start(['--yes', 'lab', 'up', ...hosts, '--masters', '1', '--nodes', '1']);
    expect(made.exitCode, String(made.all)).toBe(0);
  });
  afterAll(async () => {
    await start(['--yes', 'lab', 'down', '--name', small, '--purge']);
  });

  test('plan lists what deploy then changes, and leaves the home as it was', async () => {
    const before = await plan(small);
    expect(before.code).toBe(SOMETHING);
    const spec = await readFile(path.join(workspace, 'inventory', small, 'cluster.yaml'), 'utf8');
    expect(spec).toContain('name: plan');
    for (const name of ['pki', 'hosts.yml', 'group_vars', 'kubeconfig', 'artifacts.lock']) {
      await expect(readFile(path.join(workspace, 'inventory', small, name))).rejects.toMatchObject({ code: 'ENOENT' });
    }
    expect(before.value.plan.local.map(({ path: name }) => name)).toContain('pki/ca.key');
    const { done } = await deploy(small);
    expect(gist(before.value.plan)).toEqual(gist(done));
  });

  test('then nothing is to be done', async () => {
    const after = await plan(small);
    expect(after).toMatchObject({ code: NOTHING, value: { plan: { changes: false, local: [], objects: [] } } });
    expect((await deploy(small)).changed).toBe(0);
  });
});

describe('on a cluster that runs', () => {
  let spec: string;
  beforeAll(async () => {
    spec = await readFile(home.spec, 'utf8');
    expect((await start(['deploy', '--cluster', labName])).exitCode).toBe(0);
  });
  afterAll(async () => {
    await writeFile(home.spec, spec, { mode: 0o600 });
    await start(['deploy', '--cluster', labName]);
  });

  test('status finds nothing wrong, and says of a certificate when it ends', async () => {
    const { code, value } = await status();
    expect(value.problems).toEqual([]);
    expect(code).toBe(0);
    expect(value.etcd).toMatchObject({ healthy: 3, quorum: 2 });
    expect(masters).toContain(value.etcd.leader);
    expect(value.api?.leaders.map(({ component }) => component).sort()).toEqual([
      'kube-controller-manager',
      'kube-scheduler',
    ]);
    expect(value.certificates.length).toBeGreaterThan(30);
    expect(value.drift).toMatchObject({ files: [] });
    // It leaves nothing behind.
    expect((await start(['report', '--cluster', labName, '--list'])).stdout).not.toContain('status');
  });

  test('a file that somebody changed is drift in status and a difference in plan; secrets show nowhere', async () => {
    const host = masters[1] as string;
    await on(host, 'echo "# by hand" >> /etc/kubernetes/audit-policy.yaml; echo x >> /etc/kubernetes/cert/sa.key');
    const looked = await status();
    expect(looked.value.drift?.files.map((file) => [file.path, file.hosts])).toEqual(
      expect.arrayContaining([
        ['/etc/kubernetes/audit-policy.yaml', [host]],
        ['/etc/kubernetes/cert/sa.key', [host]],
      ]),
    );
    const before = await plan(labName);
    expect(before.code).toBe(SOMETHING);
    const own = before.value.plan.hosts.find((one) => one.host === host);
    expect(own?.files.find((file) => file.path.endsWith('audit-policy.yaml'))?.diff).toContain('-# by hand');
    expect(own?.files.find((file) => file.path.endsWith('sa.key'))?.diff).toContain('<secret');
    const shown = await start(['plan', '--cluster', labName, '--diff']);
    const runs = await readFile(path.join(home.runs, 'latest', 'events.jsonl'), 'utf8');
    const page = await readFile(path.join(home.runs, 'latest', 'report.html'), 'utf8');
    for (const secret of await secrets()) {
      for (const text of [looked.text, before.text, String(shown.all), runs, page]) expect(text).not.toContain(secret);
    }
    const { done } = await deploy(labName);
    expect(gist(before.value.plan)).toEqual(gist(done));
  });

  test('an upgrade can be planned: binaries, and the units that run them', async () => {
    const { version } = (await loadCluster(home)).kubernetes;
    const to = version === '1.36.4' ? '1.36.3' : '1.36.4';
    const { code, value } = await ask<{ plan: Plan }>(['plan', '--cluster', labName, '--to', to]);
    expect(code).toBe(SOMETHING);
    for (const host of value.plan.hosts) {
      expect(host.files.map((file) => file.path)).toContain('/opt/k8s/bin/kubelet');
      expect(host.units).toContainEqual({ unit: 'kubelet.service', action: 'restart' });
    }
  });

  test('status with etcd down on the first master, and with the whole host down', async () => {
    const host = masters[0] as string;
    await on(host, 'systemctl stop etcd kube-apiserver');
    const halted = await status('--no-drift');
    expect(halted.code).toBe(1);
    expect(halted.value.etcd.members.find(({ name }) => name === host)).toMatchObject({ state: 'unhealthy' });
    expect(halted.value.api?.from).toBe(masters[1]);
    expect(halted.value.problems.map((problem) => [problem.host, problem.area])).toEqual(
      expect.arrayContaining([
        [host, 'unit'],
        [host, 'etcd'],
      ]),
    );
    for (const { next } of halted.value.problems) expect(next).not.toBe('');

    await faults.stop(context, await lab(), host);
    try {
      const down = await status();
      expect(down.code).toBe(1);
      expect(silent(down.value)).toEqual([host]);
      expect(down.value.hosts.filter(({ reachable }) => reachable)).toHaveLength(4);
      expect(down.value.api).toBeDefined();
      // The others are compared all the same.
      expect(down.value.drift).toMatchObject({ files: [], hosts: [...masters.slice(1), ...nodes] });
    } finally {
      await faults.start(context, await lab(), host);
    }
    await eventually(180, async () => expect((await status('--no-drift')).code).toBe(0));
  });

  test('status with no API at all', async () => {
    for (const host of masters) await on(host, 'systemctl stop kube-apiserver');
    try {
      const { code, value } = await status('--no-drift');
      expect(code).toBe(1);
      expect(value.api).toBeUndefined();
      expect(value.etcd.healthy).toBe(3);
      expect(value.problems.map(({ area }) => area)).toContain('api');
    } finally {
      for (const host of masters) await on(host, 'systemctl start --no-block kube-apiserver');
    }
    await eventually(180, async () => expect((await status('--no-drift')).code).toBe(0));
  });
});
