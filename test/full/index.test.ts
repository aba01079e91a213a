/**
 * The operations on a running cluster, on one lab: three masters, two workers and two spare hosts.
 *
 * The parts build on one another and run in the order they stand in. `npx vitest run --project full -t NAME` runs one.
 */
import { afterAll, beforeAll } from 'vitest';
import { editSpec, setVersion } from '../../ts/spec/edit.js';
import { home, labArgs, labName, prepareWorkspace, start, succeed } from '../e2e/harness.js';

beforeAll(async () => {
  await prepareWorkspace();
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...labArgs, '--spares', '2']);
  await editSpec(home, (document) => setVersion(document, '1.35.4'));
});

afterAll(async () => {
  await succeed(['lab', 'down', '--name', labName, '--purge']);
});
