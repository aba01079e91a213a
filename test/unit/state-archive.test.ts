/** The archive in a state file: read as strictly as it is written. */

import { Header } from 'tar';
import { describe, expect, test } from 'vitest';
import { type ArchiveFile, pathFault, readArchive, writeArchive } from '../../ts/state/archive.js';
import { type Manifest, manifestFault } from '../../ts/state/contents.js';

const mtime = new Date('2026-11-24T08:00:00Z');
const file = (path: string, text: string): ArchiveFile => {
  const content = Buffer.from(text);
  return { path, size: content.length, mtime, content: [content] };
};

async function written(files: ArchiveFile[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of writeArchive(files)) parts.push(part);
  return Buffer.concat(parts);
}

/** In small parts, so that nothing depends on where they end. */
async function* parts(bytes: Buffer, size = 100): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(bytes: Buffer): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { path, content } of readArchive(parts(bytes))) {
    const all: Buffer[] = [];
    for await (const part of content) all.push(part);
    found[path] = Buffer.concat(all).toString();
  }
  return found;
}

/** An archive with one entry that our writer would not make. */
function foreign(entry: ConstructorParameters<typeof Header>[0] & object, content = ''): Buffer {
  const block = Buffer.alloc(512);
  new Header({ mode: 0o4777, uid: 0, gid: 0, mtime, size: content.length, ...entry } as never).encode(block, 0);
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  body.write(content);
  return Buffer.concat([block, body, Buffer.alloc(1024)]);
}

const refusal = async (bytes: Buffer): Promise<string> =>
  read(bytes).then(
    () => 'read',
    (error) => (error.code === 'state-archive' ? error.message : `a bug: ${error.stack}`),
  );

test('what is written is read, long names and sizes around a block included', async () => {
  const long = `pki/hosts/${'a'.repeat(60)}/${'b'.repeat(60)}.key`;
  const files = {
    'cluster.yaml': 'name: demo\n',
    [long]: 'x'.repeat(512),
    'pki/empty': '',
    'runs/1/report.json': 'y'.repeat(513),
  };
  const bytes = await written(Object.entries(files).map(([name, text]) => file(name, text)));
  expect(bytes.length % 512).toBe(0);
  expect(await read(bytes)).toEqual(files);
});

test('content that nobody reads is passed over', async () => {
  const bytes = await written([file('a', 'x'.repeat(2000)), file('b', 'y')]);
  const names: string[] = [];
  for await (const { path } of readArchive(parts(bytes))) names.push(path);
  expect(names).toEqual(['a', 'b']);
  for await (const { path, content } of readArchive(parts(bytes))) {
    names.push(path);
    for await (const _ of content) break;
  }
  expect(names).toEqual(['a', 'b', 'a', 'b']);
});

describe('what is refused', () => {
  test.each([
    ['../escape', 'it leads out of its folder'],
    ['pki/../../escape', 'it leads out of its folder'],
    ['./pki', 'it leads out of its folder'],
    ['pki//ca.key', 'it leads out of its folder'],
    ['/etc/passwd', 'it is absolute'],
    ['C:/windows', 'it is absolute'],
    ['pki\\..\\ca.key', 'it holds a control character or a backslash'],
    ['pki/\u001b[2Jca.key', 'it holds a control character or a backslash'],
    ['', 'it is empty or too long'],
    ['a'.repeat(241), 'it is empty or too long'],
  ])('the path %j', (path, fault) => {
    expect(pathFault(path)).toBe(fault);
  });

  test.each([
    ['../escape', { type: 'File' }, '"../escape", which is refused: it leads out of its folder'],
    ['/etc/cron.d/x', { type: 'File' }, '"/etc/cron.d/x", which is refused: it is absolute'],
    [
      'link',
      { type: 'SymbolicLink', linkpath: '/etc' },
      '"link", which is refused: it is no plain file (SymbolicLink)',
    ],
    ['link', { type: 'Link', linkpath: 'pki/ca.key' }, '"link", which is refused: it is no plain file (Link)'],
    ['link', { type: 'File', linkpath: '/etc' }, '"link", which is refused: it is a link'],
    ['disk', { type: 'BlockDevice' }, '"disk", which is refused: it is no plain file (BlockDevice)'],
    ['tty', { type: 'CharacterDevice' }, '"tty", which is refused: it is no plain file (CharacterDevice)'],
    ['pipe', { type: 'FIFO' }, '"pipe", which is refused: it is no plain file (FIFO)'],
    ['pki', { type: 'Directory' }, 'which is refused: it is no plain file (Directory)'],
    ['pax', { type: 'ExtendedHeader' }, '"pax", which is refused: it is no plain file (ExtendedHeader)'],
    ['long', { type: 'NextFileHasLongPath' }, '"long", which is refused: it is no plain file (NextFileHasLongPath)'],
  ] as const)('%s as %j', async (path, entry, message) => {
    expect(await refusal(foreign({ path, ...entry } as never, entry.type === 'File' ? 'x' : ''))).toContain(message);
  });

  test('a name that comes twice, also where only its case differs', async () => {
    expect(await refusal(await written([file('pki/ca.key', 'a'), file('pki/ca.key', 'b')]))).toContain(
      'it is there twice',
    );
    expect(await refusal(await written([file('pki/ca.key', 'a'), file('PKI/CA.key', 'b')]))).toContain(
      'it is there twice',
    );
  });

  test('a broken header, an end in the middle, and something after the end', async () => {
    const bytes = await written([file('a', 'x'.repeat(600))]);
    const broken = Buffer.from(bytes);
    broken[0] = 0x62;
    expect(await refusal(broken)).toContain('its header is broken');
    for (const length of [100, 512, 700, 1536, bytes.length - 1]) {
      expect(await refusal(bytes.subarray(0, length))).toContain('it ends in the middle');
    }
    expect(await refusal(Buffer.concat([bytes, Buffer.alloc(512)]))).toContain('something follows its end');
    expect(await refusal(Buffer.concat([bytes.subarray(0, -512), Buffer.alloc(512, 1)]))).toContain(
      'its end is broken',
    );
  });

  test('to write a path or a size that would not be read', async () => {
    await expect(written([file('../a', '')])).rejects.toMatchObject({ code: 'state-path' });
    await expect(written([{ ...file('a', 'xyz'), size: 4 }])).rejects.toMatchObject({ code: 'state-changed' });
  });
});

describe('manifestFault', () => {
  const fault = (...paths: string[]): string | undefined =>
    manifestFault({ files: paths.map((path) => ({ path, size: 0 })) } as unknown as Manifest);

  test('takes what an export writes', () => {
    expect(
      fault('cluster.yaml', 'pki/ca.key', 'pki/hosts/m1/apiserver.key', 'runs/1/report.json', 'ssh/id'),
    ).toBeUndefined();
  });

  test.each([
    [['pki/ca.key'], 'it has no cluster.yaml'],
    [['cluster.yaml', '.lock'], '.lock does not belong into a state file'],
    [['cluster.yaml', 'hosts.yml'], 'hosts.yml does not belong into a state file'],
    [['cluster.yaml', 'group_vars/all.yml'], 'group_vars/all.yml does not belong into a state file'],
    [['cluster.yaml', 'lab.json'], 'lab.json does not belong into a state file'],
    [['cluster.yaml', 'runs/1/ansible.log'], 'runs/1/ansible.log does not belong into a state file'],
    [['cluster.yaml', 'runs/latest/report.json'], 'runs/latest/report.json does not belong into a state file'],
    [['cluster.yaml', 'pki/ca.key', 'pki'], 'pki is a file and a folder'],
    [['cluster.yaml', 'a/b', 'a/b/c/d'], 'a/b is a file and a folder'],
  ])('refuses %j', (paths, message) => {
    expect(fault(...paths)).toBe(message);
  });
});
