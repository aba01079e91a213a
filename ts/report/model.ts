/** Turns a run's events into its report. Pure. */
import type { HostStatus, PlayStartEvent, ResultEvent, RunEvent, RunOutcome, TaskStartEvent } from '../types/events.js';
import {
  REPORT_VERSION,
  type ReportChange,
  type ReportCounts,
  type ReportFailure,
  type ReportHost,
  type ReportPhase,
  type ReportTask,
  type ReportTaskRun,
  type RunReport,
} from '../types/report.js';

export interface ReportInput {
  readonly id: string;
  readonly command: string;
  readonly cluster: string;
  readonly versions: RunReport['versions'];
  readonly outcome: RunOutcome;
  readonly check: boolean;
  /** Milliseconds since the epoch. */
  readonly start: number;
  readonly end: number;
  readonly error?: RunReport['error'];
  readonly log: string;
  readonly events: ReadonlyArray<RunEvent>;
}

/** How many of the slowest tasks are kept. */
const SLOWEST = 15;

interface TaskState {
  readonly start: TaskStartEvent;
  readonly phase: string;
}

interface Started {
  readonly result: ResultEvent;
  readonly task: TaskState | undefined;
  readonly start: number;
}

/** Builds the report; an interrupted or cut stream gives one of what was there. */
export function buildReport(input: ReportInput): RunReport {
  const { events, start, end } = input;
  const reading = read(events);
  const results = reading.results;
  const changes = changesOf(results);
  const sum = (pick: (result: ResultEvent) => number): number =>
    results.reduce((total, { result }) => total + pick(result), 0);
  return {
    version: REPORT_VERSION,
    id: input.id,
    command: input.command,
    cluster: input.cluster,
    versions: { ...input.versions, ansible: reading.ansible ?? input.versions.ansible },
    outcome: input.outcome,
    check: input.check,
    start,
    end,
    duration: end - start,
    ...(input.error ? { error: input.error } : {}),
    phases: phasesOf(events, reading, end),
    hosts: hostsOf(reading),
    totals: {
      ...countsOf(results),
      bytesSent: sum((result) => result.bytes_sent ?? 0),
      changedFiles: sum((result) => result.changed_files?.length ?? 0),
      started: sum((result) => result.started?.length ?? 0),
      restarted: sum((result) => result.restarted?.length ?? 0),
      retries: events.filter((event) => event.event === 'retry').length,
    },
    slowestTasks: slowestOf(reading),
    failures: failuresOf(results, input),
    waiting: [...new Set(results.flatMap(({ result }) => result.waiting ?? []))],
    changes,
    timeline: results.map(runOf),
    log: input.log,
  };
}

interface Reading {
  readonly ansible: string | undefined;
  readonly plays: PlayStartEvent[];
  readonly tasks: Map<string, TaskState>;
  readonly results: Started[];
}

function read(events: ReadonlyArray<RunEvent>): Reading {
  const plays: PlayStartEvent[] = [];
  const tasks = new Map<string, TaskState>();
  const begun = new Map<string, number>();
  const results: Started[] = [];
  let ansible: string | undefined;
  for (const event of events) {
    if (event.event === 'run_start') ansible = event.ansible;
    else if (event.event === 'play_start') plays.push(event);
    else if (event.event === 'task_start') {
      const play = plays.findLast(({ play }) => play === event.play) ?? plays.at(-1);
      // A handler's task is announced again each time it runs; its first announcement is its start.
      if (!tasks.has(event.task)) tasks.set(event.task, { start: event, phase: play?.phase ?? '' });
    } else if (event.event === 'host_start') begun.set(`${event.task} ${event.host}`, event.time);
    else if (event.event === 'result') {
      const start = begun.get(`${event.task} ${event.host}`) ?? event.time - event.duration;
      results.push({ result: event, task: tasks.get(event.task), start });
    }
  }
  return { ansible, plays, tasks, results };
}

/** Counts results by status. */
function countsOf(results: ReadonlyArray<Started>): ReportCounts {
  const count = (status: HostStatus): number => results.filter(({ result }) => result.status === status).length;
  return {
    evaluated: results.length,
    ok: count('ok'),
    changed: count('changed'),
    skipped: count('skipped'),
    failed: count('failed'),
    unreachable: count('unreachable'),
    rescued: count('rescued'),
    ignored: count('ignored'),
  };
}

function statusOf(counts: ReportCounts): 'ok' | 'changed' | 'failed' {
  if (counts.failed + counts.unreachable > 0) return 'failed';
  return counts.changed > 0 ? 'changed' : 'ok';
}

/** Plays of one name are one phase; it ends where the next play of another name begins, or with its last event. */
function phasesOf(events: ReadonlyArray<RunEvent>, reading: Reading, end: number): ReportPhase[] {
  const phases = new Map<string, { start: number; end: number; ended: boolean; hosts: Set<string> }>();
  let current: string | undefined;
  const close = (time: number): void => {
    const phase = current === undefined ? undefined : phases.get(current);
    if (phase) Object.assign(phase, { end: time, ended: true });
  };
  for (const event of events) {
    if (event.event === 'play_start') {
      if (event.phase !== current) close(event.time);
      current = event.phase;
      const phase = phases.get(current) ?? { start: event.time, end, ended: false, hosts: new Set<string>() };
      phase.ended = false;
      for (const host of event.hosts) phase.hosts.add(host);
      phases.set(current, phase);
    } else if (event.event === 'stats' || event.event === 'run_end') {
      close(event.time);
      current = undefined;
    }
  }
  const onHosts = [...phases].map(([name, phase]): ReportPhase => {
    const results = reading.results.filter(({ task }) => task?.phase === name);
    const counts = countsOf(results);
    return {
      name,
      where: 'hosts',
      start: phase.start,
      end: phase.ended ? phase.end : end,
      status: phase.ended ? statusOf(counts) : 'running',
      hosts: [...phase.hosts],
      tasks: [...reading.tasks.values()].filter((task) => task.phase === name).length,
      counts,
    };
  });
  return [...stepsOf(events, end), ...onHosts].sort((one, other) => one.start - other.start);
}

function stepsOf(events: ReadonlyArray<RunEvent>, end: number): ReportPhase[] {
  return events.flatMap((event, index) => {
    if (event.event !== 'step_start') return [];
    const done = events.slice(index).find((other) => other.event === 'step_end' && other.step === event.step);
    const ended = done?.event === 'step_end' ? done : undefined;
    return {
      name: event.step,
      where: 'control' as const,
      start: event.time,
      end: ended?.time ?? end,
      status: ended?.status ?? ('running' as const),
      hosts: [],
      tasks: 0,
      counts: countsOf([]),
      detail: ended?.detail,
    };
  });
}

function hostsOf(reading: Reading): ReportHost[] {
  const names = [
    ...new Set([...reading.plays.flatMap((play) => play.hosts), ...reading.results.map((r) => r.result.host)]),
  ];
  const phases = [...new Set(reading.plays.map((play) => play.phase))];
  return names.map((name) => {
    const results = reading.results.filter(({ result }) => result.host === name);
    const sum = (pick: (result: ResultEvent) => number): number =>
      results.reduce((total, { result }) => total + pick(result), 0);
    return {
      name,
      counts: countsOf(results),
      items: sum((result) => result.items ?? 0),
      bytesSent: sum((result) => result.bytes_sent ?? 0),
      changedFiles: sum((result) => result.changed_files?.length ?? 0),
      restarted: sum((result) => result.restarted?.length ?? 0),
      phases: phases.flatMap((phase) => {
        const own = results.filter(({ task }) => task?.phase === phase);
        if (own.length === 0) return [];
        const start = Math.min(...own.map((run) => run.start));
        const end = Math.max(...own.map((run) => run.result.time));
        return { name: phase, start, end, status: statusOf(countsOf(own)) };
      }),
    };
  });
}

function slowestOf(reading: Reading): ReportTask[] {
  const runs = new Map<string, Started[]>();
  for (const run of reading.results) runs.set(run.result.task, [...(runs.get(run.result.task) ?? []), run]);
  return [...runs]
    .flatMap(([id, results]): ReportTask[] => {
      const task = reading.tasks.get(id);
      const slowest = results.reduce((one, other) => (other.result.duration > one.result.duration ? other : one));
      if (!task) return [];
      const start = Math.min(...results.map((run) => run.start));
      const end = Math.max(...results.map((run) => run.result.time));
      return [
        {
          name: task.start.name,
          phase: task.phase,
          role: task.start.role,
          duration: end - start,
          slowestHost: slowest.result.host,
          hosts: results.length,
        },
      ];
    })
    .sort((one, other) => other.duration - one.duration)
    .slice(0, SLOWEST);
}

function failuresOf(results: ReadonlyArray<Started>, input: ReportInput): ReportFailure[] {
  return results.flatMap(({ result, task }) => {
    if (result.status !== 'failed' && result.status !== 'unreachable') return [];
    return {
      host: result.host,
      phase: task?.phase ?? '',
      task: task?.start.name ?? result.task,
      status: result.status,
      cause: result.msg ?? 'no message',
      stderr: result.stderr,
      module: result.module,
      role: task?.start.role,
      path: task?.start.path,
      unit: result.unit,
      journal: result.journal ?? [],
      next: nextStep(result, input),
    };
  });
}

/** The command that shows more of a failure, or that goes on from it. */
function nextStep(result: ResultEvent, input: ReportInput): string {
  if (result.status === 'unreachable') {
    return `See that ${result.host} answers over SSH, then run \`k8s-ans ${input.command} --cluster ${input.cluster}\` again.`;
  }
  if (result.unit) return `On ${result.host}: journalctl -u ${result.unit} -n 100`;
  return `Mend the cause and run \`k8s-ans ${input.command} --cluster ${input.cluster}\` again; ${input.log} has Ansible's own output.`;
}

function changesOf(results: ReadonlyArray<Started>): ReportChange[] {
  return results.flatMap(({ result, task }) => {
    const { changed_files: files = [], changed_objects: objects = [], started = [], restarted = [] } = result;
    if (result.status !== 'changed' && files.length + started.length + restarted.length === 0) return [];
    return {
      host: result.host,
      phase: task?.phase ?? '',
      task: task?.start.name ?? result.task,
      files: files.filter((file) => !objects.includes(file)),
      objects,
      started,
      restarted,
      reloaded: result.reloaded ?? [],
      stopped: result.stopped ?? [],
      enabled: result.enabled ?? [],
      removed: result.removed ?? [],
      done: result.done ?? [],
      diffs: result.diff ?? [],
    };
  });
}

function runOf({ result, task, start }: Started): ReportTaskRun {
  return {
    host: result.host,
    phase: task?.phase ?? '',
    task: task?.start.name ?? result.task,
    status: result.status,
    start,
    end: result.time,
  };
}
