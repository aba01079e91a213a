import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUMP_REVISION, bumpFor, lastRestored, rememberRestored } from '../../ts/backup/revisions.js';
import { parseSidecar, type Sidecar, sidecarPath } from '../../ts/backup/sidecar.js';
import { checkSnapshot } from '../../ts/backup/snapshot.js';
import { closeDraft, listSnapshots, openDraft, outdated, prune, readSnapshot } from '../../ts/backup/store.js';
import { livingRevision, readMembers } from '../../ts/commands/run/etcd-members.js';
import { isPendingRestore, restoreId } from '../../ts/commands/run/etcd-restore.js';
import { beginOperation } from '../../ts/commands/run/operation.js';
import { calendar } from '../../ts/spec/formats.js';
import type { ResultEvent } from '../../ts/types/events.js';
import { clusterHome } from '../../ts/types/home.js';
import { exampleCluster } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();

/** A file that looks like a database to whoever does not open it. */
function database(fill = 7): Buffer {
  const content = Buffer.alloc(4096, fill);
  content.writeUInt32LE(0xed0cdaed, 16);
  return content;
}

const snapshot = (fill?: number): Buffer => Buffer.concat([database(fill), sha256(database(fill))]);

async function* inChunks(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

const check = (data: Uint8Array, chunk = 1000) => checkSnapshot(inChunks(data, chunk), data.length);

function about(time: string, data: Uint8Array, more: Partial<Sidecar> = {}): Sidecar {
  return {
    version: 1,
    cluster: 'example',
    member: 'k8smaster02',
    time,
    revision: 568,
    hash: '061b61eb',
    keys: 333,
    size: data.length,
    sha256: sha256(data).toString('hex'),
    etcd: '3.6.14',
    storage: '3.6.0',
    kubernetes: '1.36.4',
    ...more,
  };
}

async function store(folder: string, name: string, time: string, more: Partial<Sidecar> = {}): Promise<string> {
  const file = path.join(folder, `${name}.db`);
  await writeFile(file, snapshot(), { mode: 0o600 });
  await writeFile(sidecarPath(file), JSON.stringify(about(time, snapshot(), more)));
  return file;
}

describe('a snapshot', () => {
  it.each([1, 31, 1000, 4095, 4096, 4097, 10_000])('is whole, read in chunks of %i bytes', async (chunk) => {
    const data = snapshot();
    expect(await check(data, chunk)).toEqual({ ok: true, size: 4128, sha256: sha256(data).toString('hex') });
  });

  it('is refused with one bit changed, wherever it is', async () => {
    for (const at of [100, 4095, 4096, 4127]) {
      const data = snapshot();
      data.writeUInt8(data.readUInt8(at) ^ 1, at);
      expect(await check(data)).toEqual({ ok: false, size: 4128, fault: 'damaged' });
    }
  });

  it('is refused when it is cut, without checksum, or something else', async () => {
    expect(await check(snapshot().subarray(0, 4000))).toMatchObject({ fault: 'cut' });
    expect(await check(snapshot().subarray(0, 3584 + 32))).toMatchObject({ fault: 'damaged' });
    expect(await check(database())).toMatchObject({ fault: 'no-checksum' });
    expect(await check(Buffer.alloc(4128, 1))).toMatchObject({ fault: 'not-a-database' });
    expect(await check(Buffer.alloc(0))).toMatchObject({ fault: 'not-a-database' });
    // The file was cut while it was read.
    expect(await checkSnapshot(inChunks(snapshot().subarray(0, 1024), 100), 4128)).toMatchObject({ fault: 'cut' });
  });
});

describe('the folder of snapshots', () => {
  it('keeps the newest, and only counts its own', async () => {
    const folder = await temporaryFolder();
    for (const day of ['01', '02', '03', '04']) await store(folder, `example-${day}`, `2026-11-${day}T00:00:00Z`);
    await store(folder, 'other-01', '2026-11-01T00:00:00Z', { cluster: 'other' });
    await writeFile(path.join(folder, 'mine.db'), 'no sidecar');
    expect((await prune(folder, 'example', 2)).map(({ file }) => path.basename(file))).toEqual([
      'example-02.db',
      'example-01.db',
    ]);
    expect((await readdir(folder)).sort()).toEqual(
      ['example-03', 'example-04', 'mine', 'other-01'].flatMap((name) =>
        name === 'mine' ? ['mine.db'] : [`${name}.db`, `${name}.json`],
      ),
    );
    expect((await listSnapshots(folder, 'example')).map(({ time }) => time)).toEqual([
      '2026-11-04T00:00:00Z',
      '2026-11-03T00:00:00Z',
    ]);
  });

  it('always keeps one', () => {
    expect(outdated([3, 2, 1], 0)).toEqual([2, 1]);
    expect(outdated([3, 2, 1], 2)).toEqual([1]);
    expect(outdated([], 2)).toEqual([]);
  });

  it('is empty where there is none', async () => {
    expect(await listSnapshots(path.join(await temporaryFolder(), 'backups'), 'example')).toEqual([]);
  });

  it('takes a snapshot in from a private folder, and leaves nothing of it', async () => {
    const folder = path.join(await temporaryFolder(), 'backups');
    const old = path.join(folder, '.draft-1');
    await mkdir(old, { recursive: true });
    await utimes(old, 0, 0);
    const draft = await openDraft(folder);
    expect([(await stat(folder)).mode & 0o777, (await stat(draft)).mode & 0o777]).toEqual([0o755, 0o700]);
    const arrived = await store(draft, 'example-01', '2026-11-01T00:00:00Z');
    const file = await closeDraft(draft, await readSnapshot(arrived));
    expect(file).toBe(path.join(folder, 'example-01.db'));
    expect((await readdir(folder)).sort()).toEqual(['example-01.db', 'example-01.json']);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('refuses a folder that cannot be made', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    await expect(openDraft(path.join(file, 'backups'))).rejects.toMatchObject({ code: 'backup-folder', exitCode: 4 });
  });
});

describe('reading a snapshot', () => {
  it('tells what is known of it', async () => {
    const file = await store(await temporaryFolder(), 'example-01', '2026-11-01T00:00:00Z');
    expect(await readSnapshot(file)).toEqual({
      file,
      size: 4128,
      sha256: sha256(snapshot()).toString('hex'),
      about: about('2026-11-01T00:00:00Z', snapshot()),
    });
  });

  it('refuses a damaged one before anything is touched', async () => {
    const file = await store(await temporaryFolder(), 'example-01', '2026-11-01T00:00:00Z');
    const data = await readFile(file);
    data.writeUInt8(1, 2000);
    await writeFile(file, data);
    await expect(readSnapshot(file)).rejects.toMatchObject({
      code: 'snapshot-unusable',
      exitCode: 2,
      message:
        'example-01.db is damaged: its content does not fit the checksum that etcd put into it. Nothing was changed.',
      next: 'Take another snapshot: `k8s-ans etcd backup list` names those that are there.',
    });
  });

  it('refuses one that its sidecar does not describe, and one that is not there', async () => {
    const folder = await temporaryFolder();
    const file = await store(folder, 'example-01', '2026-11-01T00:00:00Z', { sha256: '0'.repeat(64) });
    await expect(readSnapshot(file)).rejects.toMatchObject({
      message: 'example-01.db is not the one that example-01.json describes: their sha256 differ. Nothing was changed.',
    });
    await expect(readSnapshot(path.join(folder, 'none.db'))).rejects.toMatchObject({ code: 'snapshot-missing' });
    await expect(readSnapshot(folder)).rejects.toMatchObject({ code: 'snapshot-missing' });
  });

  it('takes a sidecar for what it is only when it is complete', () => {
    const text = JSON.stringify(about('2026-11-01T00:00:00Z', snapshot()));
    expect(parseSidecar(text)?.revision).toBe(568);
    expect(parseSidecar(text.replace('"version":1', '"version":2'))).toBeUndefined();
    expect(parseSidecar('{')).toBeUndefined();
  });
});

describe('the revision after a restore', () => {
  it('is beyond all that was ever seen', () => {
    expect(bumpFor(568, [])).toBe(BUMP_REVISION);
    expect(bumpFor(568, [1200])).toBe(BUMP_REVISION + 632);
    // The same snapshot once more, after a restore.
    expect(bumpFor(568, [1_000_001_500])).toBe(2_000_000_932);
    expect(bumpFor(undefined, [1_000_001_500])).toBe(2_000_001_500);
    expect(bumpFor(5_000_000_000, [7])).toBe(BUMP_REVISION);
  });

  it('is remembered', async () => {
    const folder = path.join(await temporaryFolder(), 'backups');
    expect(await lastRestored(folder)).toBeUndefined();
    await rememberRestored(folder, '20261124T081626Z', 1_000_000_568);
    expect(await lastRestored(folder)).toBe(1_000_000_568);
    expect((await stat(path.join(folder, 'last-restore.json'))).mode & 0o777).toBe(0o600);
    await writeFile(path.join(folder, 'last-restore.json'), '{');
    expect(await lastRestored(folder)).toBeUndefined();
  });
});

describe('the members', () => {
  const result = (host: string, more: Partial<ResultEvent>): ResultEvent => ({
    event: 'result',
    time: 0,
    task: 't',
    host,
    status: 'ok',
    duration: 1,
    ...more,
  });

  it('are what they say, and silent where the host is', () => {
    const members = readMembers(exampleCluster(), [
      result('k8smaster01', {
        etcd: {
          member: 'k8smaster01',
          answers: true,
          healthy: true,
          leads: true,
          revision: 70,
          index: 90,
          db_size: 4096,
          version: '3.6.14',
        },
      }),
      result('k8smaster02', {
        etcd: { member: 'k8smaster02', answers: false, healthy: false, leads: false, reason: 'refused' },
      }),
      result('k8smaster03', { status: 'ignored', unreachable: true, msg: 'no route to host\nmore' }),
    ]);
    expect(members).toEqual([
      {
        member: 'k8smaster01',
        answers: true,
        healthy: true,
        leads: true,
        revision: 70,
        databaseSize: 4096,
        version: '3.6.14',
      },
      { member: 'k8smaster02', answers: false, healthy: false, leads: false, reason: 'refused' },
      { member: 'k8smaster03', answers: false, healthy: false, leads: false, reason: 'no route to host' },
    ]);
    expect(livingRevision(members)).toBe(70);
    expect(livingRevision(members.slice(1))).toBeUndefined();
  });
});

describe('a restore', () => {
  it('has a name that tells when it was, and that a folder can have', () => {
    expect(restoreId(new Date('2026-11-24T08:16:26.692Z'))).toBe('20261124T081626Z');
  });

  it('knows its own pending operation, and refuses another', async () => {
    const home = clusterHome(await temporaryFolder());
    const file = await store(home.root, 'example-01', '2026-11-01T00:00:00Z');
    const sound = await readSnapshot(file);
    expect(await isPendingRestore(home, sound)).toBe(false);
    await beginOperation(home, {
      command: 'etcd restore',
      subject: `sha256:${sound.sha256.slice(0, 16)}`,
      again: 'k8s-ans etcd restore x',
      data: { id: 'a', bump: 1 },
    });
    expect(await isPendingRestore(home, sound)).toBe(true);
    await expect(isPendingRestore(home, { ...sound, sha256: 'f'.repeat(64) })).rejects.toMatchObject({
      code: 'operation-pending',
      next: 'Finish it with `k8s-ans etcd restore x`: it goes on from where it stopped.',
    });
  });
});

describe('the schedule', () => {
  it.each([
    'daily',
    'hourly',
    'Mon..Fri 03:00',
    '*-*-* 00/6:00:00',
    'Sun *-*-* 02:30 Europe/Berlin',
  ])('takes %s', (value) => expect(calendar(value)).toBeUndefined());
  it.each(['', 'dayly', '03:00\nx', '0 3 * * *;', ' daily'])('refuses %j', (value) =>
    expect(calendar(value)?.hint).toBe('write daily, hourly, or such as Mon..Fri 03:00'));
});
