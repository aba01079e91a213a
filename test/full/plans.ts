/** What `plan` says, and what `deploy` does, in words that can be compared. */
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { planOf } from '../../ts/report/plan.js';
import type { Plan } from '../../ts/types/plan.js';
import type { RunReport } from '../../ts/types/report.js';
import { type Finished, start } from '../e2e/harness.js';

/** `plan`'s exit codes. */
export const NOTHING = 0;
export const SOMETHING = 5;

export interface Answer<T> {
  readonly code: number | undefined;
  readonly value: T;
  /** All that was printed. */
  readonly text: string;
}

export async function ask<T>(args: ReadonlyArray<string>): Promise<Answer<T>> {
  const finished = (await start(['--json', ...args])) as unknown as Finished;
  const parsed = JSON.parse(finished.stdout as unknown as string) as { result?: T };
  if (parsed.result === undefined) throw new Error(`k8s-ans ${args.join(' ')}: ${finished.all}`);
  return { code: finished.exitCode, value: parsed.result, text: String(finished.all) };
}

export async function plan(cluster: string): Promise<Answer<{ plan: Plan }>> {
  return ask(['plan', '--cluster', cluster]);
}

/** Deploys, and returns what that changed in the words of a plan. */
export async function deploy(cluster: string): Promise<{ done: Plan; changed: number }> {
  const { code, value } = await ask<{ totals: { changed: number }; files: { report: string } }>([
    ...['deploy', '--cluster', cluster],
  ]);
  expect(code).toBe(0);
  const report = JSON.parse(await readFile(value.files.report, 'utf8')) as RunReport;
  return { done: planOf(report, []), changed: value.totals.changed };
}

/** Of each host its files, images and units, sorted; and the objects. */
export function gist({ hosts, objects }: Plan) {
  const sorted = (names: ReadonlyArray<string>): string[] => [...new Set(names)].sort();
  return {
    objects: sorted(objects),
    hosts: Object.fromEntries(
      hosts.map(({ host, files, images, units }) => [
        host,
        {
          files: sorted([...files.map((file) => file.path), ...images]),
          units: sorted(units.map(({ unit, action }) => `${action} ${unit}`)),
        },
      ]),
    ),
  };
}
