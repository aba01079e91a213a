/** What one run of `ensurePki` did, file by file. */

export interface PkiResult {
  /** Files that were not there. Paths in the cluster home, sorted. */
  readonly created: ReadonlyArray<string>;
  /** Files that were there and were not touched. */
  readonly kept: ReadonlyArray<string>;
  /** Files that were there and were written anew. */
  readonly replaced: ReadonlyArray<{ readonly path: string; readonly reason: string }>;
  /** Files and folders that others could read, and no longer can. */
  readonly tightened: ReadonlyArray<string>;
  /** Left over by an interrupted run, and removed. */
  readonly removed: ReadonlyArray<string>;
}

/** Collects a `PkiResult`. */
export class Ledger {
  readonly #created = new Set<string>();
  readonly #kept = new Set<string>();
  readonly #replaced = new Map<string, string>();
  readonly #tightened = new Set<string>();
  readonly #removed = new Set<string>();

  created(...paths: string[]): void {
    for (const path of paths) this.#created.add(path);
  }

  kept(...paths: string[]): void {
    for (const path of paths) this.#kept.add(path);
  }

  replaced(reason: string, ...paths: string[]): void {
    for (const path of paths) this.#replaced.set(path, reason);
  }

  tightened(path: string): void {
    this.#tightened.add(path);
  }

  removed(path: string): void {
    this.#removed.add(path);
  }

  result(): PkiResult {
    return {
      created: [...this.#created].sort(),
      kept: [...this.#kept].sort(),
      replaced: [...this.#replaced]
        .map(([path, reason]) => ({ path, reason }))
        .sort((a, b) => (a.path < b.path ? -1 : 1)),
      tightened: [...this.#tightened].sort(),
      removed: [...this.#removed].sort(),
    };
  }
}
