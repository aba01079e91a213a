import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addHost, draftSpec, editSpec, removeHost, setVersion } from '../../ts/spec/edit.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';

const spec = `# Our cluster.
name: k8s
hosts:
  # The first.
  - { name: m1, address: 10.0.0.1, roles: [masters] }
  - name: n1 # in rack 2
    address: 10.0.0.2
kubernetes:
  version: 1.36.3 # as tested
`;

describe('a spec', () => {
  let home: ClusterHome;
  beforeEach(async () => {
    home = clusterHome(await mkdtemp(path.join(os.tmpdir(), 'spec-edit-')));
    await writeFile(home.spec, spec);
  });
  afterEach(() => rm(home.root, { recursive: true }));

  it('keeps its comments and order when a version, a host more and a host less are written', async () => {
    const cluster = await editSpec(home, (document) => {
      setVersion(document, '1.36.4');
      removeHost(document, 'n1');
      addHost(document, { name: 'n2', address: '10.0.0.3', labels: { disk: 'fast' } });
    });
    expect(cluster.hosts.map(({ name }) => name)).toEqual(['m1', 'n2']);
    expect(await readFile(home.spec, 'utf8')).toBe(`# Our cluster.
name: k8s
hosts:
  # The first.
  - { name: m1, address: 10.0.0.1, roles: [ masters ] }
  - name: n2
    address: 10.0.0.3
    labels:
      disk: fast
kubernetes:
  version: 1.36.4 # as tested
`);
  });

  it('replaces a host of the same name, and says when there is none to remove', async () => {
    const { cluster } = await draftSpec(home, (document) => {
      addHost(document, { name: 'n1', address: '10.0.0.9' });
      expect(removeHost(document, 'n7')).toBe(false);
    });
    expect(cluster.hosts.map(({ name, address }) => [name, address])).toEqual([
      ['m1', '10.0.0.1'],
      ['n1', '10.0.0.9'],
    ]);
  });

  it('is not written when the result is not sound', async () => {
    const change = editSpec(home, (document) => addHost(document, { name: 'n2', address: '10.0.0.2' }));
    await expect(change).rejects.toThrow(expect.objectContaining({ code: 'spec-invalid', exitCode: 2 }));
    expect(await readFile(home.spec, 'utf8')).toBe(spec);
  });
});
