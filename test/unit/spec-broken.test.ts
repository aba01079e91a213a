import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseSpec } from '../../ts/spec/load.js';
import { formatProblems } from '../../ts/spec/problems.js';

const folder = path.join(import.meta.dirname, '../fixtures/specs/broken');
const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));

describe('broken specs', () => {
  it('are many', () => {
    expect(names.length).toBeGreaterThanOrEqual(45);
  });

  it.each(names)('%s is refused with exactly the expected text', async (name) => {
    const parsed = parseSpec(readFileSync(path.join(folder, name), 'utf8'), name);
    const text = parsed.ok ? '(no problem)' : formatProblems(parsed.problems);
    expect(parsed.ok).toBe(false);
    await expect(`${text}\n`).toMatchFileSnapshot(path.join(folder, name.replace(/\.yaml$/, '.txt')));
  });
});
