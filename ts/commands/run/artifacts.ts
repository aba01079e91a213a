/** The artifact step: what the hosts need, fetched or built and verified here, and listed for the roles. */
import { readFile } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';
import { parse } from 'yaml';
import {
  type ArtifactProgress,
  type PreparedArtifacts,
  type PreparedBundle,
  prepareArtifacts,
} from '../../artifacts/index.js';
import { formatDuration, plural } from '../../report/format.js';
import type { Architecture } from '../../types/cluster.js';
import type { ClusterHome } from '../../types/home.js';
import type { RunSession } from './session.js';

const ARCHITECTURES: ReadonlyArray<Architecture> = ['amd64', 'arm64'];

/** The architectures that the cluster's artifacts.lock names: those of its hosts, from an earlier run. */
export async function lockedArchitectures(home: ClusterHome): Promise<Architecture[]> {
  const text = await readFile(home.lock, 'utf8').catch(() => '');
  const lock: unknown = parse(text);
  return typeof lock === 'object' && lock !== null ? ARCHITECTURES.filter((name) => name in lock) : [];
}

/** Prepares the artifacts and writes `artifacts.json` into the run's folder. */
export async function runArtifacts(
  session: RunSession,
  architectures: ReadonlyArray<Architecture>,
  signal: AbortSignal,
  bundle?: PreparedBundle,
): Promise<void> {
  const { cluster, home, folder, context } = session;
  await session.step(
    'binaries',
    async (note) => {
      const onProgress = (progress: ArtifactProgress): void => {
        if (progress.kind === 'note') context.console.info(progress.message);
        else if (context.console.interactive) note(progressText(progress));
        // Elsewhere a line at the beginning and end of each piece shows that a long step goes on.
        else if (progress.kind !== 'step') context.console.info(`binaries: ${progressText(progress)}`);
      };
      const prepared = await prepareArtifacts({
        cluster,
        home,
        architectures,
        signal,
        env: context.env,
        onProgress,
        bundle,
      });
      await writeFileAtomic(folder.artifacts, `${JSON.stringify(prepared.variables)}\n`, { mode: 0o600 });
      return prepared;
    },
    describePrepared,
  );
}

function progressText({ kind, message, done, total, seconds }: ArtifactProgress): string {
  if (kind === 'done' && seconds !== undefined) return `${message} in ${formatDuration(seconds * 1000)}`;
  return kind === 'step' && done !== undefined && total ? `${message} ${Math.floor((done / total) * 100)} %` : message;
}

function describePrepared({ source, builds }: PreparedArtifacts): string {
  const compiled = builds.filter((build) => build.compiled).length;
  if (source.kind !== 'build')
    return {
      upstream: 'from upstream',
      mirror: 'from the mirror',
      directory: 'from the folder',
      bundle: 'from the bundle',
    }[source.kind];
  return compiled > 0
    ? `${plural(compiled, 'component')} built`
    : `${plural(builds.length, 'component')} built earlier`;
}
