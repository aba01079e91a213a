/** `k8s-ans report`: the report of the last run, or of an earlier one. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import type { Register } from '../cli/register.js';
import { type RunFolder, runFolderAt } from '../playbook/folder.js';
import { formatSummary, formatTotals } from '../report/summary.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import { usageError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { REPORT_VERSION, type RunReport } from '../types/report.js';

interface ReportOptions {
  readonly cluster?: string;
  readonly list?: boolean;
  readonly open?: boolean;
}

export const register: Register = (program, run) => {
  program
    .command('report')
    .description("show the last run's report; with --json print it whole")
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--list', 'list the runs that are kept')
    .option('--open', 'open the HTML page in a browser')
    .argument('[run]', "a run's name, as --list shows it (default: the last)")
    .action((name: string | undefined, options: ReportOptions) =>
      run(async (context) => {
        const home = await locateCluster(context, options.cluster);
        if (options.list) await listRuns(context, home);
        else await showRun(context, home, name, options.open === true);
      }),
    );
};

/** Runs that wrote a report, oldest first. */
async function reports(home: ClusterHome): Promise<Array<{ folder: RunFolder; report: RunReport }>> {
  const names = await readdir(home.runs).catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => name !== 'latest')
      .sort()
      .map(async (name) => {
        const folder = runFolderAt(path.join(home.runs, name));
        const report = await readReport(folder.report);
        return report ? [{ folder, report }] : [];
      }),
  );
  return found.flat();
}

async function readReport(file: string): Promise<RunReport | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const report = JSON.parse(text) as RunReport;
  return report.version === REPORT_VERSION ? report : undefined;
}

async function listRuns({ console }: CommandContext, home: ClusterHome): Promise<void> {
  const all = await reports(home);
  for (const { report } of all) console.print(`${report.id}  ${report.outcome.padEnd(11)} ${formatTotals(report)}`);
  const list = all.map(({ folder, report: { id, command, outcome, start, duration } }) => {
    return { id, command, outcome, start, duration, html: folder.html };
  });
  console.result('runs', { runs: list });
}

async function showRun(
  { console, signal }: CommandContext,
  home: ClusterHome,
  name: string | undefined,
  open: boolean,
): Promise<void> {
  const all = await reports(home);
  const found = name === undefined ? all.at(-1) : all.find(({ report }) => report.id === name);
  if (!found) {
    throw usageError(name === undefined ? 'no run of this cluster has a report yet' : `there is no run "${name}"`, {
      code: 'report-not-found',
      where: home.runs,
      next: name === undefined ? 'Run `k8s-ans deploy` first.' : '`k8s-ans report --list` shows what there is.',
    });
  }
  const { folder, report } = found;
  console.print(`${report.id}: ${report.outcome}, ${formatTotals(report)}`);
  if (report.error) console.print(`${report.error.message}`);
  console.print(`${formatSummary(report, console.color)}\n\n${folder.html}`);
  console.result('report', report);
  if (open) {
    const opener = process.platform === 'darwin' ? 'open' : 'xdg-open';
    const result = await execa(opener, [folder.html], { reject: false, stdio: 'ignore', cancelSignal: signal });
    if (result.failed) console.warn(`The page could not be opened with ${opener}: open ${folder.html} yourself.`);
  }
}
