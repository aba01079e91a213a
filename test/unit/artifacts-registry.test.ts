/** Images from a registry: a local server that answers as registries do, and the archive that comes of it. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { list } from 'tar';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { tarBytes } from '../../ts/artifacts/oci.js';
import { parseReference, pullImage, tokenUrl } from '../../ts/artifacts/registry.js';
import { type HttpsServer, httpsServer } from '../fixtures/https-server.js';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const described = (mediaType: string, bytes: Buffer) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const oci = 'application/vnd.oci.image';
const layer = gzipSync(tarBytes([{ path: 'pause', content: Buffer.from('a program'), mode: 0o755 }]));
const config = json({ architecture: 'amd64', os: 'linux' });
const manifest = json({
  schemaVersion: 2,
  mediaType: `${oci}.manifest.v1+json`,
  config: described(`${oci}.config.v1+json`, config),
  layers: [described(`${oci}.layer.v1.tar+gzip`, layer)],
});
const other = json({ schemaVersion: 2, note: 'of another architecture' });
const index = json({
  schemaVersion: 2,
  mediaType: `${oci}.index.v1+json`,
  manifests: [
    { ...described(`${oci}.manifest.v1+json`, other), platform: { os: 'linux', architecture: 's390x' } },
    { ...described(`${oci}.manifest.v1+json`, manifest), platform: { os: 'linux', architecture: 'amd64' } },
  ],
});
const image = { name: 'pause', ref: 'registry.k8s.io/pause:3.10.2' };
const root = '/v2/pause';

let server: HttpsServer;
let folder: string;
let tokens: number;

beforeAll(async () => {
  server = await httpsServer();
});
afterAll(() => server.close());
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-registry-'));
  tokens = 0;
  server.seen.length = 0;
  server.handlers.clear();
  server.handlers.set('/token?service=registry&scope=repository%3Apause%3Apull', (_, response) => {
    tokens += 1;
    response.end(JSON.stringify({ token: 'anybody' }));
  });
  serve(`${root}/manifests/3.10.2`, `${oci}.index.v1+json`, index);
  serve(`${root}/manifests/${digestOf(index)}`, `${oci}.index.v1+json`, index);
  serve(`${root}/manifests/${digestOf(manifest)}`, `${oci}.manifest.v1+json`, manifest);
  serve(`${root}/blobs/${digestOf(config)}`, 'application/octet-stream', config);
  serve(`${root}/blobs/${digestOf(layer)}`, 'application/octet-stream', layer);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Answers who has a token, and tells others where to get one. */
function serve(place: string, type: string, content: Buffer): void {
  server.handlers.set(place, (request, response) => {
    if (request.headers.authorization !== 'Bearer anybody') {
      const challenge = `Bearer realm="${server.url}/token",service="registry",scope="repository:pause:pull"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
      return;
    }
    response.writeHead(200, { 'content-type': type, 'content-length': content.length }).end(content);
  });
}

const pull = (digest?: string, architecture: 'amd64' | 'arm64' = 'amd64') =>
  pullImage(image, digest, architecture, {
    cache: path.join(folder, 'cache'),
    signal: new AbortController().signal,
    onProgress: () => undefined,
    limits: { attempts: 1, backoffMs: 1 },
    registry: server.url,
  });

async function entries(archive: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  await list({
    file: archive,
    strict: true,
    onReadEntry: (entry) => {
      const parts: Buffer[] = [];
      entry.on('data', (part: Buffer) => parts.push(part));
      entry.on('end', () => found.set(entry.path, Buffer.concat(parts)));
    },
  });
  return found;
}

describe('an image', () => {
  it('becomes an archive of what was published, for one architecture, with its name', async () => {
    const pulled = await pull(digestOf(index));
    expect(pulled.digest).toBe(digestOf(index));
    const archive = await readFile(pulled.path);
    expect(digestOf(archive)).toBe(`sha256:${pulled.sha256}`);
    const found = await entries(pulled.path);
    const blob = (bytes: Buffer) => `blobs/${digestOf(bytes).replace(':', '/')}`;
    expect([...found.keys()].sort()).toEqual(
      ['index.json', 'oci-layout', ...[index, manifest, config, layer].map(blob)].sort(),
    );
    for (const bytes of [index, manifest, config, layer]) expect(found.get(blob(bytes))?.equals(bytes)).toBe(true);
    expect(JSON.parse(String(found.get('index.json'))).manifests).toEqual([
      {
        ...described(`${oci}.index.v1+json`, index),
        annotations: { 'io.containerd.image.name': image.ref, 'org.opencontainers.image.ref.name': '3.10.2' },
      },
    ]);
    expect(tokens).toBe(1);
  });

  it('is the same to the byte, and is not pulled twice', async () => {
    const first = await pull(digestOf(index));
    const bytes = await readFile(first.path);
    server.seen.length = 0;
    expect(await pull(digestOf(index))).toEqual(first);
    expect(server.seen.filter(({ path: place }) => place.includes('/blobs/'))).toEqual([]);
    await rm(path.join(folder, 'cache'), { recursive: true });
    expect((await readFile((await pull(digestOf(index))).path)).equals(bytes)).toBe(true);
  });

  it('without a known digest has the one that the registry says now', async () => {
    expect((await pull()).digest).toBe(digestOf(index));
  });

  it('is refused when it is another one', async () => {
    const wanted = `sha256:${'0'.repeat(64)}`;
    serve(`${root}/manifests/${wanted}`, `${oci}.index.v1+json`, index);
    await expect(pull(wanted)).rejects.toMatchObject({
      message: `${server.url}${root}/manifests/${wanted} has the digest ${digestOf(index)}, but it must be ${wanted}; it is not used`,
      code: 'image-altered',
      exitCode: 4,
    });
    serve(`${root}/blobs/${digestOf(layer)}`, 'application/octet-stream', Buffer.from('evil'));
    await expect(pull(digestOf(index))).rejects.toMatchObject({ code: 'artifact-altered' });
  });

  it('is refused when there is none for the architecture, or no image at all', async () => {
    await expect(pull(digestOf(index), 'arm64')).rejects.toMatchObject({
      message: 'registry.k8s.io/pause:3.10.2 has no image for linux/arm64',
      code: 'image-architecture',
    });
    serve(`${root}/manifests/3.10.2`, 'text/html', Buffer.from('<html>'));
    await expect(pull()).rejects.toMatchObject({ code: 'image-unreadable' });
    server.handlers.set(`${root}/manifests/3.10.2`, (_, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(),
    );
    await expect(pull()).rejects.toMatchObject({ code: 'image-unreadable' });
  });
});

describe('what registries say', () => {
  it('is read as their specifications say', () => {
    expect(parseReference('registry.k8s.io/coredns/coredns:v1.14.2')).toEqual({
      host: 'registry.k8s.io',
      repository: 'coredns/coredns',
      tag: 'v1.14.2',
    });
    expect(() => parseReference('pause:3.10')).toThrow('pause:3.10 is no full reference of an image');
    expect(tokenUrl('Bearer realm="https://auth.example/token",service="a b",scope="repository:x/y:pull"')).toBe(
      'https://auth.example/token?service=a+b&scope=repository%3Ax%2Fy%3Apull',
    );
    expect(tokenUrl('Basic realm="x"')).toBeUndefined();
    expect(tokenUrl(null)).toBeUndefined();
  });
});
