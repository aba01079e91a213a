import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { answers, download, fetchText, type Limits } from '../../ts/artifacts/fetch.js';
import { type HttpsServer, httpsServer, serve } from '../fixtures/https-server.js';

const content = randomBytes(300_000);
const digest = sha256(content);
const limits: Partial<Limits> = { attempts: 3, backoffMs: 5, connectMs: 2000, idleMs: 2000 };
const url = '/dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet';

vi.setConfig({ testTimeout: 30_000 });

let server: HttpsServer;
let folder: string;
let file: string;

beforeAll(async () => {
  server = await httpsServer();
});
afterAll(() => server.close());
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-fetch-'));
  file = path.join(folder, 'kubelet');
  server.seen.length = 0;
  server.handlers.clear();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function get(overrides: Partial<Parameters<typeof download>[0]> = {}): Promise<void> {
  return download({
    url: server.url + url,
    file,
    sha256: digest,
    vouchedBy: 'the catalog',
    signal: new AbortController().signal,
    limits,
    ...overrides,
  });
}

const ranges = (): (string | undefined)[] => server.seen.map(({ range }) => range);

describe('download', () => {
  it('gets a file whole and leaves nothing beside it', async () => {
    server.file(url, content);
    const bytes: number[] = [];
    await get({ onBytes: (received, total) => bytes.push(received, total ?? -1) });
    expect(sha256(await readFile(file))).toBe(digest);
    expect(bytes.slice(-2)).toEqual([content.length, content.length]);
    expect(await readdir(folder)).toEqual(['kubelet']);
    expect(server.seen).toEqual([{ method: 'GET', path: url, range: undefined, ifRange: undefined }]);
  });

  it('goes on where a connection broke, with Range and If-Range', async () => {
    const whole = serve(content);
    server.handlers.set(url, (request, response) => {
      if (server.seen.length > 1) return whole(request, response);
      response.writeHead(200, { etag: etag(content), 'content-length': content.length });
      response.write(content.subarray(0, 100_000), () => setTimeout(() => response.destroy(), 50));
    });
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(server.seen).toEqual([
      { method: 'GET', path: url, range: undefined, ifRange: undefined },
      { method: 'GET', path: url, range: 'bytes=100000-', ifRange: etag(content) },
    ]);
  });

  it('goes on in a later run after an interruption', async () => {
    const interruption = new AbortController();
    server.handlers.set(url, (_request, response) => {
      response.writeHead(200, { etag: etag(content), 'content-length': content.length });
      response.write(content.subarray(0, 123_456));
    });
    const first = get({
      signal: interruption.signal,
      onBytes: (received) => received === 123_456 && interruption.abort(new Error('interrupted')),
    });
    await expect(first).rejects.toThrow('interrupted');
    expect((await readdir(folder)).sort()).toEqual(['kubelet.part', 'kubelet.part.json']);
    server.file(url, content);
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(ranges()).toEqual([undefined, 'bytes=123456-']);
  });

  it('starts again when the file changed meanwhile', async () => {
    await writeFile(`${file}.part`, randomBytes(1000));
    await writeFile(`${file}.part.json`, JSON.stringify({ url: server.url + url, validator: '"old"' }));
    server.file(url, content);
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(server.seen).toEqual([{ method: 'GET', path: url, range: 'bytes=1000-', ifRange: '"old"' }]);
  });

  it('starts again when what an earlier run left is not the beginning of the file', async () => {
    await writeFile(`${file}.part`, randomBytes(1000));
    await writeFile(`${file}.part.json`, JSON.stringify({ url: server.url + url, validator: etag(content) }));
    server.file(url, content);
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(ranges()).toEqual(['bytes=1000-', undefined]);
  });

  it('starts again when the server has no such range', async () => {
    await writeFile(`${file}.part`, randomBytes(400_000));
    await writeFile(`${file}.part.json`, JSON.stringify({ url: server.url + url, validator: etag(content) }));
    const whole = serve(content);
    server.handlers.set(url, (request, response) =>
      request.headers.range === undefined ? whole(request, response) : response.writeHead(416).end(),
    );
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(ranges()).toEqual(['bytes=400000-', undefined]);
  });

  it('does not go on with a part of another URL', async () => {
    await writeFile(`${file}.part`, content.subarray(0, 1000));
    await writeFile(`${file}.part.json`, JSON.stringify({ url: 'https://elsewhere/kubelet', validator: '"x"' }));
    server.file(url, content);
    await get();
    expect(ranges()).toEqual([undefined]);
  });

  it('tries again after 503, as late as Retry-After says', async () => {
    const whole = serve(content);
    server.handlers.set(url, (request, response) =>
      server.seen.length > 1 ? whole(request, response) : response.writeHead(503, { 'retry-after': '1' }).end(),
    );
    const begun = Date.now();
    await get();
    expect(Date.now() - begun).toBeGreaterThanOrEqual(990);
    expect(server.seen.length).toBe(2);
  });

  it('gives up after its tries, and keeps nothing that is not verified', async () => {
    server.handlers.set(url, (_request, response) => response.writeHead(503).end());
    await expect(get()).rejects.toMatchObject({
      message: `${server.url}${url}: the server says 503 Service Unavailable; given up after 3 tries`,
      code: 'artifact-unreachable',
      exitCode: 4,
      where: server.url + url,
    });
    expect(server.seen.length).toBe(3);
    expect(existsSync(file)).toBe(false);
  });

  it('gives up on a file that always breaks off at the same byte', async () => {
    server.handlers.set(url, (_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 5000), () => setTimeout(() => response.destroy(), 20));
    });
    await expect(get()).rejects.toMatchObject({ code: 'artifact-unreachable' });
    // How much of the 5000 bytes arrives differs: a try that got further starts the count anew.
    expect(server.seen.length).toBeLessThanOrEqual(5);
  });

  it('refuses a file that is shorter than the published one', async () => {
    const short = content.subarray(0, 1000);
    server.file(url, short);
    await expect(get()).rejects.toMatchObject({
      message: `${server.url}${url} has the sha256 ${sha256(short)} (1000 bytes), but the catalog says ${digest}; it was thrown away`,
      code: 'artifact-altered',
      exitCode: 4,
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it('refuses an altered file with both digests, and throws it away', async () => {
    const altered = Buffer.from(content);
    altered[7] = (altered[7] ?? 0) ^ 1;
    server.file(url, altered);
    await expect(get({ vouchedBy: 'artifacts.lock' })).rejects.toMatchObject({
      message: `${server.url}${url} has the sha256 ${sha256(altered)} (300000 bytes), but artifacts.lock says ${digest}; it was thrown away`,
      code: 'artifact-altered',
      next: expect.stringContaining('Compare with the publisher'),
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it('says at once that a file is missing', async () => {
    await expect(get()).rejects.toMatchObject({
      message: `${server.url}${url}: the server says 404 Not Found`,
      code: 'artifact-missing',
      next: expect.stringContaining('MIRROR/HOST/PATH'),
    });
    expect(server.seen.length).toBe(1);
  });

  it('gives up on a server that does not answer', async () => {
    server.handlers.set(url, () => undefined);
    await expect(get({ limits: { ...limits, attempts: 2, connectMs: 60 } })).rejects.toMatchObject({
      message: `${server.url}${url}: no answer for 0.06 s; given up after 2 tries`,
      code: 'artifact-unreachable',
    });
  });

  it('goes on when a server falls silent in the middle', async () => {
    const whole = serve(content);
    server.handlers.set(url, (request, response) => {
      if (server.seen.length > 1) return whole(request, response);
      response.writeHead(200, { etag: etag(content), 'content-length': content.length });
      response.write(content.subarray(0, 50_000));
    });
    await get({ limits: { ...limits, idleMs: 100 } });
    expect(sha256(await readFile(file))).toBe(digest);
    expect(ranges()).toEqual([undefined, 'bytes=50000-']);
  });

  it('takes a slow file that never falls silent', async () => {
    server.handlers.set(url, (_request, response) => {
      response.writeHead(200, { 'content-length': 2000 });
      let sent = 0;
      const timer = setInterval(() => {
        response.write(content.subarray(sent, sent + 200));
        sent += 200;
        if (sent === 2000) {
          clearInterval(timer);
          response.end();
        }
      }, 30);
    });
    await get({ sha256: sha256(content.subarray(0, 2000)), limits: { ...limits, idleMs: 150 } });
    expect(server.seen.length).toBe(1);
  });

  it('follows redirects and goes on through them', async () => {
    const real = '/storage/kubelet?token=1';
    server.handlers.set(url, (_request, response) => response.writeHead(302, { location: real }).end());
    server.file(real, content);
    await writeFile(`${file}.part`, content.subarray(0, 2000));
    await writeFile(`${file}.part.json`, JSON.stringify({ url: server.url + url, validator: etag(content) }));
    await get();
    expect(sha256(await readFile(file))).toBe(digest);
    expect(server.seen.map(({ path, range }) => [path, range])).toEqual([
      [url, 'bytes=2000-'],
      [real, 'bytes=2000-'],
    ]);
  });

  it('downloads once when two want the same file', async () => {
    server.file(url, content);
    await Promise.all([get(), get()]);
    expect(server.seen.length).toBe(1);
  });

  it('takes over from a process that was killed', async () => {
    server.file(url, content);
    await writeFile(`${file}.lock`, '4194305');
    await get();
    expect(await readdir(folder)).toEqual(['kubelet']);
  }, 10_000);

  it('does not trust an unknown CA', async () => {
    const unknown = await httpsServer({ trusted: false });
    try {
      unknown.file(url, content);
      await expect(get({ url: unknown.url + url })).rejects.toMatchObject({
        message: `${unknown.url}${url}: the server's certificate is not trusted: unable to verify the first certificate`,
        code: 'artifact-untrusted',
        next: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
      });
      expect(unknown.seen).toEqual([]);
    } finally {
      await unknown.close();
    }
  });
});

describe('fetchText', () => {
  it('tries again, and gives the text', async () => {
    server.handlers.set('/sums', (_request, response) =>
      server.seen.length > 1 ? response.end(`${digest}  kubelet\n`) : response.writeHead(500).end(),
    );
    expect(await fetchText(`${server.url}/sums`, new AbortController().signal, limits)).toBe(`${digest}  kubelet\n`);
  });
});

describe('answers', () => {
  it('is true for any answer of a working server, false without one', async () => {
    const { signal } = new AbortController();
    expect(await answers(`${server.url}/nothing`, 1000, signal)).toBe(true);
    server.handlers.set('/silent', () => undefined);
    expect(await answers(`${server.url}/silent`, 50, signal)).toBe(false);
    expect(await answers('https://127.0.0.1:1/', 1000, signal)).toBe(false);
  });
});

function etag(bytes: Buffer): string {
  return `"${sha256(bytes).slice(0, 16)}"`;
}
