/** Turns the report of a check-mode run into the plan: by host, what would change. Pure. */
import type { FileDiff } from '../types/events.js';
import type {
  FileAction,
  HostPlan,
  LocalChange,
  Plan,
  PlannedFile,
  PlannedStep,
  PlannedUnit,
  UnitAction,
} from '../types/plan.js';
import type { ReportChange, RunReport } from '../types/report.js';

/**
 * The plan that a check-mode run stands for; of a run without check mode, what it did.
 *
 * @param local what deploy would write on this machine
 */
export function planOf(report: Pick<RunReport, 'hosts' | 'changes'>, local: ReadonlyArray<LocalChange>): Plan {
  const hosts = report.hosts.map(({ name }) => hostPlan(name, report.changes));
  const objects = unique(report.changes.flatMap((change) => change.objects));
  return {
    changes: objects.length > 0 || hosts.some(isChanged) || local.some(({ path }) => !isRendered(path)),
    local,
    hosts,
    objects,
  };
}

/** Whether the host would change at all. */
export function isChanged({ files, images, units, steps }: HostPlan): boolean {
  return files.length + images.length + units.length + steps.length > 0;
}

/** Rendered from the spec, or noted of what is in the cache: nothing on a host depends on whether it is there yet. */
function isRendered(path: string): boolean {
  return !path.startsWith('pki/') && path !== 'kubeconfig';
}

function hostPlan(host: string, changes: ReadonlyArray<ReportChange>): HostPlan {
  const own = changes.filter((change) => change.host === host);
  const files = new Map<string, PlannedFile>();
  for (const change of own) {
    for (const path of change.files.filter(isPath)) {
      // Two roles may care for one file: in a check both find it wrong.
      if (files.has(path)) continue;
      files.set(path, plannedFile(path, change));
    }
  }
  return {
    host,
    files: [...files.values()],
    images: unique(own.flatMap((change) => change.files.filter((file) => !isPath(file)))),
    units: plannedUnits(own),
    steps: own.flatMap(plannedStep),
  };
}

function isPath(text: string): boolean {
  return text.startsWith('/');
}

const ABSENT = ' (absent)';

function plannedFile(path: string, change: ReportChange): PlannedFile {
  const { phase } = change;
  const diff = change.diffs.find(({ file }) => file === path || file.startsWith(`${path} (`));
  if (!diff) return { path, action: 'write', phase };
  const { text, added, removed, cut } = diff;
  return { path, action: actionOf(diff), phase, diff: text, added, removed, ...(cut ? { cut } : {}) };
}

function actionOf({ file, before }: FileDiff): FileAction {
  if (before?.endsWith(ABSENT)) return 'create';
  return file.endsWith(ABSENT) ? 'remove' : 'change';
}

function plannedUnits(changes: ReadonlyArray<ReportChange>): PlannedUnit[] {
  const of = (action: UnitAction, pick: (change: ReportChange) => ReadonlyArray<string>): PlannedUnit[] =>
    unique(changes.flatMap(pick)).map((unit) => ({ unit, action }));
  return [
    ...of('stop', (change) => change.stopped),
    ...of('remove', (change) => change.removed),
    ...of('boot', (change) => change.enabled),
    ...of('start', (change) => change.started),
    ...of('restart', (change) => change.restarted),
    ...of('reload', (change) => change.reloaded),
  ];
}

/** What a task would change beside files, units and objects; undefined for a task that changes those. */
function plannedStep(change: ReportChange): PlannedStep[] {
  const { phase, task, done, files, objects, started, restarted, reloaded, stopped, enabled, removed } = change;
  if (done.length > 0) return [{ phase, task, done }];
  const named = [files, objects, started, restarted, reloaded, stopped, enabled, removed];
  return named.some((list) => list.length > 0) ? [] : [{ phase, task, done: [] }];
}

function unique(values: ReadonlyArray<string>): string[] {
  return [...new Set(values)];
}
