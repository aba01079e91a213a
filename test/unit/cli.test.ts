/** The command line as people run it: the built program, its exit codes, and what an interrupt leaves. */
import { readFileSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { listProcesses } from '../../ts/playbook/processes.js';
import { packageRoot } from '../../ts/types/package.js';
import { testAnsible } from './ansible.js';

const BIN = path.join(packageRoot(), 'dist', 'bin.js');
let folder: string;
/** A folder with no cluster. */
let empty: string;
// Each start of the program loads all of it; on a busy machine that takes seconds.
vi.setConfig({ testTimeout: 120_000 });

beforeAll(async () => {
  await execa('npm', ['run', 'build'], { cwd: packageRoot() });
  // Made beforehand, so that no test's time goes into it.
  await testAnsible();
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-cli-'));
  empty = path.join(folder, 'empty');
  await mkdir(empty);
}, 300_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Options {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

function start(args: ReadonlyArray<string>, { env = {}, cwd = empty }: Options = {}) {
  return execa(process.execPath, [BIN, ...args], {
    cwd,
    env: { ...process.env, K8S_ANS_ANSIBLE: 'private', CI: 'true', ...env },
    extendEnv: false,
    reject: false,
    stdin: 'ignore',
  });
}

describe('usage', () => {
  test.each([
    [['--help'], 0],
    [['--version'], 0],
    [['deploy', '--help'], 0],
    [[], 2],
    [['deplyo'], 2],
    [['deploy', '--no-such-option'], 2],
    [['completion', 'tcsh'], 2],
    [['deploy', '--cluster', 'nowhere'], 2],
    [['report', '--cluster', 'nowhere'], 2],
  ])('%j ends with %i', async (args, code) => {
    expect((await start(args)).exitCode).toBe(code);
  });

  test('a mistyped command is put right, a name in the wrong place too', async () => {
    expect((await start(['deplyo'])).stderr).toContain('Did you mean deploy?');
    const { exitCode, stderr } = await start(['deploy', 'production']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('k8s-ans deploy --cluster production');
  });

  test('--json prints one object, for errors as well, wherever the flag stands', async () => {
    for (const args of [
      ['--json', 'deploy'],
      ['deploy', '--json'],
      ['deploy', '--json', '--nonsense'],
    ]) {
      const { stdout, exitCode } = await start(args);
      expect(exitCode).toBe(2);
      expect(JSON.parse(stdout)).toMatchObject({ version: 1, kind: 'error', error: { exitCode: 2 } });
    }
    const { stdout } = await start(['completion', 'bash', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ version: 1, kind: 'completion', result: { shell: 'bash' } });
  });

  test('colours are for those who want them', async () => {
    const escapeCode = String.fromCharCode(27);
    expect((await start(['deploy'])).stderr).not.toContain(escapeCode);
    expect((await start(['deploy'], { env: { FORCE_COLOR: '1' } })).stderr).toContain(escapeCode);
    expect((await start(['deploy'], { env: { FORCE_COLOR: '1', NO_COLOR: '1' } })).stderr).not.toContain(escapeCode);
    expect((await start(['deploy', '--no-color'], { env: { FORCE_COLOR: '1' } })).stderr).not.toContain(escapeCode);
  });

  test('a reader that goes away is no error', async () => {
    const { stdout } = await execa('bash', [
      '-c',
      `"${process.execPath}" "${BIN}" schema 2>&1 | head -1; echo \${PIPESTATUS[0]}`,
    ]);
    expect(stdout).toBe('{\n0');
  });

  test('completion scripts are sound, and complete', async () => {
    const { stdout: bash } = await start(['completion', 'bash']);
    const complete = async (...words: string[]): Promise<string[]> => {
      const script = `${bash}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _k8s_ans; echo "\${COMPREPLY[*]}"`;
      return (await execa('bash', ['-c', script])).stdout.split(' ');
    };
    expect(await complete('k8s-ans', 'dep')).toEqual(['deploy']);
    expect(await complete('k8s-ans', 'deploy', '--cl')).toEqual(['--cluster']);
    expect(await complete('k8s-ans', '-v', 'certs', '')).toContain('show');
    for (const shell of ['zsh', 'fish']) {
      const { stdout, exitCode } = await start(['completion', shell]);
      expect(exitCode).toBe(0);
      expect(stdout).toContain('deploy');
    }
  });
});

describe('runs', () => {
  const inFolder = (args: ReadonlyArray<string>) => start(args, { cwd: folder });

  /** A cluster of its own for a test; its hosts are this machine, through a connection that uses no network. */
  async function cluster(name: string): Promise<{ root: string; local: string[]; marker: string }> {
    const root = path.join(folder, 'inventory', name);
    await mkdir(root, { recursive: true, mode: 0o700 });
    await writeFile(
      path.join(root, 'cluster.yaml'),
      `apiVersion: k8s-ans/v1
name: ${name}
pki: { keyBits: 2048 }
ssh: { user: nobody }
hosts:
  - { name: m1, address: 192.0.2.11, roles: [masters] }
  - { name: w1, address: 192.0.2.21, roles: [nodes] }
network: { pods: 172.30.0.0/16, services: 10.254.0.0/16, dnsAddress: 10.254.0.2 }
artifacts: { source: build }
`,
    );
    // The hosts' Python: it never answers. Its name tells its processes apart from all others.
    const marker = path.join(root, 'python-that-waits');
    await writeFile(marker, '#!/bin/sh\nsleep 321 & wait\n', { mode: 0o755 });
    return { root, marker, local: ['-e', 'ansible_connection=local', '-e', `ansible_python_interpreter=${marker}`] };
  }

  const living = async (marker: string): Promise<string[]> =>
    (await listProcesses()).filter((one) => !one.zombie && one.command.includes(marker)).map((one) => one.command);

  async function until(what: string, check: () => Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 600; tries += 1) {
      if (await check()) return;
      await sleep(100);
    }
    throw new Error(`not in a minute: ${what}`);
  }

  test(
    'hosts that cannot be reached are refused: exit code 3, a reason each, nothing changed',
    {
      timeout: 180_000,
    },
    async () => {
      const { root } = await cluster('gone');
      const nowhere = ['-e', 'ansible_host=127.0.0.1', '-e', 'ansible_port=1'];
      const { exitCode, stdout, stderr } = await inFolder(['deploy', '--cluster', 'gone', '--json', '--', ...nowhere]);
      expect(stderr).toContain('preflight refused 2 of 2 hosts; nothing was changed');
      expect(exitCode).toBe(3);
      expect(JSON.parse(stdout)).toMatchObject({
        kind: 'error',
        error: {
          code: 'preflight-refused',
          hosts: [
            { host: 'm1', problems: [expect.stringContaining('Connection refused')] },
            { host: 'w1', problems: [expect.stringContaining('See that the host runs')] },
          ],
          run: { version: 1, outcome: 'refused', cluster: 'gone' },
        },
      });
      const latest = path.join(root, 'runs', 'latest');
      expect((await lstat(latest)).isSymbolicLink()).toBe(true);
      expect(await readlink(latest)).toMatch(/^\d{8}T\d{6}Z-deploy$/);
      expect((await readdir(latest)).sort()).toEqual(['ansible.log', 'events.jsonl', 'report.html', 'report.json']);
      for (const name of await readdir(latest)) expect((await stat(path.join(latest, name))).mode & 0o777).toBe(0o600);
      expect((await stat(path.join(root, 'runs'))).mode & 0o777).toBe(0o700);
      expect(await readdir(root)).not.toContain('.lock');
      expect(readFileSync(path.join(latest, 'report.html'), 'utf8')).toContain('refused');

      const report = await inFolder(['report', '--cluster', 'gone', '--json']);
      expect(JSON.parse(report.stdout)).toMatchObject({
        kind: 'report',
        result: { outcome: 'refused', hosts: [{}, {}] },
      });
      const list = await inFolder(['report', '--cluster', 'gone', '--list']);
      expect(list.stdout).toMatch(/-deploy {2}refused/);
    },
  );

  test('Ctrl-C ends all processes, exits with 130 and says how to go on', { timeout: 180_000 }, async () => {
    const { root, local, marker } = await cluster('stopped');
    const run = inFolder(['preflight', '--cluster', 'stopped', '--', ...local]);
    await until('the modules run', async () => (await living(marker)).length > 2);
    const refused = await inFolder(['preflight', '--cluster', 'stopped', '--', ...local]);
    expect(refused.exitCode).toBe(4);
    expect(refused.stderr).toContain('another command is changing this cluster: k8s-ans preflight (pid');
    run.kill('SIGINT');
    const { exitCode, stderr } = await run;
    expect(exitCode).toBe(130);
    expect(stderr).toContain('k8s-ans preflight --cluster stopped');
    expect(await living(marker)).toEqual([]);
    expect(await readdir(root)).not.toContain('.lock');
    const report = JSON.parse(await readFile(path.join(root, 'runs/latest/report.json'), 'utf8'));
    expect(report.outcome).toBe('interrupted');
  });

  test('after SIGKILL the next run takes over, and ends what was left', { timeout: 180_000 }, async () => {
    const { root, local, marker } = await cluster('killed');
    const run = inFolder(['preflight', '--cluster', 'killed', '--', ...local]);
    await until('the modules run', async () => (await living(marker)).length > 2);
    run.kill('SIGKILL');
    await run;
    expect(await readdir(root)).toContain('.lock');
    const next = inFolder([
      'preflight',
      '--cluster',
      'killed',
      '--',
      '-e',
      'ansible_host=127.0.0.1',
      '-e',
      'ansible_port=1',
    ]);
    const { exitCode, stderr } = await next;
    expect(stderr).toContain('An earlier run ended in the middle: k8s-ans preflight');
    expect(exitCode).toBe(3);
    expect(await living(marker)).toEqual([]);
    expect(await readdir(root)).not.toContain('.lock');
  });
});
