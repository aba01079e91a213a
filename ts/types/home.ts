/**
 * Where a cluster's files lie on the control machine: `inventory/NAME/` by default.
 *
 * The folder is 0700: it holds keys.
 */
import path from 'node:path';

export interface ClusterHome {
  readonly root: string;
  /** The spec: cluster.yaml. */
  readonly spec: string;
  readonly inventory: string;
  readonly groupVars: string;
  readonly environment: string;
  readonly pki: string;
  readonly lock: string;
  readonly kubeconfig: string;
  readonly runs: string;
  /** Snapshots of etcd. */
  readonly backups: string;
  /** What is deployed: what a changed spec is compared with. */
  readonly deployed: string;
  /** The operation that takes several steps and has not ended. */
  readonly operation: string;
  /** Held while a command changes the cluster. */
  readonly runLock: string;
}

/** The paths of the cluster home at `root`. */
export function clusterHome(root: string): ClusterHome {
  const at = (name: string): string => path.join(path.resolve(root), name);
  return {
    root: path.resolve(root),
    spec: at('cluster.yaml'),
    inventory: at('hosts.yml'),
    groupVars: at('group_vars'),
    environment: at('environment.sh'),
    pki: at('pki'),
    lock: at('artifacts.lock'),
    kubeconfig: at('kubeconfig'),
    runs: at('runs'),
    backups: at('backups'),
    deployed: at('deployed.json'),
    operation: at('operation.json'),
    runLock: at('.lock'),
  };
}
