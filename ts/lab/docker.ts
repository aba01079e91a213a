/** The `docker` command line against one engine. Podman and others that speak it may be used as well. */
import { execa } from 'execa';
import { environmentError } from '../types/errors.js';

/** Which engine a lab is on. */
export interface Engine {
  /** Value of DOCKER_HOST; undefined: whatever the docker command is configured for. */
  readonly host?: string | undefined;
  /** True if the lab started this engine: it is then stopped with the last lab on it. */
  readonly own: boolean;
}

export interface DockerOptions {
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
}

export interface DockerResult {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment in which `docker` talks to `engine`. */
export function engineEnv(engine: Engine, env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return engine.host === undefined ? env : { ...env, DOCKER_HOST: engine.host };
}

/** Runs `docker ARGS…` and returns what it wrote, whatever its exit code. */
export async function tryDocker(
  engine: Engine,
  args: ReadonlyArray<string>,
  options: DockerOptions = {},
): Promise<DockerResult> {
  const result = await execa('docker', args, {
    env: engineEnv(engine, options.env),
    extendEnv: false,
    reject: false,
    stdin: 'ignore',
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  if (options.signal?.aborted) throw options.signal.reason;
  if (result.code === 'ENOENT') {
    throw environmentError('the docker command is not installed', {
      code: 'docker-missing',
      next: 'Run `k8s-ans doctor --fix`.',
    });
  }
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}

/**
 * Runs `docker ARGS…` and returns its output.
 *
 * @throws K8sAnsError `docker-failed` with the engine's own words.
 */
export async function docker(
  engine: Engine,
  args: ReadonlyArray<string>,
  options: DockerOptions = {},
): Promise<string> {
  const result = await tryDocker(engine, args, options);
  if (result.exitCode !== 0) {
    throw environmentError(`docker ${args[0]} failed: ${lastWords(result.stderr)}`, {
      code: 'docker-failed',
      where: engine.host ?? 'the default Docker engine',
      next: 'Run the same command again; if it fails again, `k8s-ans lab down` and `lab up` make everything anew.',
    });
  }
  return result.stdout;
}

/** The engine's own message, without the pointer to --help that follows it. */
function lastWords(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(Run|See) 'docker/.test(line));
  return lines.join(' ');
}
