/**
 * What commands say to the person or machine that called them.
 *
 * Commands never write to stdout themselves: the console given to them decides how a message looks
 * (terminal, plain lines in CI, `--json`).
 */
export interface Console {
  /** True when stdout takes live output: a terminal, not CI, not `--json`. */
  readonly interactive: boolean;
  readonly json: boolean;
  readonly color: boolean;
  readonly verbosity: number;
  /** Progress and remarks; stderr with `--json`, stdout otherwise. */
  info(message: string): void;
  warn(message: string): void;
  /** Text that is the command's result (a table, a file's content). Ignored with `--json`. */
  print(text: string): void;
  /** The command's one machine-readable result, versioned. Ignored without `--json`. */
  result(kind: string, value: unknown): void;
  /**
   * Replaces the live area below all other output; an empty text removes it. Absent where output is not live.
   *
   * What is said by the other functions goes above it.
   */
  live?(text: string): void;
}

/** What every command is given besides its own options. */
export interface CommandContext {
  readonly console: Console;
  /** Aborted on SIGINT or SIGTERM: stop child processes, leave nothing half-written, throw the reason. */
  readonly signal: AbortSignal;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** `--yes`: do not ask. */
  readonly yes?: boolean;
  /** What followed `--` on the command line. */
  readonly passThrough?: ReadonlyArray<string>;
}
