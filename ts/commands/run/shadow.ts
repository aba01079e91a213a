/**
 * A copy of the cluster's home to work in: what a command would write is written there, and the home stays as it is.
 *
 * The copy holds keys. It lies in the cluster's home, which is as private as they are, and goes away with the command;
 * one that a killed command left is taken away by the next.
 */
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { createWorkFolder } from '../../playbook/folder.js';
import { type ClusterHome, clusterHome } from '../../types/home.js';
import type { LocalChange } from '../../types/plan.js';
import type { RunSession } from './session.js';

/** What Ansible reads beside the rendered inventory: enough for a command that asks hosts and needs no keys. */
export const VARIABLES_ALONE = ['group_vars', 'host_vars'];

/** What commands write, and what Ansible reads beside the inventory. Not the spec: it is read before. */
export const WHOLE_HOME = [
  'hosts.yml',
  'group_vars',
  'host_vars',
  'environment.sh',
  'pki',
  'kubeconfig',
  'artifacts.lock',
];

/**
 * Runs `work` with a session whose home is a copy, and returns what it has written there.
 *
 * @param copied which parts of the home the work needs; the others are missing in the copy
 */
export async function inShadow(
  session: RunSession,
  work: (shadow: RunSession) => Promise<void>,
  copied: ReadonlyArray<string> = WHOLE_HOME,
): Promise<LocalChange[]> {
  const { home } = session;
  const root = await createWorkFolder(home);
  try {
    for (const name of copied) await copy(path.join(home.root, name), path.join(root, name));
    const shadow: ClusterHome = { ...clusterHome(root), spec: home.spec, runs: home.runs };
    await work({
      ...session,
      home: shadow,
      rehearsal: true,
      playbook: (name, run) => session.playbook(name, { inventory: shadow.inventory, ...run }),
    });
    return await compare(home.root, root, copied);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function copy(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, preserveTimestamps: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

/** What stands in the copy and not, or not so, in the original. */
async function compare(original: string, shadow: string, parts: ReadonlyArray<string>): Promise<LocalChange[]> {
  const [before, after] = await Promise.all([filesIn(original, parts), filesIn(shadow, parts)]);
  const changes: LocalChange[] = [];
  for (const [name, content] of after) {
    const old = before.get(name);
    if (old === undefined) changes.push({ path: name, action: 'create' });
    else if (!old.equals(content)) changes.push({ path: name, action: 'change' });
  }
  for (const name of before.keys()) if (!after.has(name)) changes.push({ path: name, action: 'remove' });
  return changes.sort((one, other) => (one.path < other.path ? -1 : 1));
}

async function filesIn(root: string, parts: ReadonlyArray<string>): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const add = async (name: string): Promise<void> => {
    const target = path.join(root, name);
    const names = await readdir(target).catch((error: NodeJS.ErrnoException) => error);
    if (Array.isArray(names)) for (const child of names) await add(`${name}/${child}`);
    else if (names.code === 'ENOTDIR') found.set(name, await readFile(target));
    else if (names.code !== 'ENOENT') throw names;
  };
  for (const part of parts) await add(part);
  return found;
}
