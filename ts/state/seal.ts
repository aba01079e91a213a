/**
 * The sealed file: a passphrase, scrypt, and AES-256-GCM over chunks (docs/state.md describes it to the byte).
 *
 * The chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and
 * its Nonce-Reuse Misuse-Resistance", 2015): each nonce holds the chunk's number and whether it is the last, so that
 * chunks can be neither left out, nor moved, nor added, nor the end cut off. The header is authenticated with every
 * chunk.
 */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { usageError } from '../types/errors.js';

const MAGIC = Buffer.from('K8SSTATE', 'ascii');
const FORMAT_VERSION = 1;
const KDF_SCRYPT = 1;
const AEAD_AES_256_GCM = 1;

export const HEADER_BYTES = 56;
export const CHUNK_BYTES = 64 * 1024;
export const TAG_BYTES = 16;
const SALT_BYTES = 32;
const PREFIX_BYTES = 7;
const KEY_BYTES = 32;
const SALT_OFFSET = 16;
const PREFIX_OFFSET = SALT_OFFSET + SALT_BYTES;

/** The cost of scrypt: N = 2^log2N, block size r, parallelisation p. */
export interface ScryptCost {
  readonly log2N: number;
  readonly r: number;
  readonly p: number;
}

/** 128 MiB and well under a second: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html. */
const DEFAULT_COST: ScryptCost = { log2N: 17, r: 8, p: 1 };

/** What a file may ask for: 256 MiB and a few seconds at most, whoever wrote it; and no cost that is none. */
const COST_BOUNDS = { log2N: [15, 18], r: [8, 8], p: [1, 4] } as const;

export interface SealHeader {
  readonly cost: ScryptCost;
  readonly salt: Buffer;
  readonly prefix: Buffer;
  /** As it stands in the file. */
  readonly bytes: Buffer;
}

export interface SealOptions {
  readonly cost?: ScryptCost;
  /** For the test vector: a salt and a prefix are never used twice. */
  readonly salt?: Buffer;
  readonly prefix?: Buffer;
}

/** A header with a new salt, hence a new key for every file. */
export function makeHeader(options: SealOptions = {}): SealHeader {
  const { cost = DEFAULT_COST, salt = randomBytes(SALT_BYTES), prefix = randomBytes(PREFIX_BYTES) } = options;
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16BE(FORMAT_VERSION, 8);
  bytes.set([KDF_SCRYPT, AEAD_AES_256_GCM, cost.log2N, cost.r, cost.p, 0], 10);
  salt.copy(bytes, SALT_OFFSET);
  prefix.copy(bytes, PREFIX_OFFSET);
  return { cost, salt, prefix, bytes };
}

/**
 * Reads a header, and believes nothing of it: its cost must lie within the bounds.
 *
 * @param where the file, for the message
 * @throws K8sAnsError `state-no-state-file`, `state-format`
 */
export function parseHeader(bytes: Buffer, where: string): SealHeader {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw usageError('This is no file of `k8s-ans state export`, or its beginning is damaged.', {
      code: 'state-no-state-file',
      where,
      next: 'Name the file that the export wrote; if it is that one, take another copy of it.',
    });
  }
  const version = bytes.readUInt16BE(8);
  const [kdf, aead, log2N = 0, r = 0, p = 0, reserved] = bytes.subarray(10, 16);
  const within = (value: number, [least, most]: readonly [number, number]): boolean => value >= least && value <= most;
  const known =
    version === FORMAT_VERSION && kdf === KDF_SCRYPT && aead === AEAD_AES_256_GCM && reserved === 0 && bytes[55] === 0;
  const bounded = within(log2N, COST_BOUNDS.log2N) && within(r, COST_BOUNDS.r) && within(p, COST_BOUNDS.p);
  if (!known || !bounded) {
    throw usageError(
      known
        ? `The file asks for a key derivation (N = 2^${log2N}, r = ${r}, p = ${p}) outside of what is accepted.`
        : `The file has a format (version ${version}) that this release does not read, or its header is damaged.`,
      {
        code: 'state-format',
        where,
        next: 'Import it with the release of k8s-ans that exported it; if that is this one, take another copy of the file.',
      },
    );
  }
  return {
    cost: { log2N, r, p },
    salt: bytes.subarray(SALT_OFFSET, PREFIX_OFFSET),
    prefix: bytes.subarray(PREFIX_OFFSET, PREFIX_OFFSET + PREFIX_BYTES),
    bytes: bytes.subarray(0, HEADER_BYTES),
  };
}

const scryptKey = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);

/**
 * The key of a file. The passphrase is taken in Unicode's form NFC: the same letters are the same passphrase, whatever
 * machine they were typed on.
 */
export function deriveKey(passphrase: string, { cost, salt }: SealHeader): Promise<Buffer> {
  const N = 2 ** cost.log2N;
  // What scrypt needs is 128 * N * r, and a little for p.
  const maxmem = 128 * N * cost.r + 128 * cost.r * cost.p + 1024 * 1024;
  return scryptKey(passphrase.normalize('NFC'), salt, KEY_BYTES, { N, r: cost.r, p: cost.p, maxmem });
}

function nonceOf({ prefix }: SealHeader, number: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  prefix.copy(nonce, 0);
  // Throws beyond 2^32 chunks (256 TiB): a nonce is never used twice.
  nonce.writeUInt32BE(number, PREFIX_BYTES);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/** The bytes of a sealed file: the header, then the chunks. */
export async function* seal(
  plain: AsyncIterable<Uint8Array>,
  key: Buffer,
  header: SealHeader,
): AsyncGenerator<Buffer, void, undefined> {
  yield header.bytes;
  let number = 0;
  for await (const { piece, last } of pieces(plain, CHUNK_BYTES)) {
    const cipher = createCipheriv('aes-256-gcm', key, nonceOf(header, number, last), { authTagLength: TAG_BYTES });
    cipher.setAAD(header.bytes);
    yield Buffer.concat([cipher.update(piece), cipher.final(), cipher.getAuthTag()]);
    number += 1;
  }
}

/**
 * The content of a sealed file, from what follows its header. A chunk is given out only when it is authentic; that
 * the file is whole is known when the last one was.
 *
 * @throws K8sAnsError `state-refused`
 */
export async function* unseal(
  sealed: AsyncIterable<Uint8Array>,
  key: Buffer,
  header: SealHeader,
  where: string,
): AsyncGenerator<Buffer, void, undefined> {
  let number = 0;
  for await (const { piece, last } of pieces(sealed, CHUNK_BYTES + TAG_BYTES)) {
    const plain = openChunk(piece, key, header, number, last);
    if (plain === undefined) throw refused(number, where);
    yield plain;
    number += 1;
  }
}

function openChunk(piece: Buffer, key: Buffer, header: SealHeader, number: number, last: boolean): Buffer | undefined {
  if (piece.length <= TAG_BYTES) return undefined;
  const end = piece.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(header, number, last), { authTagLength: TAG_BYTES });
  decipher.setAAD(header.bytes);
  decipher.setAuthTag(piece.subarray(end));
  try {
    return Buffer.concat([decipher.update(piece.subarray(0, end)), decipher.final()]);
  } catch {
    return undefined;
  }
}

function refused(number: number, where: string) {
  const message =
    number === 0
      ? 'The passphrase is not that of this file, or the file is damaged.'
      : `The file is damaged, cut off or added to at about ${number * 64} KiB; the passphrase is right.`;
  return usageError(`${message} Nothing was taken from it.`, {
    code: 'state-refused',
    where,
    next:
      number === 0
        ? 'Try the passphrase again; if it is right, take another copy of the file.'
        : 'Take another copy of the file: compare its size and checksum with the original.',
  });
}

/** The bytes in pieces of `size`; the last is shorter, or as long. */
async function* pieces(
  source: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<{ piece: Buffer; last: boolean }, void, undefined> {
  let waiting: Uint8Array[] = [];
  let length = 0;
  for await (const part of source) {
    waiting.push(part);
    length += part.length;
    if (length <= size) continue;
    let joined = Buffer.concat(waiting);
    while (joined.length > size) {
      yield { piece: joined.subarray(0, size), last: false };
      joined = joined.subarray(size);
    }
    waiting = [joined];
    length = joined.length;
  }
  yield { piece: Buffer.concat(waiting), last: true };
}
