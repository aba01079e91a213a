/**
 * A command's run on a cluster: its lock, folder, events, progress and report.
 *
 * What the run does is the body; whatever way that ends, the report is written, the processes are gone and the lock
 * is given back.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';
import { type AnsibleEnvironment, ensureAnsible } from '../../playbook/environment.js';
import { createRunFolder, createWorkFolder, type RunFolder, runFolderAt } from '../../playbook/folder.js';
import { acquireRunLock, type RunLock } from '../../playbook/lock.js';
import { type PlaybookRun, type RunResult, runPlaybook } from '../../playbook/run.js';
import { openSshControl, type SshControl } from '../../playbook/ssh.js';
import { renderHtml } from '../../report/html.js';
import { buildReport } from '../../report/model.js';
import { createProgress, type Progress } from '../../report/progress.js';
import type { Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError } from '../../types/errors.js';
import type { RunEvent, RunOutcome } from '../../types/events.js';
import type { ClusterHome } from '../../types/home.js';
import { packageVersion } from '../../types/package.js';
import type { RunReport } from '../../types/report.js';

/** Options that commands which run playbooks share. */
export interface PlaybookOptions {
  readonly limit?: string | undefined;
  readonly tags?: string | undefined;
  readonly check?: boolean | undefined;
  readonly diff?: boolean | undefined;
}

export interface RunSession {
  readonly context: CommandContext;
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  readonly folder: RunFolder;
  /** The home is a copy: what is written to it is what would be written. */
  readonly rehearsal?: boolean;
  /** All events so far. */
  readonly events: ReadonlyArray<RunEvent>;
  /** A step on the control machine, shown and reported; `note` says what it is at, its value may be described. */
  step<T>(name: string, work: (note: (text: string) => void) => Promise<T>, detail?: (value: T) => string): Promise<T>;
  /** Runs a playbook of the collection. A run that fails is not an error here: see its outcome. */
  playbook(name: string, options: Partial<PlaybookRun>): Promise<RunResult>;
}

export interface SessionOptions {
  /** e.g. deploy */
  readonly command: string;
  readonly cluster: Cluster;
  readonly home: ClusterHome;
  /** False: nothing is changed, neither on the hosts nor in the cluster's home, and no lock is taken. */
  readonly lock: boolean;
  readonly check: boolean;
  /** False: the run only looks, and leaves no folder unless it failed. */
  readonly kept?: boolean;
}

export interface FinishedRun {
  readonly report: RunReport;
  readonly folder: RunFolder;
  /** What the body threw. */
  readonly error: unknown;
}

/** Runs the body in a session; never throws what the body threw, but returns it beside the report. */
export async function runSession(
  context: CommandContext,
  options: SessionOptions,
  body: (session: RunSession) => Promise<void>,
): Promise<FinishedRun> {
  const { command, cluster, home, check, kept = true } = options;
  context.signal.throwIfAborted();
  const lock = options.lock ? await acquireRunLock(home, `k8s-ans ${command}`) : undefined;
  try {
    if (lock?.tookOver) context.console.warn(`An earlier run ended in the middle: ${lock.tookOver}. This one goes on.`);
    const start = Date.now();
    const folder = kept ? await createRunFolder(home, command) : runFolderAt(await createWorkFolder(home));
    const control = await openSshControl();
    await lock?.setControl(control.directory);
    const recorder = createRecorder(folder, createProgress(context.console));
    let error: unknown;
    try {
      const session = createSession(context, options, { folder, control, recorder, lock });
      await body(session);
    } catch (thrown) {
      error = context.signal.aborted ? context.signal.reason : thrown;
    } finally {
      recorder.close();
      await control.close();
    }
    const report = buildReport({
      id: folder.id,
      command,
      cluster: cluster.name,
      versions: { tool: packageVersion(), kubernetes: cluster.kubernetes.version },
      outcome: outcomeOf(error, recorder.events),
      check,
      start,
      end: Date.now(),
      ...(error === undefined ? {} : { error: describeError(error) }),
      log: folder.log,
      events: recorder.events,
    });
    if (!kept && error === undefined) {
      await rm(folder.root, { recursive: true, force: true });
      return { report, folder, error };
    }
    await writeFileAtomic(folder.report, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600 });
    await writeFileAtomic(folder.html, renderHtml(report), { mode: 0o600 });
    return { report, folder, error };
  } finally {
    await lock?.release();
  }
}

interface Recorder {
  readonly events: RunEvent[];
  readonly progress: Progress;
  emit(event: RunEvent): void;
  close(): void;
}

/** Keeps the events, in memory and in events.jsonl, and shows them. */
function createRecorder(folder: RunFolder, progress: Progress): Recorder {
  const file = openSync(folder.events, 'a', 0o600);
  const events: RunEvent[] = [];
  return {
    events,
    progress,
    emit: (event) => {
      events.push(event);
      writeSync(file, `${JSON.stringify(event)}\n`);
      progress.handle(event);
    },
    close: () => {
      progress.close();
      closeSync(file);
    },
  };
}

interface SessionParts {
  readonly folder: RunFolder;
  readonly control: SshControl;
  readonly recorder: Recorder;
  readonly lock: RunLock | undefined;
}

function createSession(context: CommandContext, options: SessionOptions, parts: SessionParts): RunSession {
  const { folder, control, recorder, lock } = parts;
  let ansible: Promise<AnsibleEnvironment> | undefined;
  return {
    context,
    cluster: options.cluster,
    home: options.home,
    folder,
    events: recorder.events,
    step: async (step, work, detail) => {
      recorder.emit({ event: 'step_start', time: Date.now(), step });
      const end = (status: 'ok' | 'failed', text?: string): void =>
        recorder.emit({ event: 'step_end', time: Date.now(), step, status, ...(text ? { detail: text } : {}) });
      try {
        const value = await work((text) => recorder.progress.note(step, text));
        end('ok', detail?.(value));
        return value;
      } catch (error) {
        end('failed', context.signal.aborted ? 'interrupted' : describeError(error)?.message.split('\n')[0]);
        throw error;
      }
    },
    playbook: async (name, run) => {
      ansible ??= ensureAnsible(context);
      return runPlaybook({
        ansible: await ansible,
        playbook: `k8s_ans.cluster.${name}`,
        inventory: options.home.inventory,
        log: folder.log,
        control,
        env: context.env,
        signal: context.signal,
        // The first -v is ours.
        verbosity: Math.max(0, context.console.verbosity - 1),
        onSpawn: async (pid) => lock?.addChild(pid),
        ...run,
        onEvent: (event) => {
          recorder.emit(event);
          run.onEvent?.(event);
        },
      });
    },
  };
}

function describeError(error: unknown): NonNullable<RunReport['error']> {
  if (!(error instanceof K8sAnsError)) return { code: 'bug', message: String(error) };
  const { code, message, where, next } = error;
  return { code, message, where, next };
}

function outcomeOf(error: unknown, events: ReadonlyArray<RunEvent>): RunOutcome {
  if (error === undefined) return 'done';
  if (!(error instanceof K8sAnsError)) return 'error';
  if (error.exitCode === ExitCode.interrupted) return 'interrupted';
  if (error.exitCode === ExitCode.preflightRefused) return 'refused';
  const last = events.findLast((event) => event.event === 'run_end');
  return error.exitCode === ExitCode.runFailed && last?.event === 'run_end' && last.outcome !== 'done'
    ? last.outcome
    : 'error';
}
