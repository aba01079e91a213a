/** `state export` and `state import`, on homes in temporary folders. */
import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { passphraseFault } from '../../ts/commands/state/passphrase.js';
import { references } from '../../ts/commands/state/references.js';
import { register } from '../../ts/commands/state.js';
import { acquireRunLock } from '../../ts/playbook/lock.js';
import { buildReport } from '../../ts/report/model.js';
import { parseSpec } from '../../ts/spec/load.js';
import { resolveCluster } from '../../ts/spec/resolve.js';
import type { Spec } from '../../ts/spec/schema.js';
import { writeArchive } from '../../ts/state/archive.js';
import { deriveKey, makeHeader, type SealOptions, seal } from '../../ts/state/seal.js';
import type { Console } from '../../ts/types/console.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { temporaryFolder } from '../fixtures/folders.js';

// The real cost takes 128 MiB and a second each time; the least that import takes does as well here.
vi.mock('../../ts/state/seal.js', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../ts/state/seal.js')>();
  const cost = { log2N: 15, r: 8, p: 1 };
  return { ...original, makeHeader: (options: SealOptions) => original.makeHeader({ ...options, cost }) };
});
vi.setConfig({ testTimeout: 30_000 });

const passphrase = 'one two three four';
const spec = `# Kept as it is.
name: demo
hosts:
  - {name: m1, address: 10.0.0.1, roles: [masters]}
ssh: {privateKey: ssh/id_ed25519, knownHosts: ssh/known_hosts}
audit: {policyFile: audit.yaml}
`;

let here: string;
let there: string;
let home: ClusterHome;

beforeEach(async () => {
  here = await temporaryFolder();
  there = await temporaryFolder();
  home = clusterHome(path.join(here, 'inventory', 'demo'));
  await put({
    'cluster.yaml': spec,
    'artifacts.lock': 'amd64: {}\n',
    kubeconfig: 'apiVersion: v1\n',
    'deployed.json': '{"version": 1}\n',
    'pki/ca.key': 'the key\n',
    'pki/ca.crt': 'the certificate\n',
    'pki/ca.key.123456789': 'half-written',
    'pki/hosts/m1/apiserver.key': 'another key\n',
    'ssh/id_ed25519': 'private\n',
    'ssh/id_ed25519.pub': 'public\n',
    'ssh/known_hosts': 'm1 ssh-ed25519 AAAA\n',
    'audit.yaml': 'kind: Policy\n',
    // What another machine makes again, or must not have.
    'hosts.yml': 'old',
    'group_vars/all.yml': 'old',
    'environment.sh': 'old',
    'lab.json': '{}',
    'notes.txt': 'mine',
    'runs/20261124T080000Z-deploy/report.json': `${JSON.stringify(report('20261124T080000Z-deploy'))}\n`,
    'runs/20261124T080000Z-deploy/report.html': 'old',
    'runs/20261124T080000Z-deploy/ansible.log': 'long',
    'runs/20261124T080000Z-deploy/events.jsonl': 'long',
    'runs/20261124T090000Z-deploy/report.json': '{"version": 999}\n',
    'runs/20261124T100000Z-killed/events.jsonl': 'long',
    'backups/20261124T080000Z.db': 'snapshot',
  });
  await symlink('20261124T090000Z-deploy', path.join(home.runs, 'latest'));
});

async function put(files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(home.root, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text, { mode: 0o644 });
  }
}

function report(id: string) {
  const versions = { tool: '0.1.0', kubernetes: '1.36.4' };
  return buildReport({
    ...{ id, command: 'deploy', cluster: 'demo', versions, outcome: 'done', check: false },
    ...{ start: 0, end: 1000, log: `/elsewhere/${id}/ansible.log`, events: [] },
  });
}

interface Outcome {
  readonly printed: string;
  readonly warned: ReadonlyArray<string>;
  readonly result: Record<string, unknown>;
  readonly error: unknown;
}

async function run(
  cwd: string,
  argv: string[],
  env: NodeJS.ProcessEnv = { K8S_ANS_PASSPHRASE: passphrase },
): Promise<Outcome> {
  const printed: string[] = [];
  const warned: string[] = [];
  let result: Record<string, unknown> = {};
  const console: Console = {
    interactive: false,
    json: false,
    color: false,
    verbosity: 0,
    info: (message) => void printed.push(message),
    warn: (message) => void warned.push(message),
    print: (text) => void printed.push(text),
    result: (_, value) => {
      result = JSON.parse(JSON.stringify(value));
    },
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  register(program, async (action) => {
    await action({ console, signal: new AbortController().signal, env, cwd });
  });
  const error = await program.parseAsync(['state', ...argv], { from: 'user' }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return { printed: printed.join('\n'), warned, result, error };
}

async function exported(...argv: string[]): Promise<string> {
  const file = path.join(here, 'demo.state');
  expect((await run(here, ['export', file, ...argv])).error).toBeUndefined();
  return file;
}

/** All files below a folder with their content; links with where they lead. */
async function tree(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of (await readdir(root, { recursive: true })).sort()) {
    const file = path.join(root, name);
    // Some versions of Node list what is behind a link as well.
    if (name.startsWith(path.join('runs', 'latest', path.sep))) continue;
    const entry = await lstat(file);
    if (entry.isSymbolicLink()) found[name] = `-> ${await readlink(file)}`;
    else if (entry.isFile()) found[name] = await readFile(file, 'utf8');
  }
  return found;
}

describe('export and import', () => {
  test('carry what another machine needs, and what it can make again is made there', async () => {
    const file = await exported();
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(here)).toEqual(['demo.state', 'inventory']);
    expect(await readdir(home.root)).not.toContain('.lock');

    const { printed, warned, result, error } = await run(there, ['import', file]);
    expect(error).toBeUndefined();
    expect(warned).toEqual([]);
    const made = path.join(there, 'inventory', 'demo');
    expect(printed).toContain(`Imported the cluster demo to ${made}: 13 files, 2 runs in its history, as of `);
    expect(result).toMatchObject({
      home: made,
      cluster: 'demo',
      backups: false,
      aside: null,
      missing: [],
      pending: null,
    });
    expect(await readdir(path.join(there, 'inventory'))).toEqual(['demo']);

    const { 'hosts.yml': hosts, 'group_vars/all.yml': variables, 'environment.sh': shell, ...rest } = await tree(made);
    const page = 'runs/20261124T080000Z-deploy/report.html';
    expect(rest[page]).toContain('<!doctype html>');
    expect({ ...rest, [page]: '' }).toEqual({
      'cluster.yaml': spec,
      'artifacts.lock': 'amd64: {}\n',
      kubeconfig: 'apiVersion: v1\n',
      'deployed.json': '{"version": 1}\n',
      'pki/ca.key': 'the key\n',
      'pki/ca.crt': 'the certificate\n',
      'pki/hosts/m1/apiserver.key': 'another key\n',
      'ssh/id_ed25519': 'private\n',
      'ssh/id_ed25519.pub': 'public\n',
      'ssh/known_hosts': 'm1 ssh-ed25519 AAAA\n',
      'audit.yaml': 'kind: Policy\n',
      'runs/20261124T080000Z-deploy/report.json': `${JSON.stringify(report('20261124T080000Z-deploy'))}\n`,
      [page]: '',
      'runs/20261124T090000Z-deploy/report.json': '{"version": 999}\n',
      'runs/latest': '-> 20261124T090000Z-deploy',
    });
    // The paths are those of the new place.
    expect(hosts).toContain(path.join(made, 'ssh', 'id_ed25519'));
    expect(variables).toContain(path.join(made, 'audit.yaml'));
    expect(shell).toContain('export SERVICE_CIDR="10.254.0.0/16"');
  });

  test('make everything private, whatever it was', async () => {
    await run(there, ['import', await exported()]);
    const made = path.join(there, 'inventory', 'demo');
    const names = await readdir(made, { recursive: true });
    for (const name of ['', ...names.filter((entry) => !entry.endsWith('latest'))]) {
      const { mode } = await stat(path.join(made, name));
      const isFile = (await stat(path.join(made, name))).isFile();
      expect([name, (mode & 0o7777).toString(8)]).toEqual([name, isFile ? '600' : '700']);
    }
  });

  test('take snapshots along when asked to', async () => {
    const { result } = await run(there, ['import', await exported('--with-backups'), '--dir', 'elsewhere']);
    expect(result).toMatchObject({ home: path.join(there, 'elsewhere'), backups: true });
    expect(await readFile(path.join(there, 'elsewhere', 'backups', '20261124T080000Z.db'), 'utf8')).toBe('snapshot');
  });

  test('are the same file to nobody twice', async () => {
    const first = await readFile(await exported());
    const second = await readFile(await exported('--force'));
    expect(first.subarray(16, 55).equals(second.subarray(16, 55))).toBe(false);
  });
});

describe('export', () => {
  test('replaces no file unasked', async () => {
    const file = await exported();
    const before = await readFile(file);
    expect((await run(here, ['export', file])).error).toMatchObject({ code: 'file-exists', exitCode: 2, where: file });
    expect((await readFile(file)).equals(before)).toBe(true);
  });

  test('waits for no other command, and takes nothing half-changed', async () => {
    const lock = await acquireRunLock(home, 'k8s-ans deploy');
    const { error } = await run(here, ['export', 'demo.state']);
    await lock.release();
    expect(error).toMatchObject({ code: 'cluster-locked', exitCode: 4 });
    expect(await readdir(here)).toEqual(['inventory']);
  });

  test('leaves nothing behind when it cannot write', async () => {
    const { error } = await run(here, ['export', 'missing/demo.state']);
    expect(error).toMatchObject({ code: 'state-unwritable', exitCode: 4 });
    expect(await readdir(home.root)).not.toContain('.lock');
  });

  test('warns of what the file does not hold', async () => {
    await put({
      'cluster.yaml': `name: demo
hosts:
  - {name: m1, address: 10.0.0.1, roles: [masters], vars: {ansible_ssh_private_key_file: /keys/m1}}
ssh: {privateKey: ~/.ssh/demo, knownHosts: ${home.root}/ssh/known_hosts}
artifacts: {source: {directory: bundle}}
`,
    });
    const { warned, error } = await run(here, ['export', 'demo.state']);
    expect(error).toBeUndefined();
    expect(warned).toEqual([
      'ssh.privateKey (~/.ssh/demo) is not in the file: take it to the other machine, to the same path.',
      `ssh.knownHosts is written as an absolute path (${home.root}/ssh/known_hosts): change it where the home lies elsewhere.`,
      'artifacts.source.directory (bundle) is not in the file: take it to the other machine, to the same path.',
      'hosts[0].vars.ansible_ssh_private_key_file (/keys/m1) is not in the file: take it to the other machine, to the same path.',
    ]);
    const imported = await run(there, ['import', path.join(here, 'demo.state')]);
    expect(imported.error).toBeUndefined();
    expect(imported.warned.at(-1)).toBe(
      'The spec names a file that this machine has not: hosts[0].vars.ansible_ssh_private_key_file, /keys/m1',
    );
  });
});

describe('import', () => {
  const nothingWritten = async (): Promise<void> => expect(await readdir(there)).toEqual([]);

  test('refuses a wrong passphrase and a damaged file whole', async () => {
    const file = await exported();
    const wrong = await run(there, ['import', file], { K8S_ANS_PASSPHRASE: 'another one altogether' });
    expect(wrong.error).toMatchObject({ code: 'state-refused', exitCode: 2, where: file });
    await nothingWritten();
    const bytes = await readFile(file);
    for (const [name, damaged] of Object.entries({
      truncated: bytes.subarray(0, -1),
      extended: Buffer.concat([bytes, Buffer.from('x')]),
      changed: Buffer.from(bytes.map((byte, index) => (index === bytes.length - 100 ? byte ^ 1 : byte))),
    })) {
      await writeFile(path.join(here, name), damaged);
      expect((await run(there, ['import', path.join(here, name)])).error, name).toMatchObject({
        code: 'state-refused',
      });
      await nothingWritten();
    }
  });

  test('refuses what is no state file, and what is not there', async () => {
    await writeFile(path.join(here, 'other'), 'x'.repeat(1000));
    expect((await run(there, ['import', path.join(here, 'other')])).error).toMatchObject({
      code: 'state-no-state-file',
    });
    expect((await run(there, ['import', 'missing'])).error).toMatchObject({ code: 'state-unreadable', exitCode: 2 });
    await nothingWritten();
  });

  test('refuses a home that is there, and moves it aside when forced to', async () => {
    const file = await exported();
    const made = path.join(there, 'inventory', 'demo');
    await mkdir(made, { recursive: true });
    await writeFile(path.join(made, 'cluster.yaml'), 'old');
    expect((await run(there, ['import', file])).error).toMatchObject({ code: 'state-home-exists', where: made });
    expect(await tree(path.join(there, 'inventory'))).toEqual({ 'demo/cluster.yaml': 'old' });

    const lock = await acquireRunLock(clusterHome(made), 'k8s-ans deploy');
    expect((await run(there, ['import', file, '--force'])).error).toMatchObject({ code: 'cluster-locked' });
    await lock.release();
    expect(await tree(path.join(there, 'inventory'))).toEqual({ 'demo/cluster.yaml': 'old' });

    const { result, error } = await run(there, ['import', file, '--force']);
    expect(error).toBeUndefined();
    expect(await tree(result.aside as string)).toEqual({ 'cluster.yaml': 'old' });
    expect(await readFile(path.join(made, 'cluster.yaml'), 'utf8')).toBe(spec);
    expect(await readdir(made)).not.toContain('.lock');
  });

  test('takes the place of an empty folder, but not of the current one', async () => {
    const file = await exported();
    await mkdir(path.join(there, 'inventory', 'demo'), { recursive: true });
    expect((await run(there, ['import', file, '--dir', '.'])).error).toMatchObject({ code: 'state-into-cwd' });
    expect((await run(there, ['import', file])).error).toBeUndefined();
  });

  test('clears away what a killed import left, and lets only one go on at a time', async () => {
    const file = await exported();
    const staging = path.join(there, 'inventory', '.demo.importing');
    await mkdir(path.join(staging, 'pki'), { recursive: true });
    await writeFile(path.join(staging, 'pki', 'stale.key'), 'half');
    const lock = await acquireRunLock(clusterHome(staging), 'k8s-ans state import');
    expect((await run(there, ['import', file])).error).toMatchObject({ code: 'cluster-locked' });
    expect(await readdir(path.join(staging, 'pki'))).toEqual(['stale.key']);
    await lock.release();
    expect((await run(there, ['import', file])).error).toBeUndefined();
    expect(await readdir(path.join(there, 'inventory'))).toEqual(['demo']);
    expect(await readdir(path.join(there, 'inventory', 'demo', 'pki'))).toEqual(['ca.crt', 'ca.key', 'hosts']);
  });

  test('tells of an operation that is pending', async () => {
    await put({
      'operation.json': JSON.stringify({
        ...{ version: 1, command: 'upgrade', subject: '1.36.4', again: 'k8s-ans upgrade --to 1.36.4' },
        ...{ since: '2026-11-24T08:00:00Z', data: {} },
      }),
    });
    const { printed, result } = await run(there, ['import', await exported()]);
    expect(result.pending).toBe('k8s-ans upgrade --to 1.36.4');
    expect(printed).toContain('An operation is pending: finish it with `k8s-ans upgrade --to 1.36.4`.');
  });

  describe('refuses content that no export writes', () => {
    const text = (path: string, content: string) => {
      const bytes = Buffer.from(content);
      return { path, size: bytes.length, mtime: new Date(0), content: [bytes] };
    };
    const manifest = (files: Array<{ path: string; size: number }>, more = {}) =>
      text(
        'k8s-ans-state.json',
        JSON.stringify({
          ...{
            kind: 'k8s-ans-state',
            version: 1,
            cluster: 'demo',
            tool: '0.1.0',
            exported: 'now',
            backups: false,
            files,
          },
          ...more,
        }),
      );
    const good = 'name: demo\nhosts: [{name: m1, address: 10.0.0.1, roles: [masters]}]\n';
    const list = [{ path: 'cluster.yaml', size: good.length }];

    async function imported(...entries: Array<ReturnType<typeof text>>): Promise<unknown> {
      const header = makeHeader();
      const parts: Buffer[] = [];
      for await (const part of seal(writeArchive(entries), await deriveKey(passphrase, header), header))
        parts.push(part);
      await writeFile(path.join(here, 'hostile'), Buffer.concat(parts));
      return (await run(there, ['import', path.join(here, 'hostile')])).error;
    }

    test('though the same, well made, is taken', async () => {
      expect(await imported(manifest(list), text('cluster.yaml', good))).toBeUndefined();
    });

    test.each([
      ['no list of files', () => [text('cluster.yaml', good)]],
      ['a file too many', () => [manifest(list), text('cluster.yaml', good), text('pki/ca.key', 'x')]],
      ['a file too few', () => [manifest([...list, { path: 'pki/ca.key', size: 1 }]), text('cluster.yaml', good)]],
      ['another size', () => [manifest([{ path: 'cluster.yaml', size: 1 }]), text('cluster.yaml', good)]],
      [
        'a lock',
        () => [manifest([...list, { path: '.lock', size: 1 }]), text('cluster.yaml', good), text('.lock', 'x')],
      ],
      ['the spec of another cluster', () => [manifest(list, { cluster: 'other' }), text('cluster.yaml', good)]],
    ])('%s', async (_, entries) => {
      expect(await imported(...entries())).toMatchObject({ code: 'state-archive', exitCode: 2 });
      await nothingWritten();
    });

    test('a newer list of files, and a spec that is none', async () => {
      expect(await imported(manifest(list, { version: 2 }))).toMatchObject({ code: 'state-format' });
      const bad = 'name: demo\n';
      expect(
        await imported(manifest([{ path: 'cluster.yaml', size: bad.length }]), text('cluster.yaml', bad)),
      ).toMatchObject({
        code: 'spec-invalid',
      });
      await nothingWritten();
    });
  });
});

describe('the passphrase', () => {
  test('comes from a file first, without its line end, else from the environment', async () => {
    const file = path.join(here, 'secret');
    await writeFile(file, 'another four words here\n', { mode: 0o600 });
    const out = await run(here, ['export', 'demo.state', '--passphrase-file', 'secret']);
    expect(out.error).toBeUndefined();
    const wrong = await run(there, ['import', path.join(here, 'demo.state')]);
    expect(wrong.error).toMatchObject({ code: 'state-refused' });
    const right = await run(there, ['import', path.join(here, 'demo.state')], {
      K8S_ANS_PASSPHRASE: 'another four words here',
    });
    expect(right.error).toBeUndefined();
  });

  test('is missed, and never asked for where nobody can answer', async () => {
    for (const command of ['export', 'import']) {
      expect((await run(here, [command, 'demo.state'], {})).error).toMatchObject({
        code: 'passphrase-missing',
        exitCode: 2,
      });
    }
  });

  test.each([
    ['short', 'it has 5 characters, and 12 are the least'],
    ['eleven char', 'it has 11 characters, and 12 are the least'],
    ['abababababababab', 'it repeats a few characters only'],
    ['x'.repeat(1025), 'it has more than 1024 characters'],
    ['twelve chars', undefined],
    // Characters are counted, not bytes.
    ['ääööüü123456', undefined],
  ])('%s', (text, fault) => {
    expect(passphraseFault(text)).toBe(fault);
  });

  test('that is weak protects nothing', async () => {
    expect((await run(here, ['export', 'demo.state'], { K8S_ANS_PASSPHRASE: 'short' })).error).toMatchObject({
      code: 'passphrase-weak',
      where: 'K8S_ANS_PASSPHRASE',
    });
    await expect(readdir(here)).resolves.toEqual(['inventory']);
  });

  test.each([
    ['', 'is not one line of text'],
    ['two\nlines of text', 'is not one line of text'],
    [Buffer.from([0xff, 0xfe, 0x41]), 'is not UTF-8'],
  ])('in a file %j', async (content, message) => {
    await writeFile(path.join(here, 'secret'), content, { mode: 0o600 });
    const { error } = await run(here, ['export', 'demo.state', '--passphrase-file', 'secret']);
    expect(error).toMatchObject({ code: 'passphrase-unreadable', message: expect.stringContaining(message) });
  });

  test('in a file that others can read is warned of', async () => {
    await writeFile(path.join(here, 'secret'), passphrase, { mode: 0o644 });
    const { warned } = await run(here, ['export', 'demo.state', '--passphrase-file', 'secret']);
    expect(warned).toEqual([`Others can read the passphrase: chmod 600 ${path.join(here, 'secret')}`]);
  });
});

test('references: inside or outside, relative or not', () => {
  const parsed = parseSpec(spec.replace('ssh/known_hosts', '../known_hosts'), 'cluster.yaml') as { spec: Spec };
  expect(references(parsed.spec, resolveCluster(parsed.spec, '/home'), '/home')).toEqual([
    { field: 'ssh.privateKey', written: 'ssh/id_ed25519', file: '/home/ssh/id_ed25519', inside: true, portable: true },
    { field: 'ssh.knownHosts', written: '../known_hosts', file: '/known_hosts', inside: false, portable: true },
    { field: 'audit.policyFile', written: 'audit.yaml', file: '/home/audit.yaml', inside: true, portable: true },
  ]);
});
