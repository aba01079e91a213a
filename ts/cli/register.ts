/** How a command is added to the program: each file under `ts/commands` exports one `Register` function. */
import type { Command } from 'commander';
import type { CommandContext } from '../types/console.js';
import type { ExitCode } from '../types/errors.js';

/**
 * Wraps an action: gives it the context, and turns what it throws into an exit code. An action whose answer is no error
 * and yet no plain success returns the exit code.
 */
export type Run = (action: (context: CommandContext) => Promise<void> | Promise<ExitCode>) => Promise<void>;

export type Register = (program: Command, run: Run) => void;
