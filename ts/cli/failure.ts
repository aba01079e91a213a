/** What went wrong, for people and machines, and the exit code. */
import pc from 'picocolors';
import { ExitCode, K8sAnsError } from '../types/errors.js';
import { RESULT_VERSION } from './consoles.js';

/** The error that an abort signal carries: exit code 130. */
export function interruptedError(): K8sAnsError {
  return new K8sAnsError('interrupted', { code: 'interrupted', exitCode: ExitCode.interrupted });
}

/**
 * Turns whatever was thrown into an error with an exit code.
 *
 * After an interrupt all that follows (a killed child, an aborted request) is its consequence.
 */
export function toFailure(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted) return error;
  const interrupted = error instanceof K8sAnsError && error.exitCode === ExitCode.interrupted;
  return interrupted ? error : signal.reason;
}

/** An unexpected error is a bug: exit code 1. */
export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof K8sAnsError ? error.exitCode : ExitCode.runFailed;
}

/** The text for people: what, where, and what next. */
export function formatFailure(error: unknown, color: boolean): string {
  const colors = pc.createColors(color);
  const head = colors.red(colors.bold('error:'));
  if (!(error instanceof K8sAnsError)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `${head} this is a bug in k8s-ans, please report it with the lines below\n${colors.dim(stack)}`;
  }
  // A spec's problems each name their place already, and a refusal its hosts.
  const where = 'problems' in error || 'hosts' in error ? undefined : error.where;
  return [
    `${head} ${error.message}`,
    where === undefined ? undefined : `${colors.dim('where:')} ${where}`,
    error.next === undefined ? undefined : `${colors.dim('next:')}  ${error.next}`,
  ]
    .filter((line) => line !== undefined)
    .join('\n');
}

/** The object for `--json`, in place of the command's result. */
export function failureResult(error: unknown): string {
  const known = error instanceof K8sAnsError ? error : undefined;
  const value = {
    code: known?.code ?? 'bug',
    exitCode: exitCodeOf(error),
    message: error instanceof Error ? error.message : String(error),
    where: known?.where,
    next: known?.next,
    problems: known && 'problems' in known ? known.problems : undefined,
    hosts: known && 'hosts' in known ? known.hosts : undefined,
    run: known && 'run' in known ? known.run : undefined,
  };
  return `${JSON.stringify({ version: RESULT_VERSION, kind: 'error', error: value }, null, 2)}\n`;
}
