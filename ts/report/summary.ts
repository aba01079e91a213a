/** The end of a run in a few lines, for people. */
import Table from 'cli-table3';
import pc from 'picocolors';
import type { ReportFailure, RunReport } from '../types/report.js';
import { formatBytes, formatDuration, plural } from './format.js';

/** Journal lines that the console shows of a failure; the report has all. */
const JOURNAL_LINES = 10;

/** Counts by host, what failed and why. */
export function formatSummary(report: RunReport, color: boolean): string {
  const colors = pc.createColors(color);
  const parts = [
    hostTable(report, color),
    report.waiting.map((what) => `${colors.yellow('waiting:')} ${what}`).join('\n'),
    ...groups(report.failures).map((same) => formatFailures(same, colors)),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

/** One line: how it ended, how long it took, what changed. */
export function formatTotals(report: RunReport): string {
  const { totals } = report;
  const changed = [
    plural(totals.changed, 'change'),
    ...(totals.changedFiles > 0 ? [plural(totals.changedFiles, 'file')] : []),
    ...(totals.restarted > 0 ? [`${plural(totals.restarted, 'unit')} restarted`] : []),
    ...(totals.bytesSent > 0 ? [`${formatBytes(totals.bytesSent)} sent`] : []),
  ];
  return `${formatDuration(report.duration)}, ${plural(report.hosts.length, 'host')}, ${changed.join(', ')}`;
}

function hostTable(report: RunReport, color: boolean): string {
  if (report.hosts.length === 0) return '';
  const table = new Table({
    head: ['host', 'tasks', 'changed', 'skipped', 'failed', 'files', 'restarted', 'sent'],
    colAligns: ['left', ...Array<'right'>(7).fill('right')],
    style: { compact: true, ...(color ? {} : { head: [], border: [] }) },
  });
  for (const host of report.hosts) {
    const { counts } = host;
    table.push([
      host.name,
      counts.evaluated,
      counts.changed,
      counts.skipped,
      counts.failed + counts.unreachable,
      host.changedFiles,
      host.restarted,
      formatBytes(host.bytesSent),
    ]);
  }
  return table.toString();
}

/** Failures of one task with one cause, as they are when all hosts fail alike. */
function groups(failures: ReadonlyArray<ReportFailure>): ReportFailure[][] {
  const found = new Map<string, ReportFailure[]>();
  for (const failure of failures) {
    const key = JSON.stringify([failure.status, failure.phase, failure.task, failure.cause]);
    found.set(key, [...(found.get(key) ?? []), failure]);
  }
  return [...found.values()];
}

/** One of them stands for all: the report has each. */
function formatFailures(same: ReportFailure[], colors: ReturnType<typeof pc.createColors>): string {
  const failure = same[0] as ReportFailure;
  const hosts = same.map(({ host }) => host).join(', ');
  const lines = [
    `${colors.red(colors.bold(`${failure.status}: ${hosts}`))}  ${failure.phase}: ${failure.task}`,
    ...indent(failure.cause),
    ...(failure.stderr ? indent(failure.stderr) : []),
    ...(failure.journal.length > 0 ? [`  ${colors.dim(`last lines of ${failure.unit ?? 'the unit'}:`)}`] : []),
    ...failure.journal.slice(-JOURNAL_LINES).map((line) => `    ${colors.dim(line)}`),
    `  ${colors.dim('next:')} ${failure.next}`,
  ];
  return lines.join('\n');
}

function indent(text: string): string[] {
  return text.split('\n').map((line) => `  ${line}`);
}
