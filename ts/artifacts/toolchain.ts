/** The compilers that source `build` needs on this machine. */
import { execa, type Options } from 'execa';
import type { Architecture } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import { withPrivateGo } from './private-go.js';

/** GNU triplets by architecture, as Debian names its cross compilers. */
const triplets: Record<Architecture, string> = { amd64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

const doctor = 'Run `k8s-ans doctor --fix`, or choose another source under artifacts.source in cluster.yaml.';

/** This machine's architecture in Go's words, or undefined for one that k8s-ans does not know. */
export function machineArchitecture(): Architecture | undefined {
  if (process.arch === 'x64') return 'amd64';
  return process.arch === 'arm64' ? 'arm64' : undefined;
}

/**
 * The Go version that builds in this folder, e.g. `go1.26.8`, as `go env GOVERSION` says (with GOTOOLCHAIN's choice).
 *
 * Throws an environment error where Go is missing or older than the folder's go.mod asks for.
 */
export async function goVersion(folder: string, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<string> {
  const result = await execa('go', ['env', 'GOVERSION'], {
    cwd: folder,
    env,
    extendEnv: false,
    reject: false,
    cancelSignal: signal,
    stdin: 'ignore',
  });
  signal.throwIfAborted();
  if (result.code === 'ENOENT') {
    throw environmentError('building the artifacts needs Go, and there is no `go` on PATH', {
      code: 'build-no-go',
      next: doctor,
    });
  }
  if (result.failed) {
    throw environmentError(`this machine's Go cannot build here: ${lastLines(result.stderr || result.shortMessage)}`, {
      code: 'build-old-go',
      where: folder,
      next: doctor,
    });
  }
  return result.stdout.trim();
}

/** Whether any `go` answers; its version is not looked at. */
export async function hasGo(env: NodeJS.ProcessEnv): Promise<boolean> {
  const options = { env: withPrivateGo(env), extendEnv: false, reject: false, stdin: 'ignore' } as const;
  return !(await execa('go', ['version'], options)).failed;
}

/** A C compiler for an architecture, with what identifies it and the libraries it links. */
export interface CCompiler {
  readonly command: string;
  /** Compiler's and libraries' versions: they shape the output. */
  readonly identity: string;
  /** Where pkg-config looks for the architecture's libraries; undefined: its default. */
  readonly pkgConfigPath: string | undefined;
}

/**
 * Finds the C compiler for an architecture and checks that the libraries are there.
 *
 * Throws an environment error that names what is missing.
 */
export async function cCompiler(
  architecture: Architecture,
  libraries: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<CCompiler> {
  if (process.platform !== 'linux') {
    throw environmentError(`C programs for Linux cannot be compiled on ${process.platform}`, {
      code: 'build-not-linux',
      next: 'Choose source upstream, mirror or directory under artifacts.source in cluster.yaml, or build on Linux.',
    });
  }
  const native = machineArchitecture() === architecture;
  const command = native ? 'gcc' : `${triplets[architecture]}-gcc`;
  const options: Options = { env, extendEnv: false, reject: false, cancelSignal: signal, stdin: 'ignore' };
  const version = await execa(command, ['-dumpfullversion'], options);
  signal.throwIfAborted();
  if (version.failed) {
    throw environmentError(`building for ${architecture} needs the C compiler ${command}, and it is missing`, {
      code: 'build-no-gcc',
      next: native
        ? doctor
        : `Install ${command} (Debian: gcc-${triplets[architecture].replaceAll('_', '-')}), or choose another source under artifacts.source in cluster.yaml.`,
    });
  }
  const pkgConfigPath = native ? undefined : `/usr/lib/${triplets[architecture]}/pkgconfig`;
  const identity = [`${command} ${String(version.stdout).trim()}`];
  for (const library of libraries) {
    const found = await execa('pkg-config', ['--modversion', library], {
      ...options,
      env: { ...env, ...(pkgConfigPath !== undefined && { PKG_CONFIG_LIBDIR: pkgConfigPath }) },
    });
    signal.throwIfAborted();
    if (found.failed) {
      const missing = found.code === 'ENOENT' ? 'pkg-config' : `${library}'s development files`;
      throw environmentError(`building for ${architecture} needs ${missing}: not found on this machine`, {
        code: 'build-no-library',
        next: native
          ? doctor
          : `Install what is missing for ${architecture} (Debian: ${library}-dev:${architecture}), or choose another source under artifacts.source in cluster.yaml.`,
      });
    }
    identity.push(`${library} ${String(found.stdout).trim()}`);
  }
  return { command, identity: identity.join(', '), pkgConfigPath };
}

/** The last lines of a tool's output, for an error message. */
export function lastLines(output: unknown, count = 12): string {
  return String(output).trim().split('\n').slice(-count).join('\n');
}
