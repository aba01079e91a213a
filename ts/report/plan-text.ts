/** A plan as text for people: what several hosts have in common is shown once. */
import path from 'node:path';
import pc from 'picocolors';
import type { HostPlan, LocalChange, Plan, PlannedFile, PlannedStep, UnitAction } from '../types/plan.js';
import { plural } from './format.js';
import { isChanged } from './plan.js';

type Colors = ReturnType<typeof pc.createColors>;

export interface PlanTextOptions {
  /** `changed`: the differences of files that are there already; `all`: the contents of new files as well. */
  readonly diffs: 'none' | 'changed' | 'all';
  readonly color: boolean;
}

/** Lines of one difference that are shown. */
const DIFF_LINES = 80;

/** More changes of one kind in a folder of this machine are one line. */
const FOLDED = 3;

/** The plan, and below it what it comes to. */
export function formatPlan(plan: Plan, options: PlanTextOptions): string {
  const colors = pc.createColors(options.color);
  const parts = [
    ...localPart(plan, colors),
    ...sections(plan.hosts).map(({ hosts, items }) =>
      [colors.bold(hosts.join(', ')), ...items.flatMap((item) => item.lines(options, colors))].join('\n'),
    ),
    ...objectsPart(plan, colors),
  ];
  return [...parts, formatPlanTotals(plan)].join('\n\n');
}

/** One line: how many hosts would change, how many files and units. */
export function formatPlanTotals(plan: Plan): string {
  if (!plan.changes) return `Nothing is to be done on ${plural(plan.hosts.length, 'host')}.`;
  const changed = plan.hosts.filter(isChanged);
  const units = (action: UnitAction): number =>
    plan.hosts.reduce((sum, host) => sum + host.units.filter((unit) => unit.action === action).length, 0);
  const counts: ReadonlyArray<readonly [number, string]> = [
    [changed.reduce((sum, host) => sum + host.files.length, 0), 'file'],
    [changed.reduce((sum, host) => sum + host.images.length, 0), 'image'],
    [units('start'), 'start'],
    [units('restart'), 'restart'],
    [units('reload'), 'reload'],
    [units('stop'), 'stop'],
    [plan.objects.length, 'object'],
    [plan.local.filter(({ path }) => path.startsWith('pki/')).length, 'file of the PKI'],
  ];
  const parts = counts.flatMap(([count, word]) =>
    count === 0 ? [] : [word === 'file of the PKI' && count > 1 ? `${count} files of the PKI` : plural(count, word)],
  );
  const what = parts.length > 0 ? `: ${parts.join(', ')}` : '';
  return `${changed.length} of ${plural(plan.hosts.length, 'host')} would change${what}.`;
}

function localPart({ local }: Plan, colors: Colors): string[] {
  if (local.length === 0) return [];
  const folders = new Map<string, LocalChange[]>();
  for (const change of local) {
    const key = `${change.action} ${path.posix.dirname(change.path)}`;
    folders.set(key, [...(folders.get(key) ?? []), change]);
  }
  const lines = [...folders.values()].flatMap((changes) => {
    const { path: first, action } = changes[0] as LocalChange;
    const folder = path.posix.dirname(first);
    return folder !== '.' && changes.length > FOLDED
      ? [`  ${mark(action, colors)} ${folder}/  ${colors.dim(`${changes.length} files`)}`]
      : changes.map((change) => `  ${mark(action, colors)} ${change.path}`);
  });
  return [[colors.bold('this machine'), ...lines].join('\n')];
}

function objectsPart({ objects }: Plan, colors: Colors): string[] {
  if (objects.length === 0) return [];
  return [[colors.bold("the cluster's objects"), ...objects.map((name) => `  apply ${name}`)].join('\n')];
}

/** Something that would change on one host, or alike on several. */
interface Item {
  /** The same on all hosts where it is the same. */
  readonly key: string;
  lines(options: PlanTextOptions, colors: Colors): string[];
}

interface Section {
  readonly hosts: ReadonlyArray<string>;
  readonly items: ReadonlyArray<Item>;
}

/** A section for each set of hosts that have changes in common; what most hosts share comes first. */
function sections(plans: ReadonlyArray<HostPlan>): Section[] {
  const items = new Map<string, Item>();
  const hostsOf = new Map<string, string[]>();
  for (const plan of plans) {
    for (const item of itemsOf(plan)) {
      if (!items.has(item.key)) items.set(item.key, item);
      hostsOf.set(item.key, [...(hostsOf.get(item.key) ?? []), plan.host]);
    }
  }
  const bySet = new Map<string, { hosts: string[]; items: Item[] }>();
  for (const [key, item] of items) {
    const hosts = hostsOf.get(key) ?? [];
    const section = bySet.get(hosts.join(' ')) ?? { hosts, items: [] };
    section.items.push(item);
    bySet.set(hosts.join(' '), section);
  }
  const order = (section: Section): number => plans.findIndex(({ host }) => host === section.hosts[0]);
  return [...bySet.values()]
    .map(({ hosts, items }) => ({ hosts, items: items.sort((one, other) => rank(one) - rank(other)) }))
    .sort((one, other) => other.hosts.length - one.hosts.length || order(one) - order(other));
}

const RANKS = ['step', 'file', 'image', 'unit'];

function rank(item: Item): number {
  return RANKS.indexOf(item.key.slice(0, item.key.indexOf(' ')));
}

function itemsOf({ files, images, units, steps }: HostPlan): Item[] {
  const started = new Set(units.filter(({ action }) => action === 'start').map(({ unit }) => unit));
  return [
    ...steps.map((step) => ({ key: `step ${JSON.stringify(step)}`, lines: () => stepLines(step) })),
    ...files.map((file) => ({
      key: `file ${JSON.stringify(file)}`,
      lines: (options: PlanTextOptions, colors: Colors) => fileLines(file, options, colors),
    })),
    ...images.map((image) => ({ key: `image ${image}`, lines: () => [`  import ${image}`] })),
    ...units
      // A unit that is started for the first time is started at boot as well: once is enough.
      .filter(({ unit, action }) => action !== 'boot' || !started.has(unit))
      .map(({ unit, action }) => ({
        key: `unit ${action} ${unit}`,
        lines: (_: PlanTextOptions, colors: Colors) => [`  ${unitVerb(action, colors)} ${unit}`],
      })),
  ];
}

function unitVerb(action: UnitAction, colors: Colors): string {
  if (action === 'boot') return 'switch the start at boot of';
  return action === 'restart' || action === 'stop' ? colors.yellow(action) : action;
}

function stepLines({ task, done }: PlannedStep): string[] {
  // Ansible puts the role's name before the task's.
  const name = task.replace(/^\S+ : /, '');
  return done.length === 0 ? [`  ${name}`] : [`  ${name}:`, ...done.map((line) => `      ${line}`)];
}

/** The difference of a new folder: its owner and mode. */
const NEW_FOLDER = /^@@.*@@\n\+\S+:\S+ \d{4}$/;

/** A file that would change, and its difference below it. */
export function fileLines(file: PlannedFile, { diffs }: Pick<PlanTextOptions, 'diffs'>, colors: Colors): string[] {
  const { action, diff, added = 0, removed = 0 } = file;
  // Of a new folder there is nothing to count.
  const size = diff === undefined || NEW_FOLDER.test(diff) ? '' : colors.dim(`  +${added} -${removed}`);
  const head = `  ${mark(action, colors)} ${file.path}${size}`;
  const shown = diffs === 'all' || (diffs === 'changed' && action === 'change');
  if (!shown || diff === undefined || diff === '') return [head];
  const lines = diff.split('\n');
  const more = lines.length - DIFF_LINES;
  return [
    head,
    ...lines.slice(0, DIFF_LINES).map((line) => `      ${colored(line, colors)}`),
    ...(more > 0 ? [`      ${colors.dim(`… ${plural(more, 'more line')} in the report`)}`] : []),
    ...(more <= 0 && file.cut ? [`      ${colors.dim('… the rest is too long to be kept')}`] : []),
  ];
}

function colored(line: string, colors: Colors): string {
  if (line.startsWith('+')) return colors.green(line);
  if (line.startsWith('-')) return colors.red(line);
  return line.startsWith('@@') ? colors.cyan(line) : line;
}

function mark(action: PlannedFile['action'], colors: Colors): string {
  if (action === 'create') return colors.green('+');
  return action === 'remove' ? colors.red('-') : colors.yellow('~');
}
