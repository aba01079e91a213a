import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Run } from '../../ts/cli/register.js';
import { register as init } from '../../ts/commands/init.js';
import { register as render } from '../../ts/commands/render.js';
import { register as schema } from '../../ts/commands/schema.js';
import { register as validate } from '../../ts/commands/validate.js';

let cwd: string;
let said: string[];
let results: Array<[string, unknown]>;

beforeEach(() => {
  cwd = mkdtempSync(path.join(os.tmpdir(), 'k8s-ans-commands-'));
  said = [];
  results = [];
});
afterEach(() => rmSync(cwd, { recursive: true }));

async function command(...args: string[]): Promise<void> {
  const program = new Command().exitOverride();
  const say = (message: string): void => void said.push(message);
  const run: Run = async (action) => {
    await action({
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
      env: {},
      cwd,
    });
  };
  for (const register of [init, render, schema, validate]) register(program, run);
  await program.parseAsync(args, { from: 'user' });
}

const hosts = ['--masters', 'm1=192.0.2.11,m2=192.0.2.12,m3=192.0.2.13', '--nodes', 'w1=192.0.2.31'];
const mode = (file: string): string => (statSync(path.join(cwd, file)).mode & 0o777).toString(8);

describe('init, validate, render', () => {
  it('writes a commented spec that is valid, and renders it', async () => {
    await command('init', '--name', 'demo', '--ssh-user', 'admin', ...hosts);
    const text = readFileSync(path.join(cwd, 'inventory/demo/cluster.yaml'), 'utf8');
    expect(text).toContain('name: demo\n');
    expect(text).toContain('  user: admin\n');
    expect(text.match(/^\s*#/gm)?.length).toBeGreaterThan(10);
    await expect(text).toMatchFileSnapshot('../fixtures/specs/init.yaml');
    expect([mode('inventory/demo'), mode('inventory/demo/cluster.yaml')]).toEqual(['700', '600']);

    await command('validate', '--cluster', 'demo');
    expect(said.at(-1)).toBe(
      `${path.join(cwd, 'inventory/demo/cluster.yaml')} is valid: cluster demo, Kubernetes 1.36.4, 3 masters, 1 nodes, 3 etcd members.`,
    );
    await command('render');
    expect(results.at(-1)).toEqual([
      'render',
      {
        home: path.join(cwd, 'inventory/demo'),
        files: ['hosts.yml', 'group_vars/all.yml', 'environment.sh'],
        changed: ['environment.sh', 'group_vars/all.yml', 'hosts.yml'],
      },
    ]);
    await command('render');
    expect(results.at(-1)).toMatchObject(['render', { changed: [] }]);
  });

  it('keeps a spec that is there, unless forced', async () => {
    await command('init', '--name', 'demo', ...hosts);
    await expect(command('init', '--name', 'demo', ...hosts)).rejects.toMatchObject({
      code: 'file-exists',
      exitCode: 2,
    });
    await command('init', '--name', 'demo', '--force', ...hosts);
  });

  it('writes a literal encryption key to the PKI folder and nowhere else', async () => {
    const key = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
    const file = path.join(cwd, 'environment.sh');
    writeFileSync(file, `ENCRYPTION_KEY=${key}\nMASTER_IPS=(192.0.2.1)\nMASTER_NAMES=(m1)\nBOOTSTRAP_TOKEN=abc\n`);
    await command('init', '--name', 'demo', '--from-environment', 'environment.sh');
    expect(readFileSync(path.join(cwd, 'inventory/demo/pki/encryption.key'), 'utf8')).toBe(`${key}\n`);
    expect([mode('inventory/demo/pki'), mode('inventory/demo/pki/encryption.key')]).toEqual(['700', '600']);
    expect(readFileSync(path.join(cwd, 'inventory/demo/cluster.yaml'), 'utf8')).not.toContain(key);
    expect(JSON.stringify([said, results])).not.toContain(key);
    expect(said.join('\n')).toContain('encryption.key (0600)');
    expect(said.join('\n')).toContain('BOOTSTRAP_TOKEN is left out');
  });

  it('refuses to write a spec that is not valid', async () => {
    await expect(command('init', '--name', 'Demo_1', '--masters', 'm1=192.0.2.11,m2=192.0.2.11')).rejects.toMatchObject(
      {
        code: 'spec-invalid',
        problems: [{ path: 'name' }, { path: 'hosts' }, { path: 'hosts[1].address' }],
      },
    );
    await expect(command('init', '--masters', 'm1')).rejects.toMatchObject({ message: '"m1" is not NAME=ADDRESS.' });
  });

  it('says what is missing where nobody can answer', async () => {
    await expect(command('init', '--name', 'demo')).rejects.toMatchObject({
      message: 'The hosts are missing.',
      exitCode: 2,
    });
  });

  it('takes a file for --output', async () => {
    await command('init', '--output', 'my/spec.yaml', ...hosts);
    await command('validate', 'my/spec.yaml');
    expect(said.at(-1)).toContain('spec.yaml is valid: cluster k8s');
  });
});

describe('schema', () => {
  it('prints the JSON Schema', async () => {
    await command('schema');
    expect(JSON.parse(said[0] ?? '')).toMatchObject({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      properties: { name: { type: 'string' } },
    });
  });
});
