/** Reads what the status playbook found, from its events. Pure. */
import { z } from 'zod';
import type { ResultEvent, RunEvent } from '../types/events.js';

const text = z.string().default('');
const number = z.number().default(0);

const unit = z.object({
  name: z.string(),
  load: text,
  active: text,
  sub: text,
  result: text,
  restarts: number,
  since: number,
  answers: z.boolean().nullable(),
  said: text,
  journal: z.array(z.string()).default([]),
});

const member = z.object({
  id: z.string(),
  leader: text,
  version: text,
  db_bytes: number,
  db_bytes_in_use: number,
  quota_bytes: number,
  learner: z.boolean(),
  errors: z.array(z.string()),
});

const etcd = z.object({
  health: z.boolean(),
  said: text,
  error: text,
  member: member.nullable(),
  members: z.array(z.object({ id: z.string(), name: text, learner: z.boolean(), started: z.boolean() })),
});

const api = z.object({
  error: text,
  nodes: z
    .array(
      z.object({
        name: z.string(),
        ready: z.boolean(),
        reason: text,
        version: text,
        runtime: text,
        cordoned: z.boolean(),
        conditions: z.array(z.string()),
      }),
    )
    .default([]),
  leaders: z.array(z.object({ name: z.string(), holder: text, renewed: text, seconds: number })).default([]),
  workloads: z
    .array(z.object({ kind: z.string(), name: z.string(), wanted: number, available: number, updated: number }))
    .default([]),
});

/** What `k8s_ans.cluster.host_status` returns (ansible/plugins/modules/host_status.py). */
const hostFindings = z.object({
  units: z.array(unit),
  probes: z.array(z.object({ name: z.string(), answers: z.boolean(), said: text })),
  certificates: z.array(z.object({ file: z.string(), pem: z.string() })),
  etcd: etcd.optional(),
  api: api.optional(),
});

export type HostFindings = z.infer<typeof hostFindings>;
export type UnitFindings = z.infer<typeof unit>;
export type EtcdFindings = z.infer<typeof etcd>;

/** What is known of a host: findings, or why there are none. */
export interface Observation {
  readonly host: string;
  readonly findings?: HostFindings | undefined;
  readonly reachable: boolean;
  /** Why there are no findings. */
  readonly error?: string | undefined;
}

/** One observation for each of the hosts, in their order. */
export function readObservations(hosts: ReadonlyArray<string>, events: ReadonlyArray<RunEvent>): Observation[] {
  const results = events.filter((event): event is ResultEvent => event.event === 'result');
  return hosts.map((host): Observation => {
    const own = results.filter((result) => result.host === host);
    const parsed = own.map((result) => hostFindings.safeParse(result.host_status)).find((one) => one.success);
    if (parsed) return { host, findings: parsed.data, reachable: true };
    const silent = own.find((result) => result.unreachable || result.status === 'unreachable');
    if (silent) return { host, reachable: false, error: sshWords(silent.msg) };
    return { host, reachable: true, error: own.find((result) => result.msg)?.msg ?? 'it was not looked at' };
  });
}

/** Ssh's own words, without Ansible's. */
function sshWords(message = 'it does not answer'): string {
  return message
    .replace(/^Task failed: /, '')
    .replace(/^Failed to connect to the host via ssh: /, '')
    .replace(/^Data could not be sent to remote host ".*?"\. Make sure this host can be reached over ssh: /, '')
    .trim();
}
