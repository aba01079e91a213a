/** Kubeconfigs: rendered with everything embedded, and merged into a user's own file. */
import { type Document, isMap, isSeq, parseDocument, stringify, YAMLMap, YAMLSeq } from 'yaml';
import { usageError } from '../types/errors.js';

export interface KubeconfigContent {
  /** Name of the cluster and context entries. */
  readonly cluster: string;
  readonly user: string;
  readonly server: string;
  /** All PEM. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/** The text of a kubeconfig; the same input gives the same bytes. */
export function renderKubeconfig(content: KubeconfigContent): string {
  const embed = (pem: string): string => Buffer.from(pem, 'utf8').toString('base64');
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: content.cluster,
          cluster: { server: content.server, 'certificate-authority-data': embed(content.authority) },
        },
      ],
      users: [
        {
          name: content.user,
          user: {
            'client-certificate-data': embed(content.certificate),
            'client-key-data': embed(content.key),
          },
        },
      ],
      contexts: [{ name: content.cluster, context: { cluster: content.cluster, user: content.user } }],
      'current-context': content.cluster,
    },
    { lineWidth: 0 },
  );
}

export interface MergedKubeconfig {
  readonly text: string;
  /** Entries that were there under the same name with another content, e.g. `cluster k8s`. */
  readonly replaced: ReadonlyArray<string>;
  /** The context that is current in the merged file. */
  readonly currentContext: string;
}

/** What the embedded credentials would contradict; kubectl refuses a CA beside `insecure-skip-tls-verify`. */
const CONTRADICTIONS: Readonly<Record<string, ReadonlyArray<string>>> = {
  cluster: ['certificate-authority', 'insecure-skip-tls-verify', 'tls-server-name'],
  user: ['client-certificate', 'client-key', 'token', 'tokenFile', 'username', 'password', 'exec', 'auth-provider'],
  context: [],
};

/**
 * Merges one kubeconfig into another, keeping comments, order and every field that it does not know.
 *
 * Entries of the same name are replaced; the current context stays, unless there is none.
 *
 * @throws K8sAnsError `kubeconfig-unreadable` if the target is no kubeconfig; nothing of its content is quoted.
 */
export function mergeKubeconfig(target: string | undefined, source: string, where: string): MergedKubeconfig {
  const from = parseDocument(source);
  const into = parseDocument(target?.trim() ? target : source);
  if (into.errors.length > 0 || !isMap(into.contents)) {
    const position = into.errors[0]?.linePos?.[0];
    throw usageError('This kubeconfig cannot be read, so nothing is merged into it.', {
      code: 'kubeconfig-unreadable',
      where: position ? `${where}:${position.line}:${position.col}` : where,
      next: 'Mend or move the file, or write the kubeconfig to a file of its own with --output.',
    });
  }
  const replaced: string[] = [];
  for (const [list, field] of [
    ['clusters', 'cluster'],
    ['users', 'user'],
    ['contexts', 'context'],
  ] as const) {
    for (const entry of items(from, list)) {
      if (mergeEntry(into, list, field, entry)) replaced.push(`${field} ${String(entry.get('name'))}`);
    }
  }
  for (const key of ['apiVersion', 'kind']) if (!into.get(key)) into.set(key, from.get(key));
  if (!into.get('current-context')) into.set('current-context', from.get('current-context'));
  return {
    text: into.toString({ lineWidth: 0 }),
    replaced,
    currentContext: String(into.get('current-context')),
  };
}

/** Puts the entry into the list of the same name; true if that changed an entry that was there. */
function mergeEntry(into: Document, list: string, field: string, entry: YAMLMap): boolean {
  const name = entry.get('name');
  const values = entry.get(field) as YAMLMap;
  const existing = items(into, list).find((candidate) => candidate.get('name') === name);
  if (existing === undefined) {
    if (!isSeq(into.get(list))) into.set(list, new YAMLSeq());
    (into.get(list) as YAMLSeq).flow = false;
    (into.get(list) as YAMLSeq).add(entry);
    return false;
  }
  const before = JSON.stringify(existing.toJSON());
  if (!isMap(existing.get(field))) existing.set(field, new YAMLMap());
  const target = existing.get(field) as YAMLMap;
  for (const key of CONTRADICTIONS[field] ?? []) target.delete(key);
  for (const pair of values.items) target.set(String(pair.key), values.get(String(pair.key)));
  return JSON.stringify(existing.toJSON()) !== before;
}

function items(document: Document, list: string): YAMLMap[] {
  const sequence = document.get(list);
  return isSeq(sequence) ? sequence.items.filter((item): item is YAMLMap => isMap(item)) : [];
}
