/**
 * The container engine of the lab: one that is there, or a dockerd of our own.
 *
 * A dockerd of our own has its socket, data and configuration under the cache folder, sets no firewall rules, makes no
 * bridge of its own and does not switch forwarding on: once it is stopped, nothing of it is left but its data.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { CommandContext } from '../types/console.js';
import { environmentError } from '../types/errors.js';
import { cacheRoot } from '../types/package.js';
import { docker, type Engine, tryDocker } from './docker.js';
import { asRoot } from './root.js';

/** Where the engine of our own keeps its files. */
export interface EngineFolder {
  readonly root: string;
  readonly data: string;
  readonly exec: string;
  readonly socket: string;
  readonly pid: string;
  readonly log: string;
  readonly config: string;
}

/** Parent cgroup of all containers of our own engine. */
const cgroupParent = 'k8s-ans-lab';

/** A Unix socket's path may have 107 bytes (unix(7)), and containerd makes longer ones below the exec folder. */
const longestSocketFolder = 60;

/** The paths of the engine whose cache folder is `cache`. */
export function engineFolder(cache: string): EngineFolder {
  const root = path.join(cache, 'engine');
  const name = createHash('sha256').update(root).digest('hex').slice(0, 8);
  const runtime = root.length > longestSocketFolder ? `/run/k8s-ans-${name}` : root;
  return {
    root,
    data: path.join(root, 'data'),
    exec: path.join(runtime, 'exec'),
    socket: path.join(runtime, 'docker.sock'),
    pid: path.join(runtime, 'docker.pid'),
    log: path.join(root, 'dockerd.log'),
    config: path.join(root, 'daemon.json'),
  };
}

/** daemon.json of our own engine (https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file). */
export function engineConfig(folder: EngineFolder, group: number): Record<string, unknown> {
  return {
    'data-root': folder.data,
    'exec-root': folder.exec,
    pidfile: folder.pid,
    hosts: [`unix://${folder.socket}`],
    group: String(group),
    bridge: 'none',
    iptables: false,
    ip6tables: false,
    'ip-forward': false,
    'ip-masq': false,
    'exec-opts': ['native.cgroupdriver=cgroupfs'],
    'cgroup-parent': `/${cgroupParent}`,
    'log-opts': { 'max-size': '10m', 'max-file': '2' },
  };
}

/** True if an engine answers. */
export async function reachable(engine: Engine, signal?: AbortSignal): Promise<boolean> {
  const result = await tryDocker(engine, ['version', '--format', '{{.Server.Version}}'], { signal });
  return result.exitCode === 0 && result.stdout.trim() !== '';
}

/** Our own engine, whether it runs or not. */
export function ownEngine(env: NodeJS.ProcessEnv): Engine {
  return { host: `unix://${engineFolder(cacheRoot(env)).socket}`, own: true };
}

/** The engine that answers now, ours or the one that the docker command is configured for; undefined: none. */
export async function findEngine(context: CommandContext): Promise<Engine | undefined> {
  const own = ownEngine(context.env);
  for (const engine of [own, { host: context.env.DOCKER_HOST, own: false }]) {
    if (await reachable(engine, context.signal)) return engine;
  }
  return undefined;
}

/**
 * The engine for the lab: one that answers, else our own, started now. It outlives this process.
 *
 * @throws K8sAnsError `engine-missing`, `engine-not-started`.
 */
export async function ensureEngine(context: CommandContext): Promise<Engine> {
  const found = await findEngine(context);
  if (found !== undefined) return found;
  if (process.platform !== 'linux') {
    throw environmentError('no Docker engine answers', {
      code: 'engine-missing',
      next: 'Start Docker (or set DOCKER_HOST) and run the command again.',
    });
  }
  const folder = engineFolder(cacheRoot(context.env));
  const engine = ownEngine(context.env);
  context.console.info(`No Docker engine answers: starting one of the lab's own in ${folder.root}`);
  await mkdir(folder.root, { recursive: true });
  await mkdir(path.dirname(folder.socket), { recursive: true });
  await writeFile(folder.config, `${JSON.stringify(engineConfig(folder, process.getgid?.() ?? 0), null, 2)}\n`);
  // A pidfile that outlived its process (the machine was switched off) keeps dockerd from starting.
  if ((await enginePid(folder)) === undefined) await removeAsRoot(folder.pid);
  const log = await open(folder.log, 'w');
  const [command, ...args] = asRoot(['dockerd', '--config-file', folder.config]);
  const child = spawn(command as string, args, { detached: true, stdio: ['ignore', log.fd, log.fd] });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`it ended with ${signal ?? `code ${code}`}`));
  });
  child.unref();
  await log.close();
  const fault = await Promise.race([ended, answered(engine, context.signal)]);
  if (fault !== undefined) {
    throw environmentError(`dockerd did not start: ${fault}`, {
      code: fault.includes('ENOENT') ? 'engine-missing' : 'engine-not-started',
      where: folder.log,
      next: fault.includes('ENOENT') ? 'Run `k8s-ans doctor --fix`.' : 'Its log says why.',
    });
  }
  return engine;
}

/** Waits until `engine` answers; a text if it does not within half a minute. */
async function answered(engine: Engine, signal: AbortSignal): Promise<string | undefined> {
  const deadline = Date.now() + 30_000;
  while (Date.now() < deadline) {
    if (await reachable(engine, signal)) return undefined;
    await sleep(200, undefined, { signal });
  }
  return 'it did not answer within 30 s';
}

/** The process id of our own dockerd, if it runs. */
async function enginePid(folder: EngineFolder): Promise<number | undefined> {
  const text = await readFile(folder.pid, 'utf8').catch(() => undefined);
  const pid = Number(text?.trim());
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return commandLine.includes('dockerd') && commandLine.includes(folder.config) ? pid : undefined;
}

/**
 * Stops our own engine and removes what it leaves behind (mounts, sockets, cgroups). Its data, the images, stays.
 * Does nothing if it has containers left, or is not ours.
 *
 * @returns false if containers keep it running.
 */
export async function stopEngine(context: CommandContext, engine: Engine): Promise<boolean> {
  if (!engine.own) return true;
  const folder = engineFolder(cacheRoot(context.env));
  const pid = await enginePid(folder);
  if (pid !== undefined) {
    if ((await reachable(engine, context.signal)) && (await docker(engine, ['ps', '-aq'])).trim() !== '') return false;
    await execa(...command(asRoot(['kill', String(pid)])), { reject: false });
    const deadline = Date.now() + 30_000;
    while ((await enginePid(folder)) !== undefined) {
      if (Date.now() > deadline) {
        throw environmentError(`dockerd (process ${pid}) does not stop`, {
          code: 'engine-not-stopped',
          where: folder.log,
          next: `Look at its log; \`kill -9 ${pid}\` ends it.`,
        });
      }
      await sleep(100);
    }
  }
  for (const mount of await mountsBelow([folder.data, folder.exec])) {
    await execa(...command(asRoot(['umount', '-l', mount])), { reject: false });
  }
  await removeAsRoot(folder.exec);
  await removeAsRoot(folder.socket);
  await removeAsRoot(folder.pid);
  if (path.dirname(folder.socket) !== folder.root) await rmdir(path.dirname(folder.socket)).catch(() => undefined);
  await removeCgroups();
  return true;
}

async function removeAsRoot(target: string): Promise<void> {
  await rm(target, { recursive: true, force: true }).catch(() =>
    execa(...command(asRoot(['rm', '-rf', '--one-file-system', target])), { reject: false }),
  );
}

function command(words: ReadonlyArray<string>): [string, string[]] {
  return [words[0] as string, words.slice(1)];
}

/** Mount points below `folders`, the deepest first. */
async function mountsBelow(folders: ReadonlyArray<string>): Promise<string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return mountPoints(text)
    .filter((mount) => folders.some((folder) => mount === folder || mount.startsWith(`${folder}/`)))
    .sort((a, b) => b.length - a.length);
}

/** The mount points in /proc/self/mountinfo (proc(5)), which writes blanks as octal escapes. */
export function mountPoints(mountinfo: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4])
    .filter((mount): mount is string => mount !== undefined)
    .map((mount) => mount.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8))));
}

/** Removes the engine's empty parent cgroups, in every hierarchy of cgroup v1 or in the one of v2. */
async function removeCgroups(): Promise<void> {
  const base = '/sys/fs/cgroup';
  const hierarchies = await readdir(base).catch(() => []);
  for (const folder of [base, ...hierarchies.map((name) => path.join(base, name))]) {
    await rmdir(path.join(folder, cgroupParent)).catch(() => undefined);
  }
}
