/** lab.json in the cluster home: what `lab up` made, so that `lab down` finds it again. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { Engine } from './docker.js';
import type { LabPlan } from './plan.js';

export interface LabState {
  readonly version: 1;
  readonly engine: Engine;
  readonly image: string;
  readonly plan: LabPlan;
  /** The hosts for which cluster.yaml was written last. */
  readonly specHosts?: ReadonlyArray<string> | undefined;
}

/** The files of a lab in its cluster home. */
export interface LabHome {
  readonly root: string;
  readonly state: string;
  readonly ssh: string;
  readonly privateKey: string;
  readonly knownHosts: string;
  readonly spec: string;
}

/** The home of the lab `name` under the working folder: inventory/NAME. */
export function labHome(cwd: string, name: string): LabHome {
  const root = path.join(cwd, 'inventory', name);
  const ssh = path.join(root, 'ssh');
  return {
    root,
    state: path.join(root, 'lab.json'),
    ssh,
    privateKey: path.join(ssh, 'id_ed25519'),
    knownHosts: path.join(ssh, 'known_hosts'),
    spec: path.join(root, 'cluster.yaml'),
  };
}

/** What `lab up` recorded; undefined if there is no lab. */
export async function readState(home: LabHome): Promise<LabState | undefined> {
  const text = await readFile(home.state, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as LabState);
}

/** Records the lab. */
export async function writeState(home: LabHome, state: LabState): Promise<void> {
  await writeFileAtomic(home.state, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
}
