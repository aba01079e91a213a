/** Drift: files on the hosts that are not what the spec renders, from the plan of a check-mode run. Pure. */
import type { Plan } from '../types/plan.js';
import type { DriftedFile, DriftStatus } from '../types/status.js';

/** The drift of the hosts that were compared; files that differ alike on several hosts are one entry. */
export function driftOf(plan: Plan, hosts: ReadonlyArray<string>, error?: string): DriftStatus {
  const files = new Map<string, DriftedFile>();
  for (const { host, files: own } of plan.hosts) {
    for (const file of own) {
      const key = JSON.stringify(file);
      files.set(key, { ...file, hosts: [...(files.get(key)?.hosts ?? []), host] });
    }
  }
  return { hosts, files: [...files.values()], ...(error === undefined ? {} : { error }) };
}
