/** The tests' workload: a Deployment with a pod on each worker behind a Service, from an image made here. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { binaryImageFiles, type ImageDescription, ociArchive } from '../../ts/artifacts/oci.js';
import { withPrivateGo } from '../../ts/artifacts/private-go.js';
import { packageRoot } from '../../ts/types/package.js';
import { eventually, kubectl, on, workspace } from './harness.js';

const image = 'k8s-ans.test/web:1';

/** Puts the image on the hosts, and waits until the Deployment `web` of two pods runs and its Service answers both. */
export async function deployWeb(hosts: ReadonlyArray<string>, namespace?: string): Promise<void> {
  await importWeb(hosts, namespace);
  await kubectl(['apply', '-f', '-'], JSON.stringify(manifest()));
  await kubectl(['rollout', 'status', 'deployment/web', '--timeout=120s']);
  const names = await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'jsonpath={.items[*].metadata.name}']);
  const address = await kubectl(['get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}']);
  // Each host's kube-proxy learns of the pods a moment after they run, and refuses connections until then.
  for (const name of names.split(' ')) {
    await eventually(30, () => kubectl(['exec', name, '--', '/web', 'get', `http://${address}/`]));
  }
}

/** So many pods of `web` must stay while nodes are drained: with 2 a drain is blocked. 1 is what `deployWeb` sets. */
export async function allowDisruptions(minAvailable: 1 | 2): Promise<void> {
  await kubectl(['patch', 'pdb', 'web', '--type=merge', '-p', JSON.stringify({ spec: { minAvailable } })]);
  await eventually(30, async () => {
    const text = await kubectl([
      'get',
      'pdb',
      'web',
      '-o',
      'jsonpath={.status.desiredHealthy} {.status.currentHealthy}',
    ]);
    if (text !== `${minAvailable} 2`) throw new Error(`the budget web is at ${text}`);
  });
}

/** Removes all that `deployWeb` made. */
export async function removeWeb(): Promise<void> {
  await kubectl(['delete', 'deployment/web', 'service/web', 'pdb/web', '--ignore-not-found']);
}

/** Puts the image on the hosts, which have no registry to pull it from: into this namespace of containerd. */
export async function importWeb(hosts: ReadonlyArray<string>, namespace = 'k8s.io'): Promise<void> {
  const archive = ociArchive(await webImage(image));
  for (const host of hosts) await on(host, `/opt/k8s/bin/ctr -n ${namespace} images import -`, archive);
}

/** The image under another name. */
export async function webImage(ref: string): Promise<ImageDescription> {
  return {
    ref,
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    entrypoint: ['/web'],
    user: '65532:65532',
    files: binaryImageFiles(new Map([['/web', await buildWeb()]]), '65532:65532'),
  };
}

/** A static binary, so that the image needs nothing else. */
async function buildWeb(): Promise<Buffer> {
  const file = path.join(workspace, 'web');
  const env = await withPrivateGo({ ...process.env, CGO_ENABLED: '0' });
  await execa('go', ['build', '-trimpath', '-o', file, '.'], { cwd: path.join(packageRoot(), 'test/e2e/web'), env });
  return readFile(file);
}

function manifest(): object {
  const labels = { app: 'web' };
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web' },
        spec: {
          replicas: 2,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: {
              terminationGracePeriodSeconds: 0,
              topologySpreadConstraints: [
                {
                  maxSkew: 1,
                  topologyKey: 'kubernetes.io/hostname',
                  whenUnsatisfiable: 'DoNotSchedule',
                  labelSelector: { matchLabels: labels },
                  nodeTaintsPolicy: 'Honor',
                },
              ],
              containers: [{ name: 'web', image, imagePullPolicy: 'Never', ports: [{ containerPort: 8080 }] }],
            },
          },
        },
      },
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'web' },
        spec: { type: 'NodePort', selector: labels, ports: [{ port: 80, targetPort: 8080 }] },
      },
      // What keeps one of the two pods answering while nodes are drained one after another.
      {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'web' },
        spec: { minAvailable: 1, selector: { matchLabels: labels } },
      },
    ],
  };
}
