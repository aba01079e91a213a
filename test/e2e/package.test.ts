/** The package as npm would publish it, installed in a folder of its own and used from there. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { execa, type Options } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot, packageVersion } from '../../ts/types/package.js';

interface Packed {
  readonly filename: string;
  readonly files: ReadonlyArray<{ readonly path: string }>;
}

let folder: string;
let packed: Packed;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-package-'));
  // The program is built already; building it again would change it under other tests' feet.
  const { stdout } = await npm(packageRoot(), 'pack', '--ignore-scripts', '--json', '--pack-destination', folder);
  packed = (JSON.parse(stdout as string) as [Packed])[0];
  await writeFile(path.join(folder, 'package.json'), '{"private": true}');
  await npm(folder, 'install', '--prefer-offline', '--no-audit', '--no-fund', path.join(folder, packed.filename));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function npm(cwd: string, ...args: string[]) {
  return execa('npm', args, { cwd, stdin: 'ignore' });
}

/** Runs `npx k8s-ans` where the package is installed. */
function run(args: ReadonlyArray<string>, options: Options = {}) {
  return execa('npx', ['--no-install', 'k8s-ans', ...args], { cwd: folder, stdin: 'ignore', ...options });
}

describe('the packed package', () => {
  test('has the program, the collection and the artifact catalog, and nothing else', () => {
    const files = packed.files.map((file) => file.path);
    for (const wanted of [
      'dist/bin.js',
      'ansible/ansible.cfg',
      'ansible/requirements.txt',
      'ansible/playbooks/deploy.yml',
      'ansible/plugins/callback/events.py',
      'roles/masters/tasks/main.yml',
      'roles/masters/meta/argument_specs.yml',
      'artifacts/catalog.yaml',
      'galaxy.yml',
      'meta/runtime.yml',
    ]) {
      expect(files).toContain(wanted);
    }
    const modules = files.filter((file) => /^artifacts\/go\/[^/]+\/go\.(mod|sum)$/.test(file));
    expect(modules.length).toBeGreaterThan(0);
    // Templates lie beside the code that uses them.
    expect(files.some((file) => /^dist\/.*\.(mustache|html)$/.test(file))).toBe(true);
    const folders = new Set(files.map((file) => (file.includes('/') ? file.split('/')[0] : '')));
    expect(
      [...folders].filter(
        (name) => !['', 'dist', 'ansible', 'roles', 'artifacts', 'meta', 'docs', 'inventory'].includes(name as string),
      ),
    ).toEqual([]);
    expect(files.filter((file) => /__pycache__|\.test\.|\.pyc$|\.key$|(^|\/)runs\//.test(file))).toEqual([]);
  });

  test('runs', async () => {
    expect((await run(['--version'])).stdout).toBe(packageVersion());
    const schema = JSON.parse((await run(['schema'])).stdout as string) as { type: string };
    expect(schema.type).toBe('object');
  });

  test('makes a spec from the guide, checks it, and renders the inventory', async () => {
    const source = path.join(packageRoot(), 'test', 'fixtures', 'environment', 'guide.sh');
    await mkdir(path.join(folder, 'work'));
    await writeFile(path.join(folder, 'work', 'environment.sh'), await readFile(source));
    await run(['init', '--from-environment', 'work/environment.sh', '--name', 'guide']);
    const spec = path.join('inventory', 'guide', 'cluster.yaml');
    expect(await readFile(path.join(folder, spec), 'utf8')).toContain('k8smaster01');
    await run(['validate', '--cluster', 'guide']);
    await run(['render', '--cluster', 'guide']);
    expect((await readdir(path.join(folder, 'inventory', 'guide'))).sort()).toEqual([
      'cluster.yaml',
      'environment.sh',
      'group_vars',
      'hosts.yml',
    ]);
  });
});
