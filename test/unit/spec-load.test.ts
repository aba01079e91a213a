import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadCluster } from '../../ts/spec/load.js';
import { locateCluster } from '../../ts/spec/locate.js';
import { SpecError } from '../../ts/spec/problems.js';

const sound = 'name: demo\nhosts: [{ name: m1, address: 192.0.2.1, roles: [masters] }]\n';
let cwd: string;

beforeEach(() => {
  cwd = mkdtempSync(path.join(os.tmpdir(), 'k8s-ans-spec-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

function cluster(name: string, text = sound): string {
  const folder = path.join(cwd, 'inventory', name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'cluster.yaml'), text);
  return folder;
}

describe('locateCluster', () => {
  it('takes the cluster.yaml of the current folder first', async () => {
    cluster('one');
    writeFileSync(path.join(cwd, 'cluster.yaml'), sound);
    expect((await locateCluster({ cwd })).root).toBe(cwd);
  });

  it('takes the only cluster under inventory/, and does not count the sample', async () => {
    cluster('sample');
    const one = cluster('one');
    expect((await locateCluster({ cwd })).root).toBe(one);
  });

  it('takes a name, a folder or a file', async () => {
    const one = cluster('one');
    cluster('two');
    writeFileSync(path.join(one, 'other.yaml'), sound);
    expect((await locateCluster({ cwd }, 'one')).root).toBe(one);
    expect((await locateCluster({ cwd }, 'inventory/one')).root).toBe(one);
    expect((await locateCluster({ cwd }, 'inventory/one/cluster.yaml')).root).toBe(one);
    expect(await locateCluster({ cwd }, 'inventory/one/other.yaml')).toMatchObject({
      root: one,
      spec: path.join(one, 'other.yaml'),
    });
  });

  it('names the candidates where there are several', async () => {
    cluster('two');
    cluster('one');
    await expect(locateCluster({ cwd })).rejects.toMatchObject({
      code: 'cluster-ambiguous',
      exitCode: 2,
      message: 'There is more than one cluster here: one, two.',
      next: 'Say which one, for example --cluster one.',
    });
  });

  it('says what to do where there is none', async () => {
    await expect(locateCluster({ cwd })).rejects.toMatchObject({ code: 'cluster-not-found', exitCode: 2 });
    cluster('one');
    await expect(locateCluster({ cwd }, 'three')).rejects.toMatchObject({
      code: 'cluster-not-found',
      message: 'There is no cluster "three": neither a name under inventory/ nor a folder nor a spec file.',
      next: 'Known here: one.',
    });
    mkdirSync(path.join(cwd, 'empty'));
    await expect(locateCluster({ cwd }, 'empty')).rejects.toMatchObject({
      message: 'The folder "empty" has no cluster.yaml.',
    });
  });
});

describe('loadCluster', () => {
  it('resolves relative paths against the folder of the spec', async () => {
    const folder = cluster('one', `${sound}ssh: { privateKey: id }\nartifacts: { source: { directory: ../files } }\n`);
    const loaded = await loadCluster(await locateCluster({ cwd }, 'one'));
    expect(loaded.ssh.privateKey).toBe(path.join(folder, 'id'));
    expect(loaded.artifacts.source).toEqual({ kind: 'directory', path: path.join(cwd, 'inventory/files') });
  });

  it('throws all problems as one error with exit code 2', async () => {
    const file = path.join(cluster('one', 'name: demo\nhosts: []\nport: 1\n'), 'cluster.yaml');
    const error = await loadCluster(file).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SpecError);
    expect(error).toMatchObject({ code: 'spec-invalid', exitCode: 2, where: file });
    expect((error as SpecError).problems).toHaveLength(2);
    expect((error as SpecError).message).toBe(
      [
        `${file} has 2 problems:`,
        `${file}:2:8: hosts: is empty`,
        '  hint: give at least one item',
        `${file}:3:1: port: is not a known key`,
        '  hint: it belongs at ssh.port',
      ].join('\n'),
    );
  });

  it('misses an audit policy before anything begins', async () => {
    const folder = cluster('one', `${sound}audit:\n  policyFile: policy.yaml\n`);
    await expect(loadCluster(path.join(folder, 'cluster.yaml'))).rejects.toMatchObject({
      problems: [
        {
          line: 4,
          column: 15,
          path: 'audit.policyFile',
          message: `"policy.yaml" does not exist (${path.join(folder, 'policy.yaml')})`,
        },
      ],
    });
  });

  it('says where a spec is missing', async () => {
    const file = path.join(cwd, 'cluster.yaml');
    await expect(loadCluster(file)).rejects.toMatchObject({ code: 'spec-unreadable', exitCode: 2, where: file });
  });
});
