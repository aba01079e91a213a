/** What a deploy would do: the result of `k8s-ans plan` (docs/plan.md). */

/** `write`: a file that is sent whole (a binary), of which it is not known whether one is there already. */
export type FileAction = 'create' | 'change' | 'remove' | 'write';

export interface PlannedFile {
  readonly path: string;
  readonly action: FileAction;
  readonly phase: string;
  /** Unified difference; absent for what is sent whole and where none was asked for. Secrets are masked. */
  readonly diff?: string | undefined;
  readonly added?: number | undefined;
  readonly removed?: number | undefined;
  /** The difference was too long and ends before its end. */
  readonly cut?: boolean | undefined;
}

/** `boot`: its start at boot is switched on or off. */
export type UnitAction = 'start' | 'restart' | 'reload' | 'stop' | 'boot' | 'remove';

export interface PlannedUnit {
  readonly unit: string;
  readonly action: UnitAction;
}

/** A change that is neither a file nor a unit: an account, a kernel parameter, a package. */
export interface PlannedStep {
  readonly phase: string;
  readonly task: string;
  /** In words; empty: the task's name says it. */
  readonly done: ReadonlyArray<string>;
}

export interface HostPlan {
  readonly host: string;
  readonly files: ReadonlyArray<PlannedFile>;
  /** Container images that would be imported. */
  readonly images: ReadonlyArray<string>;
  readonly units: ReadonlyArray<PlannedUnit>;
  readonly steps: ReadonlyArray<PlannedStep>;
}

/** A file of the cluster's home that deploy would write first. */
export interface LocalChange {
  readonly path: string;
  readonly action: 'create' | 'change' | 'remove';
}

export interface Plan {
  /** Whether there is anything to do. Files that are rendered from the spec alone do not count. */
  readonly changes: boolean;
  readonly local: ReadonlyArray<LocalChange>;
  /** All hosts of the run, those that would not change too. */
  readonly hosts: ReadonlyArray<HostPlan>;
  /** Objects of the API that would be applied, as kind/namespace/name. */
  readonly objects: ReadonlyArray<string>;
}
