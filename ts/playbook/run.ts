/** Runs one playbook: events as they come, a log file, and no process left when it is interrupted. */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { environmentError, usageError } from '../types/errors.js';
import type { RunEvent, RunOutcome, StatsEvent } from '../types/events.js';
import type { AnsibleEnvironment } from './environment.js';
import { parseEvent } from './events.js';
import { findProcess, stopTree } from './processes.js';
import type { SshControl } from './ssh.js';

export interface PlaybookRun {
  readonly ansible: AnsibleEnvironment;
  /** e.g. k8s_ans.cluster.deploy, or a path. */
  readonly playbook: string;
  readonly inventory: string;
  /** Files of extra variables (JSON or YAML). */
  readonly extraVars?: ReadonlyArray<string>;
  readonly limit?: string | undefined;
  readonly tags?: string | undefined;
  readonly check?: boolean;
  readonly diff?: boolean;
  /** Number of -v; they go to the log. */
  readonly verbosity?: number;
  /** Passed to ansible-playbook as they are, last. */
  readonly passThrough?: ReadonlyArray<string>;
  /** Gets what ansible-playbook prints; made 0600, appended to. */
  readonly log: string;
  readonly control: SshControl;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  readonly onEvent: (event: RunEvent) => void;
  readonly onSpawn?: (pid: number) => Promise<void>;
}

export interface RunResult {
  readonly outcome: Exclude<RunOutcome, 'interrupted'>;
  /** Absent when ansible-playbook was killed by someone else. */
  readonly exitCode: number | undefined;
  /** Absent when the run ended before its statistics. */
  readonly stats: StatsEvent['hosts'] | undefined;
}

/** Exit codes of ansible-playbook (ansible/executor/task_queue_manager.py and ansible/cli/__init__.py, 2.19). */
const ANSIBLE_EXIT = { ok: 0, failedHosts: 2, unreachableOrParser: 4, options: 5 } as const;

/**
 * Runs a playbook to its end.
 *
 * On abort ansible-playbook gets SIGINT, passes it to its workers, and whatever still lives is killed; then the
 * signal's reason is thrown.
 *
 * @throws {K8sAnsError} `ansible-arguments` (2) or `ansible-refused` (4) when Ansible did not begin
 */
export async function runPlaybook(run: PlaybookRun): Promise<RunResult> {
  run.signal.throwIfAborted();
  const log = await open(run.log, 'a', 0o600);
  const logStart = (await log.stat()).size;
  let stats: StatsEvent['hosts'] | undefined;
  let began = false;
  // execa's types know descriptors 3 to 9 alone; any open one works, and written to directly the log is whole
  // even when this process is killed.
  const logFd = log.fd as 3;
  try {
    const child = execa(run.ansible.playbook, ansibleArguments(run), {
      cwd: path.dirname(run.inventory),
      env: ansibleEnvironment(run),
      extendEnv: false,
      stdio: ['ignore', logFd, logFd, 'pipe'],
      buffer: false,
      // A session of its own: Ctrl-C at the terminal reaches us alone, and ssh cannot ask on the terminal.
      detached: true,
      reject: false,
    });
    const events = readEvents(child.stdio[3] as Readable | null, (event) => {
      began ||= event.event === 'run_start';
      if (event.event === 'stats') stats = event.hosts;
      run.onEvent(event);
    });
    const spawned = child.pid === undefined ? undefined : await findProcess(child.pid);
    if (spawned) await run.onSpawn?.(spawned.pid);
    const stopped = spawned ? onAbort(run.signal, () => stopTree(spawned)) : undefined;
    const ended = await child;
    await stopped?.();
    await Promise.race([events.done, sleep(2000)]);
    events.close();

    if (run.signal.aborted) {
      run.onEvent({ event: 'run_end', time: Date.now(), outcome: 'interrupted', ...exitCodeOf(ended.exitCode) });
      run.signal.throwIfAborted();
    }
    const outcome = outcomeOf(ended.exitCode, stats);
    run.onEvent({ event: 'run_end', time: Date.now(), outcome, ...exitCodeOf(ended.exitCode) });
    if (!began) throw await notBegun(run, logStart, ended.exitCode, ended.exitCode === undefined ? ended : undefined);
    return { outcome, exitCode: ended.exitCode, stats };
  } finally {
    await log.close();
  }
}

function exitCodeOf(code: number | undefined): { exit_code?: number } {
  return code === undefined ? {} : { exit_code: code };
}

/** What ansible-playbook's exit code and statistics mean together. */
export function outcomeOf(code: number | undefined, stats: StatsEvent['hosts'] | undefined): RunResult['outcome'] {
  if (code === ANSIBLE_EXIT.ok) return 'done';
  // Code 4 stands for unreachable hosts and for a parse error alike; only the former has statistics.
  const hosts = Object.values(stats ?? {});
  if (hosts.some((host) => host.failures > 0)) return 'failed';
  if (hosts.some((host) => host.unreachable > 0)) return 'unreachable';
  return code === ANSIBLE_EXIT.failedHosts ? 'failed' : 'error';
}

/** The command line after `ansible-playbook`. */
export function ansibleArguments(run: PlaybookRun): string[] {
  return [
    ...['--inventory', run.inventory],
    ...(run.extraVars ?? []).flatMap((file) => ['--extra-vars', `@${file}`]),
    ...(run.limit ? ['--limit', run.limit] : []),
    ...(run.tags ? ['--tags', run.tags] : []),
    ...(run.check ? ['--check'] : []),
    ...(run.diff ? ['--diff'] : []),
    ...(run.verbosity ? [`-${'v'.repeat(run.verbosity)}`] : []),
    ...(run.passThrough ?? []),
    run.playbook,
  ];
}

/** Settings of the caller's own that would switch off our events, colour the log or weaken host key checking. */
const DROPPED = [
  'ANSIBLE_CALLBACKS_ENABLED',
  'ANSIBLE_CALLBACK_WHITELIST',
  'ANSIBLE_CONFIG',
  'ANSIBLE_FORCE_COLOR',
  'ANSIBLE_HOST_KEY_CHECKING',
  'ANSIBLE_SSH_HOST_KEY_CHECKING',
  'ANSIBLE_INVENTORY',
  'ANSIBLE_STDOUT_CALLBACK',
  'ANSIBLE_LOG_PATH',
];

function ansibleEnvironment(run: PlaybookRun): NodeJS.ProcessEnv {
  const env = { ...run.env };
  for (const name of DROPPED) delete env[name];
  const collections = [run.ansible.collections, env.ANSIBLE_COLLECTIONS_PATH].filter(Boolean).join(':');
  return {
    ...env,
    ...utf8Locale(env),
    PATH: [path.dirname(run.ansible.playbook), env.PATH].filter((part) => part && part !== '.').join(':'),
    ANSIBLE_CONFIG: run.ansible.config,
    ANSIBLE_COLLECTIONS_PATH: collections,
    ANSIBLE_SSH_CONTROL_PATH_DIR: run.control.directory,
    ANSIBLE_NOCOLOR: '1',
    SSH_ASKPASS_REQUIRE: 'never',
    K8S_ANS_EVENTS: 'fd:3',
  };
}

/** ansible-core refuses any other encoding than UTF-8 (ansible/cli/__init__.py, initialize_locale). */
function utf8Locale(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const current = env.LC_ALL || env.LC_CTYPE || env.LANG || '';
  if (/utf-?8/i.test(current)) return {};
  return { LC_ALL: process.platform === 'darwin' ? 'en_US.UTF-8' : 'C.UTF-8' };
}

interface EventReader {
  readonly done: Promise<void>;
  close(): void;
}

function readEvents(stream: Readable | null, onEvent: (event: RunEvent) => void): EventReader {
  if (!stream) return { done: Promise.resolve(), close: () => {} };
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  lines.on('line', (line) => {
    const event = parseEvent(line);
    if (event) onEvent(event);
  });
  const done = new Promise<void>((resolve) => lines.once('close', resolve));
  return {
    done,
    close: () => {
      lines.close();
      stream.destroy();
    },
  };
}

/** Calls `stop` once on abort; the function returned waits for it if it was called. */
function onAbort(signal: AbortSignal, stop: () => Promise<void>): () => Promise<void> {
  let stopping: Promise<void> | undefined;
  const listener = (): void => {
    stopping ??= stop();
  };
  if (signal.aborted) listener();
  signal.addEventListener('abort', listener, { once: true });
  return async () => {
    signal.removeEventListener('abort', listener);
    await stopping;
  };
}

async function notBegun(run: PlaybookRun, logStart: number, code: number | undefined, cause: unknown): Promise<Error> {
  const said = await tail(run.log, logStart);
  // argparse ends with 2, Ansible's own checks of the arguments with 5; no play has begun in either case.
  if (code === ANSIBLE_EXIT.failedHosts || code === ANSIBLE_EXIT.options) {
    return usageError(`ansible-playbook does not take these arguments: ${said}`, {
      code: 'ansible-arguments',
      next: 'Mend the arguments after `--`.',
    });
  }
  return environmentError(`ansible-playbook ended before the first play: ${said || `exit code ${code}`}`, {
    code: 'ansible-refused',
    where: run.log,
    next: 'Read the log; `k8s-ans doctor` checks what Ansible needs on this machine.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The error that ends what the run has added to the log; where there is none that Ansible marks as one, the last lines. */
async function tail(file: string, start: number): Promise<string> {
  const log = await open(file, 'r');
  try {
    const { size } = await log.stat();
    const from = Math.max(start, size - 4000);
    const { buffer } = await log.read(Buffer.alloc(size - from), 0, size - from, from);
    const lines = buffer.toString('utf8').trim().split('\n');
    // `ERROR!` before ansible-core 2.19, `[ERROR]:` from then on.
    const error = lines.findLastIndex((line) => /^(?:ERROR!|\[ERROR\]:)/.test(line));
    return (error === -1 ? lines.slice(-8) : lines.slice(error, error + 12)).join('\n');
  } finally {
    await log.close();
  }
}
