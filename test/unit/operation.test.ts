import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  beginOperation,
  endOperation,
  pendingOperation,
  refusePending,
  updateOperation,
} from '../../ts/commands/run/operation.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';

const start = { command: 'upgrade', subject: '1.36.4', again: 'k8s-ans upgrade --to 1.36.4', data: { from: '1.36.3' } };

describe('an operation', () => {
  let home: ClusterHome;
  beforeEach(async () => {
    home = clusterHome(await mkdtemp(path.join(os.tmpdir(), 'operation-')));
  });
  afterEach(() => rm(home.root, { recursive: true }));

  it('is resumed with what it remembers by the same command', async () => {
    expect((await beginOperation(home, start)).resumed).toBe(false);
    await updateOperation(home, { step: 'masters' });
    const { operation, resumed } = await beginOperation(home, { ...start, data: {} });
    expect([operation.data, resumed]).toEqual([{ from: '1.36.3', step: 'masters' }, true]);
    expect((await stat(home.operation)).mode & 0o777).toBe(0o600);
  });

  it('keeps other commands away, and names the one that finishes it', async () => {
    await beginOperation(home, start);
    const refusal = expect.objectContaining({
      code: 'operation-pending',
      exitCode: 4,
      message: expect.stringMatching(/^`upgrade 1\.36\.4`, begun at \S+, is not finished yet\.$/),
      next: 'Finish it with `k8s-ans upgrade --to 1.36.4`: it goes on from where it stopped.',
    });
    await expect(beginOperation(home, { ...start, subject: '1.36.5' })).rejects.toThrow(refusal);
    await expect(refusePending(home)).rejects.toThrow(refusal);
    await endOperation(home);
    await refusePending(home);
    expect(await pendingOperation(home)).toBeUndefined();
  });

  it('is not guessed at when its journal cannot be read', async () => {
    await writeFile(home.operation, '{');
    await expect(refusePending(home)).rejects.toThrow(expect.objectContaining({ code: 'operation-unreadable' }));
    expect(await readFile(home.operation, 'utf8')).toBe('{');
  });
});
