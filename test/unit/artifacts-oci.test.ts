import { createHash } from 'node:crypto';
import { Parser, type ReadEntry } from 'tar';
import { describe, expect, it } from 'vitest';
import { binaryImageFiles, ociArchive, tarBytes } from '../../ts/artifacts/oci.js';

const binary = Buffer.from('#!ELF, let us say\n'.repeat(100));
const image = {
  ref: 'registry.k8s.io/coredns/coredns:v1.14.2',
  architecture: 'arm64',
  entrypoint: ['/coredns'],
  user: '65532:65532',
  files: binaryImageFiles(new Map([['/coredns', binary]]), '65532:65532'),
} as const;

interface Entry {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly owner: string;
  readonly time: number;
  readonly content: Buffer;
}

async function untar(bytes: Buffer): Promise<Entry[]> {
  const entries: Entry[] = [];
  await new Promise<void>((resolve, reject) => {
    const parser = new Parser({ strict: true });
    parser.on('entry', (entry: ReadEntry) => {
      const chunks: Buffer[] = [];
      entry.on('data', (chunk: Buffer) => chunks.push(chunk));
      entry.on('end', () =>
        entries.push({
          path: entry.path,
          type: entry.type,
          mode: entry.mode ?? -1,
          owner: `${entry.uid}:${entry.gid}`,
          time: entry.mtime?.getTime() ?? -1,
          content: Buffer.concat(chunks),
        }),
      );
    });
    parser.on('end', () => resolve());
    parser.on('error', reject);
    parser.end(bytes);
  });
  return entries;
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('an OCI archive', () => {
  it('is an image layout whose blobs are what their descriptors say', async () => {
    const entries = await untar(ociArchive(image));
    const blobs = new Map(
      entries.filter(({ path }) => path.startsWith('blobs/sha256/')).map(({ path, content }) => [path, content]),
    );
    for (const [path, content] of blobs) if (content.length > 0) expect(path).toBe(`blobs/sha256/${sha256(content)}`);
    const read = (name: string) => JSON.parse(String(entries.find(({ path }) => path === name)?.content));
    const blob = ({ digest, size }: { digest: string; size: number }): Buffer => {
      const content = blobs.get(`blobs/${digest.replace(':', '/')}`) as Buffer;
      expect(content.length).toBe(size);
      return content;
    };
    expect(read('oci-layout')).toEqual({ imageLayoutVersion: '1.0.0' });
    const index = read('index.json');
    expect(index).toEqual({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
          size: expect.any(Number),
          platform: { architecture: 'arm64', os: 'linux' },
          annotations: {
            'io.containerd.image.name': 'registry.k8s.io/coredns/coredns:v1.14.2',
            'org.opencontainers.image.ref.name': 'v1.14.2',
          },
        },
      ],
    });
    const manifest = JSON.parse(String(blob(index.manifests[0])));
    expect(manifest.layers.length).toBe(1);
    const config = JSON.parse(String(blob(manifest.config)));
    const layer = blob(manifest.layers[0]);
    expect(config).toMatchObject({
      architecture: 'arm64',
      os: 'linux',
      config: { User: '65532:65532', Entrypoint: ['/coredns'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
    });
    const files = await untar(layer);
    expect(files.map(({ path, type, mode, owner, time }) => [path, type, mode, owner, time])).toEqual([
      ['coredns', 'File', 0o755, '0:0', 0],
      ['etc/', 'Directory', 0o755, '0:0', 0],
      ['etc/group', 'File', 0o644, '0:0', 0],
      ['etc/passwd', 'File', 0o644, '0:0', 0],
    ]);
    expect(files[0]?.content.equals(binary)).toBe(true);
    expect(String(files[3]?.content)).toBe(
      'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin\n',
    );
  });

  it('has the same bytes each time, whatever the order of its files', () => {
    const again = ociArchive({ ...image, files: [...image.files].reverse() });
    expect(sha256(again)).toBe(sha256(ociArchive(image)));
    expect(sha256(ociArchive(image))).toBe('27b31e5c9cd9744894073cd26c3de9faca5fcd939e2d1b7aa1c85ebe2ff83505');
  });
});

describe('tarBytes', () => {
  it('refuses a path that a plain header cannot hold', () => {
    const path = 'x'.repeat(200);
    expect(() => tarBytes([{ path, content: Buffer.alloc(0), mode: 0o644 }])).toThrow(
      `${path} does not fit a ustar header`,
    );
  });
});
