/** What is wrong with a spec, printed as a compiler prints it. */
import { ExitCode, K8sAnsError } from '../types/errors.js';

export interface Problem {
  /** The file as it is shown. */
  readonly file: string;
  /** Both from 1. */
  readonly line: number;
  readonly column: number;
  /** Such as `hosts[2].address`; empty for the file as a whole. */
  readonly path: string;
  /** The offending value, if there is one. */
  readonly value?: unknown;
  /** What is wrong and what was expected. */
  readonly message: string;
  /** How to mend it. */
  readonly hint?: string | undefined;
}

/** The steps from the top of the spec to a value. */
export type SpecPath = ReadonlyArray<string | number>;

/** `hosts[2].address` of ['hosts', 2, 'address']; a step that is no plain word is quoted. */
export function pathText(path: SpecPath): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(step)) return `${text}[${JSON.stringify(step)}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
}

/** In the order of the file. */
export function sortProblems(problems: ReadonlyArray<Problem>): Problem[] {
  return [...problems].sort(
    (one, other) =>
      one.line - other.line ||
      one.column - other.column ||
      one.path.localeCompare(other.path, 'en') ||
      one.message.localeCompare(other.message, 'en'),
  );
}

/** One line a problem, `FILE:LINE:COLUMN: PATH: MESSAGE`, and its hint on a line below. */
export function formatProblems(problems: ReadonlyArray<Problem>): string {
  return problems
    .map(({ file, line, column, path, message, hint }) => {
      const subject = path === '' ? message : `${path}: ${message}`;
      const head = `${file}:${line}:${column}: ${subject}`;
      return hint === undefined ? head : `${head}\n  hint: ${hint}`;
    })
    .join('\n');
}

/** A spec that cannot be used: exit code 2. Its message holds all problems. */
export class SpecError extends K8sAnsError {
  readonly problems: ReadonlyArray<Problem>;

  constructor(file: string, problems: ReadonlyArray<Problem>) {
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
    super(`${file} has ${count}:\n${formatProblems(problems)}`, {
      code: 'spec-invalid',
      exitCode: ExitCode.usage,
      where: file,
      next: 'Mend the spec and run `k8s-ans validate`.',
    });
    this.name = 'SpecError';
    this.problems = problems;
  }
}
