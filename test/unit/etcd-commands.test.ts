/** `etcd backup list`, and what `etcd restore` refuses before it looks at any host. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { beforeEach, describe, expect, test } from 'vitest';
import { sidecarPath } from '../../ts/backup/sidecar.js';
import { register } from '../../ts/commands/etcd.js';
import { beginOperation } from '../../ts/commands/run/operation.js';
import type { Console } from '../../ts/types/console.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { temporaryFolder } from '../fixtures/folders.js';

const SPEC = `name: demo
kubernetes: { version: 1.36.4 }
hosts: [{ name: m1, address: 10.0.0.1, roles: [masters] }, { name: n1, address: 10.0.0.2 }]
`;

let cwd: string;
let home: ClusterHome;

beforeEach(async () => {
  cwd = await temporaryFolder();
  home = clusterHome(path.join(cwd, 'inventory', 'demo'));
  await mkdir(home.backups, { recursive: true, mode: 0o700 });
  await writeFile(home.spec, SPEC);
});

async function put(name: string, more: Record<string, unknown> = {}): Promise<string> {
  const content = Buffer.alloc(4096, 1);
  content.writeUInt32LE(0xed0cdaed, 16);
  const data = Buffer.concat([content, createHash('sha256').update(content).digest()]);
  const file = path.join(home.backups, `${name}.db`);
  await writeFile(file, data);
  const about = {
    version: 1,
    cluster: 'demo',
    member: 'm1',
    time: '2026-11-24T08:16:26Z',
    revision: 568,
    hash: '061b61eb',
    keys: 333,
    size: data.length,
    sha256: createHash('sha256').update(data).digest('hex'),
    etcd: '3.6.14',
    storage: '3.6.0',
    kubernetes: '1.36.4',
    ...more,
  };
  await writeFile(sidecarPath(file), JSON.stringify(about));
  return file;
}

async function run(...argv: string[]) {
  const printed: string[] = [];
  const results: Record<string, unknown> = {};
  const console: Console = {
    interactive: false,
    json: false,
    color: false,
    verbosity: 0,
    info: () => {},
    warn: () => {},
    print: (text) => void printed.push(text),
    result: (kind, value) => {
      results[kind] = value;
    },
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  register(program, async (action) => {
    await action({ console, signal: new AbortController().signal, env: {}, cwd, yes: true });
  });
  const error = await program.parseAsync(['etcd', ...argv], { from: 'user' }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { printed: printed.join('\n'), results, error };
}

describe('etcd backup list', () => {
  test('shows the newest first', async () => {
    await put('demo-20261123T081626Z', { time: '2026-11-23T08:16:26Z', revision: 12 });
    await put('demo-20261124T081626Z');
    await put('other', { cluster: 'other' });
    const { printed, error, results } = await run('backup', 'list');
    expect(error).toBeUndefined();
    expect(printed.split('\n').filter((line) => line.includes('.db'))).toEqual([
      expect.stringMatching(/demo-20261124T081626Z\.db.*568.*333.*0\.0 MiB.*1\.36\.4.*m1/),
      expect.stringMatching(/demo-20261123T081626Z\.db.* 12 /),
    ]);
    expect(results['etcd-backups']).toMatchObject({
      folder: home.backups,
      snapshots: [{ revision: 568 }, { revision: 12 }],
    });
  });

  test('takes its options behind its own name', async () => {
    const { printed } = await run('backup', 'list', '--cluster', 'demo', '--output', 'elsewhere');
    expect(printed).toBe(`No snapshot of demo in ${path.join(cwd, 'elsewhere')}.`);
  });
});

describe('etcd backup', () => {
  test.each(['0', '-1', 'x', '1.5'])('refuses to keep %s', async (keep) => {
    expect((await run('backup', '--keep', keep)).error).toMatchObject({ code: 'commander.invalidArgument' });
  });
});

describe('etcd restore refuses, and leaves no trace', () => {
  async function refused(...argv: string[]) {
    const { error } = await run('restore', ...argv);
    expect((await readdir(home.root)).sort()).toEqual(['backups', 'cluster.yaml']);
    return error;
  }

  test('a snapshot that is not there', async () => {
    expect(await refused('none')).toMatchObject({
      code: 'snapshot-missing',
      exitCode: 2,
      where: path.join(cwd, 'none'),
    });
  });

  test('a damaged one', async () => {
    const file = await put('a');
    const data = await readFile(file);
    await writeFile(file, data.fill(2, 3000, 3001));
    expect(await refused('a')).toMatchObject({ code: 'snapshot-unusable', exitCode: 2, where: file });
  });

  test('one that is cut off', async () => {
    const file = await put('a');
    await writeFile(file, (await readFile(file)).subarray(0, 4000));
    expect(await refused('a.db')).toMatchObject({
      message: 'a.db is cut off: its size is none that a snapshot has. Nothing was changed.',
    });
  });

  test('one of another cluster', async () => {
    const file = await put('a', { cluster: 'other' });
    expect(await refused(file)).toMatchObject({
      code: 'snapshot-of-another-cluster',
      exitCode: 2,
      message: 'The snapshot is of the cluster other, not of demo.',
      next: 'If it is meant to replace demo, say so with --from-cluster other.',
    });
    expect(await refused(file, '--from-cluster', 'third')).toMatchObject({ code: 'snapshot-of-another-cluster' });
  });

  test('one of a newer Kubernetes', async () => {
    await put('a', { kubernetes: '1.37.0' });
    expect(await refused('a')).toMatchObject({
      code: 'snapshot-newer',
      next: 'Write kubernetes.version: 1.37.0 in cluster.yaml, then restore.',
    });
  });

  test('while another operation is pending', async () => {
    await put('a');
    await beginOperation(home, {
      command: 'upgrade',
      subject: '1.36.4',
      again: 'k8s-ans upgrade --to 1.36.4',
      data: {},
    });
    expect((await run('restore', 'a')).error).toMatchObject({ code: 'operation-pending', exitCode: 4 });
  });
});
