/** What runs the playbooks: a fitting ansible-core of this machine, or a private one that is made. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import semver from 'semver';
import type { Console } from '../types/console.js';
import { cacheRoot, packageRoot } from '../types/package.js';
import { ensureCollection } from './collection.js';
import { findPython } from './python.js';
import { ensureVenv } from './venv.js';

/** The ansible-core that the roles are written for; 2.20 wants Python 3.12, older ones other callback names. */
export const ANSIBLE_RULE = { core: '>=2.17.0 <2.20.0', python: '>=3.11.0' } as const;

export interface AnsibleEnvironment {
  /** Path of ansible-playbook; its siblings (ansible-inventory …) lie beside it. */
  readonly playbook: string;
  readonly version: string;
  readonly origin: 'system' | 'private';
  /** Value of ANSIBLE_COLLECTIONS_PATH. */
  readonly collections: string;
  /** Value of ANSIBLE_CONFIG. */
  readonly config: string;
}

export interface EnvironmentOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  readonly console: Pick<Console, 'info'>;
}

/**
 * Finds or makes the Ansible environment, and says so when it makes one.
 *
 * `K8S_ANS_ANSIBLE=private` leaves the machine's own ansible-core out of account.
 *
 * @throws {K8sAnsError} `python-missing` or `venv-failed`, exit code 4
 */
export async function ensureAnsible(options: EnvironmentOptions): Promise<AnsibleEnvironment> {
  const { env, signal, console } = options;
  const root = packageRoot();
  const cache = cacheRoot(env);
  const collections = await ensureCollection(cache, root);
  const config = path.join(root, 'ansible', 'ansible.cfg');

  const found = env.K8S_ANS_ANSIBLE === 'private' ? undefined : await findAnsible('ansible-playbook', env);
  if (found && fits(found)) {
    return { playbook: found.path, version: found.core, origin: 'system', collections, config };
  }
  const requirements = path.join(root, 'ansible', 'requirements.txt');
  const venv = await ensureVenv({
    cache,
    requirements,
    python: await findPython(env),
    env,
    signal,
    onBuild: (folder) => {
      const why = found
        ? `ansible-core ${found.core} on Python ${found.python} does not fit`
        : 'no ansible-core was found';
      console.info(`Making a private Ansible environment in ${folder}: ${why} (wanted: ${ANSIBLE_RULE.core}).`);
    },
  });
  const playbook = path.join(venv, 'bin', 'ansible-playbook');
  return { playbook, version: await pinnedVersion(requirements), origin: 'private', collections, config };
}

export interface AnsibleVersion {
  readonly path: string;
  readonly core: string;
  readonly python: string;
}

/** Asks an ansible-playbook for its versions; undefined when there is none or it does not work. */
export async function findAnsible(command: string, env: NodeJS.ProcessEnv): Promise<AnsibleVersion | undefined> {
  const result = await execa(command, ['--version'], { env, extendEnv: false, reject: false, timeout: 30_000 });
  return result.failed ? undefined : parseAnsibleVersion(result.stdout, command);
}

/** Reads the output of `ansible-playbook --version`. */
export function parseAnsibleVersion(text: string, command: string): AnsibleVersion | undefined {
  const core = /\[core ([^\]]+)\]/.exec(text)?.[1];
  const python = /^\s*python version = (\S+)/m.exec(text)?.[1];
  const where = /^\s*executable location = (.+)$/m.exec(text)?.[1];
  return core && python ? { path: where?.trim() || command, core, python } : undefined;
}

/** Tells whether the rule allows this ansible-core. Pre-releases are compared as their release. */
export function fits(version: AnsibleVersion): boolean {
  const core = semver.coerce(version.core);
  const python = semver.coerce(version.python);
  return (
    !!core && !!python && semver.satisfies(core, ANSIBLE_RULE.core) && semver.satisfies(python, ANSIBLE_RULE.python)
  );
}

async function pinnedVersion(requirements: string): Promise<string> {
  return /^ansible-core==(\S+)/m.exec(await readFile(requirements, 'utf8'))?.[1] ?? 'unknown';
}
