/** The program: global options, commands, and how a run of it ends. */
import { Command, CommanderError } from 'commander';
import type { CommandContext, Console } from '../types/console.js';
import { ExitCode, usageError } from '../types/errors.js';
import { packageVersion } from '../types/package.js';
import { commandGroups } from './commands.js';
import { createConsole, wantsColor } from './consoles.js';
import { exitCodeOf, failureResult, formatFailure, toFailure } from './failure.js';
import type { Run } from './register.js';

/** What the program takes from the process, so that it can be run without one. */
export interface Invocation {
  /** Without node and the script. */
  readonly argv: ReadonlyArray<string>;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Aborted when the person stops the command. */
  readonly signal: AbortSignal;
}

interface GlobalOptions {
  readonly json?: boolean;
  readonly yes?: boolean;
  readonly color: boolean;
  readonly verbose: number;
}

/** Runs one command line and returns its exit code. */
export async function runProgram(invocation: Invocation): Promise<ExitCode> {
  const { argv, env, stdout, stderr, signal } = invocation;
  let exitCode: ExitCode = ExitCode.done;
  const run: Run = async (action) => {
    const options = program.opts<GlobalOptions>();
    const console = createConsole({
      json: options.json === true,
      color: options.color,
      verbosity: options.verbose,
      env,
      stdout,
      stderr,
    });
    try {
      const code = await action(contextOf(invocation, options, console));
      signal.throwIfAborted();
      exitCode = code ?? ExitCode.done;
    } catch (thrown) {
      const error = toFailure(thrown, signal);
      console.live?.('');
      stderr.write(`${formatFailure(error, wantsColor({ color: options.color, env }, stderr))}\n`);
      if (options.json) stdout.write(failureResult(error));
      exitCode = exitCodeOf(error);
    }
  };
  const program = createProgram(run, invocation);
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help and version end with 0; all else that commander refuses is a usage error, which it has shown already.
    if (error.exitCode === 0) return ExitCode.done;
    const message = error.message.replace(/^error: /, '');
    if (argv.includes('--json')) stdout.write(failureResult(usageError(message, { code: 'usage' })));
    return ExitCode.usage;
  }
  return exitCode;
}

function contextOf({ argv, env, cwd, signal }: Invocation, options: GlobalOptions, console: Console): CommandContext {
  const dashes = argv.indexOf('--');
  return {
    console,
    signal,
    // Children are told as well.
    env: console.color ? env : { ...env, NO_COLOR: '1' },
    cwd,
    yes: options.yes === true,
    passThrough: dashes === -1 ? [] : argv.slice(dashes + 1),
  };
}

/** The commander program with all commands. */
export function createProgram(run: Run, streams?: Pick<Invocation, 'stdout' | 'stderr'>): Command {
  const program = new Command('k8s-ans')
    .description('Deploys and operates highly available Kubernetes from the upstream binaries on plain Linux servers.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--json', 'print one JSON result on stdout, and everything else on stderr')
    .option('-y, --yes', 'do not ask before something is destroyed or installed')
    .option('-v, --verbose', 'say more; each further v goes to ansible-playbook', (_, level: number) => level + 1, 0)
    .option('--no-color', 'no colours (NO_COLOR does the same)')
    .helpOption('-h, --help', 'print this help')
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError()
    .showHelpAfterError('(--help lists what there is)')
    .exitOverride()
    .addHelpText('after', HELP);
  if (streams) {
    program.configureOutput({
      writeOut: (text) => void streams.stdout.write(text),
      writeErr: (text) => void streams.stderr.write(text),
    });
  }
  for (const { heading, commands } of commandGroups) {
    program.commandsGroup(heading);
    for (const register of commands) register(program, run);
  }
  // In the last group.
  program.helpCommand('help [command]', 'print the help of a command');
  return program;
}

const HELP = `
Exit codes: 0 done, 1 the run failed, 2 usage or invalid spec, 3 preflight refused,
            4 a problem on this machine, 5 plan found something to do, 130 interrupted.

First steps: k8s-ans init, then k8s-ans deploy; k8s-ans lab deploy tries it all on this machine.`;
