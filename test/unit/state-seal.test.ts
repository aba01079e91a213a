/** The sealed file: what another program made is read, and what anyone changed is refused. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  CHUNK_BYTES,
  deriveKey,
  HEADER_BYTES,
  makeHeader,
  parseHeader,
  type SealHeader,
  seal,
  TAG_BYTES,
  unseal,
} from '../../ts/state/seal.js';

const passphrase = 'correct horse battery stäple';
const cost = { log2N: 15, r: 8, p: 1 };
const salt = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const prefix = Buffer.from(Array.from({ length: 7 }, (_, index) => 0xa0 + index));
const header = makeHeader({ cost, salt, prefix });
let key: Buffer;
beforeAll(async () => {
  key = await deriveKey(passphrase, header);
});

const vector = Buffer.from(
  readFileSync(new URL('../fixtures/state/vector.txt', import.meta.url), 'utf8')
    .replaceAll(/^#.*$/gm, '')
    .replaceAll(/\s/g, ''),
  'hex',
);

async function* once(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

async function joined(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

const sealed = (content: Uint8Array): Promise<Buffer> => joined(seal(once(content), key, header));

/** Opens a file as import does, with the passphrase. */
async function opened(file: Buffer, words = passphrase): Promise<Buffer> {
  const read = parseHeader(file, 'file');
  return joined(unseal(once(file.subarray(HEADER_BYTES)), await deriveKey(words, read), read, 'file'));
}

/** Opens with the key that is at hand, where the header is sound. */
const openedWithKey = (file: Buffer, read: SealHeader = header): Promise<Buffer> =>
  joined(unseal(once(file.subarray(HEADER_BYTES)), key, read, 'file'));

const counting = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, index) => index % 251));

describe('the test vector', () => {
  test('is read', async () => {
    expect((await opened(vector)).toString()).toBe('k8s-ans state test vector\n');
  });

  test('is what this program writes of the same', async () => {
    expect((await sealed(Buffer.from('k8s-ans state test vector\n'))).toString('hex')).toBe(vector.toString('hex'));
  });

  test('takes the passphrase in any form of Unicode', async () => {
    expect((await opened(vector, passphrase.normalize('NFD'))).toString()).toBe('k8s-ans state test vector\n');
  });

  // SHA-256 of what the other program wrote of as many bytes, 0 to 250 over and over.
  test.each([
    [65535, 'f1faec6d394077631d91a5f7567e7bdf682c80f1317a9114e3d4bde8ca3b3e25'],
    [65536, '5a6cea7861c32d348fd7baa7d4f640d423b0438ccd5405b4fc8ecbd4fdd9319f'],
    [65537, 'ab71be6e2cd24484d845b13da07c74a438a5df0d73a0697bb95b02a972b53241'],
    [131072, '29ed8ad42dc9857bdcfd550b90f139319ef38fe2eb89d54c4a8d27665769ff32'],
    [200000, 'd6ec75fb09588adfa112a49f81ac87ef13461a288d2031b0e42eba6360947148'],
  ])('%i bytes in chunks', async (length, digest) => {
    const file = await sealed(counting(length));
    expect(createHash('sha256').update(file).digest('hex')).toBe(digest);
    expect((await openedWithKey(file)).equals(counting(length))).toBe(true);
  });
});

describe('what is refused', () => {
  test('every byte of the test vector, changed', async () => {
    const outcomes = await Promise.all(
      Array.from(vector.keys(), async (offset) => {
        const file = Buffer.from(vector);
        file[offset] = (file[offset] as number) ^ 0x01;
        // Without a change of the salt the key is the same, and is not derived again.
        const salted = offset >= 16 && offset < 48;
        const open = async () => (salted ? opened(file) : openedWithKey(file, parseHeader(file, 'file')));
        return open().then(
          () => 'read',
          (error) => error.code,
        );
      }),
    );
    const expected = (offset: number): string => {
      if (offset < 8) return 'state-no-state-file';
      // log2N 15 becomes 14, r 8 becomes 9, p 1 becomes 0: out of bounds like the versions before them.
      if (offset < 16 || offset === 55) return 'state-format';
      return 'state-refused';
    };
    expect(outcomes).toEqual(Array.from(vector.keys(), expected));
  }, 60_000);

  test('a cost that would eat memory or time, before any of it is spent', () => {
    for (const [offset, value] of [
      [12, 19],
      [12, 63],
      [12, 255],
      [12, 14],
      [13, 9],
      [13, 255],
      [14, 5],
      [14, 255],
      [14, 0],
    ] as const) {
      const bytes = Buffer.from(header.bytes);
      bytes[offset] = value;
      expect(() => parseHeader(bytes, 'file')).toThrow(
        expect.objectContaining({ code: 'state-format', exitCode: 2, where: 'file' }),
      );
    }
  });

  test('another passphrase', async () => {
    await expect(opened(vector, 'correct horse battery staple')).rejects.toMatchObject({
      code: 'state-refused',
      exitCode: 2,
      message: 'The passphrase is not that of this file, or the file is damaged. Nothing was taken from it.',
    });
  });

  test('a file cut off anywhere', async () => {
    const whole = await sealed(counting(150_000));
    const chunk = CHUNK_BYTES + TAG_BYTES;
    const lengths = [
      HEADER_BYTES,
      HEADER_BYTES + 1,
      HEADER_BYTES + TAG_BYTES,
      HEADER_BYTES + chunk - 1,
      // At the border of two chunks, where all that is there is authentic.
      HEADER_BYTES + chunk,
      HEADER_BYTES + chunk + 1,
      HEADER_BYTES + 2 * chunk,
      whole.length - TAG_BYTES,
      whole.length - 1,
    ];
    for (const length of lengths) {
      await expect(openedWithKey(whole.subarray(0, length)), `${length} bytes`).rejects.toMatchObject({
        code: 'state-refused',
      });
    }
    for (const length of [0, 7, 8, HEADER_BYTES - 1]) {
      expect(() => parseHeader(whole.subarray(0, length), 'file')).toThrow(
        expect.objectContaining({ code: 'state-no-state-file' }),
      );
    }
  });

  test('a file with something after its end, and one with chunks left out, doubled or exchanged', async () => {
    const chunk = CHUNK_BYTES + TAG_BYTES;
    // The last chunk is a full one.
    const whole = await sealed(counting(3 * CHUNK_BYTES));
    const at = (number: number): Buffer =>
      whole.subarray(HEADER_BYTES + number * chunk, HEADER_BYTES + (number + 1) * chunk);
    const head = whole.subarray(0, HEADER_BYTES);
    const damaged = {
      'a byte more': [head, at(0), at(1), at(2), Buffer.from([0])],
      'a chunk more': [head, at(0), at(1), at(2), at(2)],
      'the first left out': [head, at(1), at(2)],
      'the middle left out': [head, at(0), at(2)],
      'the last left out': [head, at(0), at(1)],
      exchanged: [head, at(1), at(0), at(2)],
    };
    for (const [name, parts] of Object.entries(damaged)) {
      await expect(openedWithKey(Buffer.concat(parts)), name).rejects.toMatchObject({ code: 'state-refused' });
    }
    expect((await openedWithKey(Buffer.concat([head, at(0), at(1), at(2)]))).length).toBe(3 * CHUNK_BYTES);
  });

  test('the chunks of another file under the same key', async () => {
    const other = makeHeader({ cost, salt, prefix: Buffer.alloc(7) });
    const file = await joined(seal(once(counting(100)), key, other));
    await expect(openedWithKey(Buffer.concat([header.bytes, file.subarray(HEADER_BYTES)]))).rejects.toMatchObject({
      code: 'state-refused',
    });
  });

  test('a damaged later chunk is told from a wrong passphrase', async () => {
    const file = await sealed(counting(150_000));
    file[HEADER_BYTES + CHUNK_BYTES + TAG_BYTES + 5] = 0;
    await expect(openedWithKey(file)).rejects.toMatchObject({
      message:
        'The file is damaged, cut off or added to at about 64 KiB; the passphrase is right. Nothing was taken from it.',
    });
  });
});

test('two files never have the same key or nonces', () => {
  const one = makeHeader();
  const other = makeHeader();
  expect(one.salt.equals(other.salt)).toBe(false);
  expect(one.prefix.equals(other.prefix)).toBe(false);
  expect(one.cost).toEqual({ log2N: 17, r: 8, p: 1 });
  expect(parseHeader(one.bytes, 'file')).toEqual(one);
});
