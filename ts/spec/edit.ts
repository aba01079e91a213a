/** Changes to cluster.yaml that commands make for the person: comments, order and everything else stay. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { type Document, isMap, isSeq, parseDocument, type YAMLMap, YAMLSeq } from 'yaml';
import type { Cluster } from '../types/cluster.js';
import type { ClusterHome } from '../types/home.js';
import { displayPath, isDeployed, parseSpec } from './load.js';
import { SpecError } from './problems.js';
import { resolveCluster } from './resolve.js';
import type { SpecInput } from './schema.js';

export type HostInput = SpecInput['hosts'][number];

/** A spec as it would be after a change: checked, and not yet written. */
export interface SpecDraft {
  readonly text: string;
  readonly cluster: Cluster;
}

/**
 * The spec of the home after `change`, which edits the YAML document in place. Nothing is written.
 *
 * @throws SpecError (exit code 2) with all problems, when the result is not a sound spec; also when the spec as it
 *   stands is not
 */
export async function draftSpec(home: ClusterHome, change: (document: Document) => void): Promise<SpecDraft> {
  const shown = displayPath(home.spec);
  const folder = path.dirname(home.spec);
  const options = { deployed: isDeployed(folder) };
  const before = await readFile(home.spec, 'utf8');
  const stands = parseSpec(before, shown, options);
  if (!stands.ok) throw new SpecError(shown, stands.problems);
  const document = parseDocument(before);
  change(document);
  const text = document.toString({ lineWidth: 110 });
  const parsed = parseSpec(text, shown, options);
  if (!parsed.ok) throw new SpecError(shown, parsed.problems);
  return { text, cluster: resolveCluster(parsed.spec, folder) };
}

/** Writes a draft in the place of the spec, in one step. */
export async function writeDraft(home: ClusterHome, draft: SpecDraft): Promise<void> {
  await writeFileAtomic(home.spec, draft.text, { mode: 0o600 });
}

/** Drafts and writes; returns the cluster as it is now. Errors: those of `draftSpec`. */
export async function editSpec(home: ClusterHome, change: (document: Document) => void): Promise<Cluster> {
  const draft = await draftSpec(home, change);
  await writeDraft(home, draft);
  return draft.cluster;
}

/** Puts the Kubernetes version (without a leading v) into the document. */
export function setVersion(document: Document, version: string): void {
  document.setIn(['kubernetes', 'version'], version);
}

/** Adds a host at the end of the list, or replaces the one of the same name. */
export function addHost(document: Document, host: HostInput): void {
  const hosts = hostList(document);
  const node = document.createNode(host);
  const index = hosts.items.findIndex((item) => nameOf(item) === host.name);
  if (index === -1) hosts.add(node);
  else hosts.items[index] = node;
}

/** Takes the host of this name out of the list; false where there is none. */
export function removeHost(document: Document, name: string): boolean {
  const hosts = hostList(document);
  const index = hosts.items.findIndex((item) => nameOf(item) === name);
  if (index === -1) return false;
  hosts.items.splice(index, 1);
  return true;
}

function hostList(document: Document): YAMLSeq {
  const hosts = document.get('hosts');
  if (isSeq(hosts)) return hosts;
  const made = new YAMLSeq();
  document.set('hosts', made);
  return made;
}

function nameOf(item: unknown): unknown {
  return isMap(item) ? (item as YAMLMap).get('name') : undefined;
}
