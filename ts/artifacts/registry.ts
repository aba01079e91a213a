/**
 * Images from a registry as OCI archives: an image layout in a tar file, as hosts without a registry import it.
 *
 * The archive holds what the registry published, unaltered: the index or manifest that the digest names, and of an
 * index the manifest and blobs of one architecture. So the image has the same digest as one that is pulled.
 *
 * Sources of fact: https://github.com/opencontainers/distribution-spec (spec.md, "Pulling manifests", "Pulling blobs"),
 * https://distribution.github.io/distribution/spec/auth/token/, image-layout.md of
 * https://github.com/opencontainers/image-spec, and containerd's importer, which reads the image's full name from the
 * annotation `io.containerd.image.name`.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { type ArchiveFile, writeArchive } from '../archive/tar.js';
import type { Architecture } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import type { Component } from './catalog.js';
import { download, fetchSmall, type Limits } from './fetch.js';
import { makeFolder } from './files.js';
import type { ArtifactLock } from './lock.js';
import { cachedFile, imageFolder, lockedArtifacts } from './places.js';
import type { OnProgress } from './progress.js';

export interface PullOptions {
  readonly cache: string;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  readonly limits?: Partial<Limits> | undefined;
  /** Replaces `https://HOST` of the reference, for a registry that holds the same repositories. */
  readonly registry?: string | undefined;
}

/** An image's archive in the cache. */
export interface PulledImage {
  readonly path: string;
  readonly sha256: string;
  /** What the registry published under the reference, `sha256:…`. */
  readonly digest: string;
}

const INDEXES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
const MANIFESTS = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

const descriptor = z.object({
  mediaType: z.string(),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'a sha256 digest'),
  size: z.int().min(0),
});
const indexSchema = z.object({
  manifests: z.array(
    descriptor.extend({ platform: z.object({ os: z.string(), architecture: z.string() }).optional() }),
  ),
});
const manifestSchema = z.object({ config: descriptor, layers: z.array(descriptor) });

type Descriptor = z.infer<typeof descriptor>;

/** An image's reference in its parts. */
export function parseReference(ref: string): { host: string; repository: string; tag: string } {
  const found = /^([^/]+)\/(.+):([^:/]+)$/.exec(ref);
  if (found?.[1] === undefined || found[2] === undefined || found[3] === undefined) {
    throw new Error(`${ref} is no full reference of an image`);
  }
  return { host: found[1], repository: found[2], tag: found[3] };
}

/** The anonymous token's URL of a challenge, or undefined for one of another kind. */
export function tokenUrl(challenge: string | null): string | undefined {
  const bearer = /^Bearer\s+(.*)$/i.exec(challenge ?? '')?.[1];
  if (bearer === undefined) return undefined;
  const values = Object.fromEntries([...bearer.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]));
  if (values.realm === undefined) return undefined;
  const url = new URL(values.realm);
  for (const name of ['service', 'scope']) if (values[name] !== undefined) url.searchParams.set(name, values[name]);
  return url.href;
}

/**
 * The archive of an image for one architecture, from the cache or pulled into it.
 *
 * @param digest what the reference has to be, `sha256:…`; undefined: what the registry says now, over HTTPS
 * @throws K8sAnsError as `download`; `image-altered`, `image-architecture`, `image-unreadable` (exit code 4)
 */
export async function pullImage(
  image: { readonly name: string; readonly ref: string },
  digest: string | undefined,
  architecture: Architecture,
  options: PullOptions,
): Promise<PulledImage> {
  const { cache, signal, onProgress } = options;
  const { name, ref } = image;
  const { host, repository, tag } = parseReference(ref);
  const root = `${options.registry ?? `https://${host}`}/v2/${repository}`;
  const session = new Session(root, options);
  const begun = Date.now();
  const top = await session.manifest(digest ?? tag, digest);
  const folder = imageFolder(cache, architecture, top.digest);
  const label = `${ref} (${architecture})`;
  const content = await makeFolder(folder, signal, async (temporary) => {
    onProgress({ kind: 'start', name: label, message: `pulling ${label}` });
    const chosen = await oneManifest(top, architecture, ref, session);
    const manifest = manifestSchema.parse(JSON.parse(chosen.body.toString('utf8')));
    const blobs = new Map<string, Buffer | string>([[top.digest, top.body]]);
    blobs.set(chosen.digest, chosen.body);
    for (const blob of [manifest.config, ...manifest.layers]) {
      const file = path.join(temporary, blob.digest.replace(':', '-'));
      await session.blob(blob, file);
      blobs.set(blob.digest, file);
    }
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          mediaType: top.mediaType,
          digest: top.digest,
          size: top.body.length,
          annotations: { 'io.containerd.image.name': ref, 'org.opencontainers.image.ref.name': tag },
        },
      ],
    };
    const entries = archiveEntries(JSON.stringify(index), blobs);
    const faults = {
      unfit: (entry: string) => new Error(`${entry} does not fit the format`),
      changed: (entry: string) => new Error(`${entry} changed while it was read`),
    };
    await pipeline(
      Readable.from(writeArchive(entries, faults)),
      createWriteStream(path.join(temporary, `${name}.tar`)),
    );
    return { files: [{ name: `${name}.tar`, ref }], remarks: { ref, digest: top.digest } };
  });
  const made = content.files.get(`${name}.tar`);
  if (made === undefined) throw new Error(`${folder} lacks ${name}.tar`);
  onProgress({ kind: 'done', name: label, message: `pulled ${label}`, seconds: (Date.now() - begun) / 1000 });
  return { path: made.path, sha256: made.sha256, digest: top.digest };
}

/**
 * Pulls what the lock names of an architecture as an image of a registry and the cache lacks, and freezes the digests
 * that were open. Throws as `pullImage`.
 */
export async function pullMissingImages(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  lock: ArtifactLock,
  options: PullOptions,
): Promise<void> {
  for (const { kind, name, origin, version, places } of lockedArtifacts(
    components,
    architecture,
    lock,
    options.cache,
  )) {
    if (kind !== 'image' || origin !== 'registry' || (await cachedFile(places)) !== undefined) continue;
    const known = lock.image(architecture, name)?.digest;
    const { digest } = await pullImage({ name, ref: version }, known, architecture, options);
    lock.freezeImage(architecture, name, { ref: version, origin, digest });
  }
}

interface Manifest {
  readonly mediaType: string;
  readonly digest: string;
  readonly body: Buffer;
}

/** The architecture's manifest: the one that there is, or that of an index. */
async function oneManifest(
  top: Manifest,
  architecture: Architecture,
  ref: string,
  session: Session,
): Promise<Manifest> {
  if (MANIFESTS.includes(top.mediaType)) return top;
  const { manifests } = indexSchema.parse(JSON.parse(top.body.toString('utf8')));
  const found = manifests.find(({ platform }) => platform?.os === 'linux' && platform.architecture === architecture);
  if (found !== undefined) return session.manifest(found.digest, found.digest);
  throw environmentError(`${ref} has no image for linux/${architecture}`, {
    code: 'image-architecture',
    where: ref,
    next: 'Make the bundle without this architecture.',
  });
}

/** Requests to one repository, with the anonymous token that it asks for. */
class Session {
  private readonly root: string;
  private readonly options: PullOptions;
  private token: string | undefined;

  constructor(root: string, options: PullOptions) {
    this.root = root;
    this.options = options;
  }

  private get headers(): Record<string, string> {
    return this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
  }

  /** A manifest or index; its digest is computed, and compared where one is given. */
  async manifest(reference: string, wanted: string | undefined): Promise<Manifest> {
    const { signal, limits } = this.options;
    const url = `${this.root}/manifests/${reference}`;
    const accept = [...INDEXES, ...MANIFESTS].join(', ');
    const ask = () =>
      fetchSmall(url, {
        signal,
        limits,
        headers: { ...this.headers, accept },
        ...(this.token === undefined && { allowed: 401 }),
      });
    let answer = await ask();
    if (answer.status === 401) {
      await this.authorize(url, answer.headers.get('www-authenticate'));
      answer = await ask();
    }
    const digest = `sha256:${createHash('sha256').update(answer.body).digest('hex')}`;
    if (wanted !== undefined && digest !== wanted) {
      throw environmentError(`${url} has the digest ${digest}, but it must be ${wanted}; it is not used`, {
        code: 'image-altered',
        where: url,
        next: 'The registry or something on the way altered it. Compare with the publisher before anything else.',
      });
    }
    const mediaType = (answer.headers.get('content-type') ?? '').split(';')[0]?.trim() ?? '';
    if ([...INDEXES, ...MANIFESTS].includes(mediaType)) return { mediaType, digest, body: answer.body };
    throw environmentError(`${url} is of the type "${mediaType}", which is no image`, {
      code: 'image-unreadable',
      where: url,
      next: 'Look at what the registry answers under this address.',
    });
  }

  /** A blob into a file, its digest checked. */
  async blob({ digest }: Descriptor, file: string): Promise<void> {
    const { signal, limits } = this.options;
    await download({
      url: `${this.root}/blobs/${digest}`,
      file,
      sha256: digest.slice('sha256:'.length),
      vouchedBy: 'the manifest',
      headers: this.headers,
      signal,
      limits,
    });
  }

  private async authorize(url: string, challenge: string | null): Promise<void> {
    const { signal, limits } = this.options;
    const where = tokenUrl(challenge);
    if (where === undefined) {
      throw environmentError(
        `${url} wants a login that k8s-ans does not know: ${challenge ?? 'it does not say which'}`,
        {
          code: 'image-unreadable',
          where: url,
          next: 'Images are pulled anonymously. Put their archives into a folder and name it under artifacts.source.',
        },
      );
    }
    const { body } = await fetchSmall(where, { signal, limits });
    const said = z.object({ token: z.string().optional(), access_token: z.string().optional() });
    const { token, access_token } = said.parse(JSON.parse(body.toString('utf8')));
    this.token = token ?? access_token ?? '';
  }
}

/** The files of an image layout; the bytes depend on the content alone. */
async function* archiveEntries(
  index: string,
  blobs: ReadonlyMap<string, Buffer | string>,
): AsyncGenerator<ArchiveFile> {
  const common = { mode: 0o644, mtime: new Date(0) };
  for (const [name, text] of [
    ['index.json', index],
    ['oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' })],
  ] as const) {
    const content = Buffer.from(text);
    yield { ...common, path: name, size: content.length, content: [content] };
  }
  for (const digest of [...blobs.keys()].sort()) {
    const blob = blobs.get(digest) as Buffer | string;
    const entry = { ...common, path: `blobs/${digest.replace(':', '/')}` };
    if (typeof blob !== 'string') yield { ...entry, size: blob.length, content: [blob] };
    else yield { ...entry, size: (await stat(blob)).size, content: createReadStream(blob) };
  }
}
