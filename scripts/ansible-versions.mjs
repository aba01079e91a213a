// Runs what depends on ansible-core with the oldest and the newest that the collection takes (meta/runtime.yml):
// the plugins' tests and real runs, the callback's, and the built collection's with all playbooks' syntax.
// npm run test:ansible-versions [-- oldest|newest]
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const files = ['callback', 'collection', 'plugins'].map((name) => path.join('test', 'unit', `${name}.test.ts`));

const ends = process.argv.length > 2 ? process.argv.slice(2) : ['oldest', 'newest'];
for (const end of ends) {
  console.log(`\n== with the ${end} ansible-core`);
  const args = [path.join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', '--project', 'unit', ...files];
  const env = { ...process.env, K8S_ANS_TEST_ANSIBLE: end };
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env });
  if (status !== 0) process.exit(status ?? 1);
}
