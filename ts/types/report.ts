/** What is kept of a run: `report.json`, and what the HTML page and the summary are made from (docs/events.md). */
import type { FileDiff, HostStatus, RunOutcome } from './events.js';

/** The version of report.json. */
export const REPORT_VERSION = 1;

export interface ReportSpan {
  /** Milliseconds since the epoch. */
  readonly start: number;
  readonly end: number;
}

/** Counts of results. `evaluated` holds all of them. */
export interface ReportCounts {
  readonly evaluated: number;
  readonly ok: number;
  readonly changed: number;
  readonly skipped: number;
  readonly failed: number;
  readonly unreachable: number;
  readonly rescued: number;
  readonly ignored: number;
}

export interface ReportPhase extends ReportSpan {
  readonly name: string;
  /** `control`: a step on the control machine. */
  readonly where: 'hosts' | 'control';
  readonly status: 'ok' | 'changed' | 'failed' | 'running';
  readonly hosts: ReadonlyArray<string>;
  readonly tasks: number;
  readonly counts: ReportCounts;
  readonly detail?: string | undefined;
}

/** A task on a host. */
export interface ReportTaskRun extends ReportSpan {
  readonly host: string;
  readonly phase: string;
  readonly task: string;
  readonly status: HostStatus;
}

export interface ReportHost {
  readonly name: string;
  readonly counts: ReportCounts;
  readonly items: number;
  readonly bytesSent: number;
  readonly changedFiles: number;
  readonly restarted: number;
  /** From the host's first task of a phase to its last. */
  readonly phases: ReadonlyArray<ReportSpan & { readonly name: string; readonly status: ReportPhase['status'] }>;
}

export interface ReportTask {
  readonly name: string;
  readonly phase: string;
  readonly role?: string | undefined;
  /** From its start to its last result, milliseconds. */
  readonly duration: number;
  readonly slowestHost?: string | undefined;
  readonly hosts: number;
}

export interface ReportFailure {
  readonly host: string;
  readonly phase: string;
  readonly task: string;
  readonly status: 'failed' | 'unreachable';
  readonly cause: string;
  readonly stderr?: string | undefined;
  readonly module?: string | undefined;
  readonly role?: string | undefined;
  readonly path?: string | undefined;
  readonly unit?: string | undefined;
  readonly journal: ReadonlyArray<string>;
  /** A command that shows more, or goes on. */
  readonly next: string;
}

export interface ReportChange {
  readonly host: string;
  readonly phase: string;
  readonly task: string;
  readonly files: ReadonlyArray<string>;
  /** Objects of the API; not among `files`. */
  readonly objects: ReadonlyArray<string>;
  readonly started: ReadonlyArray<string>;
  readonly restarted: ReadonlyArray<string>;
  readonly reloaded: ReadonlyArray<string>;
  readonly stopped: ReadonlyArray<string>;
  /** Units whose start at boot was switched on or off. */
  readonly enabled: ReadonlyArray<string>;
  /** Units whose files were taken away. */
  readonly removed: ReadonlyArray<string>;
  /** What else was done, in words. */
  readonly done: ReadonlyArray<string>;
  /** In diff mode. */
  readonly diffs: ReadonlyArray<FileDiff>;
}

export interface RunReport extends ReportSpan {
  readonly version: typeof REPORT_VERSION;
  readonly id: string;
  readonly command: string;
  readonly cluster: string;
  /** Of k8s-ans and Kubernetes. */
  readonly versions: {
    readonly tool: string;
    readonly kubernetes?: string | undefined;
    readonly ansible?: string | undefined;
  };
  readonly outcome: RunOutcome;
  readonly check: boolean;
  /** Milliseconds. */
  readonly duration: number;
  /** Why the run as a whole ended badly. */
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly where?: string | undefined;
    readonly next?: string | undefined;
  };
  readonly phases: ReadonlyArray<ReportPhase>;
  readonly hosts: ReadonlyArray<ReportHost>;
  readonly totals: ReportCounts & {
    readonly bytesSent: number;
    readonly changedFiles: number;
    readonly started: number;
    readonly restarted: number;
    readonly retries: number;
  };
  readonly slowestTasks: ReadonlyArray<ReportTask>;
  readonly failures: ReadonlyArray<ReportFailure>;
  /** Add-ons that wait for an image that cannot be pulled, in words. */
  readonly waiting: ReadonlyArray<string>;
  readonly changes: ReadonlyArray<ReportChange>;
  readonly timeline: ReadonlyArray<ReportTaskRun>;
  /** ansible-playbook's own output, beside the report. */
  readonly log: string;
}
