/** The lab's cluster.yaml: what the lab's hosts need beyond the defaults, each with its reason. */
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { Document, isMap, parseDocument, type YAMLMap } from 'yaml';
import type { CommandContext } from '../types/console.js';
import type { MachineFacts } from './machine.js';
import type { LabPlan } from './plan.js';
import type { LabHome } from './state.js';

/** The part of a spec that follows from the lab's hosts: it is written anew when they change. */
function hostPart(plan: LabPlan): unknown[] {
  return plan.hosts
    .filter(({ role }) => role !== 'spares')
    .map((host) => ({ name: host.name, address: host.address, roles: [host.role] }));
}

/** The hosts of the plan's spec, to tell whether it has others than another plan's. */
export function specHosts(plan: LabPlan): string[] {
  return plan.hosts.filter(({ role }) => role !== 'spares').map(({ name, address }) => `${name} ${address}`);
}

/** The lab's whole spec, with comments, for a machine as in `facts`. */
export function labSpec(plan: LabPlan, facts: MachineFacts): string {
  const kubelet: Record<string, unknown> = {};
  if (facts.cgroupVersion === 1) kubelet.failCgroupV1 = false;
  kubelet.failSwapOn = false;
  kubelet.imageGCHighThresholdPercent = 100;
  kubelet.evictionHard = { 'memory.available': '100Mi', 'nodefs.available': '0%', 'imagefs.available': '0%' };
  const document = new Document({
    apiVersion: 'k8s-ans/v1',
    name: plan.name,
    hosts: hostPart(plan),
    ssh: { user: 'root', privateKey: 'ssh/id_ed25519', knownHosts: 'ssh/known_hosts' },
    network: { hosts: plan.network.subnet },
    kubelet: { config: kubelet },
    kubeProxy: { config: { conntrack: { maxPerCore: 0 } } },
    runtime: {
      cgroupDriver: facts.cgroupVersion === 1 ? 'cgroupfs' : 'systemd',
      ...(facts.sysResource ? {} : { restrictOomScoreAdj: true }),
    },
    hostprep: { packages: false, firewall: 'ignore', swapOff: false, timeSync: false },
    requirements: { masterMemoryMiB: 1024, nodeMemoryMiB: 512, cpus: 1, diskGiB: 2 },
  });
  document.commentBefore =
    ` The lab "${plan.name}", written by \`k8s-ans lab up\` for the machine it runs on.\n` +
    ' It rewrites `hosts` when the lab gets other hosts, and leaves the rest as it stands.';
  const remark = (keys: string[], text: string): void => {
    const parent = document.getIn(keys.slice(0, -1), true) as YAMLMap;
    const pair = parent.items.find((item) => String(item.key) === keys.at(-1));
    const node = pair?.key as { commentBefore?: string } | undefined;
    if (node !== undefined) node.commentBefore = ` ${text}`;
  };
  remark(['kubelet', 'config', 'failCgroupV1'], 'This machine has cgroup v1.');
  remark(
    ['kubelet', 'config', 'failSwapOn'],
    facts.swap
      ? 'This machine has swap, and the lab leaves it on.'
      : "The machine's swap is left alone, now and later.",
  );
  remark(
    ['kubelet', 'config', 'imageGCHighThresholdPercent'],
    "The hosts' disk is the machine's: its being full is no fault of theirs.",
  );
  remark(
    ['kubeProxy', 'config', 'conntrack', 'maxPerCore'],
    'The limit belongs to the machine: a container cannot set it.',
  );
  remark(
    ['runtime', 'cgroupDriver'],
    facts.cgroupVersion === 1 ? 'This machine has cgroup v1.' : 'This machine has cgroup v2.',
  );
  remark(['runtime', 'restrictOomScoreAdj'], 'Processes here lack CAP_SYS_RESOURCE.');
  remark(
    ['hostprep', 'packages'],
    "The image has all packages; the hosts reach no mirror. Kernel, clock and swap are the machine's.",
  );
  return nodesOf(document);
}

function nodesOf(document: Document): string {
  return document.toString({ lineWidth: 110 });
}

/** `text`, a lab's spec, with the plan's hosts in it; undefined if it has them already. */
export function withHosts(text: string, plan: LabPlan): string | undefined {
  const document = parseDocument(text);
  if (document.errors.length > 0 || !isMap(document.contents)) return undefined;
  const wanted = hostPart(plan) as Array<Record<string, unknown>>;
  const current = (document.toJS() as { hosts?: Array<Record<string, unknown>> }).hosts ?? [];
  const key = (hosts: Array<Record<string, unknown>>): string =>
    JSON.stringify(hosts.map((host) => [host.name, host.address]));
  if (key(current) === key(wanted)) return undefined;
  const merged = wanted.map((host) => ({
    ...host,
    ...current.find((other) => other.name === host.name && other.address === host.address),
  }));
  document.set('hosts', document.createNode(merged));
  return document.toString({ lineWidth: 110 });
}

/**
 * Writes cluster.yaml if it is absent, or if the plan has other hosts than it was written for last.
 *
 * What `node add` and `node remove` made of it since then stays.
 *
 * @param writtenFor `specHosts` of the plan it was written for
 */
export async function ensureSpec(
  context: CommandContext,
  home: LabHome,
  plan: LabPlan,
  facts: MachineFacts,
  writtenFor?: ReadonlyArray<string>,
): Promise<void> {
  await mkdir(home.root, { recursive: true, mode: 0o700 });
  const existing = await readFile(home.spec, 'utf8').catch(() => undefined);
  if (existing !== undefined && String(specHosts(plan)) === String(writtenFor)) return;
  const text = existing === undefined ? labSpec(plan, facts) : withHosts(existing, plan);
  if (text === undefined) return;
  await writeFileAtomic(home.spec, text, { mode: 0o600 });
  context.console.info(`Wrote ${path.relative(context.cwd, home.spec)}`);
}
