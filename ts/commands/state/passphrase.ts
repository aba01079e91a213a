/** Where the passphrase of a state file comes from: a file, the environment, or the terminal; never an argument. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { isCancel, password } from '@clack/prompts';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError, usageError } from '../../types/errors.js';

export const PASSPHRASE_VARIABLE = 'K8S_ANS_PASSPHRASE';

/** Whoever has the file can try passphrases as fast as his machines allow: a short one is no protection. */
export const MIN_PASSPHRASE = 12;
const MAX_PASSPHRASE = 1024;

export interface PassphraseOptions {
  /** `--passphrase-file` */
  readonly passphraseFile?: string | undefined;
  /** True: a passphrase is chosen, so it is asked for twice and judged. */
  readonly choose: boolean;
}

/**
 * The passphrase from `--passphrase-file`, else `K8S_ANS_PASSPHRASE`, else the terminal.
 *
 * @throws K8sAnsError `passphrase-missing`, `passphrase-unreadable`, `passphrase-weak`
 */
export async function readPassphrase(context: CommandContext, options: PassphraseOptions): Promise<string> {
  const { passphraseFile, choose } = options;
  const variable = context.env[PASSPHRASE_VARIABLE];
  if (passphraseFile !== undefined) {
    const file = path.resolve(context.cwd, passphraseFile);
    return judged(await fromFile(context, file), choose, file);
  }
  if (variable) return judged(variable, choose, PASSPHRASE_VARIABLE);
  return fromTerminal(context, choose);
}

/** What is wrong with a passphrase that is chosen, or undefined. */
export function passphraseFault(passphrase: string): string | undefined {
  const { length } = [...passphrase];
  if (length < MIN_PASSPHRASE) return `it has ${length} characters, and ${MIN_PASSPHRASE} are the least`;
  if (length > MAX_PASSPHRASE) return `it has more than ${MAX_PASSPHRASE} characters`;
  if (new Set(passphrase).size < 4) return 'it repeats a few characters only';
  return undefined;
}

function judged(passphrase: string, choose: boolean, where: string): string {
  const fault = choose ? passphraseFault(passphrase) : undefined;
  if (fault === undefined) return passphrase;
  throw usageError(`The passphrase is too weak: ${fault}.`, {
    code: 'passphrase-weak',
    where,
    next: 'Take five or more random words, or what a password manager makes.',
  });
}

async function fromFile(context: CommandContext, file: string): Promise<string> {
  const fail = (message: string, cause?: unknown): K8sAnsError =>
    usageError(message, {
      code: 'passphrase-unreadable',
      where: file,
      next: 'Write the passphrase, and nothing else, into the file as one line of UTF-8.',
      cause,
    });
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
    const found = await stat(file);
    if (found.isFile() && (found.mode & 0o077) !== 0) {
      context.console.warn(`Others can read the passphrase: chmod 600 ${file}`);
    }
  } catch (cause) {
    throw fail('The file of the passphrase cannot be read.', cause);
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw fail('The file of the passphrase is not UTF-8.');
  }
  // The one line end that an editor or echo leaves is no part of it.
  const passphrase = text.replace(/\r?\n$/, '');
  if (passphrase === '' || /[\r\n]/.test(passphrase)) throw fail('The file of the passphrase is not one line of text.');
  return passphrase;
}

async function fromTerminal({ console, signal }: CommandContext, choose: boolean): Promise<string> {
  if (!console.interactive || process.stdin.isTTY !== true) {
    throw usageError('Nobody can be asked for the passphrase.', {
      code: 'passphrase-missing',
      next: `Give it with --passphrase-file FILE or in the environment variable ${PASSPHRASE_VARIABLE}.`,
    });
  }
  const ask = async (message: string, validate?: (value: string | undefined) => string | undefined) => {
    const answer = await password({ message, signal, ...(validate === undefined ? {} : { validate }) });
    if (isCancel(answer)) {
      throw new K8sAnsError('interrupted', { code: 'interrupted', exitCode: ExitCode.interrupted });
    }
    return answer;
  };
  if (!choose) return ask('Passphrase of the file');
  const chosen = await ask('Passphrase for the file (there is no way in without it)', (value) => {
    const fault = passphraseFault(value ?? '');
    return fault === undefined ? undefined : `Too weak: ${fault}.`;
  });
  await ask('The same again', (value) => (value === chosen ? undefined : 'That is not the same.'));
  return chosen;
}
