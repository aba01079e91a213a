/** Real ansible-playbook runs for the tests: the private environment, made once in the cache. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type AnsibleEnvironment, ensureAnsible } from '../../ts/playbook/environment.js';
import { findPython } from '../../ts/playbook/python.js';
import { type PlaybookRun, type RunResult, runPlaybook } from '../../ts/playbook/run.js';
import { openSshControl } from '../../ts/playbook/ssh.js';
import { ensureVenv } from '../../ts/playbook/venv.js';
import type { ResultEvent, RunEvent } from '../../ts/types/events.js';
import { cacheRoot, packageRoot } from '../../ts/types/package.js';

export const PLAYBOOKS = path.resolve(import.meta.dirname, '../fixtures/playbooks');

/**
 * ansible-core from the pinned requirements, whatever the machine has. With K8S_ANS_TEST_ANSIBLE=oldest the oldest that
 * the collection takes (scripts/ansible-versions.mjs).
 */
export async function testAnsible(): Promise<AnsibleEnvironment> {
  const found = await ensureAnsible({
    env: { ...process.env, K8S_ANS_ANSIBLE: 'private' },
    signal: new AbortController().signal,
    console: { info: () => {} },
  });
  if (process.env.K8S_ANS_TEST_ANSIBLE !== 'oldest') return found;
  const venv = await testVenv('requirements-oldest.txt');
  return { ...found, version: '2.17.0', playbook: path.join(venv, 'bin', 'ansible-playbook') };
}

/** The Python environment of a requirements file under ansible/, made once in the cache. */
export async function testVenv(requirements: string): Promise<string> {
  return ensureVenv({
    cache: cacheRoot(),
    requirements: path.join(packageRoot(), 'ansible', requirements),
    python: await findPython(process.env),
    env: process.env,
    signal: new AbortController().signal,
    onBuild: () => {},
  });
}

export interface Recorded {
  readonly events: RunEvent[];
  readonly log: string;
  readonly result: RunResult;
}

/** Runs a fixture playbook and gives back all it said. */
export async function record(name: string, options: Partial<PlaybookRun> = {}): Promise<Recorded> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-test-'));
  const control = await openSshControl();
  const events: RunEvent[] = [];
  try {
    const log = path.join(folder, 'ansible.log');
    const result = await runPlaybook({
      ansible: await testAnsible(),
      playbook: path.join(PLAYBOOKS, name),
      inventory: path.join(PLAYBOOKS, 'hosts.yml'),
      log,
      control,
      env: process.env,
      signal: new AbortController().signal,
      onEvent: (event) => events.push(event),
      ...options,
    });
    return { events, result, log: await readFile(options.log ?? log, 'utf8') };
  } finally {
    await control.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The results of one task, by its name. */
export function resultsOf(events: ReadonlyArray<RunEvent>, name: string): ResultEvent[] {
  const ids = events.flatMap((event) => (event.event === 'task_start' && event.name === name ? [event.task] : []));
  return events.filter((event): event is ResultEvent => event.event === 'result' && ids.includes(event.task));
}
