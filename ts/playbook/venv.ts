/** Makes private Python environments from pinned, hashed requirements. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, realpath, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import semver from 'semver';
import { environmentError } from '../types/errors.js';
import { findProcess } from './processes.js';
import type { Python } from './python.js';

export interface VenvOptions {
  readonly cache: string;
  readonly requirements: string;
  readonly python: Python;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Called before something is installed. */
  readonly onBuild: (folder: string) => void;
}

/**
 * The environment's folder, made if it is not there: `CACHE/venv-HASH`, by requirements and Python version.
 *
 * Scripts of a virtual environment hold its path, so it cannot be moved when it is done: it is made in a folder
 * of its own for good, and `venv-HASH` is a link that is set when all is installed.
 *
 * @throws {K8sAnsError} `venv-failed`, exit code 4, with what pip said
 */
export async function ensureVenv(options: VenvOptions): Promise<string> {
  const { cache, requirements, python, env, signal } = options;
  const pinned = await readFile(requirements);
  const minor = `${semver.major(python.version)}.${semver.minor(python.version)}`;
  const hash = createHash('sha256').update(`${minor} ${python.path}\n`).update(pinned).digest('hex').slice(0, 12);
  const link = path.join(cache, `venv-${hash}`);
  if (await works(link)) return link;

  await mkdir(cache, { recursive: true, mode: 0o700 });
  await removeLeftovers(cache, `venv-${hash}.`, await realpath(link).catch(() => undefined));
  const folder = `${link}.${process.pid}`;
  options.onBuild(link);
  const run = (command: string, args: string[]) =>
    execa(command, args, { env, extendEnv: false, cancelSignal: signal, all: true, stdin: 'ignore' });
  try {
    await run(python.path, ['-m', 'venv', folder]);
    await run(path.join(folder, 'bin', 'python'), [
      ...['-m', 'pip', 'install', '--quiet', '--no-input', '--disable-pip-version-check'],
      ...['--require-hashes', '--requirement', requirements],
    ]);
    const draft = `${link}.link-${process.pid}`;
    await symlink(path.basename(folder), draft);
    await rename(draft, link);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    signal.throwIfAborted();
    const said = String((error as { all?: unknown }).all ?? error);
    throw environmentError(`the private Ansible environment could not be made: ${lastLines(said)}`, {
      code: 'venv-failed',
      where: folder,
      next: 'See that Python packages can be installed on this machine (index, proxy, disk), then try again.',
      cause: error,
    });
  }
  return link;
}

/** A link alone does not tell: the Python it was made with may have been removed or replaced since. */
async function works(link: string): Promise<boolean> {
  const probe = await execa(path.join(link, 'bin', 'python'), ['-c', ''], { reject: false, timeout: 20_000 });
  return !probe.failed;
}

/** Removes what a killed build left; a folder is named for the process that makes it. */
async function removeLeftovers(cache: string, prefix: string, keep: string | undefined): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(prefix)) continue;
    const folder = path.join(cache, name);
    if (folder === keep || (await findProcess(Number(name.slice(prefix.length))))) continue;
    await rm(folder, { recursive: true, force: true });
  }
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-6).join('\n');
}
