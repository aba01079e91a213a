/** Finds the cluster a command is about. */
import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { CommandContext } from '../types/console.js';
import { usageError } from '../types/errors.js';
import { type ClusterHome, clusterHome } from '../types/home.js';

/** The help text of `--cluster`, the same for all commands. */
export const clusterOption =
  'name of a cluster under inventory/, its folder, or its spec file (default: ./cluster.yaml, else the only one under inventory/)';

/**
 * The home of the cluster that `--cluster` names.
 *
 * @param option a name (of a folder under `inventory/`), a folder or a spec file; undefined: `cluster.yaml` in the
 *   current folder, else the only `inventory/NAME/cluster.yaml` below it
 * @throws K8sAnsError (exit code 2) `cluster-not-found` or `cluster-ambiguous`, with the candidates
 */
export async function locateCluster(context: Pick<CommandContext, 'cwd'>, option?: string): Promise<ClusterHome> {
  const { cwd } = context;
  if (option !== undefined) return locateNamed(cwd, option);
  if (existsSync(path.join(cwd, 'cluster.yaml'))) return clusterHome(cwd);
  const names = await clustersBelow(cwd);
  if (names.length > 1) {
    throw usageError(`There is more than one cluster here: ${names.join(', ')}.`, {
      code: 'cluster-ambiguous',
      where: path.join(cwd, 'inventory'),
      next: `Say which one, for example --cluster ${names[0]}.`,
    });
  }
  const [name] = names;
  if (name === undefined) {
    throw usageError('There is no cluster here: neither ./cluster.yaml nor inventory/NAME/cluster.yaml.', {
      code: 'cluster-not-found',
      where: cwd,
      next: 'Write a spec with `k8s-ans init`, or name one with --cluster.',
    });
  }
  return clusterHome(path.join(cwd, 'inventory', name));
}

async function locateNamed(cwd: string, option: string): Promise<ClusterHome> {
  const places = [path.resolve(cwd, 'inventory', option), path.resolve(cwd, option)];
  for (const place of places) {
    if (!existsSync(place)) continue;
    if (statSync(place).isFile()) return { ...clusterHome(path.dirname(place)), spec: place };
    if (existsSync(path.join(place, 'cluster.yaml'))) return clusterHome(place);
  }
  const names = await clustersBelow(cwd);
  const folder = places.find((place) => existsSync(place));
  throw usageError(
    folder === undefined
      ? `There is no cluster "${option}": neither a name under inventory/ nor a folder nor a spec file.`
      : `The folder "${option}" has no cluster.yaml.`,
    {
      code: 'cluster-not-found',
      where: folder ?? cwd,
      next:
        names.length > 0
          ? `Known here: ${names.join(', ')}.`
          : 'Write a spec with `k8s-ans init`, or name an existing one.',
    },
  );
}

/** The clusters under `inventory/`, sorted; the sample that comes with the project is not counted. */
async function clustersBelow(cwd: string): Promise<string[]> {
  const inventory = path.join(cwd, 'inventory');
  const entries = await readdir(inventory, { withFileTypes: true }).catch(() => []);
  return entries
    .map(({ name }) => name)
    .filter((name) => name !== 'sample' && existsSync(path.join(inventory, name, 'cluster.yaml')))
    .sort();
}
