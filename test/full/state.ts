/** The state of the cluster goes to another machine, the home it came from is gone, and management goes on. */
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finished, home, labName, start, unitStarts, workspace } from '../e2e/harness.js';

const passphrase = 'a passphrase of the tests alone';
/** Stands for the other machine. */
let elsewhere: string;
let file: string;
/** Only so that the tests after these have their home again, whatever happens here. */
let safe: string;

beforeAll(async () => {
  elsewhere = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-elsewhere-'));
  file = path.join(elsewhere, 'cluster.state');
  safe = await mkdtemp(path.join(workspace, 'home-'));
  await cp(home.root, safe, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
});

afterAll(async () => {
  await rm(home.root, { recursive: true, force: true });
  await cp(safe, home.root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  await rm(safe, { recursive: true });
  await rm(elsewhere, { recursive: true });
});

const env = { CI: 'true', NO_COLOR: '1', K8S_ANS_PASSPHRASE: passphrase };
const here = (args: ReadonlyArray<string>, more = {}): Promise<Finished> =>
  start(args, { env: { ...env, ...more } }) as unknown as Promise<Finished>;
const there = (args: ReadonlyArray<string>, more = {}): Promise<Finished> =>
  start(args, { cwd: elsewhere, env: { ...env, ...more } }) as unknown as Promise<Finished>;

describe('the state of a cluster', () => {
  test('is exported into one private file', async () => {
    const result = await here(['state', 'export', file, '--cluster', labName]);
    expect(result.exitCode, result.all as string).toBe(0);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    // Nothing of it can be read.
    const bytes = await readFile(file);
    for (const text of ['k8smaster01', 'BEGIN', 'PRIVATE KEY', 'cluster.yaml'])
      expect(bytes.includes(text)).toBe(false);
    expect(bytes.includes(Buffer.from((await readFile(path.join(home.pki, 'ca.key'), 'utf8')).slice(100, 150)))).toBe(
      false,
    );
  });

  test('is refused whole with a wrong passphrase, or damaged', async () => {
    const wrong = await there(['--json', 'state', 'import', file], { K8S_ANS_PASSPHRASE: 'quite another passphrase' });
    expect(wrong.exitCode).toBe(2);
    expect(JSON.parse(wrong.stdout as unknown as string)).toMatchObject({ error: { code: 'state-refused' } });
    const damaged = path.join(elsewhere, 'damaged.state');
    const bytes = await readFile(file);
    bytes[bytes.length - 1000] = (bytes[bytes.length - 1000] as number) ^ 1;
    await writeFile(damaged, bytes);
    const refused = await there(['--json', 'state', 'import', damaged]);
    expect(refused.exitCode).toBe(2);
    expect(JSON.parse(refused.stdout as unknown as string)).toMatchObject({ error: { code: 'state-refused' } });
    await rm(damaged);
    expect(await readdir(elsewhere)).toEqual(['cluster.state']);
  });

  test('is all that another machine needs when the home is gone', async () => {
    await rm(home.root, { recursive: true });
    const imported = await there(['state', 'import', file]);
    expect(imported.exitCode, imported.all as string).toBe(0);
    expect(imported.all).not.toContain('warning:');

    const before = await unitStartsElsewhere();
    const plan = await there(['plan', '--cluster', labName]);
    expect(plan.exitCode, plan.all as string).toBe(0);
    const deployed = await there(['--json', 'deploy', '--cluster', labName]);
    expect(deployed.exitCode, deployed.all as string).toBe(0);
    const { result } = JSON.parse(deployed.stdout as unknown as string) as { result: { totals: { changed: number } } };
    expect(result.totals.changed).toBe(0);
    expect(await unitStartsElsewhere()).toEqual(before);

    // The history came along, and goes on.
    const runs = await there(['report', '--list', '--cluster', labName]);
    expect((runs.stdout as unknown as string).trim().split('\n').length).toBeGreaterThan(1);
  });
});

/** The lab's own record went with the home, and it is this machine's: the tests look at hosts with the saved one. */
async function unitStartsElsewhere(): Promise<Record<string, string>> {
  await cp(safe, home.root, { recursive: true });
  try {
    return await unitStarts();
  } finally {
    await rm(home.root, { recursive: true });
  }
}
