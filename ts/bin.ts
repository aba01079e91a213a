#!/usr/bin/env node
/** The entry: hands the process to the program, and ends it with the program's exit code. */
import { interruptedError } from './cli/failure.js';
import { runProgram } from './cli/program.js';

const controller = new AbortController();
const interrupt = (): void => {
  if (controller.signal.aborted) {
    process.stderr.write('Still stopping what runs; it takes a few seconds.\n');
    return;
  }
  process.stderr.write('\nStopping…\n');
  controller.abort(interruptedError());
};
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt);

// A reader that has seen enough (`| head`) is no error.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

const exitCode = await runProgram({
  argv: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  signal: controller.signal,
});
// What is written to a pipe may still be on its way.
await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write('', done))));
process.exit(exitCode);
