/** The PKI as OpenSSL, the file system and a second run see it. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { chmod, cp, mkdir, readdir, readFile, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { compare } from 'bcryptjs';
import { execa } from 'execa';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ensurePki } from '../../ts/pki/ensure.js';
import { inspectPki } from '../../ts/pki/inspect.js';
import type { PkiResult } from '../../ts/pki/ledger.js';
import { AUTHORITY_FILES, type CertificateRequest, certificatePlan, kubeconfigPlan } from '../../ts/pki/plan.js';
import type { Cluster } from '../../ts/types/cluster.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { packageRoot } from '../../ts/types/package.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

const DAY_MS = 24 * 60 * 60 * 1000;

/** Short keys: a key of 2048 bits costs 0.2 s of a core, and nothing here depends on their strength. */
const pki = { caDays: 3650, certificateDays: 365, keyBits: 1024 };

/** One host, for the tests that issue many times. */
const small = exampleCluster({
  name: 'small',
  hosts: [exampleHost('m1', '10.0.0.1', ['masters', 'etcd'])],
  pki,
});

const cluster = exampleCluster({
  pki,
  api: {
    ...exampleCluster().api,
    externalEndpoint: 'https://K8S.example.org:443',
    sans: ['api.example.org', '192.0.2.10', '2001:db8::10'],
  },
});
let home: ClusterHome;
let first: PkiResult;
let smallHome: ClusterHome;

beforeAll(async () => {
  home = clusterHome(path.join(await temporaryFolder(), 'example'));
  first = await ensurePki(cluster, home);
  smallHome = clusterHome(path.join(await temporaryFolder(), 'small'));
  await ensurePki(small, smallHome);
}, 120_000);

/** A copy of the small cluster's home to break. */
async function copyOfSmall(): Promise<ClusterHome> {
  const copy = clusterHome(path.join(await temporaryFolder(), 'small'));
  await cp(smallHome.root, copy.root, { recursive: true, preserveTimestamps: true });
  return copy;
}

async function files(target: ClusterHome): Promise<string[]> {
  const entries = await readdir(target.root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(target.root, path.join(entry.parentPath, entry.name)))
    .sort();
}

async function snapshot(target: ClusterHome): Promise<Record<string, { content: string; time: bigint }>> {
  const names = await files(target);
  const entries = await Promise.all(
    names.map(async (name) => {
      const file = path.join(target.root, name);
      const { mtimeNs } = await stat(file, { bigint: true });
      return [name, { content: await readFile(file, 'utf8'), time: mtimeNs }] as const;
    }),
  );
  return Object.fromEntries(entries);
}

async function verify(target: ClusterHome, request: CertificateRequest, issuer: string, extra: string[]) {
  const authority = path.join(target.pki, `${issuer}.crt`);
  const leaf = path.join(target.pki, `${request.path}.crt`);
  return execa('openssl', ['verify', '-x509_strict', '-CAfile', authority, ...extra, leaf], { reject: false });
}

/** OpenSSL accepts every certificate of the plan, and the kubeconfigs hold the pairs of the plan. */
async function expectWhole(target: ClusterHome, spec: Cluster): Promise<void> {
  for (const request of certificatePlan(spec)) {
    const result = await verify(target, request, AUTHORITY_FILES[request.issuer], []);
    expect(result.exitCode, `${request.path}: ${result.stderr}`).toBe(0);
    const [certificate, key] = await Promise.all(
      ['crt', 'key'].map((end) => readFile(path.join(target.pki, `${request.path}.${end}`), 'utf8')),
    );
    const own = new X509Certificate(certificate ?? '').publicKey;
    expect(own.equals(createPublicKey(key ?? '')), request.path).toBe(true);
  }
  for (const request of kubeconfigPlan(spec)) {
    const config = parse(await readFile(path.join(target.root, request.path), 'utf8'));
    const pem = await readFile(path.join(target.pki, `${request.certificate}.crt`), 'utf8');
    expect(Buffer.from(config.users[0].user['client-certificate-data'], 'base64').toString()).toBe(pem);
  }
  expect((await files(target)).filter((name) => /\.\d+$/.test(name))).toEqual([]);
}

describe('certificates', () => {
  test('every chain is accepted for its purposes, names and addresses, and for no other', async () => {
    await Promise.all(
      certificatePlan(cluster).map(async (request) => {
        const issuer = AUTHORITY_FILES[request.issuer];
        for (const usage of ['server', 'client'] as const) {
          const purpose = ['-purpose', `ssl${usage}`];
          const { exitCode } = await verify(home, request, issuer, purpose);
          expect(exitCode === 0, `${request.path} as ${usage}`).toBe(request.usages.includes(usage));
        }
        const names = [
          ...request.dnsNames.map((name) => ['-verify_hostname', name]),
          ...request.addresses.map((address) => ['-verify_ip', address]),
        ];
        for (const option of names) {
          const { exitCode, stderr } = await verify(home, request, issuer, option);
          expect(exitCode, `${request.path} ${option.join(' ')}: ${stderr}`).toBe(0);
        }
        for (const option of [
          ['-verify_hostname', 'other.example.org'],
          ['-verify_ip', '192.0.2.99'],
        ]) {
          expect((await verify(home, request, issuer, option)).exitCode, request.path).not.toBe(0);
        }
      }),
    );
  }, 120_000);

  test('no chain is accepted under another CA', async () => {
    for (const request of certificatePlan(small)) {
      for (const [name, file] of Object.entries(AUTHORITY_FILES)) {
        const { exitCode } = await verify(smallHome, request, file, []);
        expect(exitCode === 0, `${request.path} under ${name}`).toBe(name === request.issuer);
      }
    }
    // The same names in another cluster: other keys.
    const admin = certificatePlan(cluster).find((request) => request.path === 'admin') as CertificateRequest;
    const foreign = ['verify', '-CAfile', path.join(smallHome.pki, 'ca.crt'), path.join(home.pki, 'admin.crt')];
    expect((await execa('openssl', foreign, { reject: false })).exitCode).not.toBe(0);
    expect((await verify(home, admin, 'ca', [])).exitCode).toBe(0);
  });

  test('the API server answers to every name it is called by', () => {
    const request = certificatePlan(cluster).find((entry) => entry.path === 'hosts/k8smaster02/apiserver');
    expect(request?.dnsNames).toEqual([
      'api.example.org',
      'k8s.example.org',
      'k8smaster01',
      'k8smaster02',
      'k8smaster03',
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      'kubernetes.default.svc.cluster.local',
      'localhost',
    ]);
    expect([...(request?.addresses ?? [])].sort()).toEqual(
      [
        '10.254.0.1',
        '127.0.0.1',
        '172.24.8.71',
        '172.24.8.72',
        '172.24.8.73',
        '192.0.2.10',
        '2001:db8:0:0:0:0:0:10',
      ].sort(),
    );
  });

  test.each([
    ['ca', 'kubernetes-ca', ''],
    ['etcd-ca', 'etcd-ca', ''],
    ['front-proxy-ca', 'front-proxy-ca', ''],
    ['admin', 'kubernetes-admin', 'TLS Web Client Authentication'],
    ['kubeconfigs/kube-proxy', 'system:kube-proxy', 'TLS Web Client Authentication'],
    ['kubeconfigs/csr-approver', 'k8s-ans:csr-approver', 'TLS Web Client Authentication'],
    ['hosts/k8smaster01/apiserver', 'kube-apiserver', 'TLS Web Server Authentication'],
    ['hosts/k8smaster01/etcd-peer', 'k8smaster01', 'TLS Web Server Authentication, TLS Web Client Authentication'],
    ['hosts/k8smaster01/front-proxy-client', 'front-proxy-client', 'TLS Web Client Authentication'],
  ])('%s has the right extensions', async (base, commonName, usage) => {
    const { stdout } = await execa('openssl', ['x509', '-in', path.join(home.pki, `${base}.crt`), '-noout', '-text']);
    expect(stdout).toMatch(new RegExp(`Subject:.*CN ?= ?${commonName}\n`));
    expect(stdout).toContain('Signature Algorithm: sha256WithRSAEncryption');
    expect(stdout).toContain('Public-Key: (1024 bit)');
    expect(stdout).toContain('X509v3 Authority Key Identifier');
    expect(stdout).toContain('X509v3 Subject Key Identifier');
    // 128 bits, positive.
    expect(stdout).toMatch(/Serial Number:\s+[4-7][0-9a-f](:[0-9a-f]{2}){15}\n/);
    if (usage === '') {
      expect(stdout).toMatch(/Basic Constraints: critical\s+CA:TRUE\n/);
      expect(stdout).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign\n/);
      expect(stdout).not.toContain('Extended Key Usage');
    } else {
      expect(stdout).toMatch(/Basic Constraints: critical\s+CA:FALSE\n/);
      expect(stdout).toMatch(/Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
      expect(stdout).toMatch(new RegExp(`Extended Key Usage: *\n\\s+${usage}\n`));
    }
  });

  test('only the administrator is in system:masters', () => {
    const members = certificatePlan(cluster).filter((request) => request.organizations.length > 0);
    expect(members.map((request) => [request.path, request.organizations])).toEqual([['admin', ['system:masters']]]);
  });

  test('workers hold an etcd credential only if flannel keeps its configuration there', () => {
    const network = { ...cluster.network, flannel: { ...cluster.network.flannel, datastore: 'etcd' as const } };
    const worker = (spec: Cluster) => certificatePlan(spec).filter((request) => request.path.includes('k8snode01'));
    expect(worker(cluster)).toEqual([]);
    expect(worker(exampleCluster({ network })).map((request) => request.path)).toEqual([
      'hosts/k8snode01/flanneld-etcd-client',
    ]);
  });

  test('they begin in the past and last as long as the spec says, and never longer than their CA', async () => {
    const target = clusterHome(path.join(await temporaryFolder(), 'short'));
    const spec = exampleCluster({ ...small, pki: { ...small.pki, caDays: 100 } });
    await ensurePki(spec, target);
    const certificates = await inspectPki(target);
    expect(new Set(certificates.map((certificate) => certificate.daysLeft))).toEqual(new Set([99]));
    for (const { notBefore, isAuthority, path: name } of await inspectPki(home)) {
      const age = Date.now() - notBefore.getTime();
      expect(age > 4 * 60_000 && age < 20 * 60_000, name).toBe(true);
      expect(isAuthority, name).toBe(/^pki\/[\w-]*ca\.crt$/.test(name));
    }
    const left = new Map((await inspectPki(home)).map((entry) => [entry.path, entry.daysLeft]));
    expect(left.get('pki/ca.crt')).toBe(3649);
    expect(left.get('pki/admin.crt')).toBe(364);
  }, 30_000);
});

test('the table of docs/pki.md is the plan', async () => {
  const text = await readFile(path.join(packageRoot(), 'docs', 'pki.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `([^`]+)` \| (\S+) \| (CN=[^|]+?) \| ([^|]+?) \|/gm)].map(
    ([, ...cells]) => cells,
  );
  const host = cluster.masters[0]?.name as string;
  const { metricsServer, registry, dashboard, logging } = cluster.addons;
  const addons = {
    ...cluster.addons,
    metricsServer: { ...metricsServer, enabled: true },
    registry: { ...registry, enabled: true },
    dashboard: { ...dashboard, enabled: true },
    logging: { ...logging, enabled: true },
  };
  const plan = certificatePlan({ ...cluster, addons })
    .filter((request) => !request.path.startsWith('hosts/') || request.path.startsWith(`hosts/${host}/`))
    .map(({ path: file, issuer, commonName, organizations, usages }) =>
      [
        file,
        issuer,
        [`CN=${commonName}`, ...organizations.map((name) => `O=${name}`)].join(', '),
        usages.join(', '),
      ].map((cell) => cell.replaceAll(host, 'HOST')),
    );
  expect(rows.sort()).toEqual(plan.sort());
});

describe('files', () => {
  test('all are 0600 in folders of 0700', async () => {
    const entries = await readdir(home.root, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      const { mode } = await stat(path.join(entry.parentPath, entry.name));
      expect(mode & 0o777, entry.name).toBe(entry.isDirectory() ? 0o700 : 0o600);
    }
    expect((await stat(home.root)).mode & 0o777).toBe(0o700);
  });

  test('no key serves twice, and the service account key is of its own', async () => {
    const names = (await files(home)).filter((name) => name.endsWith('.key'));
    const keys = await Promise.all(names.map((name) => readFile(path.join(home.root, name), 'utf8')));
    expect(new Set(keys).size).toBe(names.length);
    const publicKey = await readFile(path.join(home.pki, 'sa.pub'), 'utf8');
    const derived = createPublicKey(await readFile(path.join(home.pki, 'sa.key'), 'utf8'));
    expect(derived.export({ type: 'spki', format: 'pem' })).toBe(publicKey);
  });

  test('permissions that others were given are taken back, and said', async () => {
    const target = await copyOfSmall();
    await chmod(path.join(target.pki, 'ca.key'), 0o644);
    await chmod(path.join(target.pki, 'hosts'), 0o755);
    expect((await ensurePki(small, target)).tightened).toEqual(['pki/ca.key', 'pki/hosts']);
    expect((await stat(path.join(target.pki, 'ca.key'))).mode & 0o777).toBe(0o600);
  });

  test('the kubeconfigs embed their pair, name the right server and parse', async () => {
    await expectWhole(home, cluster);
    const read = async (name: string) => parse(await readFile(path.join(home.root, name), 'utf8'));
    const admin = await read('kubeconfig');
    expect(admin.clusters[0].cluster.server).toBe('https://K8S.example.org:443');
    expect(admin['current-context']).toBe('example');
    const authority = Buffer.from(admin.clusters[0].cluster['certificate-authority-data'], 'base64').toString();
    expect(authority).toBe(await readFile(path.join(home.pki, 'ca.crt'), 'utf8'));
    const key = Buffer.from(admin.users[0].user['client-key-data'], 'base64').toString();
    expect(key).toBe(await readFile(path.join(home.pki, 'admin.key'), 'utf8'));
    for (const name of ['admin', 'controller-manager', 'scheduler', 'kube-proxy', 'flanneld']) {
      const config = await read(`pki/kubeconfigs/${name}.conf`);
      expect(config.clusters[0].cluster.server, name).toBe('https://127.0.0.1:8443');
    }
  });
});

describe('a second run', () => {
  test('touches nothing', async () => {
    const before = await snapshot(home);
    const second = await ensurePki(cluster, home);
    expect(second).toEqual({ created: [], kept: first.created, replaced: [], tightened: [], removed: [] });
    expect(await snapshot(home)).toEqual(before);
    expect(first.created).toEqual(Object.keys(before).sort());
  });

  test('issues what is missing, unreadable or expired again, and only that', async () => {
    const target = await copyOfSmall();
    const before = await snapshot(target);
    await unlink(path.join(target.pki, 'hosts/m1/apiserver.crt'));
    await writeFile(
      path.join(target.pki, 'hosts/m1/etcd-peer.crt'),
      before['pki/hosts/m1/etcd-peer.crt']?.content.slice(0, 300) ?? '',
    );
    await rm(path.join(target.pki, 'kubeconfigs'), { recursive: true });
    const result = await ensurePki(small, target);
    expect(result.replaced.map(({ path: name, reason }) => `${name}: ${reason}`)).toEqual([
      'pki/hosts/m1/apiserver.crt: its certificate was missing',
      'pki/hosts/m1/apiserver.key: its certificate was missing',
      'pki/hosts/m1/etcd-peer.crt: its certificate or key could not be read',
      'pki/hosts/m1/etcd-peer.key: its certificate or key could not be read',
    ]);
    expect(result.created.every((name) => name.startsWith('pki/kubeconfigs/'))).toBe(true);
    await expectWhole(target, small);
    const after = await snapshot(target);
    for (const name of result.kept) expect(after[name], name).toEqual(before[name]);

    const later = await ensurePki(small, target, { now: new Date(Date.now() + 400 * DAY_MS) });
    const leaves = certificatePlan(small).length;
    expect(later.replaced.filter(({ reason }) => reason.startsWith('it expired on')).length).toBe(2 * leaves);
    expect(later.kept).toContain('pki/ca.crt');
    expect(later.kept).toContain('pki/sa.key');
  }, 60_000);

  test('issues again what a changed spec asks for, and only that', async () => {
    const target = await copyOfSmall();
    const before = await snapshot(target);
    const wider = exampleCluster({ ...small, api: { ...small.api, sans: ['new.example.org'] } });
    const result = await ensurePki(wider, target);
    expect(result.created).toEqual([]);
    expect(result.replaced).toEqual([
      { path: 'pki/hosts/m1/apiserver.crt', reason: 'its alternative names changed' },
      { path: 'pki/hosts/m1/apiserver.key', reason: 'its alternative names changed' },
    ]);
    const after = await snapshot(target);
    for (const name of result.kept) expect(after[name], name).toEqual(before[name]);
    await expectWhole(target, wider);

    // A new external endpoint changes the home's kubeconfig as well; a new host adds what is its own.
    const moved = exampleCluster({ ...wider, api: { ...wider.api, externalEndpoint: 'https://lb.example.org:6443' } });
    expect((await ensurePki(moved, target)).replaced.map((entry) => entry.path)).toEqual([
      'kubeconfig',
      'pki/hosts/m1/apiserver.crt',
      'pki/hosts/m1/apiserver.key',
    ]);
    const grown = exampleCluster({
      ...small,
      hosts: [...small.hosts, exampleHost('e2', '10.0.0.2', ['etcd'])],
      masters: small.masters,
      etcdHosts: [...small.etcdHosts, exampleHost('e2', '10.0.0.2', ['etcd'])],
      api: moved.api,
    });
    const added = await ensurePki(grown, target);
    expect(added.replaced).toEqual([]);
    expect(added.created.map((name) => path.basename(name))).toEqual([
      'etcd-healthcheck-client.crt',
      'etcd-healthcheck-client.key',
      'etcd-peer.crt',
      'etcd-peer.key',
      'etcd-server.crt',
      'etcd-server.key',
    ]);
  }, 30_000);

  test('a certificate of another CA is not kept', async () => {
    const target = await copyOfSmall();
    for (const end of ['crt', 'key']) {
      await cp(path.join(home.pki, `admin.${end}`), path.join(target.pki, `admin.${end}`));
    }
    const { replaced } = await ensurePki(small, target);
    expect(replaced.find((entry) => entry.path === 'pki/admin.crt')?.reason).toBe(
      'it was not signed by the kubernetes CA',
    );
    await expectWhole(target, small);
  });
});

describe('interrupted runs', () => {
  test('whatever was written when it was killed, the next run completes it with the same CAs', async () => {
    const entries = Object.entries(await snapshot(smallHome));
    const order = entries.sort(([, a], [, b]) => (a.time < b.time ? -1 : 1)).map(([name]) => name);
    for (const count of [1, 2, 4, 6, 7, 13, 24, order.length - 3]) {
      const target = clusterHome(path.join(await temporaryFolder(), 'small'));
      for (const name of order.slice(0, count)) {
        await mkdir(path.dirname(path.join(target.root, name)), { recursive: true, mode: 0o700 });
        await cp(path.join(smallHome.root, name), path.join(target.root, name));
      }
      const half = path.join(target.pki, 'hosts/m1/apiserver.key.3184562071');
      await mkdir(path.dirname(half), { recursive: true, mode: 0o700 });
      await writeFile(half, '-----BEGIN PRIVATE KEY-----\nMIIEv', { mode: 0o600 });
      const result = await ensurePki(small, target);
      expect(result.removed).toEqual(['pki/hosts/m1/apiserver.key.3184562071']);
      await expectWhole(target, small);
      for (const name of order.slice(0, count).filter((entry) => /(ca|sa)\.key$/.test(entry))) {
        const [then, now] = await Promise.all(
          [smallHome, target].map((side) => readFile(path.join(side.root, name), 'utf8')),
        );
        expect(now, name).toBe(then);
      }
    }
  }, 120_000);

  test('a new key beside the old certificate is issued again', async () => {
    const target = await copyOfSmall();
    await cp(path.join(home.pki, 'admin.key'), path.join(target.pki, 'admin.key'));
    const { replaced } = await ensurePki(small, target);
    expect(replaced.map((entry) => entry.path)).toEqual([
      'kubeconfig',
      'pki/admin.crt',
      'pki/admin.key',
      'pki/kubeconfigs/admin.conf',
    ]);
    await expectWhole(target, small);
  });

  test('an abort stops it and leaves what the next run goes on from', async () => {
    const target = clusterHome(path.join(await temporaryFolder(), 'small'));
    const controller = new AbortController();
    const long = exampleCluster({ ...small, pki: { ...small.pki, keyBits: 2048 } });
    const run = ensurePki(long, target, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('interrupted')), 100);
    await expect(run).rejects.toThrow('interrupted');
    await ensurePki(small, target);
    await expectWhole(target, small);
  }, 30_000);
});

describe('what is never replaced', () => {
  test.each([
    ['ca.key', 'The key of the kubernetes CA is missing'],
    ['etcd-ca.key', 'The key of the etcd CA is missing'],
    ['front-proxy-ca.crt', 'The certificate of the front-proxy CA is missing'],
  ])('%s is lost: refused, with what to do', async (name, message) => {
    const target = await copyOfSmall();
    await unlink(path.join(target.pki, name));
    const before = await snapshot(target);
    await expect(ensurePki(small, target)).rejects.toMatchObject({
      code: 'pki-ca-lost',
      message: expect.stringContaining(message),
      where: path.join(target.pki, name),
      next: expect.stringContaining('back from a backup'),
    });
    expect(await snapshot(target)).toEqual(before);
  });

  test('both files of a CA are lost, and a leaf of a removed host remains', async () => {
    const target = await copyOfSmall();
    for (const name of await readdir(target.pki)) {
      if (name !== 'hosts') await rm(path.join(target.pki, name), { recursive: true });
    }
    const other = exampleCluster({ ...small, hosts: [], masters: [], etcdHosts: [] });
    await expect(ensurePki(other, target)).rejects.toMatchObject({ code: 'pki-ca-lost' });
  });

  test('a CA whose key is another one, or that expired, is refused', async () => {
    const target = await copyOfSmall();
    const later = new Date(Date.now() + 3651 * DAY_MS);
    await expect(ensurePki(small, target, { now: later })).rejects.toMatchObject({ code: 'pki-ca-unusable' });
    await cp(path.join(home.pki, 'ca.key'), path.join(target.pki, 'ca.key'));
    await expect(ensurePki(small, target)).rejects.toMatchObject({
      code: 'pki-ca-unusable',
      message: 'The kubernetes CA cannot be used: its key does not belong to its certificate.',
    });
  });

  test("an organisation's own CA is used", async () => {
    const target = clusterHome(path.join(await temporaryFolder(), 'own'));
    await mkdir(target.pki, { recursive: true, mode: 0o700 });
    const at = (name: string): string => path.join(target.pki, name);
    const subject = ['-subj', '/O=Example/CN=Example Root', '-days', '900', '-addext', 'keyUsage=critical,keyCertSign'];
    await execa('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      at('ca.key'),
      '-out',
      at('ca.crt'),
      ...subject,
    ]);
    const result = await ensurePki(small, target);
    expect(result.kept).toEqual(['pki/ca.crt', 'pki/ca.key']);
    await expectWhole(target, small);
    await unlink(at('ca.crt'));
    await unlink(at('ca.key'));
    await expect(ensurePki(small, target)).rejects.toMatchObject({ code: 'pki-ca-lost' });
  }, 30_000);

  test('the service account key: lost, or the key of a CA', async () => {
    const target = await copyOfSmall();
    await cp(path.join(target.pki, 'ca.key'), path.join(target.pki, 'sa.key'));
    await expect(ensurePki(small, target)).rejects.toMatchObject({ code: 'pki-sa-unusable' });
    await unlink(path.join(target.pki, 'sa.key'));
    await expect(ensurePki(small, target)).rejects.toMatchObject({ code: 'pki-sa-lost' });
    await unlink(path.join(target.pki, 'sa.pub'));
    expect((await ensurePki(small, target)).created).toEqual(['pki/sa.key', 'pki/sa.pub']);
  });
});

describe('add-ons', () => {
  const { addons } = exampleCluster();
  const withAddons = exampleCluster({
    ...small,
    addons: {
      ...addons,
      metricsServer: { enabled: true, replicas: 1 },
      registry: { ...addons.registry, enabled: true, name: 'registry.example.com:5000' },
    },
  });

  test('have serving certificates of the names that they are asked by, once they are switched on', () => {
    const of = (spec: Cluster) => certificatePlan(spec).filter(({ path: name }) => name.startsWith('addons/'));
    expect(of(small)).toEqual([]);
    const service = (name: string, namespace: string) =>
      ['', '.svc', '.svc.cluster.local'].map((end) => `${name}.${namespace}${end}`);
    expect(of(withAddons)).toEqual([
      {
        path: 'addons/metrics-server',
        issuer: 'kubernetes',
        commonName: 'metrics-server',
        organizations: [],
        usages: ['server'],
        dnsNames: service('metrics-server', 'kube-system'),
        addresses: [],
      },
      {
        path: 'addons/registry',
        issuer: 'kubernetes',
        commonName: 'registry',
        organizations: [],
        usages: ['server'],
        dnsNames: [
          'localhost',
          'registry.example.com',
          ...service('registry', 'registry'),
          ...small.hosts.map(({ name }) => name),
        ].sort(),
        addresses: ['127.0.0.1', ...small.hosts.map(({ address }) => address)].sort(),
      },
    ]);
  });

  test("the registry's password is made once, and its hash follows it", async () => {
    const target = await copyOfSmall();
    const of = (result: PkiResult) =>
      [...result.created, ...result.replaced.map((entry) => entry.path)].filter((name) => /passw/.test(name));
    expect(of(await ensurePki(withAddons, target))).toEqual([
      'pki/addons/registry.htpasswd',
      'pki/addons/registry.password',
    ]);
    const read = (name: string) => readFile(path.join(target.pki, 'addons', name), 'utf8');
    const password = await read('registry.password');
    expect(password).toMatch(/^[\w-]{32}\n$/);
    const htpasswd = await read('registry.htpasswd');
    expect(htpasswd).toMatch(/^admin:\$2[aby]\$10\$[./A-Za-z0-9]{53}\n$/);
    expect(await compare(password.trim(), htpasswd.trim().slice('admin:'.length))).toBe(true);
    expect((await stat(path.join(target.pki, 'addons/registry.password'))).mode & 0o777).toBe(0o600);
    expect(of(await ensurePki(withAddons, target))).toEqual([]);

    await writeFile(path.join(target.pki, 'addons/registry.password'), 'my own');
    expect(of(await ensurePki(withAddons, target))).toEqual(['pki/addons/registry.htpasswd']);
    expect(await compare('my own', (await read('registry.htpasswd')).trim().slice('admin:'.length))).toBe(true);
    expect(await read('registry.password')).toBe('my own');
  });
});

describe('encryption at rest', () => {
  const withProvider = (provider: Cluster['encryption']['provider']): Cluster =>
    exampleCluster({ ...small, encryption: { provider } });
  const providers = async (
    target: ClusterHome,
  ): Promise<Array<Record<string, { keys?: Array<{ secret: string }> }>>> => {
    const config = parse(await readFile(path.join(target.pki, 'encryption-config.yaml'), 'utf8'));
    expect(config.apiVersion).toBe('apiserver.config.k8s.io/v1');
    expect(config.kind).toBe('EncryptionConfiguration');
    expect(config.resources[0].resources).toEqual(['secrets']);
    return config.resources[0].providers;
  };

  test('a random key of 32 bytes, identity last', async () => {
    const [first, last] = await providers(home);
    expect(Buffer.from(first?.secretbox?.keys?.[0]?.secret ?? '', 'base64').length).toBe(32);
    expect(last).toEqual({ identity: {} });
  });

  test('an imported key is used; a bad one is refused and not quoted', async () => {
    const target = await copyOfSmall();
    const key = Buffer.alloc(32, 7).toString('base64');
    await unlink(path.join(target.pki, 'encryption-config.yaml'));
    await writeFile(path.join(target.pki, 'encryption.key'), `${key.slice(0, 20)}\n`, { mode: 0o600 });
    const failed = await ensurePki(withProvider('aescbc'), target).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 'pki-encryption-key', exitCode: 2 });
    expect(everything(failed)).not.toContain(key.slice(0, 20));
    await writeFile(path.join(target.pki, 'encryption.key'), `${key}\n`, { mode: 0o600 });
    await ensurePki(withProvider('aescbc'), target);
    expect((await providers(target))[0]).toEqual({ aescbc: { keys: [{ name: 'key1', secret: key }] } });
  });

  test('another provider comes first, the old one stays readable', async () => {
    const target = await copyOfSmall();
    const [old] = await providers(target);
    await ensurePki(withProvider('aesgcm'), target);
    expect((await providers(target)).map((entry) => Object.keys(entry)[0])).toEqual([
      'aesgcm',
      'secretbox',
      'identity',
    ]);
    expect((await providers(target))[1]).toEqual(old);
    await ensurePki(withProvider('none'), target);
    expect((await providers(target)).map((entry) => Object.keys(entry)[0])).toEqual([
      'identity',
      'aesgcm',
      'secretbox',
    ]);
    await ensurePki(withProvider('secretbox'), target);
    expect((await providers(target)).map((entry) => Object.keys(entry)[0])).toEqual([
      'secretbox',
      'aesgcm',
      'identity',
    ]);
    expect((await providers(target))[0]).toEqual(old);
  });

  test('none: identity only', async () => {
    const target = await copyOfSmall();
    await unlink(path.join(target.pki, 'encryption-config.yaml'));
    await ensurePki(withProvider('none'), target);
    expect(await providers(target)).toEqual([{ identity: {} }]);
  });
});

/** All that an error could show: message, stack, properties, causes. */
function everything(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const properties = Object.getOwnPropertyNames(error).map((name) => String(Reflect.get(error, name)));
  return [...properties, everything(error.cause)].join('\n');
}

describe('a canary in every secret file', () => {
  test.each([
    'ca.key',
    'sa.key',
    'admin.key',
    'encryption-config.yaml',
    'hosts/m1/etcd-server.key',
  ])('%s broken: nothing of it in the error or the result', async (name) => {
    const target = await copyOfSmall();
    const file = path.join(target.pki, name);
    const lines = (await readFile(file, 'utf8')).split('\n');
    // Broken in the middle, with the rest as it was.
    lines.splice(Math.floor(lines.length / 2), 1, 'CANARY: [ "0123456789abcdef');
    await writeFile(file, lines.join('\n'));
    await utimes(file, new Date(), new Date());
    const outcome = await ensurePki(small, target).catch((error: unknown) => error);
    const said = outcome instanceof Error ? everything(outcome) : JSON.stringify(outcome);
    expect(said).not.toContain('CANARY');
    for (const line of lines.filter((entry) => entry.length > 40)) expect(said).not.toContain(line.trim());
  });
});
