/**
 * Typed errors and the exit codes they map to.
 *
 * An error says what happened, where, and what to do next. Only `ts/bin.ts` ends the process.
 */

/** Exit codes, as documented in the README. */
export const ExitCode = {
  done: 0,
  runFailed: 1,
  usage: 2,
  preflightRefused: 3,
  environment: 4,
  /** `plan` found something to do. */
  changesPending: 5,
  interrupted: 130,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export interface ErrorDetails {
  /** A stable code in kebab case, e.g. `spec-invalid`. */
  readonly code: string;
  readonly exitCode: ExitCode;
  /** Where: a file, a host, a URL. */
  readonly where?: string | undefined;
  /** What to do next, as a sentence. */
  readonly next?: string | undefined;
  readonly cause?: unknown;
}

/** The one error class that commands throw on purpose; anything else is a bug and shown with its stack. */
export class K8sAnsError extends Error {
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly where: string | undefined;
  readonly next: string | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'K8sAnsError';
    this.code = details.code;
    this.exitCode = details.exitCode;
    this.where = details.where;
    this.next = details.next;
  }
}

/** An error of the user's input: exit code 2. */
export function usageError(message: string, details: Omit<ErrorDetails, 'exitCode'>): K8sAnsError {
  return new K8sAnsError(message, { ...details, exitCode: ExitCode.usage });
}

/** Something this machine lacks or refuses: exit code 4. */
export function environmentError(message: string, details: Omit<ErrorDetails, 'exitCode'>): K8sAnsError {
  return new K8sAnsError(message, { ...details, exitCode: ExitCode.environment });
}

/** A run that failed on the hosts: exit code 1. */
export function runError(message: string, details: Omit<ErrorDetails, 'exitCode'>): K8sAnsError {
  return new K8sAnsError(message, { ...details, exitCode: ExitCode.runFailed });
}
