/** Asks before something is destroyed. */
import { isCancel, text } from '@clack/prompts';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError, usageError } from '../../types/errors.js';

export interface Destruction {
  /** What will be gone, as text for a person. */
  readonly losses: string;
  /** What has to be typed: the name of what is destroyed. */
  readonly name: string;
}

/**
 * Tells what will be destroyed and has its name typed; with `--yes` it only tells.
 *
 * @throws K8sAnsError `not-agreed` (exit code 2) when the answer is another one or nobody can be asked, `interrupted`
 *   when the question is cancelled
 */
export async function agreeToDestroy(context: CommandContext, { losses, name }: Destruction): Promise<void> {
  const { console } = context;
  console.info(losses);
  if (context.yes === true) return;
  if (!console.interactive || process.stdin.isTTY !== true) {
    throw usageError('Nobody can be asked whether this may be destroyed; nothing was done.', {
      code: 'not-agreed',
      next: 'Say so with --yes. With --check it only says what would be done.',
    });
  }
  const answer = await text({ message: `Type ${name} to destroy this.` });
  if (isCancel(answer)) {
    throw new K8sAnsError('interrupted; nothing was done', { code: 'interrupted', exitCode: ExitCode.interrupted });
  }
  if (String(answer ?? '').trim() === name) return;
  throw usageError(`That was not ${name}; nothing was done.`, {
    code: 'not-agreed',
    next: `Run the command again and type ${name}, if it is meant.`,
  });
}
