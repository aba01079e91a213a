/**
 * The folder in which ansible-core finds this package as the collection `k8s_ans.cluster`.
 *
 * A collection must lie under `ansible_collections/NAMESPACE/NAME`; the package's folders are linked there.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';

const LINKS: Readonly<Record<string, string>> = {
  plugins: 'ansible/plugins',
  playbooks: 'ansible/playbooks',
  roles: 'roles',
  meta: 'meta',
  'galaxy.yml': 'galaxy.yml',
};

/** Makes the folder if it is not there, and returns it: a value for ANSIBLE_COLLECTIONS_PATH. */
export async function ensureCollection(cache: string, root: string): Promise<string> {
  const links = Object.entries(LINKS)
    .map(([name, target]) => [name, path.join(root, target)] as const)
    .filter(([, target]) => existsSync(target));
  const hash = createHash('sha256').update(JSON.stringify(links)).digest('hex').slice(0, 12);
  const folder = path.join(cache, `collections-${hash}`);
  const inside = path.join('ansible_collections', 'k8s_ans', 'cluster');
  if (await isComplete(path.join(folder, inside), links)) return folder;

  await mkdir(cache, { recursive: true, mode: 0o700 });
  const draft = await mkdtemp(`${folder}.`);
  await mkdir(path.join(draft, inside), { recursive: true });
  for (const [name, target] of links) await symlink(target, path.join(draft, inside, name));
  await rm(folder, { recursive: true, force: true });
  try {
    await rename(draft, folder);
  } catch (error) {
    // Another command has just made the same.
    await rm(draft, { recursive: true, force: true });
    if (!(await isComplete(path.join(folder, inside), links))) throw error;
  }
  return folder;
}

async function isComplete(folder: string, links: ReadonlyArray<readonly [string, string]>): Promise<boolean> {
  const names = await readdir(folder).catch(() => []);
  if (names.length !== links.length) return false;
  const targets = await Promise.all(links.map(([name]) => readlink(path.join(folder, name)).catch(() => undefined)));
  return targets.every((target, index) => target === links[index]?.[1]);
}
