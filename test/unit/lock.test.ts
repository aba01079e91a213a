/** The run lock. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { acquireRunLock } from '../../ts/playbook/lock.js';
import { findProcess, isAlive } from '../../ts/playbook/processes.js';
import { openSshControl } from '../../ts/playbook/ssh.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';

let home: ClusterHome;
beforeEach(async () => {
  home = clusterHome(await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-lock-')));
});
afterEach(() => rm(home.root, { recursive: true, force: true }));

const held = async () => JSON.parse(await readFile(home.runLock, 'utf8'));

test('one command at a time; the refusal names the first', async () => {
  const first = await acquireRunLock(home, 'k8s-ans deploy');
  expect((await stat(home.runLock)).mode & 0o777).toBe(0o600);
  await expect(acquireRunLock(home, 'k8s-ans upgrade')).rejects.toMatchObject({
    code: 'cluster-locked',
    exitCode: 4,
    message: expect.stringContaining(`k8s-ans deploy (pid ${process.pid} on ${os.hostname()}, since 20`),
  });
  await first.release();
  await first.release();
  expect(await readdir(home.root)).toEqual([]);
  const second = await acquireRunLock(home, 'k8s-ans upgrade');
  expect(second.tookOver).toBeUndefined();
  await second.release();
});

test('of many at once, one gets it', async () => {
  const tries = await Promise.allSettled(Array.from({ length: 8 }, () => acquireRunLock(home, 'k8s-ans deploy')));
  expect(tries.filter((one) => one.status === 'fulfilled')).toHaveLength(1);
});

test('a lock whose process is gone is taken over, and its children are ended', async () => {
  const child = spawn('sleep', ['300'], { stdio: 'ignore', detached: true });
  const known = await findProcess(child.pid ?? 0);
  const lock = await acquireRunLock(home, 'k8s-ans deploy');
  await lock.addChild(child.pid ?? 0);
  const content = await held();
  expect(content.children).toEqual([{ pid: child.pid, started: known?.started }]);
  // As if its holder had been killed and its pid were another process's now.
  await writeFile(home.runLock, JSON.stringify({ ...content, started: '1' }));
  const next = await acquireRunLock(home, 'k8s-ans deploy');
  expect(next.tookOver).toContain('k8s-ans deploy (pid');
  expect(known && (await isAlive(known))).toBe(false);
  // The first holder, were it still there, would not take the lock away from the second.
  await lock.release();
  expect((await held()).pid).toBe(process.pid);
  await next.release();
});

test('a lock of an earlier boot is stale, one of another machine never', async () => {
  const lock = await acquireRunLock(home, 'k8s-ans deploy');
  const content = await held();
  await writeFile(home.runLock, JSON.stringify({ ...content, boot: 'an earlier one' }));
  const next = await acquireRunLock(home, 'k8s-ans deploy');
  await lock.release();
  await writeFile(home.runLock, JSON.stringify({ ...content, host: 'elsewhere', pid: 1 }));
  await expect(acquireRunLock(home, 'k8s-ans deploy')).rejects.toMatchObject({ code: 'cluster-locked' });
  await writeFile(home.runLock, 'no json');
  await expect(acquireRunLock(home, 'k8s-ans deploy')).rejects.toThrow(/not readable/);
  await next.release();
});

test('the connection folder of a command that was killed goes away with its lock', async () => {
  const lock = await acquireRunLock(home, 'k8s-ans deploy');
  const control = await openSshControl();
  await lock.setControl(control.directory);
  await writeFile(home.runLock, JSON.stringify({ ...(await held()), started: '1' }));
  await (await acquireRunLock(home, 'k8s-ans deploy')).release();
  expect(existsSync(control.directory)).toBe(false);
});
