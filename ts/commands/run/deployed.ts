/** Keeps `deployed.json` true while a run changes hosts. */
import { begunFacts, deployedFacts, readDeployed, writeDeployed } from '../../spec/deployed.js';
import type { Cluster } from '../../types/cluster.js';
import type { RunEvent } from '../../types/events.js';
import type { ClusterHome } from '../../types/home.js';

/** The plays that change no host. */
const LOOKING = new Set(['preflight', 'certificates']);

export interface DeployedWatch {
  /** To be given all events of the playbook. */
  readonly handle: (event: RunEvent) => void;
  /** The run is over. `whole`: it ended well on all hosts and in all phases. */
  end(whole: boolean): Promise<void>;
}

/**
 * Records the cluster from the first play that changes hosts on, so that what a killed run has begun is known as well.
 * What is refused before is not recorded: such a spec may still be changed in everything.
 */
export async function watchDeployed(home: ClusterHome, cluster: Cluster): Promise<DeployedWatch> {
  let facts = (await readDeployed(home))?.cluster;
  const touched = new Set<string>();
  let written: Promise<void> = Promise.resolve();
  return {
    handle: (event) => {
      if (event.event !== 'play_start' || LOOKING.has(event.phase)) return;
      const fresh = event.hosts.filter((name) => !touched.has(name));
      if (fresh.length === 0) return;
      for (const name of fresh) touched.add(name);
      facts = begunFacts(facts, cluster, touched);
      const begun = facts;
      written = written.then(() => writeDeployed(home, begun, 'begun'));
      // Its error is thrown by end(); until then it is not unhandled.
      written.catch(() => undefined);
    },
    end: async (whole) => {
      await written;
      if (whole) await writeDeployed(home, deployedFacts(cluster), 'done');
    },
  };
}
