/** A client that works on the cluster while something is done to it, on a worker, through the worker's kube-nginx. */
import { readFile } from 'node:fs/promises';
import { eventually, kubectl, on } from '../e2e/harness.js';

/** Requests of one kind. */
export interface Tally {
  readonly done: number;
  readonly failed: number;
  /** The longest time without a success, milliseconds; with nothing failing it is the pace, about 200. */
  readonly longestGapMs: number;
  /** What failed requests said, and how often. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface ClientResult {
  readonly writes: Tally;
  readonly reads: Tally;
  readonly service: Tally;
  /** Acknowledged writes that a later read did not show. */
  readonly lost: ReadonlyArray<{ readonly acknowledged: number; readonly seen: number }>;
}

export interface Client {
  /** Ends it, says what it saw in the test's output under `title`, and returns it. */
  stop(title: string): Promise<ClientResult>;
}

const unit = 'test-client';
const folder = `/run/${unit}`;

/**
 * Starts the client on `host`. The Service `web` has to be there (`deployWeb`).
 *
 * Its credential is a service account's token: no rotation of certificates makes it invalid.
 */
export async function startClient(host = 'k8snode01'): Promise<Client> {
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], JSON.stringify(objects));
  const token = await kubectl(['create', 'token', unit, '--duration=8h']);
  const service = await kubectl(['get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}']);
  const settings = {
    token,
    service,
    ca: '/etc/kubernetes/cert/ca.crt',
    port: 8443,
    namespace: 'default',
    configmap: unit,
    result: `${folder}/result.json`,
  };
  await on(host, `systemctl stop ${unit} 2>/dev/null; rm -rf ${folder}; mkdir -m 700 ${folder}`);
  await on(host, `umask 077; cat > ${folder}/settings.json`, Buffer.from(JSON.stringify(settings)));
  await on(host, `cat > ${folder}/client.py`, await readFile(new URL('./client.py', import.meta.url)));
  await on(host, `systemd-run --quiet --collect --unit=${unit} python3 ${folder}/client.py ${folder}/settings.json`);
  return {
    stop: async (title) => {
      await on(host, `systemctl stop ${unit}`);
      const text = await eventually(10, () => on(host, `cat ${folder}/result.json`));
      const result = JSON.parse(text) as ClientResult;
      console.log(`${title}: ${JSON.stringify(result)}`);
      return result;
    },
  };
}

const objects = {
  apiVersion: 'v1',
  kind: 'List',
  items: [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: unit, namespace: 'default' } },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: unit, namespace: 'default' }, data: { number: '0' } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: unit, namespace: 'default' },
      rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: [unit], verbs: ['get', 'patch'] }],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: unit, namespace: 'default' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: unit },
      subjects: [{ kind: 'ServiceAccount', name: unit, namespace: 'default' }],
    },
  ],
};
