// Runs the molecule scenarios: npm run molecule [-- SCENARIO...] ; npm run molecule -- converge hostprep
//
// Without a verb they are tested: converge, idempotence, check and verify on one lab that is made first and removed
// at the end. With one (create, converge, verify, …, destroy) the lab stays until `npm run molecule -- destroy`.
import { spawn } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const root = path.dirname(import.meta.dirname);
/** In the order in which a host gets them. */
const scenarios = ['hostprep', 'proxy', 'runtime', 'etcd', 'cluster'];
const verbs = ['test', 'create', 'converge', 'idempotence', 'check', 'verify', 'destroy'];

if (!existsSync(path.join(root, 'dist', 'lab', 'index.js'))) {
  console.error('The scenarios need the built program: npm run build');
  process.exit(2);
}
const { down, labHome, workspace } = await import('../molecule/shared/lab.mjs');

const words = process.argv.slice(2);
const verb = verbs.includes(words[0]) ? words.shift() : 'test';
const unknown = words.filter((word) => !scenarios.includes(word));
if (unknown.length > 0) {
  console.error(`There is no scenario ${unknown.join(', ')}; there are ${scenarios.join(', ')}.`);
  process.exit(2);
}
const chosen = verb === 'create' || verb === 'destroy' ? ['default'] : words.length > 0 ? words : scenarios;
const state = path.join(workspace, 'state');
// What molecule remembers of an earlier lab is worth nothing to a whole test.
if (verb === 'test') rmSync(state, { recursive: true, force: true });

const output = [];
const code = await run([
  ...['-c', path.join('molecule', 'config.yml'), verb],
  ...chosen.flatMap((name) => ['-s', name]),
  ...['--report', '--no-command-borders'],
]);
if (verb === 'test') {
  // Molecule removes the lab itself, unless it was interrupted.
  if (existsSync(labHome)) await down();
  rmSync(state, { recursive: true, force: true });
}
if (process.env.MOLECULE_RESULTS) writeFileSync(process.env.MOLECULE_RESULTS, JSON.stringify(counts(code)));
process.exitCode = code;

/** The actions of the scenarios by how they ended, from molecule's recap. */
function counts(status) {
  const text = stripVTControlCharacters(output.join(''));
  const totals = { passed: 0, failed: 0 };
  for (const [, name, passed, failed] of text.matchAll(/^(\S+) +: actions=\d+ +successful=(\d+) .*failed=(\d+)/gm)) {
    // To make and remove the lab is no test, unless it fails.
    if (name !== 'default') totals.passed += Number(passed);
    totals.failed += Number(failed);
  }
  if (status !== 0 && totals.failed === 0) {
    totals.failed = 1;
    // Molecule's recap counts the second converge of a scenario that is not idempotent as successful.
    if (text.includes('Idempotence test failed')) totals.passed -= 1;
  }
  return totals;
}

/** Runs molecule, passes its output on, and resolves to its exit code. */
function run(args) {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'dev-venv.mjs'), 'molecule', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...(process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}),
      K8S_ANS_LAB_HOME: labHome,
      MOLECULE_EPHEMERAL_DIRECTORY: state,
      // The lab's inventory is not there before `create`.
      MOLECULE_ANSIBLE_ARGS_STRICT_MODE: '1',
    },
  });
  for (const [from, to] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ]) {
    from.setEncoding('utf8');
    from.on('data', (text) => {
      output.push(text);
      to.write(text);
    });
  }
  // Ctrl-C reaches the child as well: it ends by itself, and the lab is removed here.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve) => {
    child.on('close', (status, signal) => resolve(status ?? (signal ? 130 : 1)));
  });
}
