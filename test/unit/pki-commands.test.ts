/** `certs show` and `kubeconfig`, against a real PKI in a temporary folder. */
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Register } from '../../ts/cli/register.js';
import { register as certs } from '../../ts/commands/certs.js';
import { register as kubeconfig } from '../../ts/commands/kubeconfig.js';
import { ensurePki } from '../../ts/pki/ensure.js';
import type { Console } from '../../ts/types/console.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

let cwd: string;
let home: ClusterHome;
let user: string;

beforeAll(async () => {
  cwd = await temporaryFolder();
  home = clusterHome(path.join(cwd, 'inventory', 'lab'));
  await mkdir(home.root, { recursive: true, mode: 0o700 });
  await writeFile(home.spec, 'name: lab\n');
  const hosts = [exampleHost('m1', '10.0.0.1', ['masters', 'etcd'])];
  const pki = { caDays: 3650, certificateDays: 90, keyBits: 1024 };
  await ensurePki(exampleCluster({ name: 'lab', hosts, pki }), home);
}, 60_000);

beforeEach(async () => {
  user = await temporaryFolder();
});

interface Outcome {
  readonly printed: string;
  readonly said: string;
  readonly results: Record<string, unknown>;
  readonly error: unknown;
}

async function run(register: Register, argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const printed: string[] = [];
  const said: string[] = [];
  const results: Record<string, unknown> = {};
  const console: Console = {
    interactive: false,
    json: false,
    color: false,
    verbosity: 0,
    info: (message) => void said.push(message),
    warn: (message) => void said.push(message),
    print: (text) => void printed.push(text),
    result: (kind, value) => {
      results[kind] = JSON.parse(JSON.stringify(value));
    },
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  const context = { console, signal: new AbortController().signal, env: { HOME: user, ...env }, cwd };
  register(program, async (action) => void (await action(context)));
  const error = await program.parseAsync(argv, { from: 'user' }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { printed: printed.join('\n'), said: said.join('\n'), results, error };
}

describe('certs show', () => {
  test('lists every certificate, CAs first', async () => {
    const { printed, results, error } = await run(certs, ['certs', 'show', '--local']);
    expect(error).toBeUndefined();
    expect(printed).toMatch(/pki\/ca\.crt +│ kubernetes-ca +│ kubernetes-ca +│ \d{4}-\d\d-\d\d +│ +3649/);
    expect(printed).toContain('kubernetes-admin (system:masters)');
    const { certificates } = results.certificates as { certificates: Array<Record<string, unknown>> };
    expect(certificates.slice(0, 3).map((entry) => entry.path)).toEqual([
      'pki/ca.crt',
      'pki/etcd-ca.crt',
      'pki/front-proxy-ca.crt',
    ]);
    expect(certificates.find((entry) => entry.path === 'pki/hosts/m1/etcd-server.crt')).toMatchObject({
      commonName: 'm1',
      issuerCommonName: 'etcd-ca',
      dnsNames: ['localhost', 'm1'],
      addresses: ['10.0.0.1', '127.0.0.1'],
      usages: ['server', 'client'],
      daysLeft: 89,
    });
  });

  test('fails when one expires within the threshold, after it has listed them', async () => {
    const { printed, results, error } = await run(certs, [
      'certs',
      'show',
      '--local',
      '--days',
      '90',
      '--cluster',
      'lab',
    ]);
    expect(printed).toContain('apiserver.crt');
    expect(error).toMatchObject({ code: 'certificates-expiring', exitCode: 1, where: home.pki });
    const { expiring } = results.certificates as { expiring: string[] };
    expect(expiring).toContain('pki/admin.crt');
    expect(expiring).not.toContain('pki/ca.crt');
  });

  test('refuses a threshold that is no number, and a cluster without certificates', async () => {
    expect((await run(certs, ['certs', 'show', '--local', '--days', 'soon'])).error).toMatchObject({
      code: 'commander.invalidArgument',
    });
    const empty = path.join(user, 'empty');
    await mkdir(empty);
    await writeFile(path.join(empty, 'cluster.yaml'), 'name: empty\n');
    expect((await run(certs, ['certs', 'show', '--local', '--cluster', empty])).error).toMatchObject({
      code: 'pki-missing',
      exitCode: 4,
    });
  });
});

describe('certs rotate-ca', () => {
  test('refuses a CA that there is not, and a way back that stops half-way', async () => {
    expect((await run(certs, ['certs', 'rotate-ca', 'kubelet'])).error).toMatchObject({
      code: 'commander.invalidArgument',
      message: expect.stringContaining('Name one of kubernetes, etcd, front-proxy, or all.'),
    });
    expect((await run(certs, ['certs', 'rotate-ca', '--until', 'finish'])).error).toMatchObject({
      message: expect.stringContaining('Allowed choices are trust, reissue.'),
    });
    expect((await run(certs, ['certs', 'rotate-ca', '--undo', '--until', 'trust'])).error).toMatchObject({
      code: 'usage',
      exitCode: 2,
    });
  });
});

describe('kubeconfig', () => {
  const target = (): string => path.join(user, '.kube', 'config');

  test('prints the path and the export line', async () => {
    const { printed, results } = await run(kubeconfig, ['kubeconfig']);
    expect(printed).toBe(`${home.kubeconfig}\nexport KUBECONFIG=${home.kubeconfig}`);
    expect(results.kubeconfig).toEqual({ path: home.kubeconfig, merged: false });
  });

  test('--output writes a copy for the user alone', async () => {
    const file = path.join(user, "it's", 'config');
    const { printed } = await run(kubeconfig, ['kubeconfig', '--output', file]);
    expect(printed).toContain(`export KUBECONFIG='${user}/it'\\''s/config'`);
    expect(await readFile(file, 'utf8')).toBe(await readFile(home.kubeconfig, 'utf8'));
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test('--merge makes the file where there is none, and changes nothing the second time', async () => {
    await run(kubeconfig, ['kubeconfig', '--merge']);
    expect(parse(await readFile(target(), 'utf8'))).toEqual(parse(await readFile(home.kubeconfig, 'utf8')));
    const before = await stat(target(), { bigint: true });
    const { error, results } = await run(kubeconfig, ['kubeconfig', '--merge']);
    expect(error).toBeUndefined();
    expect(results.kubeconfig).toMatchObject({ backup: null, currentContext: 'lab', replaced: [] });
    expect((await stat(target(), { bigint: true })).mtimeNs).toBe(before.mtimeNs);
    expect(await readdir(path.dirname(target()))).toEqual(['config']);
  });

  test('--merge keeps comments, unknown fields, other entries and the current context, with a backup', async () => {
    const file = path.join(user, 'own');
    const text = `# mine
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions: [{name: tool, extension: {a: 1}}]
current-context: work
clusters:
- name: work
  cluster: {server: https://work.example.org, proxy-url: http://proxy.example.org} # the office
- name: lab
  cluster:
    server: https://old.example.org
    insecure-skip-tls-verify: true
    disable-compression: true
contexts:
- name: work
  context: {cluster: work, user: me, namespace: team}
users:
- name: me
  user: {exec: {command: login}}
- name: lab-admin
  user: {token: secret-canary}
`;
    await writeFile(file, text);
    const env = { KUBECONFIG: `:${file}:${path.join(user, 'second')}` };
    const { results, said } = await run(kubeconfig, ['kubeconfig', '--merge'], env);
    const merged = await readFile(file, 'utf8');
    const config = parse(merged);
    const source = parse(await readFile(home.kubeconfig, 'utf8'));
    expect(merged).toContain('# mine');
    expect(merged).toContain('# the office');
    expect(config['current-context']).toBe('work');
    expect(config.preferences).toEqual({ colors: true });
    expect(config.extensions).toEqual([{ name: 'tool', extension: { a: 1 } }]);
    expect(config.clusters).toEqual([
      parse(text).clusters[0],
      { name: 'lab', cluster: { ...source.clusters[0].cluster, 'disable-compression': true } },
    ]);
    expect(config.users).toEqual([parse(text).users[0], source.users[0]]);
    expect(config.contexts).toEqual([parse(text).contexts[0], source.contexts[0]]);
    expect(said).toContain('Replaced cluster lab');
    const { backup } = results.kubeconfig as { backup: string };
    expect(await readFile(backup, 'utf8')).toBe(text);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readdir(user)).sort()).toEqual([path.basename(backup), 'own'].sort());
  });

  test('--merge into something unreadable: refused, nothing quoted, nothing changed', async () => {
    await mkdir(path.dirname(target()));
    for (const text of ['clusters: [{name: secret-canary\nusers: ]', 'just text']) {
      await writeFile(target(), text);
      const { error } = await run(kubeconfig, ['kubeconfig', '--merge']);
      expect(error).toMatchObject({ code: 'kubeconfig-unreadable', exitCode: 2 });
      expect(`${error} ${(error as Error).stack}`).not.toContain('secret-canary');
      expect(await readFile(target(), 'utf8')).toBe(text);
    }
    expect(await readdir(path.dirname(target()))).toEqual(['config']);
  });

  test('--merge waits for no one: kubectl holds its lock', async () => {
    await mkdir(path.dirname(target()));
    await writeFile(`${target()}.lock`, '');
    expect((await run(kubeconfig, ['kubeconfig', '--merge'])).error).toMatchObject({ code: 'kubeconfig-locked' });
    expect(await readdir(path.dirname(target()))).toEqual(['config.lock']);
  });

  test('--output and --merge exclude each other', async () => {
    const { error } = await run(kubeconfig, ['kubeconfig', '--merge', '--output', 'x']);
    expect(error).toMatchObject({ exitCode: 2 });
  });
});
