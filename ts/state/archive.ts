/**
 * The archive inside a sealed file. It is read strictly, since whoever knows the passphrase of a file may have made it
 * with another program.
 */
import * as tar from '../archive/tar.js';
import { type K8sAnsError, usageError } from '../types/errors.js';

export { type ArchiveFile, pathFault, type ReadFile } from '../archive/tar.js';

/**
 * The bytes of the archive.
 *
 * @throws K8sAnsError `state-path` for a path that the format cannot hold, `state-changed` for a file that changed its
 *   size while it was read
 */
export function writeArchive(files: Parameters<typeof tar.writeArchive>[0]): ReturnType<typeof tar.writeArchive> {
  return tar.writeArchive(files, {
    unfit: (path) =>
      usageError(`The name of ${JSON.stringify(path)} does not fit the archive.`, {
        code: 'state-path',
        where: path,
        next: 'Give the file a shorter name, of plain characters.',
      }),
    changed: (path) =>
      usageError(`${path} changed while it was read.`, {
        code: 'state-changed',
        where: path,
        next: 'See that nothing else writes into the cluster home, and export again.',
      }),
  });
}

/**
 * The files of an archive, one after another. Content that was not read is passed over.
 *
 * @throws K8sAnsError `state-archive` for anything but plain files with harmless names, each once
 */
export function readArchive(source: AsyncIterable<Buffer>): ReturnType<typeof tar.readArchive> {
  return tar.readArchive(source, refusedEntry);
}

function refusedEntry(path: string, why: string): K8sAnsError {
  return usageError(`The archive holds ${JSON.stringify(path)}, which is refused: ${why}. Nothing was taken from it.`, {
    code: 'state-archive',
    next: 'The file was not written by `k8s-ans state export`. Do not use it.',
  });
}
