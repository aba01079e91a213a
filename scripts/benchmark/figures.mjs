// The benchmark's figures, out of the reports of its runs, and how they are printed. Pure.
import Table from 'cli-table3';
import { formatBytes, formatDuration } from '../../dist/report/format.js';

/** What the project aims at, on two cores. */
const aims = { first: 90_000, second: 15_000, masterTasks: 80, nodeTasks: 50, ratio: 3 };

/**
 * Sums the runs up.
 *
 * @param runs {first, second}: {duration (milliseconds of the whole command), report} each
 * @param plain {duration, stages}
 * @param masters names of the hosts that are masters
 */
export function figuresOf({ machine, runs, plain, masters }) {
  const run = ({ duration, report }) => ({
    duration,
    phases: report.phases.map(({ name, where, start, end }) => ({ name, where, duration: end - start })),
    hosts: report.hosts.map(({ name, counts, bytesSent }) => ({
      name,
      master: masters.includes(name),
      evaluated: counts.evaluated,
      skipped: counts.skipped,
      changed: counts.changed,
      bytesSent,
    })),
    bytesSent: report.totals.bytesSent,
    restarted: report.totals.restarted,
    changedTasks: [...new Set(report.changes.map(({ phase, task }) => `${phase}: ${task}`))],
    slowestTasks: report.slowestTasks.map(({ phase, name, duration: took }) => ({ phase, name, duration: took })),
  });
  const first = run(runs.first);
  const certificates = timeAlone(runs.first.report.phases, 'certificates');
  return {
    version: 1,
    machine,
    kubernetes: runs.first.report.versions.kubernetes,
    first: { ...first, certificates },
    second: run(runs.second),
    plain,
    ratio: first.duration / plain.duration,
    ratioWithoutCertificates: (first.duration - certificates) / plain.duration,
  };
}

/** Milliseconds during which the phase `name` ran and no other did: the run without it is shorter by so much. */
export function timeAlone(phases, name) {
  const own = phases.find((phase) => phase.name === name);
  if (own === undefined) return 0;
  const others = phases
    .filter((phase) => phase !== own)
    .map(({ start, end }) => ({ start: Math.max(start, own.start), end: Math.min(end, own.end) }))
    .filter(({ start, end }) => end > start)
    .sort((one, other) => one.start - other.start);
  let alone = own.end - own.start;
  let reached = own.start;
  for (const { start, end } of others) {
    alone -= Math.max(0, end - Math.max(start, reached));
    reached = Math.max(reached, end);
  }
  return alone;
}

/** The figures as text for a terminal. */
export function formatFigures(figures) {
  const { machine, first, second, plain } = figures;
  return [
    `Machine: ${machine.cores} cores (${machine.model}), ${formatBytes(machine.memory)}, Linux ${machine.kernel},` +
      ` Node ${machine.node}; load before ${machine.load.map((load) => load.toFixed(1)).join(' ')}`,
    `Kubernetes ${figures.kubernetes} on ${first.hosts.length} hosts, artifact cache warm`,
    '',
    table(['Phase', 'first deploy', 'second deploy'], phaseRows(first, second)),
    table(['Host', 'tasks', 'skipped', 'sent', 'second: tasks', 'skipped', 'changed', 'sent'], hostRows(first, second)),
    table(
      ['Slowest tasks of the first deploy', 'took'],
      first.slowestTasks
        .slice(0, 8)
        .map(({ phase, name, duration }) => [`${phase}: ${name}`, formatDuration(duration)]),
    ),
    table(
      ['Plain script', 'took'],
      [
        ...plain.stages.map(({ name, duration }) => [name, formatDuration(duration)]),
        ['whole', formatDuration(plain.duration)],
      ],
    ),
    table(['Figure', 'measured', 'aim', ''], aimRows(figures)),
    // A second deploy changes nothing: what did is a fault, here or of other labs on the machine's kernel.
    ...second.changedTasks.map((task) => `Changed again by the second deploy: ${task}\n`),
    machine.load[0] > machine.cores / 2
      ? 'The machine was busy with other work: take the times as upper bounds.\n'
      : '',
  ]
    .join('\n')
    .trimEnd();
}

function phaseRows(first, second) {
  const took = (run, name) => {
    const phase = run.phases.find((candidate) => candidate.name === name);
    return phase === undefined ? '-' : formatDuration(phase.duration);
  };
  const names = [...new Set([...first.phases, ...second.phases].map(({ name }) => name))];
  const label = (name) => {
    const control = first.phases.some((phase) => phase.name === name && phase.where === 'control');
    return control ? `${name} (on this machine)` : name;
  };
  return [
    ...names.map((name) => [label(name), took(first, name), took(second, name)]),
    ['whole command', formatDuration(first.duration), formatDuration(second.duration)],
  ];
}

function hostRows(first, second) {
  return first.hosts.map((host) => {
    const again = second.hosts.find(({ name }) => name === host.name);
    return [
      ...[host.name, host.evaluated, host.skipped, formatBytes(host.bytesSent)],
      ...[again?.evaluated ?? 0, again?.skipped ?? 0, again?.changed ?? 0, formatBytes(again?.bytesSent ?? 0)],
    ];
  });
}

function aimRows({ first, second, ratio, ratioWithoutCertificates }) {
  const most = (master) =>
    Math.max(0, ...first.hosts.filter((host) => host.master === master).map(({ evaluated }) => evaluated));
  const row = (what, value, aim, format) => [what, format(value), `≤ ${format(aim)}`, value <= aim ? 'met' : 'missed'];
  const times = (value) => `${value.toFixed(2)} ×`;
  return [
    row('first deploy', first.duration, aims.first, formatDuration),
    row('second deploy', second.duration, aims.second, formatDuration),
    row('tasks on a master', most(true), aims.masterTasks, String),
    row('tasks on a worker', most(false), aims.nodeTasks, String),
    row('first deploy to plain script', ratio, aims.ratio, times),
    row('the same, certificates there', ratioWithoutCertificates, aims.ratio, times),
  ];
}

function table(head, rows) {
  const edges = ['top', 'bottom', 'left', 'right', 'mid', 'middle'];
  const joints = ['top', 'bottom', 'left', 'right', 'mid'].flatMap((edge) => [`${edge}-mid`, `${edge}-left`]);
  const chars = Object.fromEntries([...edges, ...joints, 'top-right', 'bottom-right', 'right-mid'].map((k) => [k, '']));
  const made = new Table({
    head,
    chars,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 3 },
    colAligns: head.map((_, index) => (index === 0 ? 'left' : 'right')),
  });
  made.push(...rows);
  return `${made.toString()}\n`;
}
