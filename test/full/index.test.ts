/**
 * The operations on a running cluster, on one lab: three masters, two workers and two spare hosts, begun at the older
 * minor.
 *
 * The parts build on one another and run in the order they stand in; `npm run test:operations -- -t NAME` runs one.
 */

import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe } from 'vitest';
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

/** For a part that runs without the first one, which deploys. */
async function deployed(): Promise<void> {
  if (!existsSync(home.kubeconfig)) await succeed(['deploy', '--cluster', labName]);
}

/** A part on a cluster that runs. Each leaves the hosts as it found them. */
function part(name: string, load: () => Promise<unknown>): void {
  describe(name, async () => {
    beforeAll(deployed);
    await load();
  });
}

describe('plan and status', () => import('./plan.js').then(() => {}));
part('upgrade', () => import('./upgrade.js'));
part('spec changes', () => import('./spec-changes.js'));
part('add-ons', () => import('./addons.js'));
part('certificates', () => import('./certs.js'));
part('nodes', () => import('./nodes.js'));
part('etcd', () => import('./etcd.js'));
part('state', () => import('./state.js'));
// On smaller labs of their own, in place of this one.
describe('ansible', () => import('./ansible.js').then(() => {}));
describe('reset', () => import('./reset.js').then(() => {}));
describe('docker', () => import('./docker.js').then(() => {}));
describe('air gap', () => import('./airgap.js').then(() => {}));
