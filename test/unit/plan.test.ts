/** The plan: what is read from a check-mode run's report, and how people see it. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RunSession } from '../../ts/commands/run/session.js';
import { inShadow } from '../../ts/commands/run/shadow.js';
import type { PlaybookRun, RunResult } from '../../ts/playbook/run.js';
import { planOf } from '../../ts/report/plan.js';
import { formatPlan, formatPlanTotals, type PlanTextOptions } from '../../ts/report/plan-text.js';
import { clusterHome } from '../../ts/types/home.js';
import type { LocalChange } from '../../ts/types/plan.js';
import type { ReportChange, ReportHost } from '../../ts/types/report.js';

const POLICY_DIFF = {
  file: '/etc/kubernetes/audit-policy.yaml',
  text: '@@ -1,2 +1,2 @@\n kind: Policy\n-level: None\n+level: Metadata',
  added: 1,
  removed: 1,
};

function change(host: string, more: Partial<ReportChange>): ReportChange {
  const none = { files: [], objects: [], started: [], restarted: [], reloaded: [], stopped: [], enabled: [] };
  return { host, phase: 'masters', task: 'Write it', ...none, removed: [], done: [], diffs: [], ...more };
}

function report(...changes: ReportChange[]) {
  const hosts = ['k8smaster01', 'k8smaster02', 'k8snode01'].map((name) => ({ name }) as ReportHost);
  return { hosts, changes };
}

const policyOn = (host: string) =>
  change(host, {
    files: [POLICY_DIFF.file],
    diffs: [POLICY_DIFF],
    restarted: ['kube-apiserver.service'],
  });

const text = (options: Partial<PlanTextOptions> = {}): PlanTextOptions => ({
  diffs: 'changed',
  color: false,
  ...options,
});

describe('the plan', () => {
  test('nothing', () => {
    const plan = planOf(report(), []);
    expect(plan.changes).toBe(false);
    expect(formatPlan(plan, text())).toBe('Nothing is to be done on 3 hosts.');
  });

  test('what is only rendered here is shown, and is nothing to do', () => {
    const local: LocalChange[] = [{ path: 'hosts.yml', action: 'create' }];
    const plan = planOf(report(), local);
    expect(plan.changes).toBe(false);
    expect(formatPlan(plan, text())).toBe('this machine\n  + hosts.yml\n\nNothing is to be done on 3 hosts.');
  });

  test('a certificate that would be issued is something to do', () => {
    expect(planOf(report(), [{ path: 'pki/admin.crt', action: 'change' }]).changes).toBe(true);
    expect(planOf(report(), [{ path: 'kubeconfig', action: 'create' }]).changes).toBe(true);
  });

  test('files with their actions, units, images, objects and steps', () => {
    const plan = planOf(
      report(
        change('k8snode01', {
          files: ['/opt/k8s/bin/kubelet', '/etc/a', '/etc/b', '/etc/c', 'registry.k8s.io/pause:3.10.2'],
          diffs: [
            { file: '/etc/a (root:root 0644)', before: '/etc/a (absent)', text: '+x', added: 1, removed: 0 },
            { file: '/etc/b (absent)', before: '/etc/b (root:root 0644)', text: '-x', added: 0, removed: 1 },
            { file: '/etc/c', cut: true, text: '+x', added: 900, removed: 0 },
          ],
          started: ['kubelet.service'],
          enabled: ['kubelet.service'],
        }),
        // The same file found by a second role, and a task that says in words what it does.
        change('k8snode01', { phase: 'nodes', files: ['/etc/a'], reloaded: ['kube-nginx.service'] }),
        change('k8snode01', { phase: 'hostprep', task: 'Set the kernel', done: ['ip_forward: 0 -> 1'] }),
        change('k8snode01', { phase: 'hostprep', task: 'Create the account' }),
        change('k8smaster01', { phase: 'addons', objects: ['deployment/kube-system/coredns'] }),
      ),
      [],
    );
    expect(plan).toEqual({
      changes: true,
      local: [],
      objects: ['deployment/kube-system/coredns'],
      hosts: [
        { host: 'k8smaster01', files: [], images: [], units: [], steps: [] },
        { host: 'k8smaster02', files: [], images: [], units: [], steps: [] },
        {
          host: 'k8snode01',
          files: [
            { path: '/opt/k8s/bin/kubelet', action: 'write', phase: 'masters' },
            { path: '/etc/a', action: 'create', phase: 'masters', diff: '+x', added: 1, removed: 0 },
            { path: '/etc/b', action: 'remove', phase: 'masters', diff: '-x', added: 0, removed: 1 },
            { path: '/etc/c', action: 'change', phase: 'masters', diff: '+x', added: 900, removed: 0, cut: true },
          ],
          images: ['registry.k8s.io/pause:3.10.2'],
          units: [
            { unit: 'kubelet.service', action: 'boot' },
            { unit: 'kubelet.service', action: 'start' },
            { unit: 'kube-nginx.service', action: 'reload' },
          ],
          steps: [
            { phase: 'hostprep', task: 'Set the kernel', done: ['ip_forward: 0 -> 1'] },
            { phase: 'hostprep', task: 'Create the account', done: [] },
          ],
        },
      ],
    });
    expect(formatPlanTotals(plan)).toBe('1 of 3 hosts would change: 4 files, 1 image, 1 start, 1 reload, 1 object.');
    expect(formatPlan(plan, text()).split('\n\n')[0]).toBe(
      [
        'k8snode01',
        '  Set the kernel:',
        '      ip_forward: 0 -> 1',
        '  Create the account',
        '  ~ /opt/k8s/bin/kubelet',
        '  + /etc/a  +1 -0',
        '  - /etc/b  +0 -1',
        '  ~ /etc/c  +900 -0',
        '      +x',
        '      … the rest is too long to be kept',
        '  import registry.k8s.io/pause:3.10.2',
        '  start kubelet.service',
        '  reload kube-nginx.service',
      ].join('\n'),
    );
  });

  test('what hosts have in common is shown once', () => {
    const own = change('k8smaster01', {
      files: ['/etc/hosts'],
      diffs: [{ file: '/etc/hosts', text: '+a', added: 1, removed: 0 }],
    });
    const plan = planOf(report(own, policyOn('k8smaster01'), policyOn('k8smaster02')), []);
    expect(formatPlan(plan, text())).toBe(
      [
        'k8smaster01, k8smaster02',
        '  ~ /etc/kubernetes/audit-policy.yaml  +1 -1',
        '      @@ -1,2 +1,2 @@',
        '       kind: Policy',
        '      -level: None',
        '      +level: Metadata',
        '  restart kube-apiserver.service',
        '',
        'k8smaster01',
        '  ~ /etc/hosts  +1 -0',
        '      +a',
        '',
        '2 of 3 hosts would change: 3 files, 2 restarts.',
      ].join('\n'),
    );
    expect(formatPlan(plan, text({ diffs: 'none' }))).not.toContain('level:');
  });

  test('a folder full of new files is one line', () => {
    const local = ['apiserver.crt', 'apiserver.key', 'scheduler.crt', 'scheduler.key'].map((name) => ({
      path: `pki/hosts/k8smaster01/${name}`,
      action: 'create' as const,
    }));
    expect(formatPlan(planOf(report(), local), text())).toBe(
      'this machine\n  + pki/hosts/k8smaster01/  4 files\n\n0 of 3 hosts would change: 4 files of the PKI.',
    );
  });
});

describe('the copy of the home', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-shadow-'));
    await mkdir(path.join(root, 'pki'), { mode: 0o700 });
    await writeFile(path.join(root, 'pki', 'ca.key'), 'key', { mode: 0o600 });
    await writeFile(path.join(root, 'hosts.yml'), 'old');
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  function session(run: (options: Partial<PlaybookRun>) => void): RunSession {
    const playbook = async (_name: string, options: Partial<PlaybookRun>): Promise<RunResult> => {
      run(options);
      return { outcome: 'done', exitCode: 0, stats: {} };
    };
    return { home: clusterHome(root), playbook } as unknown as RunSession;
  }

  test('takes what is written, tells what that was, and goes away', async () => {
    let seen = '';
    const inventories: Array<string | undefined> = [];
    const changes = await inShadow(
      session(({ inventory }) => inventories.push(inventory)),
      async (shadow) => {
        seen = shadow.home.root;
        expect(shadow.rehearsal).toBe(true);
        expect(await readFile(path.join(shadow.home.pki, 'ca.key'), 'utf8')).toBe('key');
        await writeFile(shadow.home.inventory, 'new');
        await writeFile(path.join(shadow.home.pki, 'admin.key'), 'made');
        await rm(path.join(shadow.home.pki, 'ca.key'));
        await shadow.playbook('deploy', {});
      },
    );
    expect(changes).toEqual([
      { path: 'hosts.yml', action: 'change' },
      { path: 'pki/admin.key', action: 'create' },
      { path: 'pki/ca.key', action: 'remove' },
    ]);
    expect(inventories).toEqual([path.join(seen, 'hosts.yml')]);
    expect(await readFile(path.join(root, 'hosts.yml'), 'utf8')).toBe('old');
    expect(await readdir(path.join(root, 'pki'))).toEqual(['ca.key']);
    expect(await readdir(path.join(root, 'runs'))).toEqual([]);
  });

  test('goes away when the work fails, and one that was left is swept', async () => {
    // No process has this id: Linux's highest is 2^22.
    await mkdir(path.join(root, 'runs', '.work-4194305-abc'), { recursive: true });
    const failing = inShadow(
      session(() => {}),
      async () => {
        throw new Error('no');
      },
    );
    await expect(failing).rejects.toThrow('no');
    expect(await readdir(path.join(root, 'runs'))).toEqual([]);
  });
});
