/** Whether the binaries have to be compiled on this machine. */
import path from 'node:path';
import { ArtifactLock, componentsFor, loadCatalog } from '../../artifacts/index.js';
import { chooseSource } from '../../artifacts/source.js';
import type { ArtifactSource } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { K8sAnsError } from '../../types/errors.js';
import { cacheRoot } from '../../types/package.js';

/**
 * True if a run with this source and Kubernetes version compiles here, or would if this machine had Go.
 *
 * @param lock the cluster's artifacts.lock, which may not be there; undefined: no cluster is meant
 */
export async function mustBuild(
  context: CommandContext,
  source: ArtifactSource,
  version: string,
  lock?: string,
): Promise<boolean> {
  const components = componentsFor(loadCatalog(), version);
  const locked = await ArtifactLock.read(lock ?? path.join(cacheRoot(context.env), 'none.lock'), version);
  try {
    return (await chooseSource(source, components, locked, context.env, context.signal)).kind === 'build';
  } catch (error) {
    if (error instanceof K8sAnsError && error.code === 'artifacts-no-source') return true;
    throw error;
  }
}
