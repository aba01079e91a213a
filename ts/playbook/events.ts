/** Reads the lines of the Ansible callback: validated, and tolerant of what a newer callback may add. */
import { z } from 'zod';
import type { RunEvent } from '../types/events.js';

const time = z.number();
const count = z.number().int().nonnegative();
const status = z.enum(['ok', 'changed', 'skipped', 'failed', 'unreachable', 'rescued', 'ignored']);
const outcome = z.enum(['done', 'failed', 'unreachable', 'refused', 'error', 'interrupted']);

const hostStats = z.object({
  ok: count,
  changed: count,
  failures: count,
  unreachable: count,
  skipped: count,
  rescued: count,
  ignored: count,
  evaluated: count,
  items: count,
});

const texts = z.array(z.string()).optional();

const fileDiff = z.object({
  file: z.string(),
  before: z.string().optional(),
  text: z.string().optional(),
  added: count.optional(),
  removed: count.optional(),
  cut: z.boolean().optional(),
});

const runEvent: z.ZodType<RunEvent> = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('run_start'),
    time,
    version: count,
    ansible: z.string(),
    playbook: z.string(),
    plan: z.array(z.object({ phase: z.string() })),
  }),
  z.object({
    event: z.literal('play_start'),
    time,
    play: z.string(),
    phase: z.string(),
    hosts: z.array(z.string()),
  }),
  z.object({ event: z.literal('no_hosts'), time, play: z.string().optional() }),
  z.object({
    event: z.literal('task_start'),
    time,
    play: z.string().optional(),
    task: z.string(),
    name: z.string(),
    action: z.string(),
    role: z.string().optional(),
    path: z.string().optional(),
    handler: z.boolean().optional(),
  }),
  z.object({ event: z.literal('host_start'), time, task: z.string(), host: z.string() }),
  z.object({
    event: z.literal('result'),
    time,
    task: z.string(),
    host: z.string(),
    status,
    duration: z.number(),
    unreachable: z.boolean().optional(),
    items: count.optional(),
    items_changed: count.optional(),
    attempts: count.optional(),
    changed_files: texts,
    changed_objects: texts,
    started: texts,
    restarted: texts,
    reloaded: texts,
    stopped: texts,
    enabled: texts,
    removed: texts,
    done: texts,
    diff: z.array(fileDiff).optional(),
    bytes_sent: count.optional(),
    preflight: z.record(z.string(), z.unknown()).optional(),
    host_status: z.record(z.string(), z.unknown()).optional(),
    reset: z.record(z.string(), z.unknown()).optional(),
    certificates: z.record(z.string(), z.unknown()).optional(),
    old_pods: texts,
    waiting: texts,
    etcd: z.record(z.string(), z.unknown()).optional(),
    upgrade: z.record(z.string(), z.unknown()).optional(),
    module: z.string().optional(),
    msg: z.string().optional(),
    stderr: z.string().optional(),
    rc: z.number().optional(),
    unit: z.string().optional(),
    journal: texts,
  }),
  z.object({ event: z.literal('retry'), time, task: z.string(), host: z.string(), attempt: count, retries: count }),
  z.object({ event: z.literal('stats'), time, hosts: z.record(z.string(), hostStats) }),
  z.object({ event: z.literal('step_start'), time, step: z.string() }),
  z.object({
    event: z.literal('step_end'),
    time,
    step: z.string(),
    status: z.enum(['ok', 'failed']),
    detail: z.string().optional(),
  }),
  z.object({ event: z.literal('run_end'), time, outcome, exit_code: z.number().optional() }),
]);

/** Parses one line; undefined for a blank, cut or unknown one (a newer callback may know more events). */
export function parseEvent(line: string): RunEvent | undefined {
  if (line.trim() === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const parsed = runEvent.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** Parses a whole `events.jsonl`. */
export function parseEvents(text: string): RunEvent[] {
  return text.split('\n').flatMap((line) => parseEvent(line) ?? []);
}
