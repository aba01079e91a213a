/** Runs the Python tests of the CSR approver, with an interpreter that has `cryptography`. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { beforeAll, expect, test } from 'vitest';
import { cacheRoot, packageRoot } from '../../ts/types/package.js';

/** What Debian 13 has; the program is written for 3.4 and newer. */
const CRYPTOGRAPHY = 'cryptography==43.0.0';

let python = 'python3';

async function hasCryptography(interpreter: string): Promise<boolean> {
  const { exitCode } = await execa(interpreter, ['-c', 'import cryptography'], { reject: false });
  return exitCode === 0;
}

beforeAll(async () => {
  if (await hasCryptography(python)) return;
  const folder = path.join(cacheRoot(), 'test-python');
  python = path.join(folder, 'bin', 'python3');
  if (await hasCryptography(python)) return;
  await mkdir(path.dirname(folder), { recursive: true });
  await execa('python3', ['-m', 'venv', '--clear', folder]);
  await execa(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', CRYPTOGRAPHY]);
}, 180_000);

test('the approver decides and serves as its Python tests say', async () => {
  const { exitCode, all } = await execa(python, ['-B', 'test_approver.py'], {
    cwd: path.join(packageRoot(), 'test', 'unit', 'python'),
    all: true,
    reject: false,
  });
  expect(all).toMatch(/Ran \d\d tests in/);
  expect(exitCode, all).toBe(0);
}, 180_000);

test('the program compiles in Python 3.9 syntax', async () => {
  const program = path.join(packageRoot(), 'roles', 'masters', 'files', 'kube-csr-approver.py');
  const code = 'import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 9))';
  expect((await execa(python, ['-c', code, program])).exitCode).toBe(0);
});
