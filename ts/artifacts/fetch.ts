/**
 * Downloads with resume, retry and verification.
 *
 * A file is written to FILE.part and renamed when its sha256 is the expected one; FILE is never there in part. A later
 * run goes on with FILE.part by a Range request with If-Range (https://www.rfc-editor.org/rfc/rfc9110#name-if-range).
 * Node's own fetch is used: a private CA comes through NODE_EXTRA_CA_CERTS.
 */
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environmentError, type K8sAnsError } from '../types/errors.js';
import { exclusively, fileSize, sha256File } from './files.js';

export interface DownloadOptions {
  readonly url: string;
  /** Where the file goes. A file that is there already must have been verified by the caller. */
  readonly file: string;
  /** Expected sha256; a download is never kept without one. */
  readonly sha256: string;
  /** What vouches for the digest, for messages: `the catalog`, `artifacts.lock`, a URL. */
  readonly vouchedBy: string;
  readonly signal: AbortSignal;
  readonly onBytes?: ((received: number, total: number | undefined) => void) | undefined;
  /** Further request headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly limits?: Partial<Limits> | undefined;
}

export interface Limits {
  /** Tries in a row that bring nothing before it is given up. */
  readonly attempts: number;
  /** Wait before the second try; doubled for each further one, with jitter. Milliseconds. */
  readonly backoffMs: number;
  /** Until the response's head is there. Milliseconds. */
  readonly connectMs: number;
  /** Between two pieces of the body. Milliseconds. */
  readonly idleMs: number;
}

export const defaultLimits: Limits = { attempts: 5, backoffMs: 500, connectMs: 20_000, idleMs: 30_000 };

const longestBackoffMs = 20_000;

/**
 * Downloads one file. Throws environment errors: `artifact-missing` (the server has no such file),
 * `artifact-untrusted` (its certificate), `artifact-unreachable` (tries used up), `artifact-altered` (the digest differs; nothing is kept).
 */
export async function download(options: DownloadOptions): Promise<void> {
  await mkdir(path.dirname(options.file), { recursive: true });
  await exclusively(`${options.file}.lock`, options.signal, async () => {
    if ((await fileSize(options.file)) !== undefined) return;
    await downloadAlone(options);
  });
}

async function downloadAlone(options: DownloadOptions): Promise<void> {
  const { url, file, sha256, vouchedBy, signal } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const part = `${file}.part`;
  const resumed = ((await fileSize(part)) ?? 0) > 0;
  await untilComplete(options, limits, part);
  let actual = await sha256File(part, signal);
  if (actual !== sha256 && resumed) {
    // What an earlier run left may belong to another file: once more, from the start.
    await dropPart(part);
    await untilComplete(options, limits, part);
    actual = await sha256File(part, signal);
  }
  if (actual !== sha256) {
    const size = await fileSize(part);
    await dropPart(part);
    throw environmentError(
      `${url} has the sha256 ${actual} (${size} bytes), but ${vouchedBy} says ${sha256}; it was thrown away`,
      {
        code: 'artifact-altered',
        where: url,
        next: 'The file was altered on its way, or the source holds another one. Compare with the publisher before anything else; try another source under artifacts.source in cluster.yaml.',
      },
    );
  }
  await rename(part, file);
  await rm(`${part}.json`, { force: true });
}

/** Tries until the body is complete by the server's own word. */
async function untilComplete(options: DownloadOptions, limits: Limits, part: string): Promise<void> {
  let fruitless = 0;
  let furthest = (await fileSize(part)) ?? 0;
  for (;;) {
    try {
      await attempt(options, limits, part);
      return;
    } catch (error) {
      options.signal.throwIfAborted();
      if (!(error instanceof Retryable)) throw error;
      // A server without ranges starts over each time: only what was never reached counts.
      const reached = (await fileSize(part)) ?? 0;
      fruitless = reached > furthest ? 1 : fruitless + 1;
      furthest = Math.max(furthest, reached);
      if (fruitless >= limits.attempts) throw unreachable(options.url, error.message, limits.attempts);
      await pause(error, fruitless, limits, options.signal);
    }
  }
}

/** One request; throws Retryable for what may pass. */
async function attempt(options: DownloadOptions, limits: Limits, part: string): Promise<void> {
  const { url, signal, onBytes } = options;
  const have = (await fileSize(part)) ?? 0;
  const known = await readValidator(part);
  const goOn = have > 0 && known?.url === url && known.validator !== undefined;
  const headers: Record<string, string> = { ...options.headers, 'accept-encoding': 'identity' };
  if (goOn && known?.validator !== undefined) {
    headers.range = `bytes=${have}-`;
    headers['if-range'] = known.validator;
  }
  const request = timedRequest(signal, limits);
  try {
    const response = await request.open(url, headers);
    if (response.status === 416) {
      await dropPart(part);
      throw new Retryable(`${url} no longer has the range from byte ${have}`);
    }
    checkStatus(url, response);
    const start = response.status === 206 ? rangeStart(response) : 0;
    if (start !== 0 && start !== have) {
      await dropPart(part);
      throw new Retryable(`${url} answered with another range than asked for`);
    }
    await writeFile(`${part}.json`, JSON.stringify({ url, validator: validator(response) }));
    const length = response.headers.get('content-length');
    const total = length === null ? undefined : start + Number(length);
    const handle = await open(part, start === 0 ? 'w' : 'a');
    let received = start;
    try {
      for await (const chunk of request.body(response)) {
        await handle.write(chunk);
        received += chunk.length;
        onBytes?.(received, total);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (total !== undefined && received < total) {
      throw new Retryable(`${url} ended after ${received} of ${total} bytes`);
    }
  } catch (error) {
    throw request.explain(error, url);
  } finally {
    request.end();
  }
}

/**
 * Fetches a small text, e.g. a checksum file, with the same retries. Throws as `download` does.
 */
export async function fetchText(url: string, signal: AbortSignal, limits: Partial<Limits> = {}): Promise<string> {
  return (await fetchSmall(url, { signal, limits })).body.toString('utf8');
}

export interface SmallAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
}

/**
 * Fetches something small whole, with the same retries. Throws as `download` does.
 *
 * @param options `headers` of the request; `allowed`: a status that is no error to the caller
 */
export async function fetchSmall(
  url: string,
  options: {
    readonly signal: AbortSignal;
    readonly limits?: Partial<Limits> | undefined;
    readonly headers?: Readonly<Record<string, string>> | undefined;
    readonly allowed?: number | undefined;
  },
): Promise<SmallAnswer> {
  const { signal, headers, allowed } = options;
  const all = { ...defaultLimits, ...options.limits };
  for (let tries = 1; ; tries++) {
    const request = timedRequest(signal, all);
    try {
      const response = await request.open(url, { ...headers, 'accept-encoding': 'identity' });
      if (response.status !== allowed) checkStatus(url, response);
      const chunks: Uint8Array[] = [];
      for await (const chunk of request.body(response)) chunks.push(chunk);
      return { status: response.status, headers: response.headers, body: Buffer.concat(chunks) };
    } catch (error) {
      const explained = request.explain(error, url);
      signal.throwIfAborted();
      if (!(explained instanceof Retryable)) throw explained;
      if (tries >= all.attempts) throw unreachable(url, explained.message, tries);
      await pause(explained, tries, all, signal);
    } finally {
      request.end();
    }
  }
}

/** Whether a server answers a HEAD request at all within the time, whatever it says. */
export async function answers(url: string, withinMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    const timeout = AbortSignal.timeout(withinMs);
    const response = await fetch(url, { method: 'HEAD', signal: AbortSignal.any([signal, timeout]) });
    await response.body?.cancel();
    return response.status < 500;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

class Retryable extends Error {
  constructor(
    message: string,
    /** Milliseconds that the server asks to wait. */
    readonly afterMs?: number,
  ) {
    super(message);
  }
}

/** A request that is given up when its head or the next piece of its body takes too long. */
function timedRequest(signal: AbortSignal, limits: Limits) {
  const controller = new AbortController();
  const forward = (): void => controller.abort(signal.reason);
  if (signal.aborted) forward();
  else signal.addEventListener('abort', forward, { once: true });
  let timer: NodeJS.Timeout | undefined;
  let late: string | undefined;
  const within = (ms: number, what: string): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      late = `${what} for ${ms / 1000} s`;
      controller.abort();
    }, ms);
  };
  return {
    async open(url: string, headers: Record<string, string>): Promise<Response> {
      within(limits.connectMs, 'no answer');
      return fetch(url, { headers, signal: controller.signal, redirect: 'follow' });
    },
    async *body(response: Response): AsyncGenerator<Uint8Array> {
      within(limits.idleMs, 'no data');
      if (response.body === null) return;
      for await (const chunk of response.body) {
        within(limits.idleMs, 'no data');
        yield chunk as Uint8Array;
      }
    },
    explain(error: unknown, url: string): unknown {
      if (late !== undefined) return new Retryable(`${url}: ${late}`);
      // fetch throws a TypeError for everything between here and the server; the cause names it.
      if (error instanceof TypeError) return untrusted(error, url) ?? new Retryable(`${url}: ${reason(error)}`);
      return error;
    },
    end(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', forward);
      controller.abort();
    },
  };
}

/** OpenSSL's certificate errors, as Node names them (https://nodejs.org/api/tls.html#x509-certificate-error-codes). */
const certificateError = /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|ERR_TLS_CERT)/;

/** A server whose certificate is not trusted: trying again does not help. */
function untrusted(error: Error, url: string): K8sAnsError | undefined {
  const cause = deepest(error) as { code?: unknown };
  if (typeof cause.code !== 'string' || !certificateError.test(cause.code)) return undefined;
  return environmentError(`${url}: the server's certificate is not trusted: ${reason(error)}`, {
    code: 'artifact-untrusted',
    where: url,
    next: 'If the server has a CA of your own, name its certificate file in NODE_EXTRA_CA_CERTS.',
  });
}

function reason(error: Error): string {
  const cause = deepest(error);
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}

function deepest(error: Error): unknown {
  let cause: unknown = error;
  while (cause instanceof Error && cause.cause !== undefined) cause = cause.cause;
  return cause instanceof AggregateError && cause.errors[0] instanceof Error ? cause.errors[0] : cause;
}

function checkStatus(url: string, response: Response): void {
  if (response.ok) return;
  const said = `${url}: the server says ${response.status} ${response.statusText}`.trimEnd();
  if (response.status >= 500 || [408, 425, 429].includes(response.status)) {
    const after = Number(response.headers.get('retry-after'));
    throw new Retryable(said, Number.isFinite(after) && after > 0 ? after * 1000 : undefined);
  }
  throw environmentError(said, {
    code: 'artifact-missing',
    where: url,
    next: 'Check the version in cluster.yaml and that the source has this file; a mirror holds it under MIRROR/HOST/PATH of the upstream URL.',
  });
}

function unreachable(url: string, message: string, attempts: number): K8sAnsError {
  return environmentError(`${message}; given up after ${attempts} tries`, {
    code: 'artifact-unreachable',
    where: url,
    next: 'Check the network, proxy and CA (NODE_EXTRA_CA_CERTS) of this machine and run it again: what is there is kept. Or choose another source under artifacts.source in cluster.yaml.',
  });
}

async function pause(error: Retryable, tries: number, limits: Limits, signal: AbortSignal): Promise<void> {
  const growing = Math.min(longestBackoffMs, limits.backoffMs * 2 ** (tries - 1));
  await sleep(error.afterMs ?? growing * (0.5 + Math.random() / 2), undefined, { signal });
}

function rangeStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);
}

/** What If-Range takes: a strong entity tag, else the date. */
function validator(response: Response): string | undefined {
  const tag = response.headers.get('etag');
  if (tag !== null && !tag.startsWith('W/')) return tag;
  return response.headers.get('last-modified') ?? undefined;
}

async function readValidator(part: string): Promise<{ url?: string; validator?: string } | undefined> {
  try {
    return JSON.parse(await readFile(`${part}.json`, 'utf8')) as { url?: string; validator?: string };
  } catch {
    return undefined;
  }
}

async function dropPart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.json`, { force: true });
}
