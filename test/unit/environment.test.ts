/** What runs the playbooks: versions, Python, and the private environment. */
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ensureCollection } from '../../ts/playbook/collection.js';
import { ensureAnsible, fits, parseAnsibleVersion } from '../../ts/playbook/environment.js';
import { findPython } from '../../ts/playbook/python.js';
import { ensureVenv } from '../../ts/playbook/venv.js';
import { packageRoot } from '../../ts/types/package.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-environment-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const signal = new AbortController().signal;
const VERSION = (core: string, python: string) => `ansible-playbook [core ${core}]
  config file = None
  executable location = /usr/bin/ansible-playbook
  python version = ${python} (main, May  9 2026, 07:35:25) [GCC 12.2.0] (/usr/bin/python3)
  jinja version = 3.1.6`;

test.each([
  ['2.16.14', '3.11.2', false],
  ['2.17.0', '3.11.2', true],
  ['2.19.14', '3.13.1', true],
  ['2.19.0rc1', '3.12.0', true],
  ['2.20.0', '3.12.0', false],
  ['2.17.5', '3.10.4', false],
])('ansible-core %s on Python %s fits: %s', (core, python, expected) => {
  const found = parseAnsibleVersion(VERSION(core, python), 'ansible-playbook');
  expect(found).toEqual({ path: '/usr/bin/ansible-playbook', core, python });
  expect(found && fits(found)).toBe(expected);
});

test('text that is no version', () => {
  expect(parseAnsibleVersion('ansible-playbook 2.9.27', 'x')).toBeUndefined();
});

test('without a Python the error says what to do', async () => {
  await expect(findPython({ PATH: folder })).rejects.toMatchObject({
    code: 'python-missing',
    exitCode: 4,
    next: expect.stringContaining('doctor --fix'),
  });
  // One that is too old, and one without its venv module (Debian's python3 without python3-venv).
  await writeFile(path.join(folder, 'python3'), '#!/bin/sh\necho /usr/bin/python3; echo 3.9.2\n', { mode: 0o755 });
  await writeFile(path.join(folder, 'python3.12'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  await expect(findPython({ PATH: folder })).rejects.toMatchObject({ code: 'python-missing' });
  await writeFile(path.join(folder, 'python3.11'), '#!/bin/sh\necho /opt/python3.11; echo 3.11.4\n', { mode: 0o755 });
  expect(await findPython({ PATH: folder })).toEqual({ path: '/opt/python3.11', version: '3.11.4' });
});

test('a fitting ansible-core of the machine is taken, and nothing is made', async () => {
  const script = `#!/bin/sh\ncat <<'END'\n${VERSION('2.18.4', '3.12.1')}\nEND\n`;
  await writeFile(path.join(folder, 'ansible-playbook'), script, { mode: 0o755 });
  const said: string[] = [];
  const env = { PATH: `${folder}:/bin:/usr/bin`, K8S_ANS_CACHE: path.join(folder, 'cache') };
  const found = await ensureAnsible({ env, signal, console: { info: (text) => said.push(text) } });
  expect(found).toMatchObject({ version: '2.18.4', origin: 'system', playbook: '/usr/bin/ansible-playbook' });
  expect(said).toEqual([]);
});

test('the environment is made once, whole or not at all', { timeout: 120_000 }, async () => {
  const requirements = path.join(folder, 'requirements.txt');
  await writeFile(requirements, '# nothing\n');
  const built: string[] = [];
  const python = await findPython(process.env);
  const options = {
    cache: folder,
    requirements,
    python,
    env: process.env,
    signal,
    onBuild: (at: string) => void built.push(at),
  };
  const first = await ensureVenv(options);
  expect(await ensureVenv(options)).toBe(first);
  expect(built).toEqual([first]);

  // A requirement with no hash is refused by pip; nothing is left of it.
  const before = await readdir(folder);
  await writeFile(requirements, 'ansible-core==2.19.14\n');
  await expect(ensureVenv(options)).rejects.toMatchObject({ code: 'venv-failed', exitCode: 4 });
  expect((await readdir(folder)).sort()).toEqual(before.sort());

  // A link to an environment whose Python is gone is made anew.
  await rm(first);
  await symlink('nowhere', first);
  await writeFile(requirements, '# nothing\n');
  expect(await ensureVenv(options)).toBe(first);
  expect(built).toHaveLength(3);
});

test('the requirements are pinned and hashed, all of them', async () => {
  for (const name of ['requirements.txt', 'requirements-dev.txt']) {
    const text = await readFile(path.join(packageRoot(), 'ansible', name), 'utf8');
    const entries = text.replaceAll(/^\s*#.*\n/gm, '').split(/\n(?=\S)/);
    expect(entries.length).toBeGreaterThan(8);
    for (const entry of entries) expect(entry).toMatch(/^[a-z0-9-]+==\S+[\s\S]*--hash=sha256:[0-9a-f]{64}/);
    expect(text).toContain('ansible-core==2.19.14');
    expect(text).not.toContain('http');
  }
});

test('the collection folder links to the package, and is mended', async () => {
  const root = packageRoot();
  const made = await ensureCollection(folder, root);
  const cluster = path.join(made, 'ansible_collections/k8s_ans/cluster');
  expect(await readFile(path.join(cluster, 'plugins/callback/events.py'), 'utf8')).toContain('K8S_ANS_EVENTS');
  await rm(path.join(cluster, 'plugins'));
  expect(await ensureCollection(folder, root)).toBe(made);
  expect(await readdir(cluster)).toContain('plugins');
  expect(await readdir(folder)).toHaveLength(1);
});
