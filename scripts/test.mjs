// The whole test line, `npm test`: all set-up, then every test, then a look at what is left. With --full, as in
// `npm run test:full`, what takes longer as well: the operations on a running cluster, from one minor to the next.
//
// It stops at the first stage that fails, and cleans up in any case. The last line sums all tests up; a stage that
// has no tests of its own (a build, a linter) counts when it fails.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const bin = path.join(root, 'dist', 'bin.js');
const results = mkdtempSync(path.join(os.tmpdir(), 'test-results-'));
const npm = (script, ...args) => ['npm', ['run', '--silent', script, '--', ...args]];
const cli = (...args) => [process.execPath, [bin, ...args]];
const vitest = (project) => {
  const file = path.join(results, `${project}.json`);
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${file}`];
  return [
    process.execPath,
    [path.join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--project', project, ...reporters],
  ];
};

const stages = [
  { name: 'build', command: npm('build') },
  { name: 'set-up', command: cli('doctor', '--fix', '--yes', '--tests') },
  { name: 'lint', command: npm('lint') },
  { name: 'unit tests', command: vitest('unit'), count: () => vitestCounts('unit') },
  { name: 'artifacts', command: cli('artifacts', 'build') },
  { name: 'end-to-end tests', command: vitest('e2e'), count: () => vitestCounts('e2e') },
  {
    name: 'molecule',
    command: npm('molecule'),
    env: { MOLECULE_RESULTS: path.join(results, 'molecule.json') },
    count: () => readCounts('molecule.json'),
  },
];

if (process.argv.includes('--full')) {
  // The newest is what the unit tests have run with.
  stages.push({ name: 'oldest ansible', command: npm('test:ansible-versions', 'oldest') });
  for (const version of ['1.35.4', '1.36.3']) {
    stages.push({ name: `artifacts ${version}`, command: cli('artifacts', 'build', '--kubernetes', version) });
  }
  stages.push({ name: 'operations', command: vitest('full'), count: () => vitestCounts('full') });
}

const before = whatIsThere();
const totals = { passed: 0, failed: 0 };
const failures = [];
const table = [];
let child;
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    interrupted = true;
    // Ctrl-C reaches the child by itself; both ways it ends what it started.
    if (signal === 'SIGTERM') child?.kill(signal);
  });
}

for (const stage of stages) {
  const ok = await timed(stage.name, () => run(stage.command, stage.env));
  const counts = stage.count?.() ?? { passed: 0, failed: 0 };
  totals.passed += counts.passed;
  totals.failed += counts.failed;
  failures.push(...(counts.names ?? []));
  if (ok) continue;
  // E.g. a suite whose set-up failed, which has no test that did.
  if (counts.failed === 0) totals.failed += 1;
  break;
}

const clean = await timed('clean-up', async () => {
  // Where all went well there is nothing to remove.
  if (totals.failed > 0 || interrupted) await removeLabs();
  const left = await leftovers();
  for (const line of left) console.error(`left behind: ${line}`);
  return left.length === 0;
});
if (!clean) totals.failed += 1;
rmSync(results, { recursive: true, force: true });

console.log('');
for (const { name, ok, seconds } of table) {
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name.padEnd(18)} ${duration(seconds).padStart(9)}`);
}
console.log(`${' '.repeat(25)} ${duration(table.reduce((sum, { seconds }) => sum + seconds, 0)).padStart(9)}`);
for (const name of failures) console.log(`failed: ${name}`);
console.log(`\n${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = interrupted ? 130 : totals.failed > 0 ? 1 : 0;

/** Runs a part, and notes how long it took and whether it succeeded. */
async function timed(name, work) {
  console.log(`\n== ${name}`);
  const start = performance.now();
  const ok = (await work()) && !(interrupted && name !== 'clean-up');
  const seconds = (performance.now() - start) / 1000;
  table.push({ name, ok, seconds });
  console.log(`== ${name}: ${ok ? 'ok' : 'FAILED'} in ${duration(seconds)}`);
  return ok;
}

function run([command, args], env = {}, cwd = root) {
  return new Promise((resolve) => {
    child = spawn(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
    child.on('error', (error) => {
      console.error(`${command}: ${error.message}`);
      resolve(false);
    });
    child.on('close', (code) => resolve(code === 0));
  });
}

function vitestCounts(project) {
  const { numPassedTests: passed, numFailedTests: failed, testResults = [] } = readJson(`${project}.json`);
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const names = tests.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName);
  return { passed: passed ?? 0, failed: failed ?? 0, names };
}

function readCounts(file) {
  const { passed = 0, failed = 0 } = readJson(file);
  return { passed, failed };
}

function readJson(file) {
  const found = path.join(results, file);
  return existsSync(found) ? JSON.parse(readFileSync(found, 'utf8')) : {};
}

/** Removes the labs of the tests, which a test that was stopped hard leaves. A lab of a person's own stays. */
async function removeLabs() {
  if (!existsSync(bin)) return;
  const { cacheRoot } = await import('../dist/types/package.js');
  for (const [folder, names] of Object.entries({
    e2e: ['e2e', 'full', 'plan', 'small', 'brief', 'throwaway'],
    molecule: ['molecule'],
  })) {
    const cwd = path.join(cacheRoot(), folder);
    mkdirSync(cwd, { recursive: true, mode: 0o700 });
    for (const name of names) await run(cli('lab', 'down', '--name', name, '--purge'), {}, cwd);
  }
}

/** What there is now and was not before; processes get a moment to end. */
async function leftovers() {
  for (let attempt = 0; ; attempt += 1) {
    const left = [...whatIsThere()].filter((line) => !before.has(line));
    if (left.length === 0 || attempt === 20) return left;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** Processes, network devices and temporary folders of the kinds that our tests make, as lines for people. */
function whatIsThere() {
  const lines = new Set();
  const ours = /dockerd|containerd|ansible-playbook|ansible-lint|molecule|chromium|\[mux\]|sshd?: .*k8s|dist\/bin\.js/;
  for (const line of output('ps', ['-eo', 'pid=,args='])) {
    const [pid, ...words] = line.trim().split(/\s+/);
    const command = words.join(' ');
    if (Number(pid) !== process.pid && ours.test(command)) lines.add(`process ${pid}: ${command.slice(0, 120)}`);
  }
  for (const line of output('ip', ['-o', 'link'])) {
    const name = line.split(': ')[1]?.split('@')[0];
    if (name && /^(br-|docker|veth|flannel|cni)/.test(name)) lines.add(`network device ${name}`);
  }
  for (const name of readdirSync(os.tmpdir())) {
    if (name.startsWith('k8s-ans-')) lines.add(`folder ${path.join(os.tmpdir(), name)}`);
  }
  return lines;
}

function output(command, args) {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n');
  } catch {
    // Not every machine has it before the set-up.
    return [];
  }
}

function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60
    ? `${seconds.toFixed(1)} s`
    : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}
