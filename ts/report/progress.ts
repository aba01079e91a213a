/**
 * Shows a run while it goes on: live on a terminal, a line per phase elsewhere.
 *
 * A phase is a set of plays of one name, or a step on the control machine.
 */
import pc from 'picocolors';
import type { Console } from '../types/console.js';
import type { ResultEvent, RunEvent, TaskStartEvent } from '../types/events.js';
import { formatDuration, plural } from './format.js';

interface Phase {
  readonly name: string;
  readonly kind: 'phase' | 'step';
  readonly start: number;
  readonly hosts: Set<string>;
  tasks: number;
  changed: number;
  failed: number;
  /** The task that runs, and the hosts that are done with it. */
  current?: { readonly name: string; readonly done: Set<string>; readonly begun: Set<string> } | undefined;
  note?: string | undefined;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const INTERVAL = 100;

export interface Progress {
  handle(event: RunEvent): void;
  /** What a step on the control machine is at. */
  note(step: string, text: string): void;
  /** Ends the display; phases that still run are left as they are. */
  close(): void;
}

/** Starts the display. */
export function createProgress(console: Console): Progress {
  const colors = pc.createColors(console.color);
  const running = new Map<string, Phase>();
  const tasks = new Map<string, TaskStartEvent>();
  let phase: Phase | undefined;
  let frame = 0;
  const live = console.live?.bind(console);

  const draw = (): void => {
    if (!live || running.size === 0) return;
    frame += 1;
    const spinner = colors.cyan(FRAMES[frame % FRAMES.length] ?? '');
    live([...running.values()].map((item) => `${spinner} ${describe(item, Date.now(), colors)}`).join('\n'));
  };
  const timer = live ? setInterval(draw, INTERVAL) : undefined;
  timer?.unref();

  const begin = (item: Phase): void => {
    running.set(`${item.kind} ${item.name}`, item);
    if (live) draw();
    else console.info(`${item.name}: started${item.hosts.size > 0 ? ` on ${plural(item.hosts.size, 'host')}` : ''}`);
  };
  const finish = (item: Phase | undefined, time: number, ok: boolean, detail?: string): void => {
    if (!item || !running.delete(`${item.kind} ${item.name}`)) return;
    if (live && running.size === 0) live('');
    const took = formatDuration(time - item.start);
    if (live) {
      const mark = ok ? colors.green('✔') : colors.red('✖');
      console.info(`${mark} ${item.name.padEnd(WIDTH)} ${colors.dim(took.padStart(8))}   ${detail ?? counts(item)}`);
    } else {
      const rest = detail ?? counts(item);
      console.info(`${item.name}: ${ok ? 'done' : 'FAILED'} in ${took}${rest ? `, ${rest}` : ''}`);
    }
    draw();
  };
  const endPhase = (time: number): void => {
    finish(phase, time, phase?.failed === 0);
    phase = undefined;
  };
  const fail = (event: ResultEvent): void => {
    const task = tasks.get(event.task)?.name ?? event.task;
    const cause = (event.msg ?? '').split('\n').slice(0, 3).join('\n    ');
    const head = `${event.status === 'unreachable' ? 'unreachable' : 'failed'}: ${event.host}: ${task}`;
    console.info(`${colors.red(live ? `  ${head}` : `FAILED ${head}`)}\n    ${cause}`);
  };

  return {
    handle: (event) => {
      switch (event.event) {
        case 'step_start':
          begin({
            name: event.step,
            kind: 'step',
            start: event.time,
            hosts: new Set(),
            tasks: 0,
            changed: 0,
            failed: 0,
          });
          break;
        case 'step_end':
          finish(running.get(`step ${event.step}`), event.time, event.status === 'ok', event.detail ?? '');
          break;
        case 'play_start':
          if (phase?.name !== event.phase) {
            endPhase(event.time);
            const hosts = new Set(event.hosts);
            phase = { name: event.phase, kind: 'phase', start: event.time, hosts, tasks: 0, changed: 0, failed: 0 };
            begin(phase);
          } else {
            for (const host of event.hosts) phase.hosts.add(host);
          }
          break;
        case 'task_start':
          tasks.set(event.task, event);
          if (console.verbosity > 0) console.info(colors.dim(`  ${phase?.name ?? ''}: ${event.name}`));
          if (phase) {
            phase.tasks += 1;
            phase.current = { name: event.name, done: new Set(), begun: new Set() };
          }
          break;
        case 'host_start':
          phase?.current?.begun.add(event.host);
          break;
        case 'result':
          phase?.current?.done.add(event.host);
          if (phase && event.status === 'changed') phase.changed += 1;
          if (event.status === 'failed' || event.status === 'unreachable') {
            if (phase) phase.failed += 1;
            // What preflight finds is told at once for all hosts, at its end.
            if (phase?.name !== PREFLIGHT) fail(event);
          }
          break;
        case 'stats':
        case 'run_end':
          endPhase(event.time);
          break;
        default:
      }
    },
    note: (step, text) => {
      const item = running.get(`step ${step}`);
      if (item) item.note = text;
    },
    close: () => {
      clearInterval(timer);
      running.clear();
      live?.('');
    },
  };
}

const WIDTH = 12;
const PREFLIGHT = 'preflight';

function counts(phase: Phase): string {
  if (phase.kind === 'step') return '';
  const parts = [plural(phase.hosts.size, 'host'), plural(phase.tasks, 'task')];
  if (phase.changed > 0) parts.push(`${phase.changed} changed`);
  if (phase.failed > 0) parts.push(`${phase.failed} failed`);
  return parts.join(', ');
}

function describe(phase: Phase, now: number, colors: ReturnType<typeof pc.createColors>): string {
  const took = formatDuration(now - phase.start).padStart(8);
  const head = `${phase.name.padEnd(WIDTH)} ${colors.dim(took)}   `;
  if (phase.kind === 'step') return `${head}${phase.note ?? ''}`;
  const { current } = phase;
  if (!current) return `${head}${counts(phase)}`;
  const waiting = [...current.begun].filter((host) => !current.done.has(host));
  const place = `${current.done.size}/${Math.max(phase.hosts.size, current.begun.size)}`;
  const slow = waiting.length > 0 && waiting.length <= 3 ? colors.dim(` (${waiting.join(', ')})`) : '';
  return `${head}${counts(phase)}  ${colors.dim('·')}  ${current.name} ${place}${slow}`;
}
