/** The end of a run for whoever started it: summary, paths, and the error with how to go on. */

import { formatSummary } from '../../report/summary.js';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError } from '../../types/errors.js';
import type { ResultEvent } from '../../types/events.js';
import type { FinishedRun, RunSession } from './session.js';

/** What `--json` says of a run: the report without its timeline, and where its files lie. */
export function runResult(run: FinishedRun): Record<string, unknown> {
  const { timeline: _timeline, changes: _changes, ...report } = run.report;
  const { folder } = run;
  return { ...report, files: { report: folder.report, html: folder.html, events: folder.events, log: folder.log } };
}

/**
 * Shows the summary, and throws what ended the run.
 *
 * @param again the command that goes on from an interrupted or failed run
 */
export function finishRun(context: CommandContext, run: FinishedRun, again: string): void {
  const { console } = context;
  const { report, folder, error } = run;
  const ran = report.hosts.length > 0 && report.outcome !== 'refused';
  if (ran) console.info(`\n${formatSummary(report, console.color)}`);
  if (report.hosts.length > 0) console.info(`\nReport: ${folder.html}`);
  if (error === undefined) return;
  if (error instanceof K8sAnsError && error.exitCode === ExitCode.interrupted) {
    throw new K8sAnsError('interrupted; what was done so far is kept, and no process is left', {
      code: 'interrupted',
      exitCode: ExitCode.interrupted,
      where: folder.root,
      next: `Run \`${again}\` again: it goes on from what is there.`,
    });
  }
  // With --json the failure carries the run's result.
  if (error instanceof K8sAnsError) Object.assign(error, { run: runResult(run) });
  throw error;
}

/** The error of a playbook that did not end well: which hosts, which task, and how to go on. */
export function playbookError(session: RunSession, again: string): K8sAnsError {
  const names = new Map(
    session.events.flatMap((event) => (event.event === 'task_start' ? [[event.task, event.name] as const] : [])),
  );
  const failures = session.events.filter(
    (event): event is ResultEvent =>
      event.event === 'result' && (event.status === 'failed' || event.status === 'unreachable'),
  );
  const hosts = [...new Set(failures.map((event) => event.host))];
  const first = failures[0];
  const task = first ? (names.get(first.task) ?? first.task) : undefined;
  return new K8sAnsError(
    hosts.length > 0
      ? `the run failed on ${hosts.join(', ')}, first at the task "${task}"`
      : 'Ansible ended with an error',
    {
      code: first?.status === 'unreachable' ? 'host-unreachable' : 'run-failed',
      exitCode: ExitCode.runFailed,
      where: session.folder.log,
      next: `Mend the cause, then run \`${again}\` again: it goes on from what is there.`,
    },
  );
}
