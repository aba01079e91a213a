import { existsSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { tarBytes } from '../../ts/artifacts/oci.js';
import type { Run } from '../../ts/cli/register.js';
import { register } from '../../ts/commands/artifacts.js';
import { openBundle } from '../../ts/commands/run/bundle.js';
import type { CommandContext } from '../../ts/types/console.js';
import { exampleSpec, sha256, writeBareBinaries } from '../fixtures/upstream.js';

vi.setConfig({ testTimeout: 60_000 });

let cwd: string;
let said: string[];
let results: Array<[string, unknown]>;

beforeEach(async () => {
  cwd = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-artifacts-command-'));
  said = [];
  results = [];
});
afterEach(() => rm(cwd, { recursive: true }));

function context(): CommandContext {
  const say = (message: string): void => void said.push(message);
  return {
    console: {
      interactive: false,
      json: false,
      color: false,
      verbosity: 0,
      info: say,
      warn: say,
      print: say,
      result: (kind, value) => void results.push([kind, value]),
    },
    signal: new AbortController().signal,
    env: { K8S_ANS_CACHE: path.join(cwd, 'cache'), PATH: '/nowhere' },
    cwd,
  };
}

async function artifacts(...args: string[]): Promise<void> {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  const run: Run = async (action) => {
    await action(context());
  };
  register(program, run);
  await program.parseAsync(['artifacts', ...args], { from: 'user' });
}

/** A cluster home whose artifacts are bare binaries in a folder. */
async function home(): Promise<string> {
  const root = path.join(cwd, 'inventory', 'demo');
  await mkdir(root, { recursive: true });
  await writeFile(path.join(root, 'cluster.yaml'), exampleSpec('demo', { directory: 'files' }));
  await writeBareBinaries(path.join(root, 'files'), 'amd64');
  return root;
}

describe('artifacts list', () => {
  it('needs no cluster', async () => {
    await artifacts('list', '--arch', 'arm64');
    expect(said[0]).toContain('etcd-v3.6.14-linux-arm64.tar.gz');
    expect(said[0]).not.toContain('amd64');
    expect(said[1]).toBe('15 digests are open: `k8s-ans artifacts lock` takes them from their publishers.');
    expect(results).toEqual([['artifacts', { kubernetes: '1.36.4', files: expect.any(Array) }]]);
  });

  it('refuses an architecture or version that it does not know', async () => {
    await expect(artifacts('list', '--arch', 'mips')).rejects.toThrow('Use amd64, arm64 or amd64,arm64.');
    await expect(artifacts('list', '--kubernetes', 'v1.30.0')).rejects.toMatchObject({ code: 'artifacts-no-lane' });
    await expect(artifacts('list', '--cluster', 'none')).rejects.toMatchObject({ code: 'cluster-not-found' });
  });
});

describe('artifacts fetch and verify', () => {
  it('brings everything, freezes it, and finds what was altered', async () => {
    const root = await home();
    await expect(artifacts('verify', '--arch', 'amd64')).rejects.toMatchObject({ code: 'artifacts-not-locked' });
    await artifacts('fetch', '--arch', 'amd64');
    expect(said).toContain('amd64: 21 binaries and 0 image archives are here and verified.');
    expect(said.at(-1)).toBe(`${path.join(root, 'artifacts.lock')} is written.`);
    await artifacts('verify', '--arch', 'amd64');
    expect(said.at(-1)).toBe(`All 21 artifacts have the digests of ${path.join(root, 'artifacts.lock')}.`);
    const list = results.find(([kind]) => kind === 'artifacts-fetch')?.[1] as {
      k8s_artifacts: { amd64: { binaries: { name: string; path: string }[] } };
    };
    const runc = list.k8s_artifacts.amd64.binaries.find(({ name }) => name === 'runc')?.path ?? '';
    await writeFile(runc, 'altered');
    await expect(artifacts('verify', '--arch', 'amd64')).rejects.toMatchObject({
      message: '1 of 21 artifacts are missing or altered.',
      exitCode: 1,
    });
    expect(said.at(-1)).toBe(`altered: runc (amd64), ${runc}`);
    await artifacts('fetch', '--arch', 'amd64');
    expect(said.at(-1)).toBe(`${path.join(root, 'artifacts.lock')} is as it was.`);
    expect(await readFile(runc, 'utf8')).not.toBe('altered');
  });
});

describe('artifacts bundle and verify --bundle', () => {
  it('writes one file that is whole, and says of a broken one which file is wrong', async () => {
    const root = await home();
    const files = path.join(root, 'files');
    const sums = [];
    for (const name of ['coredns', 'pause']) {
      const archive = tarBytes([{ path: 'index.json', content: Buffer.from(name), mode: 0o644 }]);
      await writeFile(path.join(files, `${name}.tar`), archive);
      sums.push(`${sha256(archive)}  ${name}.tar\n`);
    }
    await appendFile(path.join(files, 'SHA256SUMS'), sums.join(''));
    await artifacts('bundle', '--arch', 'amd64');
    const file = path.join(cwd, 'demo-1.36.9.bundle.tar');
    const bytes = await readFile(file);
    expect(said.at(-1)).toBe(
      `${file} is written: 26 files for Kubernetes 1.36.9 (amd64), ${(bytes.length / 1024).toFixed(1)} KiB.\n` +
        `${sha256(bytes)}  demo-1.36.9.bundle.tar`,
    );
    expect(results.at(-1)).toEqual([
      'artifacts-bundle',
      expect.objectContaining({ file, kubernetes: '1.36.9', architectures: ['amd64'], sha256: sha256(bytes) }),
    ]);
    await artifacts('verify', '--bundle', 'demo-1.36.9.bundle.tar');
    expect(said.at(-1)).toBe(
      `demo-1.36.9.bundle.tar is whole: 26 files for Kubernetes 1.36.9 (amd64), ${(bytes.length / 1024).toFixed(1)} KiB.\n` +
        `${sha256(bytes)}  demo-1.36.9.bundle.tar`,
    );
    expect((await openBundle(context(), file, '1.36.9'))?.sha256).toBe(sha256(bytes));
    await expect(openBundle(context(), file, '1.36.4')).rejects.toMatchObject({
      message: `${file} is of Kubernetes 1.36.9, and this run installs 1.36.4`,
      code: 'bundle-version',
      exitCode: 2,
    });
    expect(await openBundle(context(), undefined, '1.36.4')).toBeUndefined();
    const at = bytes.indexOf('echo runc');
    bytes[at] = 0;
    await writeFile(file, bytes);
    await expect(artifacts('verify', '--bundle', file)).rejects.toMatchObject({
      message: expect.stringMatching(/ is broken and nothing of it is used:\n {2}amd64\/bin\/runc: it has the sha256 /),
      code: 'bundle-broken',
      exitCode: 4,
    });
  });
});

describe('artifacts build', () => {
  it('refuses what it cannot build before it begins', async () => {
    await expect(artifacts('build', '--component', 'etcdd')).rejects.toMatchObject({
      message: 'there is no component etcdd',
      exitCode: 2,
      next: 'Use some of kubernetes, etcd, containerd, runc, cri-tools, cni-plugins, flannel-cni, flannel, docker, cri-dockerd, coredns, pause, metrics-server, local-path-provisioner, registry, headlamp, elasticsearch, kibana, fluentd, fluent-bit.',
    });
    await expect(artifacts('build', '--kubernetes', '1.36.1')).rejects.toMatchObject({
      message: 'the catalog pins no Go modules for kubernetes 1.36.1',
      next: 'Build Kubernetes 1.36.4, or choose another source.',
    });
    await expect(artifacts('build', '--component', 'etcd')).rejects.toMatchObject({ code: 'build-no-go', exitCode: 4 });
    expect(existsSync(path.join(cwd, 'cache'))).toBe(false);
  });
});
