/**
 * What a run says while it goes on: one JSON object a line, in `runs/<id>/events.jsonl` (docs/events.md).
 *
 * Times are milliseconds since the epoch, durations milliseconds. `ansible/plugins/callback/events.py` writes all
 * but the `step_*` and `run_end` events, which this side adds.
 */

/** The newest version of the schema that this side reads. */
export const EVENTS_VERSION = 1;

export type HostStatus = 'ok' | 'changed' | 'skipped' | 'failed' | 'unreachable' | 'rescued' | 'ignored';

/** How a whole run, or one `ansible-playbook` of it, ended. */
export type RunOutcome = 'done' | 'failed' | 'unreachable' | 'refused' | 'error' | 'interrupted';

export interface RunStartEvent {
  readonly event: 'run_start';
  readonly time: number;
  readonly version: number;
  /** ansible-core's version. */
  readonly ansible: string;
  readonly playbook: string;
  /** The plays to come, in order. */
  readonly plan: ReadonlyArray<{ readonly phase: string }>;
}

export interface PlayStartEvent {
  readonly event: 'play_start';
  readonly time: number;
  readonly play: string;
  readonly phase: string;
  readonly hosts: ReadonlyArray<string>;
}

export interface NoHostsEvent {
  readonly event: 'no_hosts';
  readonly time: number;
  readonly play?: string | undefined;
}

export interface TaskStartEvent {
  readonly event: 'task_start';
  readonly time: number;
  readonly play?: string | undefined;
  readonly task: string;
  readonly name: string;
  readonly action: string;
  readonly role?: string | undefined;
  readonly path?: string | undefined;
  readonly handler?: boolean | undefined;
}

export interface HostStartEvent {
  readonly event: 'host_start';
  readonly time: number;
  readonly task: string;
  readonly host: string;
}

/** The difference of a file, or of whatever else a module compares, in diff mode. Secrets are masked. */
export interface FileDiff {
  /** The file; with its mode and owner (`PATH (root:root 0644)`, `PATH (absent)`) where those differ. */
  readonly file: string;
  /** The same of what was there before, where it differs from `file`. */
  readonly before?: string | undefined;
  /** Unified, without its head. Absent: too large, or no text. */
  readonly text?: string | undefined;
  readonly added?: number | undefined;
  readonly removed?: number | undefined;
  /** The text was too long and ends before its end. */
  readonly cut?: boolean | undefined;
}

export interface ResultEvent {
  readonly event: 'result';
  readonly time: number;
  readonly task: string;
  readonly host: string;
  readonly status: HostStatus;
  readonly duration: number;
  /** The host did not answer; its status is `ignored` where the playbook goes on without it. */
  readonly unreachable?: boolean | undefined;
  /** Loop items, and how many of them changed something. */
  readonly items?: number | undefined;
  readonly items_changed?: number | undefined;
  /** Attempts of an `until` task. */
  readonly attempts?: number | undefined;
  readonly changed_files?: ReadonlyArray<string> | undefined;
  /** Objects of the API as kind/namespace/name; they are among `changed_files` as well. */
  readonly changed_objects?: ReadonlyArray<string> | undefined;
  /** Units. */
  readonly started?: ReadonlyArray<string> | undefined;
  readonly restarted?: ReadonlyArray<string> | undefined;
  readonly reloaded?: ReadonlyArray<string> | undefined;
  readonly stopped?: ReadonlyArray<string> | undefined;
  /** Units whose start at boot was switched on or off. */
  readonly enabled?: ReadonlyArray<string> | undefined;
  /** Units whose files were taken away. */
  readonly removed?: ReadonlyArray<string> | undefined;
  /** What else was done, in words. */
  readonly done?: ReadonlyArray<string> | undefined;
  /** In diff mode. */
  readonly diff?: ReadonlyArray<FileDiff> | undefined;
  readonly bytes_sent?: number | undefined;
  /** The preflight module's judgement of all hosts. */
  readonly preflight?: Readonly<Record<string, unknown>> | undefined;
  /** What was taken back on a host, and what stays (ansible/plugins/modules/host_reset.py). */
  readonly reset?: Readonly<Record<string, unknown>> | undefined;
  /** The certificates in the host's files and behind its ports (ansible/plugins/modules/certificates.py). */
  readonly certificates?: Readonly<Record<string, unknown>> | undefined;
  /** Pods that hold an older bundle of CAs (ansible/plugins/modules/published_trust.py). */
  readonly old_pods?: ReadonlyArray<string> | undefined;
  /** What waits for an image that cannot be pulled, in words (ansible/plugins/modules/manifests.py). */
  readonly waiting?: ReadonlyArray<string> | undefined;
  /** What k8s_ans.cluster.etcd_health says of the host's member. */
  readonly etcd?: Readonly<Record<string, unknown>> | undefined;
  /** What the host_status module found on the host. */
  readonly host_status?: Readonly<Record<string, unknown>> | undefined;
  /** Where a cluster is, and whether it may be upgraded: the answer of cluster_versions. */
  readonly upgrade?: Readonly<Record<string, unknown>> | undefined;
  /** On failure. */
  readonly module?: string | undefined;
  readonly msg?: string | undefined;
  readonly stderr?: string | undefined;
  readonly rc?: number | undefined;
  readonly unit?: string | undefined;
  readonly journal?: ReadonlyArray<string> | undefined;
}

export interface RetryEvent {
  readonly event: 'retry';
  readonly time: number;
  readonly task: string;
  readonly host: string;
  readonly attempt: number;
  readonly retries: number;
}

/** Ansible's own counts of a host, with the number of results and loop items that the callback saw. */
export interface HostStats {
  readonly ok: number;
  readonly changed: number;
  readonly failures: number;
  readonly unreachable: number;
  readonly skipped: number;
  readonly rescued: number;
  readonly ignored: number;
  readonly evaluated: number;
  readonly items: number;
}

export interface StatsEvent {
  readonly event: 'stats';
  readonly time: number;
  readonly hosts: Readonly<Record<string, HostStats>>;
}

/** A step on the control machine, e.g. `pki`; steps may overlap each other and the plays. */
export interface StepStartEvent {
  readonly event: 'step_start';
  readonly time: number;
  readonly step: string;
}

export interface StepEndEvent {
  readonly event: 'step_end';
  readonly time: number;
  readonly step: string;
  readonly status: 'ok' | 'failed';
  readonly detail?: string | undefined;
}

/** One `ansible-playbook` has ended. */
export interface RunEndEvent {
  readonly event: 'run_end';
  readonly time: number;
  readonly outcome: RunOutcome;
  /** ansible-playbook's exit code; absent: it was killed. */
  readonly exit_code?: number | undefined;
}

export type RunEvent =
  | RunStartEvent
  | PlayStartEvent
  | NoHostsEvent
  | TaskStartEvent
  | HostStartEvent
  | ResultEvent
  | RetryEvent
  | StatsEvent
  | StepStartEvent
  | StepEndEvent
  | RunEndEvent;
