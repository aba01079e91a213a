/** The collection's modules and actions: their Python tests, and real runs on this machine in temporary folders. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ensurePki } from '../../ts/pki/ensure.js';
import { renderCluster } from '../../ts/render/render.js';
import { writeRendered } from '../../ts/render/write.js';
import { clusterHome } from '../../ts/types/home.js';
import { packageRoot } from '../../ts/types/package.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { type Recorded, record, resultsOf, testAnsible } from './ansible.js';

const TIMEOUT = 600_000;
const CANARY = 'canary-27c1f9d0-value';
const PYTHON_TESTS = [
  'test_argument_specs',
  'test_certificates',
  'test_drain',
  'test_etcd_backup',
  'test_etcd_members',
  'test_etcd_restore',
  'test_events',
  'test_file_entries',
  'test_host_facts',
  'test_host_reset',
  'test_host_status',
  'test_host_store',
  'test_kubelet_state',
  'test_ledger',
  'test_manifests',
  'test_node_taints',
  'test_pki_check',
  'test_preflight',
  'test_published_trust',
  'test_unit_converger',
  'test_unit_state',
  'test_upgrade_parts',
  'test_version_skew',
];

test('the pure parts, as their Python tests say', { timeout: TIMEOUT }, async () => {
  const python = await pythonOfAnsible();
  const { all, exitCode } = await execa(python, ['-B', '-m', 'unittest', ...PYTHON_TESTS], {
    cwd: path.join(packageRoot(), 'test', 'unit', 'python'),
    all: true,
    reject: false,
  });
  expect(all).toMatch(/Ran \d{2,} tests in/);
  expect(exitCode, all).toBe(0);
});

// The one that compares signatures takes the library that hostprep installs.
test('what runs on the hosts is Python 3.9 and needs only its standard library', { timeout: TIMEOUT }, async () => {
  const python = await pythonOfAnsible();
  const code = `
import ast, sys
allowed = set(sys.stdlib_module_names) | {'ansible', 'ansible_collections'}
for path in sys.argv[1:]:
    extra = {'cryptography'} if path.endswith('/kubelet_state.py') else set()
    tree = ast.parse(open(path).read(), path, feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split('.')[0] in allowed | extra, (path, name)
            assert not name.startswith('ansible.') or name.startswith('ansible.module_utils.'), (path, name)
`;
  const files: string[] = [];
  for (const folder of ['modules', 'module_utils']) {
    const base = path.join(packageRoot(), 'ansible', 'plugins', folder);
    files.push(...(await readdir(base)).filter((name) => name.endsWith('.py')).map((name) => path.join(base, name)));
  }
  const { all, exitCode } = await execa(python, ['-c', code, ...files], { all: true, reject: false });
  expect(exitCode, all).toBe(0);
});

describe('real runs', () => {
  let base: string;
  let extraVars: string;

  beforeEach(async () => {
    base = path.join(os.tmpdir(), `k8s-ans-plugins-${process.pid}`);
    await rm(base, { recursive: true, force: true });
    await mkdir(base, { mode: 0o700 });
    extraVars = path.join(base, 'vars.json');
    await writeFile(extraVars, JSON.stringify({ base }));
  });
  afterEach(() => rm(base, { recursive: true, force: true }));

  const at = (...names: string[]) => path.join(base, ...names);
  const mode = async (...names: string[]) => ((await stat(at(...names))).mode & 0o7777).toString(8);
  const text = (...names: string[]) => readFile(path.resolve(base, ...names), 'utf8');
  const one = (recorded: Recorded, name: string) => {
    const [result] = resultsOf(recorded.events, name);
    if (!result) throw new Error(`no result of ${name}:\n${recorded.log}`);
    return result;
  };

  test('files', { timeout: TIMEOUT }, async () => {
    const all = [
      'conf',
      'conf/app.conf',
      'conf/raw.bin',
      'conf/secret',
      'conf/undeclared',
      'hosts',
      'deep/er/file',
      'link',
    ];
    await writeFile(at('hosts'), '127.0.0.1 localhost', { mode: 0o604 });
    await writeFile(at('old'), 'old');
    const expected = [...all, 'old'].map((name) => at(name));
    const run = (options = {}) =>
      record('plugins/files.yml', {
        extraVars: [extraVars],
        env: { ...process.env, TEST_CANARY: CANARY },
        verbosity: 3,
        ...options,
      });

    const foretold = await run({ check: true, diff: true });
    expect(one(foretold, 'Install files')).toMatchObject({ status: 'changed', changed_files: expected });
    expect((await readdir(base)).sort()).toEqual(['hosts', 'old', 'vars.json']);
    expect(foretold.log).toContain('+name: a hello');
    expect(foretold.log).toContain('<secret, sha256 ');
    expect(foretold.log + JSON.stringify(foretold.events)).not.toContain(CANARY);

    const first = await run({ diff: true });
    expect(one(first, 'Install files')).toMatchObject({ status: 'changed', changed_files: expected });
    expect(await text('conf', 'app.conf')).toBe(
      '# Ansible managed app.conf.j2\nname: a hello back\\slash\nname: c hello back\\slash\npart of 3\n{{ 1 + 1 }}\n',
    );
    expect(await text('conf', 'raw.bin')).toBe('raw {{ not_a_template }}\0\u0001');
    expect(await text('hosts')).toBe(
      '127.0.0.1 localhost\n# BEGIN k8s-ans\n10.0.0.1 one\n10.0.0.2 two\n# END k8s-ans\n',
    );
    expect(await text('conf', 'secret')).toBe(`${CANARY}\n`);
    expect(await readlink(at('link'))).toBe('conf/app.conf');
    expect([
      await mode('conf'),
      await mode('conf', 'app.conf'),
      await mode('conf', 'secret'),
      await mode('hosts'),
    ]).toEqual(['750', '644', '600', '604']);
    expect((await readdir(base)).sort()).toEqual(['conf', 'deep', 'hosts', 'link', 'vars.json']);
    expect((await readdir(at('conf'))).sort()).toEqual(['app.conf', 'raw.bin', 'secret', 'undeclared']);
    expect(first.log + JSON.stringify(first.events)).not.toContain(CANARY);

    // Nothing of the lists that were refused has been installed.
    expect(one(first, 'Refuse what does not validate').msg).toBe(
      `${at('bad')}: the new content was refused by "cat %s /nowhere" (exit code 1); nothing was changed. ` +
        '(output withheld, the file is a secret)',
    );
    expect(one(first, 'Refuse a wrong entry').msg).toContain(
      `files[0] (${at('never')}): mode must be a quoted octal string such as '0644', got 644`,
    );
    expect(one(first, 'Refuse to replace a directory').msg).toContain(`${base} is a directory, not a file`);
    expect(one(first, 'Refuse a unit that is there twice').msg).toBe('app.service is in the list twice');
    expect(one(first, 'Refuse a unit with an unknown key').msg).toContain('restart_files');

    const before = await stat(at('conf', 'app.conf'));
    const again = await run({ diff: true });
    expect(one(again, 'Install files')).toMatchObject({ status: 'ok' });
    expect(one(again, 'Install files').changed_files).toBeUndefined();
    expect((await stat(at('conf', 'app.conf'))).ctimeMs).toBe(before.ctimeMs);
  });

  test('binaries', { timeout: TIMEOUT }, async () => {
    const contents = { one: 'first binary', two: 'second binary' };
    const sums = Object.fromEntries(
      Object.entries(contents).map(([name, content]) => [name, createHash('sha256').update(content).digest('hex')]),
    );
    for (const [name, content] of Object.entries(contents)) await writeFile(at(name), content);
    await writeFile(extraVars, JSON.stringify({ base, sums }));
    const run = (options = {}) => record('plugins/binaries.yml', { extraVars: [extraVars], ...options });
    const installed = [at('bin', 'one'), at('bin', 'two'), at('cni', 'twin')];

    const foretold = await run({ check: true });
    expect(one(foretold, 'Install binaries')).toMatchObject({ status: 'changed', changed_files: installed });
    expect((await readdir(base)).sort()).toEqual(['one', 'two', 'vars.json']);

    const first = await run();
    expect(one(first, 'Install binaries')).toMatchObject({
      status: 'changed',
      changed_files: installed,
      bytes_sent: contents.one.length + contents.two.length,
    });
    expect([await text('bin', 'one'), await text('bin', 'two'), await text('cni', 'twin')]).toEqual([
      contents.one,
      contents.two,
      contents.two,
    ]);
    expect([await mode('bin', 'one'), await mode('bin', 'two'), await mode('cni', 'twin')]).toEqual([
      '755',
      '700',
      '755',
    ]);
    expect(await readdir(at('work'))).toEqual(['.binaries.json']);
    expect(one(first, 'Refuse what was altered').msg).toContain(
      `one: what arrived has the sha256 ${sums.two} and not ${sums.one}; it was not installed.`,
    );
    expect(await readdir(at('bin'))).toEqual(['one', 'two']);
    expect(one(first, 'Refuse what is not there').msg).toContain(
      'cannot be read on the control machine (No such file or directory); run k8s-ans artifacts fetch',
    );

    // Somebody changed one of them; the others are neither sent nor touched.
    await writeFile(at('bin', 'one'), 'evil. binary');
    const mended = await run();
    expect(one(mended, 'Install binaries')).toMatchObject({
      changed_files: [at('bin', 'one')],
      bytes_sent: contents.one.length,
    });
    expect(await text('bin', 'one')).toBe(contents.one);

    const again = await run();
    expect(one(again, 'Install binaries').status).toBe('ok');
    expect(one(again, 'Install binaries').bytes_sent).toBeUndefined();
  });

  test('binaries that are staged first', { timeout: TIMEOUT }, async () => {
    const contents = { one: 'first binary', two: 'second binary' };
    const sums = Object.fromEntries(
      Object.entries(contents).map(([name, content]) => [name, createHash('sha256').update(content).digest('hex')]),
    );
    for (const [name, content] of Object.entries(contents)) await writeFile(at(name), content);
    await writeFile(extraVars, JSON.stringify({ base, sums }));
    const recorded = await record('plugins/staged.yml', { extraVars: [extraVars] });
    const sent = contents.one.length + contents.two.length;
    expect(one(recorded, 'Stage')).toMatchObject({ status: 'changed', bytes_sent: sent });
    expect(one(recorded, 'See what was staged, and that nothing was installed').status, recorded.log).toBe('ok');
    expect(one(recorded, 'Stage again').status).toBe('ok');
    // What waits there is not sent again.
    expect(one(recorded, 'Install a part')).toMatchObject({ status: 'changed', changed_files: [at('bin', 'one')] });
    expect(one(recorded, 'Install a part').bytes_sent).toBeUndefined();
    expect(one(recorded, 'Install the rest')).toMatchObject({ status: 'changed', changed_files: [at('bin', 'two')] });
    expect(one(recorded, 'Install the rest').bytes_sent).toBeUndefined();
    expect([await text('bin', 'one'), await text('bin', 'two')]).toEqual([contents.one, contents.two]);
    expect(await readdir(at('store'))).toEqual(['.binaries.json']);
  });

  test('host_checks and preflight', { timeout: TIMEOUT }, async () => {
    const recorded = await record('plugins/preflight.yml');
    expect(one(recorded, 'See that the facts are there').status, recorded.log).toBe('ok');
    const judged = one(recorded, 'Judge');
    expect(judged.status).toBe('failed');
    expect(judged.msg).toContain('preflight refused 2 hosts, nothing was changed. here: ');
    expect(judged.msg).toContain('here: does not have the address 192.0.2.99; it has ');
    expect(judged.msg).toContain('lost: did not answer; check that the host is up');
  });

  test(
    'without the command line the cluster variables follow from the inventory, and are the same',
    {
      timeout: TIMEOUT,
    },
    async () => {
      const rendered = path.join(packageRoot(), 'test', 'fixtures', 'render', 'guide');
      const variables = parse(await text(rendered, 'group_vars', 'all.yml')) as Record<string, unknown>;
      const defaults = parse(await text(packageRoot(), 'roles', 'k8s', 'defaults', 'main.yml')) as object;
      const names = Object.keys(defaults).filter((name) => name !== 'k8s_pki_dir');
      const inventory = at('hosts.yml');
      await writeFile(inventory, await text(rendered, 'hosts.yml'));
      await writeFile(extraVars, JSON.stringify({ base, names, k8s_cluster_name: 'guide', k8s_interface: 'eth0' }));
      const recorded = await record('plugins/k8s.yml', { extraVars: [extraVars], inventory });
      expect(recorded.result.outcome, recorded.log).toBe('done');
      expect(JSON.parse(await text('k8s.json'))).toEqual(
        Object.fromEntries(names.map((name) => [name, variables[name]])),
      );
    },
  );

  test('the roles take the certificates that the command line makes', { timeout: TIMEOUT }, async () => {
    const spec = exampleCluster({ hosts: [exampleHost('one', '192.0.2.11', ['masters', 'nodes', 'etcd'])] });
    const home = clusterHome(base);
    await writeRendered(home, renderCluster(spec));
    await ensurePki(spec, home);
    const recorded = await record('plugins/pki.yml', { inventory: home.inventory });
    expect(one(recorded, 'Check what the command line has made').status, recorded.log).toBe('ok');
    const lines = ['server', 'peer'].map(
      (name) => `${home.pki}/hosts/one/etcd-${name}.crt lacks the subject alternative name 192.0.2.99`,
    );
    expect(one(recorded, 'Refuse another address').msg).toBe(
      `there are 2 problems with the certificates, and nothing was changed: ${lines.join('; ')}. ` +
        'What each has to be is in the table of docs/pki.md',
    );
    expect(one(recorded, 'Find and make kubeconfigs').status, recorded.log).toBe('ok');
  });

  test(
    'the preflight playbook tells of all hosts, also where one is dead and one has no Python',
    {
      timeout: TIMEOUT,
    },
    async () => {
      const inventory = at('hosts.yml');
      const hosts = {
        dead: { ansible_host: '127.0.0.1', ansible_port: 1, k8s_node_address: '192.0.2.97' },
        bare: {
          ansible_connection: 'local',
          ansible_python_interpreter: '/nowhere/python3',
          k8s_node_address: '192.0.2.98',
        },
        here: {
          ansible_connection: 'local',
          ansible_python_interpreter: '{{ ansible_playbook_python }}',
          k8s_node_address: '192.0.2.99',
        },
      };
      const vars = { k8s_data_dir: '/', k8s_api_port: 6443, k8s_proxy_port: 8443 };
      await writeFile(inventory, JSON.stringify({ k8s: { children: { nodes: { hosts } }, vars } }));
      const recorded = await record('', { playbook: 'k8s_ans.cluster.preflight', inventory });
      const judged = one(recorded, 'Judge all hosts together');
      expect(judged.status, recorded.log).toBe('failed');
      expect(judged.msg).toContain('preflight refused 3 hosts, nothing was changed. ');
      expect(judged.msg).toContain('dead: did not answer; check that the host is up');
      expect(judged.msg).toMatch(/bare: could not be looked at: .*\/nowhere\/python3/);
      expect(judged.msg).toContain('here: does not have the address 192.0.2.99; it has ');
    },
  );
});

/** The interpreter of the environment that the runs use. */
async function pythonOfAnsible(): Promise<string> {
  return path.join(path.dirname((await testAnsible()).playbook), 'python3');
}
