// npm run benchmark [-- --json FILE] [--subnet NETWORK] [--masters N] [--nodes N]
//
// Deploys to a fresh lab with a warm artifact cache, deploys again, makes the hosts anew and brings the same cluster up
// with scripts/benchmark/plain.sh, the least that does it. Prints times, tasks and bytes of the reports, and the ratio.
// The lab and everything else of it is gone at the end, whatever happens.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { clusterHome } from '../dist/types/home.js';
import { cacheRoot, packageRoot } from '../dist/types/package.js';
import { figuresOf, formatFigures } from './benchmark/figures.mjs';
import { capture, closePlain, runPlain } from './benchmark/plain.mjs';

const name = 'bench';
const bin = path.join(packageRoot(), 'dist', 'bin.js');
const workspace = path.join(cacheRoot(), 'benchmark');
const home = clusterHome(path.join(workspace, 'inventory', name));
const minute = 60_000;

/**
 * Runs `k8s-ans --json ARGS` in the workspace.
 *
 * @returns {Promise<{duration: number, result: any}>} milliseconds of the whole command, and what it says
 * @throws Error with the command's own message
 */
async function tool(args, { limit, signal }) {
  const begin = performance.now();
  const result = await execa(process.execPath, [bin, '--json', ...args], {
    cwd: workspace,
    env: { CI: 'true', NO_COLOR: '1' },
    stdin: 'ignore',
    reject: false,
    // A Ctrl-C of the terminal reaches it through the signal, once.
    detached: true,
    timeout: limit,
    forceKillAfterDelay: 30_000,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  const duration = performance.now() - begin;
  signal?.throwIfAborted();
  if (result.exitCode !== 0) {
    const why = result.timedOut ? `took more than ${limit / minute} minutes` : `ended with ${result.exitCode}`;
    // Its last words: the error, where, and what next.
    const words = (result.stderr || result.stdout).trim().split('\n').slice(-12).join('\n');
    throw new Error(`k8s-ans ${args.join(' ')} ${why}:\n${words}`);
  }
  return { duration, result: JSON.parse(result.stdout).result };
}

/** A deploy's wall time and its report. */
async function deploy(signal) {
  const { duration } = await tool(['deploy', '--cluster', name], { limit: 20 * minute, signal });
  const run = path.join(home.runs, 'latest');
  const [report, artifacts] = await Promise.all(
    ['report.json', 'artifacts.json'].map(async (file) => JSON.parse(await readFile(path.join(run, file), 'utf8'))),
  );
  return { duration, report, artifacts: artifacts.k8s_artifacts };
}

/** The machine, before anything of the benchmark runs on it. */
function machineOf() {
  const cpus = os.cpus();
  return {
    cores: cpus.length,
    model: cpus[0]?.model ?? 'unknown',
    memory: os.totalmem(),
    kernel: os.release(),
    node: process.versions.node,
    load: os.loadavg(),
  };
}

/** Measures everything; `say` is told what is going on. */
async function measure(options, signal, say) {
  const machine = machineOf();
  const lab = ['--name', name, '--subnet', options.subnet, '--masters', options.masters, '--nodes', options.nodes];
  const limited = { limit: 10 * minute, signal };
  say('Making the hosts.');
  const { result: made } = await tool(['lab', 'up', ...lab], limited);
  say('Filling the artifact cache, if need be.');
  await tool(['artifacts', 'fetch', '--cluster', name], { limit: 60 * minute, signal });
  say('Deploying.');
  const first = await deploy(signal);
  say('Deploying again.');
  const second = await deploy(signal);

  say('Making the hosts anew.');
  const [artifacts] = Object.values(first.artifacts);
  const plain = await capture({
    folder: path.join(workspace, 'plain'),
    home,
    report: first.report,
    artifacts,
    signal,
  });
  try {
    await tool(['lab', 'down', '--name', name], limited);
    await tool(['lab', 'up', ...lab], limited);
    say('Running the plain script.');
    const masters = made.hosts.filter(({ role }) => role === 'masters').map((host) => host.name);
    const finished = await runPlain(plain, signal);
    return figuresOf({ machine, runs: { first, second }, plain: finished, masters });
  } finally {
    await closePlain(plain);
  }
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    subnet: { type: 'string', default: '172.24.10.0/24' },
    masters: { type: 'string', default: '3' },
    nodes: { type: 'string', default: '2' },
  },
});
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => stop.abort(new Error('interrupted; cleaning up')));
}
const say = (text) => console.error(`benchmark: ${text}`);
try {
  await rm(workspace, { recursive: true, force: true });
  await mkdir(workspace, { recursive: true, mode: 0o700 });
  // One that was killed may have left its hosts.
  await tool(['lab', 'down', '--name', name, '--purge'], { limit: 2 * minute, signal: stop.signal });
  const figures = await measure(options, stop.signal, say);
  console.log(formatFigures(figures));
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(figures, null, 2)}\n`);
} catch (error) {
  say(error.message);
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  // Not with the signal: it must end whatever was pressed. Reports and logs of a failed run stay to be read.
  const keep = process.exitCode === 1;
  await tool(['lab', 'down', '--name', name, ...(keep ? [] : ['--purge'])], { limit: 3 * minute }).catch((error) => {
    say(error.message);
    process.exitCode ??= 1;
  });
  if (keep) say(`Its runs and logs are in ${workspace}.`);
  else await rm(workspace, { recursive: true, force: true });
}
