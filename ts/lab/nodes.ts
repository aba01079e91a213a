/** The nodes of a cluster, asked of its API with the home's kubeconfig. */
import { readFile } from 'node:fs/promises';
import https from 'node:https';
import { parse } from 'yaml';
import { runError } from '../types/errors.js';

export interface NodeRow {
  readonly name: string;
  readonly ready: boolean;
  readonly roles: string;
  readonly version: string;
  readonly address: string;
  readonly runtime: string;
}

interface Kubeconfig {
  readonly clusters: ReadonlyArray<{ cluster: { server: string; 'certificate-authority-data': string } }>;
  readonly users: ReadonlyArray<{ user: { 'client-certificate-data': string; 'client-key-data': string } }>;
}

interface NodeList {
  readonly items: ReadonlyArray<{
    metadata: { name: string; labels?: Record<string, string> };
    status: {
      conditions: ReadonlyArray<{ type: string; status: string }>;
      addresses: ReadonlyArray<{ type: string; address: string }>;
      nodeInfo: { kubeletVersion: string; containerRuntimeVersion: string };
    };
  }>;
}

/**
 * Lists the nodes.
 *
 * @param kubeconfig a kubeconfig with one cluster and one user, certificates embedded
 * @throws K8sAnsError `api-unreachable`
 */
export async function listNodes(kubeconfig: string, signal: AbortSignal): Promise<NodeRow[]> {
  const config = parse(await readFile(kubeconfig, 'utf8')) as Kubeconfig;
  const cluster = config.clusters[0]?.cluster;
  const user = config.users[0]?.user;
  const decode = (data: string | undefined): Buffer => Buffer.from(data ?? '', 'base64');
  const url = new URL('/api/v1/nodes', cluster?.server);
  const tls = {
    ca: decode(cluster?.['certificate-authority-data']),
    cert: decode(user?.['client-certificate-data']),
    key: decode(user?.['client-key-data']),
  };
  return nodeRows(JSON.parse(await get(url, tls, signal)) as NodeList);
}

function get(url: URL, tls: https.RequestOptions, signal: AbortSignal): Promise<string> {
  const failed = (why: string): Error =>
    runError(`the API server did not list its nodes: ${why}`, { code: 'api-unreachable', where: url.origin });
  return new Promise((resolve, reject) => {
    const request = https.get(url, { ...tls, signal, timeout: 10_000, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
      });
      response.on('error', (error) => reject(failed(error.message)));
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text);
        else reject(failed(`HTTP ${response.statusCode}`));
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 10 s')));
    request.on('error', (error) => reject(signal.aborted ? signal.reason : failed(error.message)));
  });
}

const rolePrefix = 'node-role.kubernetes.io/';

/** The rows of a NodeList, by name. */
export function nodeRows(list: NodeList): NodeRow[] {
  return list.items
    .map(({ metadata, status }) => ({
      name: metadata.name,
      ready: status.conditions.some(({ type, status: state }) => type === 'Ready' && state === 'True'),
      roles:
        Object.keys(metadata.labels ?? {})
          .filter((label) => label.startsWith(rolePrefix))
          .map((label) => label.slice(rolePrefix.length))
          .sort()
          .join(',') || '-',
      version: status.nodeInfo.kubeletVersion,
      address: status.addresses.find(({ type }) => type === 'InternalIP')?.address ?? '-',
      runtime: status.nodeInfo.containerRuntimeVersion,
    }))
    .sort((a, b) => a.name.localeCompare(b.name));
}
