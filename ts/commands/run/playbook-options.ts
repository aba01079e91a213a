/** Options of all commands that run playbooks, and what is not allowed beside them. */
import type { Command } from 'commander';
import { clusterOption } from '../../spec/locate.js';
import type { CommandContext } from '../../types/console.js';
import { usageError } from '../../types/errors.js';
import type { PlaybookOptions } from './session.js';

export interface ClusterPlaybookOptions extends PlaybookOptions {
  readonly cluster?: string | undefined;
}

/** Adds `--cluster`, `--limit` and the arguments after `--`. */
export function addPlaybookOptions(command: Command): Command {
  return command
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--limit <hosts>', "only these hosts or groups, as ansible-playbook's --limit")
    .argument('[ansible-arguments...]', 'after --: passed to ansible-playbook as they are');
}

/** Adds `--tags`, `--check` and `--diff` as well. */
export function addChangeOptions(command: Command): Command {
  return addPlaybookOptions(command)
    .option('--tags <tags>', "only these phases, as ansible-playbook's --tags")
    .option('--check', 'change nothing on the hosts, and say what would be changed')
    .option('--diff', "show the differences of changed files in the run's log");
}

/** Refuses words that stand before `--`: `deploy NAME` is a mistake for `deploy --cluster NAME`. */
export function refuseOperands(context: CommandContext, operands: ReadonlyArray<string>, command: string): void {
  const before = operands.slice(0, operands.length - (context.passThrough?.length ?? 0));
  if (before.length === 0) return;
  throw usageError(`\`${command}\` takes no argument before \`--\`: ${before.join(' ')}`, {
    code: 'usage',
    next: `For a cluster's name say \`k8s-ans ${command} --cluster ${before[0]}\`.`,
  });
}
