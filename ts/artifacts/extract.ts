/** Takes the wanted binaries out of a verified archive, into the cache. */
import { chmod, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { extract } from 'tar';
import { environmentError } from '../types/errors.js';
import { type FolderContent, makeFolder } from './files.js';

/**
 * The binaries of an archive, extracted to `folder` (whole or not at all; reused when it is there).
 *
 * Throws an environment error `artifact-member-missing` if the archive lacks one.
 */
export async function extractBinaries(
  archive: string,
  members: ReadonlyArray<{ readonly name: string; readonly member: string }>,
  folder: string,
  signal: AbortSignal,
): Promise<FolderContent> {
  return makeFolder(folder, signal, async (temporary) => {
    const wanted = new Set(members.map(({ member }) => member));
    await extract({
      file: archive,
      cwd: temporary,
      strict: true,
      preserveOwner: false,
      filter: (name, entry) => 'type' in entry && entry.type === 'File' && wanted.has(plain(name)),
    });
    for (const { name, member } of members) {
      const from = path.join(temporary, member);
      const there = await stat(from).then(
        (found) => found.isFile(),
        () => false,
      );
      if (!there) {
        throw environmentError(`${path.basename(archive)} does not hold ${member}`, {
          code: 'artifact-member-missing',
          where: archive,
          next: 'The archive has another layout than the catalog says: report it, and use another version or source.',
        });
      }
      await chmod(from, 0o755);
      // Out of the way first: a folder in the archive may have a binary's name.
      await rename(from, path.join(temporary, `${name}.member`));
    }
    for (const { name } of members) {
      await rm(path.join(temporary, name), { recursive: true, force: true });
      await rename(path.join(temporary, `${name}.member`), path.join(temporary, name));
    }
    return { files: members.map(({ name }) => ({ name })), remarks: { archive: path.basename(archive) } };
  });
}

function plain(name: string): string {
  return name.replace(/^\.\//, '');
}
