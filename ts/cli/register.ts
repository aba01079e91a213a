/** How a command is added to the program: each file under `ts/commands` exports one `Register` function. */
import type { Command } from 'commander';
import type { CommandContext } from '../types/console.js';

/** Wraps an action: gives it the context, and turns what it throws into an exit code. */
export type Run = (action: (context: CommandContext) => Promise<void>) => Promise<void>;

export type Register = (program: Command, run: Run) => void;
