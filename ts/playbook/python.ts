/** Finds a Python that can make virtual environments. */
import { execa } from 'execa';
import semver from 'semver';
import { environmentError } from '../types/errors.js';

/** What ansible-core 2.19 runs on (its `requires_python`), and what it was made for. */
const RULE = { minimum: '3.11.0', preferredBelow: '3.14.0' } as const;

const NAMES = ['python3', 'python3.13', 'python3.12', 'python3.11', 'python3.14'];

export interface Python {
  readonly path: string;
  /** e.g. 3.11.7 */
  readonly version: string;
}

/** `ensurepip` is what Debian and Ubuntu leave out of `python3` and ship as `python3-venv`. */
const PROBE = 'import sys, venv, ensurepip; print(sys.executable); print("%d.%d.%d" % sys.version_info[:3])';

/**
 * The Python to make environments with: the PATH's `python3` if it fits, else another fitting one.
 *
 * @throws {K8sAnsError} `python-missing`, exit code 4
 */
export async function findPython(env: NodeJS.ProcessEnv): Promise<Python> {
  const fitting: Python[] = [];
  for (const name of NAMES) {
    const result = await execa(name, ['-c', PROBE], { env, extendEnv: false, reject: false, timeout: 20_000 });
    const [path, version] = (result.stdout ?? '').trim().split('\n');
    if (result.failed || !path || !version || !semver.valid(version) || semver.lt(version, RULE.minimum)) continue;
    if (semver.lt(version, RULE.preferredBelow)) return { path, version };
    fitting.push({ path, version });
  }
  if (fitting[0]) return fitting[0];
  throw environmentError('no Python 3.11 or newer with its venv module was found', {
    code: 'python-missing',
    where: `PATH: ${env.PATH ?? ''}`,
    next: 'Run `k8s-ans doctor --fix`, or install Python 3.11 or newer (on Debian and Ubuntu with python3-venv).',
  });
}
