/** Files that hold secrets: always 0600 in folders of 0700, and always whole. */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';

export const SECRET_FILE_MODE = 0o600;
export const SECRET_FOLDER_MODE = 0o700;

/**
 * Writes a secret: into a temporary file beside it, flushed, then renamed, so that a reader (or the next run after
 * a SIGKILL) sees the old content or the new, never a part. Folders that are missing are made with mode 0700.
 */
export async function writeSecret(file: string, content: string | Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: SECRET_FOLDER_MODE });
  const data = typeof content === 'string' ? content : Buffer.from(content);
  await writeFileAtomic(file, data, { mode: SECRET_FILE_MODE });
}

/** The file's text, or undefined if there is no such file. */
export async function readTextIfExists(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Takes away what group and others may do; true if there was something to take. */
export async function tighten(target: string): Promise<boolean> {
  const { mode } = await stat(target);
  if ((mode & 0o077) === 0) return false;
  await chmod(target, mode & 0o700);
  return true;
}
