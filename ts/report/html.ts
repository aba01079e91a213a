/** The run report as one HTML file: no other file, no network. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import mustache from 'mustache';
import type { ReportChange, ReportCounts, ReportPhase, ReportSpan, ReportTaskRun, RunReport } from '../types/report.js';
import { formatBytes, formatDuration, plural } from './format.js';

const template = readFileSync(new URL('report.html.mustache', import.meta.url), 'utf8');

/** Drawn one by one up to this number of tasks; beyond it, the short ones that went well are left out. */
const TASK_LIMIT = 6000;
const COLORS = 10;

/**
 * Renders the page. Every value is escaped by the template, and a Content-Security-Policy allows the page's own
 * script alone, so that nothing a host said can become markup or run.
 */
export function renderHtml(report: RunReport): string {
  const colors = phaseColors(report);
  const span: ReportSpan = {
    start: Math.min(report.start, ...report.phases.map((phase) => phase.start)),
    end: Math.max(report.end, report.start + 1),
  };
  const longest = Math.max(1, ...report.slowestTasks.map((task) => task.duration));
  return mustache.render(template, {
    scriptHash: scriptHash(),
    title: `${report.command} ${report.cluster}: ${report.outcome}`,
    report,
    outcome: outcomeText(report),
    outcomeClass: outcomeClass(report),
    started: new Date(report.start).toISOString(),
    startedText: `${new Date(report.start).toISOString().slice(0, 19).replace('T', ' ')} UTC`,
    versions: versionsOf(report),
    error: report.error,
    tiles: tilesOf(report),
    hasTimeline: report.phases.length > 0,
    ticks: ticksOf(span),
    legend: report.phases
      .filter(({ where }) => where === 'hosts')
      .filter((phase, index, all) => all.findIndex((other) => other.name === phase.name) === index)
      .map((phase) => ({ name: phase.name, color: colors.get(phase.name) })),
    rows: rowsOf(report, span, colors),
    phases: report.phases.map((phase) => phaseView(phase, report, colors)),
    hasWaiting: report.waiting.length > 0,
    waiting: report.waiting,
    hasFailures: report.failures.length > 0,
    failureCount: report.failures.length,
    failures: report.failures.map((failure) => ({
      ...failure,
      place: [failure.module, failure.role && `role ${failure.role}`, failure.path].filter(Boolean).join(', '),
      hasJournal: failure.journal.length > 0,
      journalText: failure.journal.join('\n'),
      journalLines: plural(failure.journal.length, 'line'),
    })),
    hasSlowest: report.slowestTasks.length > 0,
    slowest: report.slowestTasks.map((task) => ({
      ...task,
      time: formatDuration(task.duration),
      width: percent(task.duration / longest),
      color: colors.get(task.phase),
      on:
        task.hosts > 1 ? `${plural(task.hosts, 'host')}, slowest ${task.slowestHost ?? ''}` : (task.slowestHost ?? ''),
    })),
    changesTitle: report.check ? 'What would change' : 'What changed',
    hasChanges: report.changes.length > 0,
    changeHosts: changesByHost(report),
    hasHosts: report.hosts.length > 0,
    hosts: report.hosts.map((host) => ({
      ...host,
      sent: formatBytes(host.bytesSent),
      bad: host.counts.failed + host.counts.unreachable,
      isBad: host.counts.failed + host.counts.unreachable > 0,
    })),
  });
}

/** The base64 SHA-256 of the template's one script, as the Content-Security-Policy wants it. */
function scriptHash(): string {
  const script = /<script>([\s\S]*?)<\/script>/.exec(template)?.[1] ?? '';
  return createHash('sha256').update(script).digest('base64');
}

function phaseColors(report: RunReport): Map<string, string> {
  const names = (where: ReportPhase['where']): string[] => [
    ...new Set(report.phases.filter((phase) => phase.where === where).map((phase) => phase.name)),
  ];
  return new Map([
    ...names('control').map((name) => [name, 'var(--control)'] as const),
    ...names('hosts').map((name, index) => [name, `var(--phase-${index % COLORS})`] as const),
  ]);
}

function outcomeText({ outcome, check, totals }: RunReport): string {
  if (outcome === 'done') return check ? 'checked' : totals.changed > 0 ? 'done' : 'done, nothing to change';
  return {
    failed: 'failed',
    unreachable: 'host unreachable',
    refused: 'refused',
    error: 'error',
    interrupted: 'interrupted',
  }[outcome];
}

function outcomeClass({ outcome }: RunReport): string {
  if (outcome === 'done') return 'good';
  return outcome === 'interrupted' || outcome === 'refused' ? 'warn' : 'bad';
}

function versionsOf({ versions }: RunReport): string {
  return [
    versions.kubernetes && `Kubernetes ${versions.kubernetes}`,
    `k8s-ans ${versions.tool}`,
    versions.ansible && `ansible-core ${versions.ansible}`,
  ]
    .filter(Boolean)
    .join(' · ');
}

function tilesOf({ duration, hosts, totals }: RunReport): object[] {
  const bad = totals.failed + totals.unreachable;
  return [
    { label: 'duration', value: formatDuration(duration) },
    { label: 'hosts', value: hosts.length },
    { label: 'tasks evaluated', value: totals.evaluated },
    { label: 'changed', value: totals.changed, tone: totals.changed > 0 ? 'changed' : '' },
    { label: 'skipped', value: totals.skipped },
    { label: 'failed', value: bad, tone: bad > 0 ? 'bad' : '' },
    { label: 'units restarted', value: totals.restarted },
    { label: 'sent to hosts', value: formatBytes(totals.bytesSent) },
  ];
}

const percent = (share: number): string => (Math.min(1, Math.max(0, share)) * 100).toFixed(3);

/** Four to eight round marks on the time axis. */
function ticksOf(span: ReportSpan): object[] {
  const length = span.end - span.start;
  const steps = [100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000];
  const step = steps.find((size) => length / size <= 8) ?? 3_600_000;
  const count = Math.floor(length / step);
  return Array.from({ length: count + 1 }, (_, index) => ({
    at: percent((index * step) / length),
    text: step < 1000 ? `${((index * step) / 1000).toFixed(1)} s` : clock((index * step) / 1000),
    last: (index * step) / length > 0.95,
  }));
}

function clock(seconds: number): string {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

interface Bar {
  readonly x: string;
  readonly width: string;
  readonly color: string | undefined;
  readonly phase: string;
  readonly status: string;
  readonly tip: string;
  readonly y: number;
}

interface Row {
  readonly name: string;
  readonly local: boolean;
  readonly height: number;
  readonly bars: ReadonlyArray<Bar>;
  readonly tasks: ReadonlyArray<Bar>;
}

const LANE = 22;

function rowsOf(report: RunReport, span: ReportSpan, colors: ReadonlyMap<string, string>): Row[] {
  const length = span.end - span.start;
  const bar = (part: ReportSpan, name: string, status: string, tip: string, lane = 0): Bar => ({
    x: percent((part.start - span.start) / length),
    width: percent((part.end - part.start) / length),
    color: colors.get(name),
    phase: name,
    status,
    tip: `${tip}\n${formatDuration(part.end - part.start)}, from ${formatDuration(part.start - span.start)} on`,
    y: lane * LANE + 3,
  });
  const rows: Row[] = [];
  const steps = report.phases.filter((phase) => phase.where === 'control');
  if (steps.length > 0) {
    const lanes = lanesOf(steps);
    rows.push({
      name: 'this machine',
      local: true,
      height: (Math.max(...lanes) + 1) * LANE + 6,
      bars: steps.map((step, index) => bar(step, step.name, step.status, tipOf(step), lanes[index])),
      tasks: [],
    });
  }
  const runs = drawn(report.timeline, length);
  for (const host of report.hosts) {
    rows.push({
      name: host.name,
      local: false,
      height: LANE + 6,
      bars: host.phases.map((phase) => bar(phase, phase.name, phase.status, `${phase.name} on ${host.name}`)),
      tasks: runs
        .filter((run) => run.host === host.name)
        .map((run) => bar(run, run.phase, run.status, `${run.task}\n${run.phase} on ${run.host}: ${run.status}`)),
    });
  }
  return rows;
}

function tipOf(step: ReportPhase): string {
  return step.detail ? `${step.name}: ${step.detail}` : step.name;
}

/** Steps that overlap get lanes of their own. */
function lanesOf(steps: ReadonlyArray<ReportSpan>): number[] {
  const ends: number[] = [];
  return steps.map((step) => {
    const free = ends.findIndex((end) => end <= step.start);
    const lane = free === -1 ? ends.length : free;
    ends[lane] = step.end;
    return lane;
  });
}

function drawn(runs: ReadonlyArray<ReportTaskRun>, length: number): ReadonlyArray<ReportTaskRun> {
  if (runs.length <= TASK_LIMIT) return runs;
  return runs.filter((run) => !['ok', 'skipped'].includes(run.status) || run.end - run.start > length / 200);
}

function phaseView(phase: ReportPhase, report: RunReport, colors: ReadonlyMap<string, string>): object {
  const duration = phase.end - phase.start;
  return {
    name: phase.name,
    color: colors.get(phase.name),
    time: formatDuration(duration),
    share: percent(duration / Math.max(1, report.duration)),
    status: phase.status,
    statusText: { ok: 'ok', changed: 'changed', failed: 'failed', running: 'not finished' }[phase.status],
    text: phase.where === 'control' ? (phase.detail ?? 'on this machine') : countsText(phase, phase.counts),
  };
}

function countsText(phase: ReportPhase, counts: ReportCounts): string {
  const bad = counts.failed + counts.unreachable;
  return [
    plural(phase.hosts.length, 'host'),
    plural(phase.tasks, 'task'),
    ...(counts.changed > 0 ? [`${counts.changed} changed`] : []),
    ...(counts.skipped > 0 ? [`${counts.skipped} skipped`] : []),
    ...(bad > 0 ? [`${bad} failed`] : []),
  ].join(', ');
}

function changesByHost(report: RunReport): object[] {
  return report.hosts.flatMap((host) => {
    const own = report.changes.filter((change) => change.host === host.name);
    if (own.length === 0) return [];
    const files = own.reduce((total, change) => total + change.files.length, 0);
    const restarted = own.reduce((total, change) => total + change.restarted.length, 0);
    return [
      {
        name: host.name,
        summary: [
          plural(own.length, 'task'),
          ...(files > 0 ? [plural(files, 'file')] : []),
          ...(restarted > 0 ? [`${plural(restarted, 'unit')} ${report.check ? 'to restart' : 'restarted'}`] : []),
        ].join(', '),
        changes: own.map((change) => ({
          phase: change.phase,
          task: change.task,
          units: unitBadges(change, report.check),
          files: [...change.files, ...change.objects].map((name) => ({ name, ...diffView(name, change) })),
          done: change.done,
        })),
      },
    ];
  });
}

/** What was done, or would be, to units; in the order in which it happens. */
function unitBadges(change: ReportChange, check: boolean): object[] {
  const words: ReadonlyArray<readonly [ReadonlyArray<string>, done: string, would: string, tone: string]> = [
    [change.stopped, 'stopped', 'stop', 'changed'],
    [change.removed, 'removed', 'remove', 'changed'],
    [change.started, 'started', 'start', 'ok'],
    [change.restarted, 'restarted', 'restart', 'changed'],
    [change.reloaded, 'reloaded', 'reload', 'ok'],
  ];
  return words
    .filter(([units]) => units.length > 0)
    .map(([units, done, would, tone]) => ({ tone, text: `${check ? would : done} ${units.join(', ')}` }));
}

/** The lines of a file's difference, each with how it is coloured. */
function diffView(name: string, { diffs }: ReportChange): object {
  const diff = diffs.find(({ file }) => file === name || file.startsWith(`${name} (`));
  if (!diff?.text) return { hasDiff: false };
  const tones: Readonly<Record<string, string>> = { '+': 'added', '-': 'removed', '@': 'place' };
  const lines = diff.text.split('\n').map((text) => ({ text, tone: tones[text[0] ?? ''] ?? '' }));
  return { hasDiff: true, counts: `+${diff.added ?? 0} -${diff.removed ?? 0}`, lines, cut: diff.cut === true };
}
