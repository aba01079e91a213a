/**
 * Container images made from scratch as OCI archives: an OCI image layout in a tar file, which
 * `ctr --namespace k8s.io images import` takes.
 *
 * Sources of fact: https://github.com/opencontainers/image-spec (image-layout.md, config.md, manifest.md,
 * annotations.md) and containerd's importer, which reads the image's full name from the annotation
 * `io.containerd.image.name`.
 *
 * The bytes depend on the input alone: fixed times and owners, sorted names, no compression (zlib's output differs
 * between its versions).
 */
import { createHash } from 'node:crypto';
import { Header } from 'tar';
import type { Architecture } from '../types/cluster.js';

/** A file or folder of an image or archive. */
export interface TarEntry {
  /** Without a leading slash, e.g. `etc/passwd`. Parent folders are added where missing. */
  readonly path: string;
  readonly content: Uint8Array;
  readonly mode: number;
}

export interface ImageDescription {
  /** Full reference, e.g. `registry.k8s.io/pause:3.10.2`. */
  readonly ref: string;
  readonly architecture: Architecture;
  readonly entrypoint: ReadonlyArray<string>;
  /** UID:GID. */
  readonly user: string;
  readonly files: ReadonlyArray<TarEntry>;
}

const epoch = new Date(0);
const blockSize = 512;

/** A tar file with the entries sorted by path, all owned by root and dated 1970-01-01. */
export function tarBytes(entries: ReadonlyArray<TarEntry>): Buffer {
  const folders = new Set<string>();
  for (const { path } of entries) {
    const parts = path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) folders.add(`${parts.slice(0, depth).join('/')}/`);
  }
  const all = [
    ...[...folders].map((path) => ({ path, content: new Uint8Array(), mode: 0o755, folder: true })),
    ...entries.map((entry) => ({ ...entry, folder: false })),
  ].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const blocks: Uint8Array[] = [];
  for (const { path, content, mode, folder } of all) {
    const header = new Header({
      path,
      mode,
      uid: 0,
      gid: 0,
      size: content.length,
      mtime: epoch,
      type: folder ? 'Directory' : 'File',
    });
    const block = Buffer.alloc(blockSize);
    if (header.encode(block, 0)) throw new Error(`${path} does not fit a ustar header`);
    blocks.push(block, content, Buffer.alloc((blockSize - (content.length % blockSize)) % blockSize));
  }
  blocks.push(Buffer.alloc(2 * blockSize));
  return Buffer.concat(blocks);
}

/** A one-layer image: its manifest, and the blobs that this names, configuration and layer. */
export function ociImage(image: ImageDescription): { manifest: Buffer; blobs: ReadonlyArray<Buffer> } {
  const layer = tarBytes(image.files);
  const config = json({
    created: epoch.toISOString(),
    architecture: image.architecture,
    os: 'linux',
    config: { User: image.user, Entrypoint: image.entrypoint, WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
    history: [{ created: epoch.toISOString(), created_by: 'k8s-ans' }],
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', config),
    layers: [descriptor('application/vnd.oci.image.layer.v1.tar', layer)],
  });
  return { manifest, blobs: [config, layer] };
}

/** The OCI archive of a one-layer image. */
export function ociArchive(image: ImageDescription): Buffer {
  const { manifest, blobs } = ociImage(image);
  const index = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest),
        platform: { architecture: image.architecture, os: 'linux' },
        annotations: {
          'io.containerd.image.name': image.ref,
          'org.opencontainers.image.ref.name': image.ref.slice(image.ref.lastIndexOf(':') + 1),
        },
      },
    ],
  });
  return tarBytes([
    { path: 'oci-layout', content: json({ imageLayoutVersion: '1.0.0' }), mode: 0o644 },
    { path: 'index.json', content: index, mode: 0o644 },
    ...[manifest, ...blobs].map((blob) => ({ path: `blobs/sha256/${sha256(blob)}`, content: blob, mode: 0o644 })),
  ]);
}

/**
 * What an image of static binaries holds: these, and users for those who look up their own name.
 *
 * @param binaries by their absolute paths in the image
 */
export function binaryImageFiles(binaries: ReadonlyMap<string, Uint8Array>, user: string): TarEntry[] {
  const [uid, gid] = user.split(':');
  const text = (lines: string[]): Buffer => Buffer.from(`${lines.join('\n')}\n`);
  return [
    ...[...binaries].map(([place, content]) => ({ path: place.replace(/^\//, ''), content, mode: 0o755 })),
    {
      path: 'etc/passwd',
      content: text([
        'root:x:0:0:root:/root:/sbin/nologin',
        ...(uid === '0' ? [] : [`nonroot:x:${uid}:${gid}:nonroot:/nonexistent:/sbin/nologin`]),
      ]),
      mode: 0o644,
    },
    { path: 'etc/group', content: text(['root:x:0:', ...(gid === '0' ? [] : [`nonroot:x:${gid}:`])]), mode: 0o644 },
  ];
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function descriptor(mediaType: string, content: Uint8Array): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest: `sha256:${sha256(content)}`, size: content.length };
}
