/** A bundle from a small cluster's artifacts: written, checked, unpacked, and every fault that it can have. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Header, list } from 'tar';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { ArtifactLock, componentsFor, prepareArtifacts } from '../../ts/artifacts/index.js';
import { ociArchive } from '../../ts/artifacts/oci.js';
import { readBundle } from '../../ts/bundle/read.js';
import { unpackBundle } from '../../ts/bundle/unpack.js';
import { writeBundle } from '../../ts/bundle/write.js';
import { exampleCluster } from '../fixtures/cluster.js';
import { binaryContent, openCatalog, sha256, writeBareBinaries } from '../fixtures/upstream.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const version = '1.36.4';
const catalog = openCatalog();
const components = componentsFor(catalog, version);
const { signal } = new AbortController();
const quiet = { signal, onProgress: () => undefined };

let folder: string;
/** Where the bundle was made: cache and lock. */
let online: { cache: string; lock: string };
let onlineVariables: unknown;
let bundle: string;
let written: Awaited<ReturnType<typeof writeBundle>>;
let whole: Buffer;

const cluster = (source: object) => ({
  kubernetes: { version, minor: '1.36', featureGates: {} },
  artifacts: { source: source as { kind: 'auto' } },
  addons: exampleCluster().addons,
  runtime: exampleCluster().runtime,
});

const write = async (file: string) =>
  writeBundle({
    file,
    components,
    architectures: ['amd64'],
    lock: await ArtifactLock.read(online.lock, version),
    cache: online.cache,
    signal,
  });

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-bundle-'));
  const files = path.join(folder, 'files');
  await writeBareBinaries(files, 'amd64');
  const sums = [await readFile(path.join(files, 'SHA256SUMS'), 'utf8')];
  for (const { image } of components) {
    if (image === undefined) continue;
    const { name, ref, built: { entrypoint, user } = { entrypoint: '/none', user: '0:0' } } = image;
    const content = [{ path: name, content: binaryContent(name, 'amd64'), mode: 0o755 }];
    const archive = ociArchive({ ref, architecture: 'amd64', entrypoint: [entrypoint], user, files: content });
    await writeFile(path.join(files, `${name}.tar`), archive);
    sums.push(`${sha256(archive)}  ${name}.tar\n`);
  }
  await writeFile(path.join(files, 'SHA256SUMS'), sums.join(''));
  online = { cache: path.join(folder, 'cache'), lock: path.join(folder, 'artifacts.lock') };
  const prepared = await prepareArtifacts({
    ...quiet,
    cluster: cluster({ kind: 'directory', path: files }),
    home: { lock: online.lock },
    architectures: ['amd64'],
    cache: online.cache,
    catalog,
    env: {},
  });
  onlineVariables = prepared.variables;
  bundle = path.join(folder, 'demo.bundle.tar');
  written = await write(bundle);
  whole = await readFile(bundle);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('what is written', () => {
  test('is a tar file with a digest of everything, first SHA256SUMS, and no time or owner of its own', async () => {
    const entries: string[] = [];
    let sums = '';
    await list({
      file: bundle,
      strict: true,
      onReadEntry: (entry) => {
        entries.push(entry.path);
        expect([entry.type, entry.uid, entry.gid, entry.mtime?.getTime()]).toEqual(['File', 0, 0, 0]);
        expect(entry.mode).toBe(entry.path.includes('/bin/') ? 0o755 : 0o644);
        if (entry.path === 'SHA256SUMS') entry.on('data', (part: Buffer) => (sums += part.toString()));
      },
    });
    expect(entries.slice(0, 6)).toEqual([
      'SHA256SUMS',
      'bundle.json',
      'artifacts.lock',
      'sbom.cdx.json',
      'amd64/bin/bridge',
      'amd64/bin/containerd',
    ]);
    expect(entries.slice(-2)).toEqual(['amd64/images/coredns.tar', 'amd64/images/pause.tar']);
    expect(entries.length).toBe(4 + 21 + 2);
    expect(sums).toContain(`${sha256(binaryContent('runc', 'amd64'))}  amd64/bin/runc\n`);
    expect(sums.split('\n').length - 1).toBe(entries.length - 1);
  });

  test('is the same to the byte a second time', async () => {
    const again = await write(path.join(folder, 'again.tar'));
    expect(again.sha256).toBe(written.sha256);
    expect((await readFile(again.file)).equals(whole)).toBe(true);
    expect(sha256(whole)).toBe(written.sha256);
    expect(whole.length).toBe(written.size);
  });

  test('is not written when the cache holds something altered', async () => {
    const place = path.join(online.cache, 'downloads', `${sha256(binaryContent('runc', 'amd64'))}-runc`, 'runc');
    await rename(place, `${place}.away`);
    await writeFile(place, 'altered');
    const file = path.join(folder, 'never.tar');
    await expect(write(file)).rejects.toMatchObject({
      message: 'the cache lacks runc (amd64), or holds it altered',
      code: 'bundle-incomplete',
      exitCode: 4,
    });
    await rename(`${place}.away`, place);
    expect(existsSync(file)).toBe(false);
  });

  test('is read as whole', async () => {
    const read = await readBundle(bundle);
    expect(read).toMatchObject({ file: bundle, sha256: written.sha256, size: whole.length });
    expect(read.description).toEqual({
      kind: 'k8s-ans-bundle',
      version: 1,
      kubernetes: version,
      architectures: ['amd64'],
      builds: {},
    });
    expect(read.lock.text()).toBe(await readFile(online.lock, 'utf8'));
    expect([...read.digests]).toEqual([...written.digests].sort(([x], [y]) => order(x) - order(y)));
  });
});

/** The position of a file's content in the bundle. */
const order = (name: string): number => whole.indexOf(Buffer.concat([Buffer.from(name), Buffer.alloc(1)]));
const contentOf = (name: string): number => order(name) + 512;

describe('what is refused, naming the file', () => {
  const broken = path.join(os.tmpdir(), `k8s-ans-broken-${process.pid}.tar`);
  afterAll(() => rm(broken, { force: true }));

  async function refusal(bytes: Buffer): Promise<string> {
    await writeFile(broken, bytes);
    return readBundle(broken).then(
      () => 'read',
      (error) =>
        error.code === 'bundle-broken' && error.exitCode === 4 ? lines(error.message) : `a bug: ${error.stack}`,
    );
  }
  const lines = (message: string): string => {
    expect(message.startsWith(`the bundle ${broken} is broken and nothing of it is used:\n  `)).toBe(true);
    return message.split('\n  ').slice(1).join('\n');
  };
  const flipped = (at: number): Buffer => {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 1;
    return bytes;
  };
  /** The bundle with a file's content changed, and SHA256SUMS made right again: what somebody does on purpose. */
  function forged(change: (files: Map<string, Buffer>) => void, sums?: (text: string) => string): Buffer {
    const files = new Map<string, Buffer>();
    for (let at = 0; at < whole.length - 1024; ) {
      const header = new Header(whole, at);
      const size = header.size as number;
      files.set(header.path as string, whole.subarray(at + 512, at + 512 + size));
      at += 512 + Math.ceil(size / 512) * 512;
    }
    files.delete('SHA256SUMS');
    change(files);
    const text = [...files].map(([name, content]) => `${sha256(content)}  ${name}\n`).join('');
    const all = new Map([['SHA256SUMS', Buffer.from(sums?.(text) ?? text)], ...files]);
    const blocks: Buffer[] = [];
    for (const [name, content] of all) {
      const block = Buffer.alloc(512);
      const mode = name.includes('/bin/') ? 0o755 : 0o644;
      new Header({ path: name, mode, uid: 0, gid: 0, size: content.length, mtime: new Date(0), type: 'File' }).encode(
        block,
        0,
      );
      blocks.push(block, content, Buffer.alloc((512 - (content.length % 512)) % 512));
    }
    return Buffer.concat([...blocks, Buffer.alloc(1024)]);
  }

  test('one flipped bit of a binary', async () => {
    const right = sha256(binaryContent('kubelet', 'amd64'));
    const content = binaryContent('kubelet', 'amd64');
    content[3] = (content[3] as number) ^ 1;
    expect(await refusal(flipped(contentOf('amd64/bin/kubelet') + 3))).toBe(
      `amd64/bin/kubelet: it has the sha256 ${sha256(content)}, but SHA256SUMS says ${right}`,
    );
  });

  test('two broken files are both named', async () => {
    const bytes = flipped(contentOf('amd64/bin/kubelet'));
    const second = contentOf('amd64/images/pause.tar') + 700;
    bytes[second] = (bytes[second] as number) ^ 1;
    const told = await refusal(bytes);
    expect(told.split('\n').map((line) => line.split(':')[0])).toEqual(['amd64/bin/kubelet', 'amd64/images/pause.tar']);
  });

  test.each([
    [
      'a digest in SHA256SUMS',
      () => contentOf('SHA256SUMS'),
      /^(SHA256SUMS: its line 1|bundle\.json: it has the sha256)/,
    ],
    ['a path in SHA256SUMS', () => contentOf('SHA256SUMS') + 70, /^(SHA256SUMS|bundle\.json|cundle\.json)/],
    ['bundle.json', () => contentOf('bundle.json') + 5, /^bundle\.json: it has the sha256/],
    ['artifacts.lock', () => contentOf('artifacts.lock') + 5, /^artifacts\.lock: it has the sha256/],
    ['the bill of materials', () => contentOf('sbom.cdx.json') + 5, /^sbom\.cdx\.json: it has the sha256/],
    ['a header', () => contentOf('amd64/bin/kubelet') - 512 + 120, /^amd64\/bin\/kubelet: its header is broken$/],
    [
      'the fill after a file',
      () => contentOf('amd64/bin/kubelet') + 511,
      /^amd64\/bin\/kubelet: something follows its content$/,
    ],
    ['the end', () => whole.length - 1, /^its end is broken$/],
  ])('one flipped bit of %s', async (_, at, told) => expect(await refusal(flipped(at()))).toMatch(told));

  test('any flipped bit, wherever it is', async () => {
    const step = Math.floor(whole.length / 31);
    for (let at = 0; at < whole.length; at += step) {
      expect(await refusal(flipped(at)), `bit of byte ${at}`).not.toBe('read');
    }
  });

  test('a truncated file, at any place', async () => {
    for (const length of [0, 100, 512, 1024, Math.floor(whole.length / 2), whole.length - 1024, whole.length - 1]) {
      await writeFile(broken, whole);
      await truncate(broken, length);
      await expect(readBundle(broken), `${length} bytes`).rejects.toMatchObject({ code: 'bundle-broken' });
    }
    expect(await refusal(whole.subarray(0, whole.length - 1))).toBe('it ends in the middle');
  });

  test('something after its end', async () => {
    expect(await refusal(Buffer.concat([whole, Buffer.from('x')]))).toBe('something follows its end');
  });

  test('a mode, an owner or a time of its own', async () => {
    const bytes = Buffer.from(whole);
    const at = order('amd64/bin/kubelet');
    const header = new Header(bytes, at);
    header.mode = 0o4755;
    header.encode(bytes, at);
    expect(await refusal(bytes)).toBe('amd64/bin/kubelet: its header is not as it was written');
  });

  const unnamed = (part: string) => (text: string) =>
    text
      .split('\n')
      .filter((line) => !line.includes(part))
      .join('\n');
  test.each([
    ['../escape', /^SHA256SUMS: its line 27 is no digest and path$/, undefined],
    ['amd64/bin/../../../escape', /^SHA256SUMS: its line 27 is no digest and path$/, undefined],
    ['../escape', /^\.\.\/escape: it leads out of its folder$/, unnamed('escape')],
    ['/etc/cron.d/x', /^\/etc\/cron\.d\/x: it is absolute$/, unnamed('cron')],
    ['amd64/bin/extra', /^amd64\/bin\/extra: it is unexpected: SHA256SUMS does not name it$/, unnamed('extra')],
    ['zzz/extra', /^zzz\/extra is unexpected: artifacts\.lock does not name it$/, undefined],
  ])('a forged file %s (%s)', async (name, told, sums) => {
    expect(await refusal(forged((files) => files.set(name, Buffer.from('x')), sums))).toMatch(told);
  });

  test('a missing file', async () => {
    expect(await refusal(forged((files) => files.delete('amd64/bin/runc')))).toBe(
      'amd64/bin/runc is missing, and artifacts.lock names it',
    );
    const left = forged(
      (files) => files.delete('amd64/images/pause.tar'),
      (text) => `${text}${sha256('')}  amd64/images/pause.tar\n`,
    );
    expect(await refusal(left)).toBe('amd64/images/pause.tar: it is missing');
  });

  test('a binary that was replaced together with its digest', async () => {
    const told = await refusal(forged((files) => files.set('amd64/bin/runc', Buffer.from('evil'))));
    expect(told).toBe(
      `amd64/bin/runc has the sha256 ${sha256('evil')}, but artifacts.lock says ${sha256(binaryContent('runc', 'amd64'))}`,
    );
  });

  test('a file that is none, with what to do', async () => {
    await expect(readBundle('/nowhere/x.tar')).rejects.toMatchObject({ code: 'bundle-missing', exitCode: 2 });
    expect(await refusal(Buffer.alloc(1024))).toBe('it is no bundle: its first file is not SHA256SUMS');
    await writeFile(broken, Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]));
    await expect(readBundle(broken)).rejects.toMatchObject({
      code: 'bundle-compressed',
      next: 'Decompress it first: `unzstd FILE`.',
    });
  });
});

describe('unpacked on a machine that has nothing', () => {
  let root: string;
  let cache: string;
  beforeEach(async () => {
    root = await mkdtemp(path.join(folder, 'offline-'));
    cache = path.join(root, 'cache');
    await mkdir(cache);
  });

  const prepare = async (lock: string, from?: Awaited<ReturnType<typeof unpackBundle>>) =>
    prepareArtifacts({
      ...quiet,
      cluster: cluster({ kind: 'auto' }),
      home: { lock },
      architectures: ['amd64'],
      cache,
      catalog,
      env: { PATH: '/nowhere' },
      probe: async () => {
        throw new Error('the network was asked');
      },
      bundle: from,
    });

  test('gives the lock and the files of an online run, to the byte, and asks no network then or later', async () => {
    const from = await unpackBundle(bundle, { ...quiet, cache, catalog });
    const lock = path.join(root, 'artifacts.lock');
    const prepared = await prepare(lock, from);
    expect(prepared.source).toEqual({ kind: 'bundle', sentence: `Artifacts are taken from the bundle ${bundle}.` });
    expect(await readFile(lock, 'utf8')).toBe(await readFile(online.lock, 'utf8'));
    const { binaries = [], images = [] } = prepared.variables.k8s_artifacts.amd64 ?? {};
    expect([binaries.length, images.length]).toEqual([21, 2]);
    for (const one of binaries) {
      expect(one.path.startsWith(cache)).toBe(true);
      expect(sha256(await readFile(one.path))).toBe(sha256(binaryContent(one.name, 'amd64')));
      expect((await stat(one.path)).mode & 0o777).toBe(0o755);
    }
    for (const one of images) expect(sha256(await readFile(one.path ?? ''))).toBe(one.sha256);
    // Commands that come later go without the file: what it held is in the cache.
    const later = await prepare(lock);
    expect(later.variables).toEqual(prepared.variables);
    expect(later.lockWritten).toBe(false);
  });

  test('gives a bundle that is the same to the byte', async () => {
    const from = await unpackBundle(bundle, { ...quiet, cache, catalog });
    const again = await writeBundle({
      file: path.join(root, 'again.tar'),
      components,
      architectures: ['amd64'],
      lock: from.lock,
      cache,
      signal,
    });
    expect(again.sha256).toBe(written.sha256);
  });

  test('gives the roles what an online run gives them, but for where it lies on this machine', async () => {
    const from = await unpackBundle(bundle, { ...quiet, cache, catalog });
    const prepared = await prepare(path.join(root, 'artifacts.lock'), from);
    const given = (variables: unknown): string => JSON.stringify(variables).replace(/"path":"[^"]*"/g, '"path":"…"');
    expect(given(prepared.variables)).toBe(given(onlineVariables));
  });

  test('puts nothing into the cache when a byte is wrong', async () => {
    const file = path.join(root, 'broken.tar');
    const bytes = Buffer.from(whole);
    bytes[contentOf('amd64/images/pause.tar') + 600] = 7;
    await writeFile(file, bytes);
    await expect(unpackBundle(file, { ...quiet, cache, catalog })).rejects.toMatchObject({ code: 'bundle-broken' });
    await rm(file);
    expect(existsSync(path.join(cache, 'downloads'))).toBe(false);
  });

  test('is refused for another architecture, and beside a lock that says otherwise', async () => {
    const from = await unpackBundle(bundle, { ...quiet, cache, catalog });
    const lock = path.join(root, 'artifacts.lock');
    const frozen = (await readFile(online.lock, 'utf8')).replace(
      sha256(binaryContent('runc', 'amd64')),
      'f'.repeat(64),
    );
    await writeFile(lock, frozen);
    await expect(prepare(lock, from)).rejects.toMatchObject({ code: 'lock-differs', where: lock });
    expect(await readFile(lock, 'utf8')).toBe(frozen);
    await expect(
      prepareArtifacts({
        ...quiet,
        cluster: cluster({ kind: 'auto' }),
        home: { lock: path.join(root, 'other.lock') },
        architectures: ['arm64'],
        cache,
        catalog,
        env: {},
        bundle: from,
      }),
    ).rejects.toMatchObject({
      message: `${bundle} has no artifacts for arm64, only for amd64`,
      code: 'bundle-architecture',
      next: 'Make it anew with `k8s-ans artifacts bundle --arch amd64,arm64`.',
    });
  });

  test('is refused by a k8s-ans that installs other versions', async () => {
    const from = await unpackBundle(bundle, { ...quiet, cache, catalog });
    const newer = openCatalog();
    const lane = newer.lanes['1.36'] as Record<string, string>;
    lane.etcd = '3.6.15';
    await expect(
      prepareArtifacts({
        ...quiet,
        cluster: cluster({ kind: 'auto' }),
        home: { lock: path.join(root, 'artifacts.lock') },
        architectures: ['amd64'],
        cache,
        catalog: newer,
        env: {},
        bundle: from,
      }),
    ).rejects.toMatchObject({
      message: `${bundle} is not what this k8s-ans installs: it has etcd 3.6.14, not 3.6.15`,
      code: 'bundle-other-versions',
    });
  });
});
