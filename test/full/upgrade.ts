/** The cluster goes a minor up, a patch down and a patch up, while a client works on it. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  eventually,
  home,
  hosts,
  json,
  kubectl,
  labName,
  masters,
  nodes,
  start,
  tryOn,
  unitStarts,
} from '../e2e/harness.js';
import { allowDisruptions, deployWeb } from '../e2e/web.js';
import { type ClientResult, startClient } from './client.js';

const MINUTES = 60_000;
const OLD = '1.35.4';
const NEW = '1.36.4';
const PATCH = '1.36.3';

interface Failure {
  readonly code: string;
  readonly exitCode: number;
  readonly message: string;
  readonly next: string;
}

interface UpgradeResult {
  readonly from: string;
  readonly to: string;
  readonly nothing: boolean;
  readonly steps: ReadonlyArray<string>;
  readonly totals: { readonly changed: number };
}

const upgrade = (...args: string[]): Promise<UpgradeResult> =>
  json<UpgradeResult>(['--yes', 'upgrade', '--cluster', labName, ...args]);

/** Runs a command that is to fail, and returns its error. */
async function refused(...args: string[]): Promise<Failure> {
  const result = await start(['--json', '--yes', ...args, '--cluster', labName]);
  expect(result.exitCode, String(result.all)).not.toBe(0);
  return (JSON.parse(String(result.stdout)) as { error: Failure }).error;
}

/** The version of each node's kubelet. */
async function kubelets(): Promise<Record<string, string>> {
  const text = await kubectl([
    'get',
    'nodes',
    '-o',
    'jsonpath={range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion}{"\\n"}{end}',
  ]);
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
}

/** The version of each master's API server, controller manager and scheduler, as their processes say. */
async function controlPlane(): Promise<string[]> {
  const found = await Promise.all(
    masters.flatMap((host) =>
      ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map(async (name) => {
        const line = `/proc/$(systemctl show --property=MainPID --value ${name})/exe --version`;
        return String((await tryOn(host, line)).stdout).trim();
      }),
    ),
  );
  return [...new Set(found)];
}

async function closedNodes(): Promise<string> {
  return kubectl(['get', 'nodes', '-o', 'jsonpath={.items[?(@.spec.unschedulable)].metadata.name}']);
}

async function expectVersion(version: string): Promise<void> {
  expect(await kubelets()).toEqual(Object.fromEntries(hosts.map((host) => [host, `v${version}`])));
  expect(await controlPlane()).toEqual([`Kubernetes v${version}`]);
  expect(await closedNodes()).toBe('');
  expect(await readFile(home.spec, 'utf8')).toContain(version);
}

function expectServed(result: ClientResult): void {
  expect(result.lost).toEqual([]);
  expect(result.writes.longestGapMs).toBeLessThan(15_000);
  expect(result.service.longestGapMs).toBeLessThan(15_000);
}

describe('upgrade', () => {
  beforeAll(async () => {
    await deployWeb(nodes);
    expect(new Set(Object.values(await kubelets()))).toEqual(new Set([`v${OLD}`]));
  }, 5 * MINUTES);

  test('two minors on, a minor without artifacts and a half version are refused before any host is asked', async () => {
    expect(await refused('upgrade', '--to', '1.37.0')).toMatchObject({
      code: 'upgrade-step',
      exitCode: 2,
      next: `First run \`k8s-ans upgrade --to ${NEW}\`.`,
    });
    expect(await refused('upgrade', '--to', '1.34.2')).toMatchObject({ code: 'upgrade-no-artifacts', exitCode: 2 });
    expect(await refused('upgrade', '--to', '1.36')).toMatchObject({
      code: 'upgrade-version',
      exitCode: 2,
      next: `Write all three numbers, such as --to ${NEW}.`,
    });
  });

  test(
    'a member that is not healthy is refused, by name and with how to see it',
    { timeout: 5 * MINUTES },
    async () => {
      await tryOn('k8smaster03', 'systemctl stop etcd');
      try {
        const error = await refused('upgrade', '--to', NEW);
        expect(error).toMatchObject({ code: 'upgrade-refused', exitCode: 3 });
        expect(error.message).toContain('k8smaster03: its etcd member is not healthy');
        expect(error.message).toContain('journalctl -u etcd');
      } finally {
        await tryOn('k8smaster03', 'systemctl start etcd');
      }
      await eventually(60, async () =>
        expect((await tryOn('k8smaster03', 'curl -sf http://127.0.0.1:2381/readyz')).exitCode).toBe(0),
      );
    },
  );

  test('--check says what would be done and changes nothing', { timeout: 5 * MINUTES }, async () => {
    const before = await unitStarts();
    const result = await upgrade('--to', NEW, '--check');
    expect(result).toMatchObject({ from: OLD, to: NEW, nothing: false });
    expect(result.steps).toContain(`the API servers go to ${NEW}, one after another: ${masters.join(', ')}`);
    expect(await unitStarts()).toEqual(before);
    expect(await readFile(home.spec, 'utf8')).toContain(OLD);
  });

  test(
    'a minor up: stopped by a budget, killed, and finished by the same command',
    { timeout: 40 * MINUTES },
    async () => {
      const client = await startClient();
      try {
        await allowDisruptions(2);
        const blocked = await refused('upgrade', '--to', NEW, '--drain-timeout', '20');
        expect(blocked).toMatchObject({ code: 'run-failed', exitCode: 1 });
        const found = await kubelets();
        expect(masters.map((host) => found[host])).toEqual(masters.map(() => `v${NEW}`));
        expect(found[nodes[0] as string]).toBe(`v${OLD}`);
        // Nothing was forced, and the node takes pods again.
        expect(await closedNodes()).toBe('');
        expect(await refused('deploy')).toMatchObject({ code: 'operation-pending', exitCode: 4 });
        expect(await refused('upgrade', '--to', OLD)).toMatchObject({ code: 'skew-down', exitCode: 3 });
        await allowDisruptions(1);

        const running = start(['--yes', 'upgrade', '--cluster', labName, '--to', NEW]);
        await eventually(300, async () => expect(await closedNodes()).not.toBe(''));
        running.kill('SIGKILL');
        await running;
        const masterStarts = await unitStarts();
        const result = await upgrade('--to', NEW);
        expect(result.to).toBe(NEW);
        // What was done before the kill is not done again.
        for (const host of masters) expect((await unitStarts())[host]).toBe(masterStarts[host]);
      } finally {
        expectServed(await client.stop(`upgrade ${OLD} to ${NEW}`));
      }
      await expectVersion(NEW);
    },
  );

  test('at the version there is nothing to do', { timeout: 5 * MINUTES }, async () => {
    const before = await unitStarts();
    expect(await upgrade('--to', NEW)).toMatchObject({ nothing: true });
    const deploy = await json<UpgradeResult>(['deploy', '--cluster', labName]);
    expect(deploy.totals.changed).toBe(0);
    expect(await unitStarts()).toEqual(before);
  });

  test('a minor down is refused', { timeout: 5 * MINUTES }, async () => {
    const error = await refused('upgrade', '--to', OLD);
    expect(error).toMatchObject({ code: 'skew-down', exitCode: 3 });
    expect(error.message).toContain(`runs ${NEW}, which is newer than 1.35`);
  });

  test('a patch down', { timeout: 30 * MINUTES }, async () => {
    const client = await startClient();
    try {
      expect(await upgrade('--to', PATCH)).toMatchObject({ from: NEW, to: PATCH });
    } finally {
      expectServed(await client.stop(`upgrade ${NEW} to ${PATCH}`));
    }
    await expectVersion(PATCH);
  });

  test('a patch up that is killed half-way is turned back, and then made', { timeout: 40 * MINUTES }, async () => {
    const client = await startClient();
    try {
      const running = start(['--yes', 'upgrade', '--cluster', labName, '--to', NEW]);
      await eventually(600, async () => expect(Object.values(await kubelets())).toContain(`v${NEW}`));
      running.kill('SIGKILL');
      await running;
      expect(await upgrade('--to', PATCH)).toMatchObject({ to: PATCH });
      await expectVersion(PATCH);
      expect(await upgrade('--to', NEW)).toMatchObject({ from: PATCH, to: NEW });
    } finally {
      expectServed(await client.stop(`upgrade ${PATCH} to ${NEW}, turned back half-way and made again`));
    }
    await expectVersion(NEW);
  });
});
