/** What preparing artifacts says while it works. */
export interface ArtifactProgress {
  /** `note`: a sentence worth keeping. `start`, `step`, `done`: of one piece of work, named by `name`. */
  readonly kind: 'note' | 'start' | 'step' | 'done';
  /** e.g. `kubernetes 1.36.4 (amd64)`. */
  readonly name: string;
  readonly message: string;
  /** Bytes or pieces done, and of how many, where known. */
  readonly done?: number | undefined;
  readonly total?: number | undefined;
  /** With `done`: how long it took, in seconds. */
  readonly seconds?: number | undefined;
}

export type OnProgress = (progress: ArtifactProgress) => void;
