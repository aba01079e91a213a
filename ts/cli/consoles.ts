/** The three ways to say things: live on a terminal, plain lines elsewhere, one JSON result for machines. */
import { stripVTControlCharacters } from 'node:util';
import { createLogUpdate } from 'log-update';
import pc from 'picocolors';
import type { Console } from '../types/console.js';

/** The version of the object that `--json` prints. */
export const RESULT_VERSION = 1;

export interface ConsoleOptions {
  readonly json: boolean;
  /** False: `--no-color`. */
  readonly color: boolean;
  readonly verbosity: number;
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

/** The console that fits the options and the streams. */
export function createConsole(options: ConsoleOptions): Console {
  if (options.json) return jsonConsole(options);
  return isLive(options) ? terminalConsole(options) : plainConsole(options);
}

/** Live output needs a terminal that can move its cursor, and no CI that records it. */
function isLive({ env, stdout }: ConsoleOptions): boolean {
  return stdout.isTTY === true && env.TERM !== 'dumb' && !env.CI;
}

/** NO_COLOR (https://no-color.org) and FORCE_COLOR; else colour on a terminal alone. */
export function wantsColor(options: Pick<ConsoleOptions, 'color' | 'env'>, stream: NodeJS.WriteStream): boolean {
  const { color, env } = options;
  if (!color || env.NO_COLOR) return false;
  if (env.FORCE_COLOR && env.FORCE_COLOR !== '0') return true;
  return stream.isTTY === true && env.TERM !== 'dumb';
}

function jsonConsole(options: ConsoleOptions): Console {
  const { stdout, stderr, verbosity } = options;
  const colors = pc.createColors(wantsColor(options, stderr));
  return {
    interactive: false,
    json: true,
    color: false,
    verbosity,
    info: (message) => void stderr.write(`${message}\n`),
    warn: (message) => void stderr.write(`${colors.yellow('warning:')} ${message}\n`),
    print: () => {},
    result: (kind, value) =>
      void stdout.write(`${JSON.stringify({ version: RESULT_VERSION, kind, result: value }, null, 2)}\n`),
  };
}

function plainConsole(options: ConsoleOptions): Console {
  const { stdout, stderr, verbosity } = options;
  const colors = pc.createColors(wantsColor(options, stderr));
  return {
    interactive: false,
    json: false,
    color: wantsColor(options, stdout),
    verbosity,
    info: (message) => void stdout.write(`${message}\n`),
    warn: (message) => void stderr.write(`${colors.yellow('warning:')} ${message}\n`),
    print: (text) => void stdout.write(text.endsWith('\n') ? text : `${text}\n`),
    result: () => {},
  };
}

function terminalConsole(options: ConsoleOptions): Console {
  const { stdout } = options;
  const plain = plainConsole(options);
  const update = createLogUpdate(stdout);
  let area = '';
  // The live area is taken away while something else is written, and drawn again below it.
  const above = (write: () => void): void => {
    if (area !== '') update.clear();
    write();
    if (area !== '') update(area);
  };
  return {
    ...plain,
    interactive: true,
    info: (message) => above(() => plain.info(message)),
    warn: (message) => above(() => plain.warn(message)),
    print: (text) => above(() => plain.print(text)),
    live: (text) => {
      area = text;
      if (text === '') {
        update.clear();
        // Shows the cursor again.
        update.done();
      } else {
        area = text
          .split('\n')
          .map((line) => cut(line, stdout.columns))
          .join('\n');
        update(area);
      }
    },
  };
}

/** A line that would wrap is cut, and loses its colours; a wrapped live area flickers. */
function cut(line: string, columns: number): string {
  const plain = stripVTControlCharacters(line);
  return plain.length < columns ? line : `${plain.slice(0, columns - 2)}…`;
}
