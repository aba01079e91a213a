/** Writes rendered files into the cluster's home. */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { ClusterHome } from '../types/home.js';

/**
 * Writes the files that differ from what is there, each atomically: files 0600, folders 0700.
 *
 * @param files content by path relative to the home
 * @returns the paths that changed, sorted
 */
export async function writeRendered(home: ClusterHome, files: ReadonlyMap<string, string>): Promise<string[]> {
  await privateFolder(home.root);
  const changed: string[] = [];
  for (const [name, content] of files) {
    const file = path.join(home.root, name);
    await privateFolder(path.dirname(file));
    const present = await readFile(file, 'utf8').catch(() => undefined);
    if (present === content) {
      if (((await stat(file)).mode & 0o777) !== 0o600) await chmod(file, 0o600);
      continue;
    }
    await writeFileAtomic(file, content, { mode: 0o600 });
    changed.push(name);
  }
  return changed.sort();
}

async function privateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (((await stat(folder)).mode & 0o777) !== 0o700) await chmod(folder, 0o700);
}
