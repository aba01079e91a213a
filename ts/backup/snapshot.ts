/**
 * Whether a file is a whole snapshot of etcd: what can be told without etcd's own tools.
 *
 * A snapshot is a bbolt database with the sha256 of it appended
 * (https://github.com/etcd-io/etcd/blob/v3.6.14/etcdutl/snapshot/v3_snapshot.go, copyAndVerifyDB).
 */
import { createHash } from 'node:crypto';

/** A database is a multiple of it, so that a remainder of a digest's length tells that one is appended. */
const SECTOR = 512;
const DIGEST = 32;
/** Where bbolt's first page has its magic number, and that number (bbolt's internal/common/page.go and meta.go). */
const MAGIC_AT = 16;
const MAGIC = 0xed0cdaed;

export type SnapshotFault = 'not-a-database' | 'no-checksum' | 'cut' | 'damaged';

export type SnapshotCheck =
  | { readonly ok: true; readonly size: number; readonly sha256: string }
  | { readonly ok: false; readonly size: number; readonly fault: SnapshotFault };

/**
 * Reads a snapshot to its end and checks it against its own checksum.
 *
 * @param size the file's size, from which follows where the checksum stands
 */
export async function checkSnapshot(chunks: AsyncIterable<Uint8Array>, size: number): Promise<SnapshotCheck> {
  const whole = createHash('sha256');
  const content = createHash('sha256');
  const end = size - DIGEST;
  const head = Buffer.alloc(MAGIC_AT + 4);
  const trailer = Buffer.alloc(DIGEST);
  let position = 0;
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    whole.update(bytes);
    if (position < head.length) bytes.copy(head, position);
    const inside = Math.max(0, Math.min(bytes.length, end - position));
    content.update(bytes.subarray(0, inside));
    if (inside < bytes.length) bytes.copy(trailer, position + inside - end, inside);
    position += bytes.length;
  }
  const refuse = (fault: SnapshotFault): SnapshotCheck => ({ ok: false, size: position, fault });
  if (position < SECTOR || head.readUInt32LE(MAGIC_AT) !== MAGIC) return refuse('not-a-database');
  if (position !== size) return refuse('cut');
  if (size % SECTOR === 0) return refuse('no-checksum');
  if (size % SECTOR !== DIGEST) return refuse('cut');
  if (!content.digest().equals(trailer)) return refuse('damaged');
  return { ok: true, size, sha256: whole.digest('hex') };
}

/** What a fault means, after "FILE ". */
export const faultTexts: Readonly<Record<SnapshotFault, string>> = {
  'not-a-database': 'is not an etcd snapshot',
  'no-checksum': 'carries no checksum: it is a copy of a database file, not a snapshot that etcd made',
  cut: 'is cut off: its size is none that a snapshot has',
  damaged: 'is damaged: its content does not fit the checksum that etcd put into it',
};
