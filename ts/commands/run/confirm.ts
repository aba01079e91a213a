/** Asking before something is destroyed. */
import { confirm, isCancel } from '@clack/prompts';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, K8sAnsError, usageError } from '../../types/errors.js';

/**
 * Says what will be destroyed and asks; `--yes` is an answer.
 *
 * @throws K8sAnsError `confirmation-needed` (2) where nobody can answer, `declined` (130) when the answer is no
 */
export async function confirmDestruction(context: CommandContext, what: string, question: string): Promise<void> {
  context.console.info(what);
  if (context.yes) return;
  if (!context.console.interactive || !process.stdin.isTTY) {
    throw usageError('There is nobody here to ask.', {
      code: 'confirmation-needed',
      next: 'Run it with --yes if this is what you want.',
    });
  }
  const answer = await confirm({ message: question, initialValue: false });
  if (isCancel(answer) || !answer) {
    throw new K8sAnsError('Nothing was done.', { code: 'declined', exitCode: ExitCode.interrupted });
  }
}
