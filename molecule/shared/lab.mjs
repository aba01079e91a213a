// The lab of the molecule scenarios: node molecule/shared/lab.mjs up|down
//
// `up` makes its hosts, and beside its spec what a deploy would: inventory, certificates, and artifacts.json.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { machineArchitecture, prepareArtifacts } from '../../dist/artifacts/index.js';
import { labDown, labUp } from '../../dist/lab/index.js';
import { ensurePki } from '../../dist/pki/ensure.js';
import { renderCluster } from '../../dist/render/render.js';
import { writeRendered } from '../../dist/render/write.js';
import { loadCluster } from '../../dist/spec/load.js';
import { clusterHome } from '../../dist/types/home.js';
import { cacheRoot } from '../../dist/types/package.js';

/** The folder it works in: none of the checkout's. */
export const workspace = path.join(cacheRoot(), 'molecule');
const name = 'molecule';
export const labHome = path.join(workspace, 'inventory', name);

const stop = new AbortController();
const context = {
  console: {
    interactive: false,
    json: false,
    color: false,
    verbosity: 0,
    info: (text) => console.error(text),
    warn: (text) => console.error(text),
    print: (text) => console.error(text),
    result: () => {},
  },
  signal: stop.signal,
  env: process.env,
  cwd: workspace,
};

/** Makes the lab, or what is missing of it. */
export async function up() {
  await mkdir(workspace, { recursive: true, mode: 0o700 });
  await labUp(context, { name, masters: 1, nodes: 1, subnet: '172.24.13.0/24' });
  const home = clusterHome(labHome);
  const cluster = await loadCluster(home);
  await writeRendered(home, renderCluster(cluster));
  await ensurePki(cluster, home, { signal: stop.signal });
  const { variables } = await prepareArtifacts({
    cluster,
    home,
    architectures: [machineArchitecture() ?? 'amd64'],
    signal: stop.signal,
    onProgress: ({ kind, message }) => {
      if (kind !== 'step') console.error(message);
    },
  });
  await writeFile(path.join(home.root, 'artifacts.json'), JSON.stringify(variables), { mode: 0o600 });
}

/** Removes it with all its keys. */
export async function down() {
  await mkdir(workspace, { recursive: true, mode: 0o700 });
  await labDown(context, { name, purge: true });
}

if (process.argv[1] === import.meta.filename) {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort(new Error('interrupted')));
  const action = { up, down }[process.argv[2]];
  if (!action) throw new Error('usage: node molecule/shared/lab.mjs up|down');
  await action();
}
