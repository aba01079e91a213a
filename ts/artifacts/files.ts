/** Files and folders of the artifact cache: written whole or not at all, safe against SIGKILL and two at once. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

/** sha256 of a file in hexadecimal. */
export async function sha256File(file: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, ...(signal && { signal }) })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

/** The size of a file, or undefined if there is none. */
export async function fileSize(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}

const manifestSchema = z.strictObject({
  schema: z.literal(1),
  files: z.record(
    z.string(),
    z.strictObject({ sha256: z.string(), size: z.number(), mtimeMs: z.number(), ref: z.string().optional() }),
  ),
  remarks: z.record(z.string(), z.string()),
});

/** What stands in a complete folder. */
export interface FolderContent {
  readonly files: ReadonlyMap<string, { readonly path: string; readonly sha256: string; readonly ref?: string }>;
  /** How it was made, for people. */
  readonly remarks: Readonly<Record<string, string>>;
}

const manifestName = 'complete.json';

/**
 * Reads a complete folder, or undefined if it is missing, incomplete or altered.
 *
 * A file whose size and time are those of its making is taken as unaltered; otherwise, and with `thorough`, its
 * digest is computed.
 */
export async function readFolder(folder: string, thorough = false): Promise<FolderContent | undefined> {
  let manifest: z.infer<typeof manifestSchema>;
  try {
    manifest = manifestSchema.parse(JSON.parse(await readFile(path.join(folder, manifestName), 'utf8')));
  } catch {
    return undefined;
  }
  const files = new Map<string, { path: string; sha256: string; ref?: string }>();
  for (const [name, known] of Object.entries(manifest.files)) {
    const file = path.join(folder, name);
    try {
      const found = await stat(file);
      const same = found.size === known.size && found.mtimeMs === known.mtimeMs;
      if (!(same && !thorough) && (await sha256File(file)) !== known.sha256) return undefined;
    } catch {
      return undefined;
    }
    files.set(name, { path: file, sha256: known.sha256, ...(known.ref !== undefined && { ref: known.ref }) });
  }
  return { files, remarks: manifest.remarks };
}

/**
 * Makes a folder whole: `fill` writes into a temporary folder beside it, which is renamed when all is there.
 *
 * Another process that makes the same folder is waited for. An incomplete or altered folder is replaced.
 * `fill` returns the names to keep, with the image reference where a file is an image archive; everything else in
 * the temporary folder is dropped.
 */
export async function makeFolder(
  folder: string,
  signal: AbortSignal,
  fill: (temporary: string) => Promise<{
    files: ReadonlyArray<{ name: string; ref?: string }>;
    remarks: Readonly<Record<string, string>>;
  }>,
): Promise<FolderContent> {
  await mkdir(path.dirname(folder), { recursive: true });
  return exclusively(`${folder}.lock`, signal, async () => {
    const there = await readFolder(folder);
    if (there !== undefined) return there;
    await dropLeftovers(folder);
    const temporary = `${folder}.new-${process.pid}`;
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    try {
      const { files, remarks } = await fill(temporary);
      signal.throwIfAborted();
      const manifest: z.infer<typeof manifestSchema> = { schema: 1, files: {}, remarks: { ...remarks } };
      for (const { name, ref } of files) {
        const file = path.join(temporary, name);
        const sha256 = await sha256File(file, signal);
        // Whole seconds survive every file system and copy of the cache.
        const time = new Date(Math.floor(Date.now() / 1000) * 1000);
        await utimes(file, time, time);
        const { size, mtimeMs } = await stat(file);
        await sync(file);
        manifest.files[name] = { sha256, size, mtimeMs, ...(ref !== undefined && { ref }) };
      }
      for (const name of await readdir(temporary)) {
        if (!(name in manifest.files)) await rm(path.join(temporary, name), { recursive: true, force: true });
      }
      await writeFile(path.join(temporary, manifestName), `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
      await rm(folder, { recursive: true, force: true });
      await rename(temporary, folder);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
    const made = await readFolder(folder);
    if (made === undefined) throw new Error(`${folder} is not as it was written`);
    return made;
  });
}

/**
 * Runs `action` while this process alone holds `file`. A lock whose process is gone is taken over.
 *
 * The file holds the owner's process id; it is for work in this user's cache on this machine.
 */
export async function exclusively<T>(file: string, signal: AbortSignal, action: () => Promise<T>): Promise<T> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await writeFile(file, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
    }
    const owner = Number(await readFile(file, 'utf8').catch(() => ''));
    // An empty file was just created, or its writer was killed before it wrote: the time tells.
    const old = await stat(file).then(
      ({ mtimeMs }) => Date.now() - mtimeMs > 2000,
      () => false,
    );
    if (old && !alive(owner)) await rm(file, { force: true });
    else await sleep(200, undefined, { signal });
  }
  try {
    return await action();
  } finally {
    await rm(file, { force: true });
  }
}

/** Whether an error is a system error with this code, e.g. ENOENT. */
export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** Removes what processes that were killed left beside `folder`. */
async function dropLeftovers(folder: string): Promise<void> {
  const prefix = `${path.basename(folder)}.new-`;
  for (const name of await readdir(path.dirname(folder))) {
    if (name.startsWith(prefix) && !alive(Number(name.slice(prefix.length)))) {
      await rm(path.join(path.dirname(folder), name), { recursive: true, force: true });
    }
  }
}

function alive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isCode(error, 'EPERM');
  }
}

async function sync(file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
