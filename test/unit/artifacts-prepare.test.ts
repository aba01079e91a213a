import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { type Catalog, componentsFor } from '../../ts/artifacts/catalog.js';
import { lockFiles, verifyCache } from '../../ts/artifacts/inspect.js';
import { ArtifactLock } from '../../ts/artifacts/lock.js';
import { imageReferences, type PrepareOptions, prepareArtifacts, wouldBuild } from '../../ts/artifacts/prepare.js';
import type { ArtifactSource } from '../../ts/types/cluster.js';
import { exampleCluster } from '../fixtures/cluster.js';
import { type HttpsServer, httpsServer } from '../fixtures/https-server.js';
import { binaryContent, openCatalog, sha256, upstreamTree } from '../fixtures/upstream.js';

const version = '1.36.4';
const kubelet = 'dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet';
const kubeletUrl = `https://${kubelet}`;
const kubeletDigest = sha256(binaryContent('kubelet', 'amd64'));
const components = componentsFor(openCatalog(), version);
const { addons, runtime } = exampleCluster();

// Each test handles some thirty files; a busy machine takes its time.
vi.setConfig({ testTimeout: 60_000 });

let server: HttpsServer;
let folder: string;
let lockFile: string;
let notes: string[];

beforeAll(async () => {
  server = await httpsServer();
});
afterAll(() => server.close());
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-artifacts-'));
  lockFile = path.join(folder, 'artifacts.lock');
  notes = [];
  server.seen.length = 0;
  server.handlers.clear();
  for (const [place, content] of upstreamTree(version, ['amd64', 'arm64'])) server.file(`/mirror/${place}`, content);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function options(overrides: Partial<PrepareOptions> & { source?: ArtifactSource } = {}): PrepareOptions {
  const { source = { kind: 'mirror', url: `${server.url}/mirror` }, ...rest } = overrides;
  return {
    cluster: { kubernetes: { version, minor: '1.36', featureGates: {} }, artifacts: { source }, addons, runtime },
    home: { lock: lockFile },
    architectures: ['amd64'],
    signal: new AbortController().signal,
    onProgress: ({ kind, message }) => kind === 'note' && notes.push(message),
    env: { PATH: folder },
    cache: path.join(folder, 'cache'),
    catalog: openCatalog(),
    limits: { attempts: 2, backoffMs: 5, connectMs: 2000, idleMs: 2000 },
    ...rest,
  };
}

const lockText = async () => parse(await readFile(lockFile, 'utf8'));

function withDigest(component: string, key: string, amd64: string): Catalog {
  const catalog = openCatalog();
  const entry = catalog.components[component] as Catalog['components'][string];
  entry.digests = { [version]: { [key]: { amd64, arm64: null } } };
  return catalog;
}

describe('the names that pods have for images', () => {
  const digest = 'd'.repeat(64);
  const pinned = { coredns: 'registry.k8s.io/coredns/coredns:v1.14.2', pause: 'registry.k8s.io/pause:3.10.2' };
  const names = async (imageRegistry: string | undefined, overrides: Partial<PrepareOptions> = {}) => {
    const base = options(overrides);
    const cluster = { ...base.cluster, artifacts: { ...base.cluster.artifacts, imageRegistry } };
    const { k8s_images } = (await prepareArtifacts({ ...base, cluster })).variables;
    // An operation that prepares nothing knows them too.
    expect(await imageReferences(cluster, base.home, base.catalog)).toEqual(k8s_images);
    return k8s_images;
  };

  it("are the catalog's, with the digest where one is known", async () => {
    expect(await names(undefined)).toEqual(pinned);
    const catalog = openCatalog();
    const entry = catalog.components.coredns as Catalog['components'][string];
    entry.digests = { '1.14.2': { image: { amd64: digest, arm64: digest } } };
    expect(await names(undefined, { catalog })).toEqual({
      ...pinned,
      coredns: `${pinned.coredns}@sha256:${digest}`,
    });
  });

  it("have the spec's registry in front, if it names one", async () => {
    expect(await names('registry.example.com/mirror')).toEqual({
      coredns: `registry.example.com/mirror/${pinned.coredns}`,
      pause: `registry.example.com/mirror/${pinned.pause}`,
    });
  });
});

describe('a mirror', () => {
  it('gives every binary of the cluster, verified, executable and frozen', async () => {
    const prepared = await prepareArtifacts(options());
    expect(prepared.source).toEqual({
      kind: 'mirror',
      sentence: `Artifacts are taken from the mirror ${server.url}/mirror: cluster.yaml says so.`,
    });
    const list = prepared.variables.k8s_artifacts.amd64;
    expect(list?.binaries.map(({ name, component, dest, groups }) => `${name} ${component} ${dest} ${groups}`)).toEqual(
      [
        'kube-apiserver kubernetes bin masters',
        'kube-controller-manager kubernetes bin masters',
        'kube-scheduler kubernetes bin masters',
        'kubeadm kubernetes bin masters',
        'kubectl kubernetes bin masters',
        'kubelet kubernetes bin masters,nodes',
        'kube-proxy kubernetes bin masters,nodes',
        'etcd etcd bin etcd',
        'etcdctl etcd bin etcd',
        'etcdutl etcd bin etcd',
        'containerd containerd bin masters,nodes',
        'containerd-shim-runc-v2 containerd bin masters,nodes',
        'ctr containerd bin masters,nodes',
        'runc runc bin masters,nodes',
        'crictl cri-tools bin masters,nodes',
        'bridge cni-plugins cni masters,nodes',
        'host-local cni-plugins cni masters,nodes',
        'loopback cni-plugins cni masters,nodes',
        'portmap cni-plugins cni masters,nodes',
        'flannel flannel-cni cni masters,nodes',
        'flanneld flannel bin masters,nodes',
      ],
    );
    for (const binary of list?.binaries ?? []) {
      const content = await readFile(binary.path);
      expect(content.equals(binaryContent(binary.name, 'amd64'))).toBe(true);
      expect(binary.sha256).toBe(sha256(content));
      expect((await stat(binary.path)).mode & 0o777).toBe(0o755);
    }
    expect(list?.images).toEqual([
      {
        name: 'coredns',
        ref: 'registry.k8s.io/coredns/coredns:v1.14.2',
        path: null,
        sha256: null,
        digest: null,
        groups: ['masters', 'nodes'],
      },
      {
        name: 'pause',
        ref: 'registry.k8s.io/pause:3.10.2',
        path: null,
        sha256: null,
        digest: null,
        groups: ['masters', 'nodes'],
      },
    ]);
    expect((await stat(lockFile)).mode & 0o777).toBe(0o600);
    const lock = await lockText();
    expect(lock).toMatchObject({ schema: 1, kubernetes: version, source: 'upstream' });
    expect(lock.amd64.files['kubernetes/kubelet']).toEqual({
      url: kubeletUrl,
      sha256: kubeletDigest,
      from: `${server.url}/mirror/${kubelet}.sha256`,
    });
    expect(lock.amd64.binaries.etcdctl).toEqual({
      version: '3.6.14',
      origin: 'upstream',
      sha256: sha256(binaryContent('etcdctl', 'amd64')),
    });
    expect(lock.arm64).toBeUndefined();
  });

  it('is not asked again, and the lock is not written again', async () => {
    const first = await prepareArtifacts(options());
    const before = await readFile(lockFile);
    server.seen.length = 0;
    const second = await prepareArtifacts(options());
    expect(server.seen).toEqual([]);
    expect(second.variables).toEqual(first.variables);
    expect([first.lockWritten, second.lockWritten]).toEqual([true, false]);
    expect((await readFile(lockFile)).equals(before)).toBe(true);
  });

  it('prepares both architectures side by side', async () => {
    const prepared = await prepareArtifacts(options({ architectures: ['amd64', 'arm64'] }));
    expect(prepared.variables.k8s_artifacts.arm64?.binaries.find(({ name }) => name === 'runc')?.sha256).toBe(
      sha256(binaryContent('runc', 'arm64')),
    );
    expect(Object.keys(await lockText())).toEqual(['amd64', 'arm64', 'kubernetes', 'schema', 'source']);
  });

  it('is refused when a frozen file differs later', async () => {
    await prepareArtifacts(options());
    const before = await readFile(lockFile);
    await rm(path.join(folder, 'cache'), { recursive: true });
    server.file(`/mirror/${kubelet}`, Buffer.from('altered'));
    server.file(`/mirror/${kubelet}.sha256`, Buffer.from(sha256('altered')));
    await expect(prepareArtifacts(options())).rejects.toMatchObject({
      message: `${server.url}/mirror/${kubelet} has the sha256 ${sha256('altered')} (7 bytes), but artifacts.lock says ${kubeletDigest}; it was thrown away`,
      code: 'artifact-altered',
      exitCode: 4,
    });
    expect((await readFile(lockFile)).equals(before)).toBe(true);
  });

  it('is refused when a file differs from the catalog', async () => {
    const catalog = withDigest('kubernetes', 'kubelet', sha256('another'));
    await expect(prepareArtifacts(options({ catalog }))).rejects.toMatchObject({
      message: `${server.url}/mirror/${kubelet} has the sha256 ${kubeletDigest} (${binaryContent('kubelet', 'amd64').length} bytes), but the catalog says ${sha256('another')}; it was thrown away`,
      code: 'artifact-altered',
    });
    expect(existsSync(lockFile)).toBe(false);
  });

  it('is refused when catalog and lock disagree', async () => {
    await prepareArtifacts(options());
    const catalog = withDigest('kubernetes', 'kubelet', sha256('another'));
    await expect(prepareArtifacts(options({ catalog }))).rejects.toMatchObject({
      message: `${kubeletUrl} now has the sha256 ${sha256('another')}, but artifacts.lock froze it to ${kubeletDigest}`,
      code: 'lock-differs',
      where: lockFile,
    });
  });

  it('is refused when the checksum file does not name the file', async () => {
    const sums = '/mirror/github.com/etcd-io/etcd/releases/download/v3.6.14/SHA256SUMS';
    server.file(sums, Buffer.from(`${sha256('x')}  etcd-v3.6.14-linux-ppc64le.tar.gz\n${sha256('y')}  other\n`));
    await expect(prepareArtifacts(options())).rejects.toMatchObject({
      message: 'nobody states a sha256 for etcd-v3.6.14-linux-amd64.tar.gz, and nothing is installed without one',
      code: 'artifact-no-digest',
      where: server.url + sums,
    });
  });

  it('is refused when an archive lacks a binary', async () => {
    const place =
      '/mirror/github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz';
    const etcd = upstreamTree(version, ['amd64']).get(
      'github.com/etcd-io/etcd/releases/download/v3.6.14/etcd-v3.6.14-linux-amd64.tar.gz',
    ) as Buffer;
    server.file(place, etcd);
    server.file(`${place}.sha256`, Buffer.from(sha256(etcd)));
    await expect(prepareArtifacts(options())).rejects.toMatchObject({
      message: 'crictl-v1.36.0-linux-amd64.tar.gz does not hold crictl',
      code: 'artifact-member-missing',
    });
  });

  it('stops when it is interrupted, and goes on later', async () => {
    const controller = new AbortController();
    server.handlers.set(`/mirror/${kubelet}`, () => controller.abort(new Error('interrupted')));
    await expect(prepareArtifacts(options({ signal: controller.signal }))).rejects.toThrow('interrupted');
    expect(existsSync(lockFile)).toBe(false);
    server.file(`/mirror/${kubelet}`, binaryContent('kubelet', 'amd64'));
    await prepareArtifacts(options());
    const left = await readdir(path.join(folder, 'cache', 'downloads'));
    expect(left.filter((name) => name.includes('.new') || name.endsWith('.lock'))).toEqual([]);
  });
});

describe('artifacts lock', () => {
  it('freezes open digests without downloading', async () => {
    const locked = await lockFiles(options());
    expect(locked.written).toBe(true);
    expect(locked.signatures).toBe(false);
    expect(notes).toContain('cosign is not on PATH: digests are taken over HTTPS, signatures are not checked.');
    expect(locked.taken.length).toBe(14);
    expect(locked.taken.map(({ url }) => url)).toContain(kubeletUrl);
    expect(server.seen.map(({ path }) => path).filter((place) => place.endsWith('/kubelet'))).toEqual([]);
    expect((await lockText()).amd64.files['flannel/archive'].from).toBe(
      `${server.url}/mirror/api.github.com/repos/flannel-io/flannel/releases/tags/v0.28.9`,
    );
    expect(await lockFiles(options())).toMatchObject({ taken: [], written: false });
  });

  it('refuses a file that is no lock', async () => {
    await writeFile(lockFile, 'schema: 1\nkubernetes: 1.36.4\namd64: {files: {x: {url: y, sha256: short, from: z}}}\n');
    await expect(lockFiles(options())).rejects.toMatchObject({ code: 'lock-invalid', exitCode: 2, where: lockFile });
  });

  it('has cosign verify what Kubernetes signs', async () => {
    await writeFile(path.join(folder, 'cosign'), '#!/bin/sh\necho "$@" >> "$0.log"\n', { mode: 0o755 });
    for (const name of [
      'kube-apiserver',
      'kube-controller-manager',
      'kube-scheduler',
      'kubeadm',
      'kubectl',
      'kubelet',
      'kube-proxy',
    ]) {
      for (const kind of ['sig', 'cert']) {
        server.file(`/mirror/dl.k8s.io/release/v1.36.4/bin/linux/amd64/${name}.${kind}`, Buffer.from(kind));
      }
    }
    const withShell = { PATH: `${folder}:/usr/bin:/bin` };
    expect(await lockFiles(options({ env: withShell }))).toMatchObject({ signatures: true });
    const calls = (await readFile(path.join(folder, 'cosign.log'), 'utf8'))
      .split('\n')
      .filter((line) => line.startsWith('verify-blob'));
    expect(calls.length).toBe(7);
    expect(calls[0]).toContain(
      '--certificate-identity krel-staging@k8s-releng-prod.iam.gserviceaccount.com --certificate-oidc-issuer https://accounts.google.com',
    );
    const { amd64 } = await lockText();
    expect(amd64.files['kubernetes/kubelet'].signed).toBe(true);
    expect(amd64.files['etcd/archive'].signed).toBeUndefined();
    await writeFile(
      path.join(folder, 'cosign'),
      '#!/bin/sh\n[ "$1" = version ] || { echo "no matching signatures" >&2; exit 1; }\n',
      { mode: 0o755 },
    );
    await rm(lockFile);
    await expect(lockFiles(options({ env: withShell }))).rejects.toMatchObject({
      message: expect.stringContaining('cosign does not accept the signature of https://dl.k8s.io/'),
      code: 'artifact-unsigned',
    });
  });
});

describe('a directory', () => {
  async function writeTree(layout: (place: string) => string): Promise<string> {
    const root = path.join(folder, 'files');
    for (const [place, content] of upstreamTree(version, ['amd64'])) {
      const file = path.join(root, layout(place));
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, content);
    }
    return root;
  }

  it('is taken in the upstream layout', async () => {
    const root = await writeTree((place) => place);
    const prepared = await prepareArtifacts(options({ source: { kind: 'directory', path: root } }));
    expect(prepared.variables.k8s_artifacts.amd64?.binaries.length).toBe(21);
    expect(prepared.source.sentence).toBe(`Artifacts are taken from the folder ${root}: cluster.yaml says so.`);
    expect(server.seen).toEqual([]);
  });

  it('is taken with files by name, each beside its checksum', async () => {
    const root = await writeTree((place) =>
      path.join('amd64', place.startsWith('api.') ? 'v0.28.9' : path.basename(place)),
    );
    await writeFile(path.join(root, 'amd64', 'pause.tar'), 'an image');
    await writeFile(path.join(root, 'amd64', 'pause.tar.sha256'), sha256('an image'));
    const prepared = await prepareArtifacts(options({ source: { kind: 'directory', path: root } }));
    expect(prepared.variables.k8s_artifacts.amd64?.binaries.length).toBe(21);
    expect(prepared.variables.k8s_artifacts.amd64?.images.map(({ name, sha256 }) => [name, sha256])).toEqual([
      ['coredns', null],
      ['pause', sha256('an image')],
    ]);
  });

  it('is taken with bare binaries and SHA256SUMS, and refused without', async () => {
    const root = path.join(folder, 'files');
    await mkdir(root);
    const names = components.flatMap(({ binaries }) => binaries.map(({ name }) => name));
    for (const name of names) await writeFile(path.join(root, name), binaryContent(name, 'amd64'));
    const source = { kind: 'directory', path: root } as const;
    await expect(prepareArtifacts(options({ source }))).rejects.toMatchObject({ code: 'artifact-no-digest' });
    const sums = names.map((name) => `${sha256(binaryContent(name, 'amd64'))} *${name}\n`).join('');
    await writeFile(path.join(root, 'SHA256SUMS'), sums);
    const prepared = await prepareArtifacts(options({ source }));
    expect(prepared.variables.k8s_artifacts.amd64?.binaries.find(({ name }) => name === 'etcd')?.sha256).toBe(
      sha256(binaryContent('etcd', 'amd64')),
    );
    await rm(path.join(folder, 'cache'), { recursive: true });
    await writeFile(path.join(root, 'etcd'), 'altered');
    await expect(prepareArtifacts(options({ source }))).rejects.toMatchObject({
      message: `${root}/etcd has the sha256 ${sha256('altered')}, but it must be ${sha256(binaryContent('etcd', 'amd64'))}; it is not used`,
      code: 'artifact-altered',
    });
  });

  it('is refused when a file is missing, and when there is no such folder', async () => {
    const root = await writeTree((place) => place);
    await rm(path.join(root, kubelet));
    await expect(prepareArtifacts(options({ source: { kind: 'directory', path: root } }))).rejects.toMatchObject({
      message: `${root} has neither kubelet nor kubelet for amd64`,
      code: 'artifact-missing',
    });
    const nowhere = path.join(folder, 'nowhere');
    await expect(prepareArtifacts(options({ source: { kind: 'directory', path: nowhere } }))).rejects.toMatchObject({
      code: 'artifacts-no-directory',
      exitCode: 2,
    });
  });
});

describe('source auto', () => {
  const auto = { kind: 'auto' } as const;

  it('says what is unreachable and what is missing when nothing can be used', async () => {
    const asked: string[] = [];
    const probe = async (url: string) => {
      asked.push(new URL(url).host);
      return false;
    };
    await expect(prepareArtifacts(options({ source: auto, probe }))).rejects.toMatchObject({
      message:
        'there is no source for the artifacts: dl.k8s.io and github.com and api.github.com cannot be reached, and this machine has no Go to build with',
      code: 'artifacts-no-source',
      exitCode: 4,
      next: expect.stringContaining('k8s-ans doctor --fix'),
    });
    expect(asked).toEqual(['dl.k8s.io', 'github.com', 'api.github.com']);
  });

  it('takes upstream when its hosts answer, and build when not', async () => {
    const probe = async () => true;
    const stopped = { signal: AbortSignal.abort(new Error('far enough')) };
    await expect(prepareArtifacts(options({ source: auto, probe, ...stopped }))).rejects.toThrow('far enough');
    expect(notes).toEqual(['Artifacts are taken from upstream: its hosts answer.']);
    notes.length = 0;
    await writeFile(path.join(folder, 'go'), '#!/bin/sh\necho go version go1.26.8\n', { mode: 0o755 });
    const silent = { probe: async () => false, env: { PATH: `${folder}:/bin:/usr/bin` } };
    await expect(prepareArtifacts(options({ source: auto, ...silent, ...stopped }))).rejects.toThrow('far enough');
    expect(notes).toEqual([
      'Artifacts are built on this machine from pinned Go modules: dl.k8s.io and github.com and api.github.com cannot be reached, and this machine has Go.',
    ]);
  });

  it('tells beforehand whether compilers are needed', async () => {
    const says = (source: ArtifactSource, reachable: boolean) =>
      wouldBuild(options({ source, probe: async () => reachable }));
    expect(await says(auto, false)).toBe(true);
    expect(await says(auto, true)).toBe(false);
    expect(await says({ kind: 'build' }, true)).toBe(true);
    expect(await says({ kind: 'upstream' }, false)).toBe(false);
    await writeFile(lockFile, stringify({ schema: 1, kubernetes: version, source: 'build' }));
    expect(await says(auto, true)).toBe(true);
  });

  it('stays with what the lock says, without asking', async () => {
    await writeFile(lockFile, stringify({ schema: 1, kubernetes: version, source: 'build' }));
    const probe = async () => {
      throw new Error('asked');
    };
    await expect(prepareArtifacts(options({ source: auto, probe }))).rejects.toMatchObject({ code: 'build-no-go' });
    expect(notes).toEqual(['Artifacts are built on this machine from pinned Go modules: artifacts.lock says so.']);
  });
});

describe('artifacts verify', () => {
  it('finds what is missing or altered', async () => {
    const prepared = await prepareArtifacts(options());
    const find = (name: string): string =>
      prepared.variables.k8s_artifacts.amd64?.binaries.find((binary) => binary.name === name)?.path ?? '';
    const check = async () => {
      const lock = await ArtifactLock.read(lockFile, version);
      const states = await verifyCache(components, ['amd64'], lock, path.join(folder, 'cache'));
      return states.filter(({ state }) => state !== 'ok').map(({ name, state, path }) => ({ name, state, path }));
    };
    expect(await check()).toEqual([]);
    const { atime, mtime } = await stat(find('kubelet'));
    const altered = binaryContent('kubelet', 'amd64');
    altered[3] = 0;
    await writeFile(find('kubelet'), altered);
    await utimes(find('kubelet'), atime, mtime);
    await rm(find('flanneld'));
    expect(await check()).toEqual([
      { name: 'kubelet', state: 'altered', path: find('kubelet') },
      { name: 'flanneld', state: 'missing', path: find('flanneld') },
    ]);
  });
});
