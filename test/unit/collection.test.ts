/** The collection as `ansible-galaxy` builds and installs it, used from a folder in which nothing else is. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../ts/types/package.js';
import { ansible, installCollection, type Workbench } from '../fixtures/collection.js';
import { testAnsible } from './ansible.js';

const TIMEOUT = 600_000;
const root = packageRoot();
let folder: string;
let workbench: Workbench;
let installed: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-collection-'));
  workbench = { bin: path.dirname((await testAnsible()).playbook), folder };
  installed = await installCollection(workbench);
}, TIMEOUT);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the installed collection', () => {
  test('has what Ansible uses and nothing of the program', async () => {
    expect((await readdir(installed)).sort()).toEqual([
      'CHANGELOG.md',
      'FILES.json',
      'MANIFEST.json',
      'README.md',
      'ansible',
      'docs',
      'meta',
      'playbooks',
      'plugins',
      'roles',
    ]);
    const files = await readdir(installed, { recursive: true });
    expect(files.filter((name) => /node_modules|__pycache__|\.(ts|js|mjs|pyc|key|tgz)$/.test(name))).toEqual([]);
  });

  test('is the roles, playbooks and plugins that the command line runs, all of them', async () => {
    const list = async (base: string, name: string): Promise<string[]> =>
      (await readdir(path.join(base, name), { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile() && !entry.name.endsWith('.pyc'))
        .map((entry) => path.relative(base, path.join(entry.parentPath, entry.name)))
        .sort();
    for (const name of ['roles', 'ansible/playbooks', 'ansible/plugins', 'meta']) {
      expect(await list(installed, name)).toEqual(await list(root, name));
    }
  });

  test('has every plugin and role documented, by full name', { timeout: TIMEOUT }, async () => {
    const { all } = JSON.parse(await ansible(workbench, 'ansible-doc', ['--metadata-dump', 'k8s_ans.cluster'])) as {
      all: Record<string, Record<string, unknown>>;
    };
    const plugins = async (kind: string): Promise<string[]> =>
      (await readdir(path.join(root, 'ansible', 'plugins', kind)))
        .filter((name) => name.endsWith('.py'))
        .map((name) => `k8s_ans.cluster.${path.basename(name, '.py')}`)
        .sort();
    expect(Object.keys(all.module ?? {}).sort()).toEqual(await plugins('modules'));
    expect(Object.keys(all.callback ?? {})).toEqual(['k8s_ans.cluster.events']);
    expect(Object.keys(all.filter ?? {})).toContain('k8s_ans.cluster.host_binaries');
    const roles = (await readdir(path.join(root, 'roles'))).sort().map((name) => `k8s_ans.cluster.${name}`);
    expect(Object.keys(all.role ?? {}).sort()).toEqual(roles);
  });

  test('runs its playbooks by full name', { timeout: TIMEOUT }, async () => {
    const names = (await readdir(path.join(root, 'ansible', 'playbooks'))).map((name) => path.basename(name, '.yml'));
    const said = await ansible(workbench, 'ansible-playbook', [
      '--syntax-check',
      '--inventory',
      'localhost,',
      ...names.map((name) => `k8s_ans.cluster.${name}`),
      ...['site', 'roles'].map((name) => path.join(installed, 'docs', 'ansible', `${name}.yml`)),
    ]);
    expect(said.match(/^playbook: /gm)).toHaveLength(names.length + 2);
    expect(names).toContain('deploy');
    // Through the links, and not around them.
    expect(existsSync(path.join(installed, 'playbooks', 'deploy.yml'))).toBe(true);
  });
});
