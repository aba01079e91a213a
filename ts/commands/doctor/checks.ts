/** What k8s-ans needs on this machine, what of it is there, and how to get the rest. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import semver from 'semver';
import { neededGo, withPrivateGo } from '../../artifacts/private-go.js';
import { findEngine } from '../../lab/engine.js';
import { findPython } from '../../playbook/python.js';
import type { CommandContext } from '../../types/console.js';
import { packageRoot } from '../../types/package.js';

/** What something is needed for. */
export const scopes = ['run', 'lab', 'build', 'tests'] as const;
export type Scope = (typeof scopes)[number];

/** How something missing is got. */
export type Remedy =
  | { readonly kind: 'apt'; readonly packages: ReadonlyArray<string> }
  | { readonly kind: 'go'; readonly version: string }
  | { readonly kind: 'manual' };

export interface Finding {
  readonly id: string;
  readonly scope: Scope;
  /** What it is, e.g. `Python 3.11 or newer, with venv`. */
  readonly what: string;
  /** Why it is needed. */
  readonly why: string;
  readonly ok: boolean;
  /** What was found, with its version; absent if nothing was. */
  readonly found?: string | undefined;
  readonly remedy: Remedy;
  /** What to do where packages cannot be installed by k8s-ans. */
  readonly manual: string;
}

interface Check {
  readonly id: string;
  readonly scope: Scope;
  readonly what: string;
  readonly why: string;
  readonly remedy: Remedy;
  readonly manual: string;
  probe(context: CommandContext): Promise<{ ok: boolean; found?: string | undefined }>;
}

/** The operating system, as far as it matters here. */
export interface System {
  /** ID of os-release, or the platform where there is none. */
  readonly id: string;
  readonly name: string;
  readonly version: string;
  /** True if apt installs packages here: Debian, Ubuntu and what derives from them. */
  readonly apt: boolean;
}

/** Reads os-release (os-release(5)). */
export function parseOsRelease(text: string): System {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
    if (match) values.set(match[1] as string, match[2] ?? match[3] ?? match[4] ?? '');
  }
  const id = values.get('ID') ?? 'linux';
  const family = [id, ...(values.get('ID_LIKE') ?? '').split(/\s+/)];
  return {
    id,
    name: values.get('PRETTY_NAME') ?? id,
    version: values.get('VERSION_ID') ?? '',
    apt: family.includes('debian') || family.includes('ubuntu'),
  };
}

/** This machine's operating system. */
export async function thisSystem(): Promise<System> {
  if (process.platform !== 'linux') {
    return { id: process.platform, name: process.platform, version: '', apt: false };
  }
  return parseOsRelease(await readFile('/etc/os-release', 'utf8').catch(() => ''));
}

/** The first version number in a tool's output, e.g. 1.26.8 in `go version go1.26.8 linux/amd64`. */
export function versionIn(output: string): string | undefined {
  return /\d+(\.\d+)+/.exec(output)?.[0];
}

/** The administrator's folders, which an ordinary user's PATH lacks on Debian, hold debootstrap and dockerd. */
function withSbin(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...env, PATH: `${env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` };
}

/** Runs a tool for its version; undefined: it is not there or fails. */
async function output(
  context: CommandContext,
  command: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv = context.env,
): Promise<string | undefined> {
  const [file, ...args] = command as [string, ...string[]];
  const result = await execa(file, args, {
    env: withSbin(env),
    extendEnv: false,
    reject: false,
    stdin: 'ignore',
    timeout: 20_000,
    cancelSignal: context.signal,
  });
  context.signal.throwIfAborted();
  return result.exitCode === 0 ? `${result.stdout}\n${result.stderr}`.trim() : undefined;
}

/** A check that a tool answers; found is its name and version. */
function tool(name: string, args: ReadonlyArray<string>): Check['probe'] {
  return async (context) => {
    const text = await output(context, [name, ...args]);
    return text === undefined ? { ok: false } : { ok: true, found: `${name} ${versionIn(text) ?? ''}`.trim() };
  };
}

/** All checks, for a system. */
async function allChecks(system: System): Promise<Check[]> {
  const engines = (
    JSON.parse(await readFile(path.join(packageRoot(), 'package.json'), 'utf8')) as {
      engines: { node: string };
    }
  ).engines.node;
  const go = await neededGo();
  const apt = (...packages: string[]): Remedy => ({ kind: 'apt', packages });
  // Ubuntu 22.04's python3 is 3.10; it has 3.11 beside it.
  const python = system.id === 'ubuntu' && system.version === '22.04' ? 'python3.11' : 'python3';
  return [
    {
      id: 'node',
      scope: 'run',
      what: `Node.js ${engines}`,
      why: 'k8s-ans itself',
      remedy: { kind: 'manual' },
      manual: 'Install a newer Node.js, from nodejs.org or with a version manager.',
      probe: async () => ({
        ok: semver.satisfies(process.version, engines),
        found: `Node.js ${process.version.slice(1)}`,
      }),
    },
    {
      id: 'python',
      scope: 'run',
      what: 'Python 3.11 or newer, with venv',
      why: 'runs Ansible, in an environment of its own',
      remedy: apt(python, `${python}-venv`),
      manual: 'Install Python 3.11 or newer with its venv module (macOS: `brew install python`).',
      probe: async (context) =>
        findPython(context.env).then(
          ({ version }) => ({ ok: true, found: `Python ${version}` }),
          () => ({ ok: false }),
        ),
    },
    {
      id: 'ssh',
      scope: 'run',
      what: 'OpenSSH client',
      why: 'reaches the hosts',
      remedy: apt('openssh-client'),
      manual: 'Install the OpenSSH client (ssh, ssh-keygen).',
      probe: tool('ssh', ['-V']),
    },
    {
      id: 'docker',
      scope: 'lab',
      what: 'docker command',
      why: 'makes the hosts of the lab',
      remedy: apt('docker.io', 'docker-cli'),
      manual: 'Install Docker: docs.docker.com/engine/install.',
      probe: tool('docker', ['--version']),
    },
    {
      id: 'engine',
      scope: 'lab',
      what: 'Docker engine that answers, or dockerd to start one',
      why: 'runs the hosts of the lab',
      remedy: apt('docker.io'),
      manual: 'Install and start Docker: docs.docker.com/engine/install.',
      probe: probeEngine,
    },
    {
      id: 'debootstrap',
      scope: 'lab',
      what: 'debootstrap',
      why: "makes the image of the lab's hosts",
      remedy: system.id === 'debian' ? apt('debootstrap') : apt('debootstrap', 'debian-archive-keyring'),
      manual: 'Use a machine that runs Debian or Ubuntu for the lab.',
      probe: tool('debootstrap', ['--version']),
    },
    {
      id: 'go',
      scope: 'build',
      what: `Go ${go} or newer`,
      why: 'compiles the binaries where upstream cannot be reached',
      remedy: { kind: 'go', version: go },
      manual: `Install Go ${go} or newer: go.dev/doc/install.`,
      probe: async (context) => {
        const env = { ...withPrivateGo(context.env), GOTOOLCHAIN: 'local' };
        const version = versionIn((await output(context, ['go', 'version'], env)) ?? '');
        const full = semver.coerce(version);
        return { ok: full !== null && semver.gte(full, go), found: version && `Go ${version}` };
      },
    },
    {
      id: 'gcc',
      scope: 'build',
      what: 'C compiler',
      why: 'compiles runc and the pause image',
      remedy: apt('gcc', 'libc6-dev'),
      manual: "Install gcc and the C library's development files.",
      probe: tool('gcc', ['-dumpfullversion']),
    },
    {
      id: 'libseccomp',
      scope: 'build',
      what: 'development files of libseccomp, with pkg-config',
      why: 'runc is linked with it',
      remedy: apt('libseccomp-dev', 'pkg-config'),
      manual: 'Install the development files of libseccomp, and pkg-config.',
      probe: async (context) => {
        const version = await output(context, ['pkg-config', '--modversion', 'libseccomp']);
        return version === undefined ? { ok: false } : { ok: true, found: `libseccomp ${version}` };
      },
    },
    {
      id: 'openssl',
      scope: 'tests',
      what: 'openssl command',
      why: 'the tests check the certificates with it',
      remedy: apt('openssl'),
      manual: 'Install OpenSSL.',
      probe: tool('openssl', ['version']),
    },
    {
      id: 'chromium',
      scope: 'tests',
      what: 'Chromium',
      why: "the tests open the run's report in it",
      remedy: apt('chromium'),
      manual: 'Install Chromium.',
      probe: async (context) => {
        for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
          const text = await output(context, [name, '--version']);
          if (text !== undefined) return { ok: true, found: `${name} ${versionIn(text) ?? ''}`.trim() };
        }
        return { ok: false };
      },
    },
  ];
}

async function probeEngine(context: CommandContext): Promise<{ ok: boolean; found?: string }> {
  // Without the docker command nothing can be asked; that it is missing is said by its own check.
  const running = await findEngine(context).catch(() => undefined);
  context.signal.throwIfAborted();
  if (running !== undefined) return { ok: true, found: `engine at ${running.host ?? "docker's default"}` };
  if (process.platform !== 'linux') return { ok: false };
  const version = await output(context, ['dockerd', '--version']);
  return version === undefined ? { ok: false } : { ok: true, found: `dockerd ${versionIn(version) ?? ''}`.trim() };
}

/** Checks everything in the scopes, all at once. */
export async function examine(context: CommandContext, wanted: ReadonlyArray<Scope>): Promise<Finding[]> {
  const checks = (await allChecks(await thisSystem())).filter(({ scope }) => wanted.includes(scope));
  return Promise.all(
    checks.map(async ({ probe, ...check }) => {
      const { ok, found } = await probe(context);
      return { ...check, ok, ...(found === undefined ? {} : { found }) };
    }),
  );
}
