/** Replacing a CA on the control machine: what is trusted, what signs, and what a kill leaves. */
import { X509Certificate } from 'node:crypto';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ensurePki } from '../../ts/pki/ensure.js';
import { inspectPki } from '../../ts/pki/inspect.js';
import { certificatePlan } from '../../ts/pki/plan.js';
import { demote, discardNext, prepareNext, promoteNext, retirePrevious, rotationStage } from '../../ts/pki/rotation.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

const cluster = exampleCluster({
  name: 'small',
  hosts: [exampleHost('m1', '10.0.0.1', ['masters', 'etcd'])],
  pki: { caDays: 3650, certificateDays: 365, keyBits: 1024 },
});
let original: ClusterHome;

beforeAll(async () => {
  original = clusterHome(path.join(await temporaryFolder(), 'small'));
  await ensurePki(cluster, original);
}, 60_000);

async function copyOf(source: ClusterHome): Promise<ClusterHome> {
  const copy = clusterHome(path.join(await temporaryFolder(), 'small'));
  await cp(source.root, copy.root, { recursive: true, preserveTimestamps: true });
  return copy;
}

const read = (home: ClusterHome, name: string): Promise<string> => readFile(path.join(home.pki, name), 'utf8');

/** Common names in a bundle, in its order. */
async function trusted(home: ClusterHome, name: string): Promise<string[]> {
  const blocks = (await read(home, `trust/${name}.crt`)).match(/-----BEGIN.*?END CERTIFICATE-----/gs) ?? [];
  return blocks.map((pem) => /CN=(.*)/.exec(new X509Certificate(pem).subject)?.[1] ?? '');
}

async function issuers(home: ClusterHome): Promise<Record<string, string>> {
  const entries = certificatePlan(cluster).map(async (request) => {
    const certificate = new X509Certificate(await read(home, `${request.path}.crt`));
    return [request.issuer, /CN=(.*)/.exec(certificate.issuer)?.[1] ?? ''] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

const ONE = { kubernetes: 'kubernetes-ca', etcd: 'etcd-ca', 'front-proxy': 'front-proxy-ca' };

describe('outside a rotation', { timeout: 60_000 }, () => {
  test('what is trusted is what signs', async () => {
    expect(await read(original, 'trust/ca.crt')).toBe(await read(original, 'ca.crt'));
    expect(await trusted(original, 'etcd-ca')).toEqual(['etcd-ca']);
    expect(await rotationStage(original, 'kubernetes')).toBe('none');
  });

  test('the bundles are no certificates of their own', async () => {
    expect((await inspectPki(original)).filter(({ path: name }) => name.includes('trust/'))).toEqual([]);
  });
});

describe('a rotation', { timeout: 60_000 }, () => {
  test('goes through its stages', async () => {
    const home = await copyOf(original);
    await prepareNext(cluster, home, 'kubernetes');
    const first = await ensurePki(cluster, home);
    expect(await rotationStage(home, 'kubernetes')).toBe('trust');
    expect(await trusted(home, 'ca')).toEqual(['kubernetes-ca', 'kubernetes-ca-2']);
    expect(await issuers(home)).toEqual(ONE);
    expect(first.replaced.map(({ path: name }) => name)).toEqual([
      'kubeconfig',
      ...['admin', 'controller-manager', 'flanneld', 'kube-proxy', 'scheduler'].map(
        (name) => `pki/kubeconfigs/${name}.conf`,
      ),
      'pki/trust/ca.crt',
    ]);
    const kubeconfig = parse(await readFile(home.kubeconfig, 'utf8'));
    expect(Buffer.from(kubeconfig.clusters[0].cluster['certificate-authority-data'], 'base64').toString()).toBe(
      await read(home, 'trust/ca.crt'),
    );

    const bundle = await read(home, 'trust/ca.crt');
    await promoteNext(home, 'kubernetes');
    await ensurePki(cluster, home);
    expect(await rotationStage(home, 'kubernetes')).toBe('reissue');
    expect(await read(home, 'trust/ca.crt')).toBe(bundle);
    expect(await issuers(home)).toEqual({ ...ONE, kubernetes: 'kubernetes-ca-2' });
    const served = await read(home, 'hosts/m1/apiserver.crt');
    expect(served.endsWith(await read(home, 'chain/ca.crt'))).toBe(true);
    expect((await read(home, 'admin.crt')).match(/BEGIN/g)).toHaveLength(1);

    await retirePrevious(home, 'kubernetes');
    await ensurePki(cluster, home);
    expect(await rotationStage(home, 'kubernetes')).toBe('none');
    expect(await trusted(home, 'ca')).toEqual(['kubernetes-ca-2']);
    expect(await ensurePki(cluster, home)).toMatchObject({ created: [], replaced: [], removed: [] });
    // Who trusts the old CA alone, as a pod that was not restarted, still verifies the API server.
    for (const root of [path.join(original.pki, 'ca.crt'), path.join(home.pki, 'ca.crt')]) {
      const chain = ['-untrusted', path.join(home.pki, 'hosts/m1/apiserver.crt')];
      const purpose = ['-purpose', 'sslserver', '-verify_hostname', 'kubernetes.default'];
      await execa('openssl', [
        ...['verify', '-x509_strict', '-CAfile', root, ...chain, ...purpose],
        path.join(home.pki, 'hosts/m1/apiserver.crt'),
      ]);
    }

    await prepareNext(cluster, home, 'kubernetes');
    await ensurePki(cluster, home);
    expect(await trusted(home, 'ca')).toEqual(['kubernetes-ca-2', 'kubernetes-ca-3']);
  });

  test('can be undone from either stage', async () => {
    const home = await copyOf(original);
    const before = await read(home, 'ca.key');
    await prepareNext(cluster, home, 'etcd');
    await prepareNext(cluster, home, 'kubernetes');
    await ensurePki(cluster, home);
    await promoteNext(home, 'kubernetes');
    await ensurePki(cluster, home);
    await demote(home, 'kubernetes');
    await demote(home, 'etcd');
    await ensurePki(cluster, home);
    expect(await read(home, 'ca.key')).toBe(before);
    expect(await trusted(home, 'ca')).toEqual(['kubernetes-ca', 'kubernetes-ca-2']);
    expect(await issuers(home)).toEqual(ONE);
    expect((await read(home, 'hosts/m1/apiserver.crt')).match(/BEGIN/g)).toHaveLength(1);
    await discardNext(home, 'kubernetes');
    await discardNext(home, 'etcd');
    await ensurePki(cluster, home);
    expect(await read(home, 'trust/ca.crt')).toBe(await read(original, 'trust/ca.crt'));
    expect(await trusted(home, 'etcd-ca')).toEqual(['etcd-ca']);
  });

  test('a pair in next/ is taken as the new CA', async () => {
    const home = await copyOf(original);
    const other = await copyOf(original);
    await prepareNext(cluster, other, 'front-proxy');
    await cp(path.join(other.pki, 'next'), path.join(home.pki, 'next'), { recursive: true });
    await prepareNext(cluster, home, 'front-proxy');
    expect(await read(home, 'next/front-proxy-ca.crt')).toBe(await read(other, 'next/front-proxy-ca.crt'));
  });

  test('one that cannot sign is refused', async () => {
    const home = await copyOf(original);
    await cp(path.join(home.pki, 'admin.crt'), path.join(home.pki, 'next', 'ca.crt'), { recursive: true });
    await cp(path.join(home.pki, 'admin.key'), path.join(home.pki, 'next', 'ca.key'));
    await expect(prepareNext(cluster, home, 'kubernetes')).rejects.toMatchObject({ code: 'pki-ca-unusable' });
  });

  test.each([
    ['before the old key was put aside', []],
    ['after the old pair was put aside', ['previous/ca.key', 'previous/ca.crt']],
    ['between key and certificate of the signer', ['previous/ca.key', 'previous/ca.crt', 'ca.key']],
    ['before the new pair was taken away', ['previous/ca.key', 'previous/ca.crt', 'ca.key', 'ca.crt']],
  ])('killed while the new CA takes over, %s: done again, it ends well', async (_when, written) => {
    const home = await copyOf(original);
    await prepareNext(cluster, home, 'kubernetes');
    const [oldKey, newKey] = [await read(home, 'ca.key'), await read(home, 'next/ca.key')];
    const done = await copyOf(home);
    await promoteNext(done, 'kubernetes');
    for (const name of written) await cp(path.join(done.pki, name), path.join(home.pki, name), { recursive: true });
    await promoteNext(home, 'kubernetes');
    expect(await read(home, 'ca.key')).toBe(newKey);
    expect(await read(home, 'previous/ca.key')).toBe(oldKey);
    expect(await rotationStage(home, 'kubernetes')).toBe('reissue');
    await ensurePki(cluster, home);
    expect(await issuers(home)).toEqual({ ...ONE, kubernetes: 'kubernetes-ca-2' });
  });

  test('a new CA of which only the key was written is completed', async () => {
    const home = await copyOf(original);
    await prepareNext(cluster, home, 'kubernetes');
    const key = await read(home, 'next/ca.key');
    await rm(path.join(home.pki, 'next', 'ca.crt'));
    expect(await rotationStage(home, 'kubernetes')).toBe('none');
    await prepareNext(cluster, home, 'kubernetes');
    expect(await read(home, 'next/ca.key')).toBe(key);
  });

  test('a CA that was lost is not made again while one of its rotation is known', async () => {
    const home = await copyOf(original);
    await prepareNext(cluster, home, 'kubernetes');
    await promoteNext(home, 'kubernetes');
    await ensurePki(cluster, home);
    await rm(path.join(home.pki, 'ca.key'));
    await rm(path.join(home.pki, 'ca.crt'));
    await expect(ensurePki(cluster, home)).rejects.toMatchObject({ code: 'pki-ca-lost' });
  });
});

describe('renewal', { timeout: 60_000 }, () => {
  test('issues what has the serial number named, once', async () => {
    const home = await copyOf(original);
    const serial = new X509Certificate(await read(home, 'admin.crt')).serialNumber.toLowerCase();
    const renew = new Map([['admin', serial]]);
    const { replaced } = await ensurePki(cluster, home, { renew });
    expect(replaced).toEqual([
      { path: 'kubeconfig', reason: 'its certificate, CA or server changed' },
      { path: 'pki/admin.crt', reason: 'it was to be renewed' },
      { path: 'pki/admin.key', reason: 'it was to be renewed' },
      { path: 'pki/kubeconfigs/admin.conf', reason: 'its certificate, CA or server changed' },
    ]);
    expect((await ensurePki(cluster, home, { renew })).replaced).toEqual([]);
  });

  test('a bundle that somebody changed is written again', async () => {
    const home = await copyOf(original);
    await writeFile(path.join(home.pki, 'trust', 'ca.crt'), 'nothing');
    expect((await ensurePki(cluster, home)).replaced).toEqual([
      { path: 'pki/trust/ca.crt', reason: 'the CAs to trust changed' },
    ]);
  });
});
