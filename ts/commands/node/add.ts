/** `node add`: a host becomes part of the running cluster. */
import { renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import { draftSpec, writeDraft } from '../../spec/edit.js';
import { loadCluster } from '../../spec/load.js';
import type { CommandContext } from '../../types/console.js';
import type { ClusterHome } from '../../types/home.js';
import { openBundle } from '../run/bundle.js';
import { convergeCluster, writeInventory } from '../run/deploy.js';
import { refusePending } from '../run/operation.js';
import { runPreflight } from '../run/preflight.js';
import { type FinishedRun, runSession } from '../run/session.js';
import { enterHost, knownHost, type WantedHost } from './hosts.js';

export interface AddOptions {
  readonly home: ClusterHome;
  readonly wanted: WantedHost;
  readonly limit?: string | undefined;
  /** The command line that goes on. */
  readonly again: string;
  /** A file that all artifacts are taken from. */
  readonly bundle?: string | undefined;
}

/**
 * Adds a host: preflight looks at it before anything is changed, then the spec has it, then the cluster is brought to
 * what its spec says. Refused by preflight, all stays as it was; stopped later, the spec has the host, and the same
 * command or `deploy` goes on.
 */
export async function addNode(context: CommandContext, options: AddOptions): Promise<FinishedRun> {
  const { home, wanted } = options;
  const before = await loadCluster(home);
  const known = knownHost(before, wanted);
  const draft = await draftSpec(home, (document) => {
    if (known === undefined) enterHost(document, before, wanted);
  });
  const { cluster } = draft;
  const bundle = await openBundle(context, options.bundle, cluster.kubernetes.version);
  return runSession(
    context,
    { command: `node add ${wanted.name}`, cluster, home, lock: true, check: false },
    async (session) => {
      await refusePending(home);
      await refuseForbiddenChanges(home, cluster);
      if (known === undefined) {
        try {
          await writeInventory(session);
          await runPreflight(session, options);
        } catch (error) {
          await writeRendered(home, renderCluster(before));
          throw error;
        }
        await writeDraft(home, draft);
      }
      await convergeCluster(session, { ...options, bundle, cluster });
    },
  );
}
