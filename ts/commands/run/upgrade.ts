/**
 * The upgrade run: the cluster is asked and judged, everything is brought to this machine, and only then the operation
 * begins: the spec says the new version, and the playbook moves the cluster to it.
 */
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { type Catalog, componentsFor, type PreparedBundle } from '../../artifacts/index.js';
import { renderCluster } from '../../render/render.js';
import { writeRendered } from '../../render/write.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import { deployedFacts, readDeployed, writeDeployed } from '../../spec/deployed.js';
import { draftSpec, type SpecDraft, setVersion, writeDraft } from '../../spec/edit.js';
import type { Cluster } from '../../types/cluster.js';
import type { CommandContext } from '../../types/console.js';
import { runError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { findingText, type Look, readLook, refusal } from '../upgrade/look.js';
import { upgradeSteps } from '../upgrade/steps.js';
import { lanesOf, mayTurn } from '../upgrade/target.js';
import { lockedArchitectures, runArtifacts } from './artifacts.js';
import { writeInventory } from './deploy.js';
import { watchDeployed } from './deployed.js';
import { backupEtcd } from './etcd-backup.js';
import { playbookError } from './finish.js';
import {
  beginOperation,
  endOperation,
  type Operation,
  pendingError,
  pendingOperation,
  turnOperation,
  updateOperation,
} from './operation.js';
import { architecturesOf, type HostVerdict, judgePreflight, preflightEvents } from './preflight.js';
import { type FinishedRun, type RunSession, runSession } from './session.js';

export interface UpgradeOptions {
  readonly home: ClusterHome;
  /** The cluster as the spec says it now. */
  readonly cluster: Cluster;
  /** Checked by `checkTarget`. */
  readonly target: string;
  readonly catalog: Catalog;
  /** True: nothing is changed, the steps are shown. */
  readonly check: boolean;
  /** Workers at a time, for Ansible's `serial`. */
  readonly batch: string;
  /** Seconds. */
  readonly drainTimeout: number;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
  /** Asks whether to go on although clients call APIs that the target lacks; throws where the answer is no. */
  readonly agree: (look: Look) => Promise<void>;
  /** Where all artifacts come from; without it, from the spec's source. */
  readonly bundle?: PreparedBundle | undefined;
}

export interface FinishedUpgrade {
  readonly run: FinishedRun;
  readonly look: Look | undefined;
  readonly steps: ReadonlyArray<string>;
  /** True: the cluster was at the target already. */
  readonly nothing: boolean;
}

/** Moves the cluster to the target. What ended the run is in the value returned. */
export async function upgradeCluster(context: CommandContext, options: UpgradeOptions): Promise<FinishedUpgrade> {
  const { home, target, check } = options;
  const draft = await draftSpec(home, (document) => setVersion(document, target));
  let look: Look | undefined;
  let steps: string[] = [];
  let nothing = false;
  const session = { command: 'upgrade', cluster: draft.cluster, home, lock: true, check };
  const run = await runSession(context, session, async (current) => {
    const pending = await pendingUpgrade(home, target);
    await refuseOtherChanges(home, draft.cluster);
    const seen = await lookAtCluster(current, options, pending !== undefined);
    look = pending?.subject === target ? { ...seen.look, from: String(pending.data.from) } : seen.look;
    steps = upgradeSteps({
      cluster: draft.cluster,
      look,
      etcd: versionOf(options.catalog, target, 'etcd'),
      batch: options.batch,
    });
    nothing = look.reached && (pending === undefined || pending.data.from === target);
    if (nothing) {
      if (!check) await settle(current, draft, options.cluster);
      return;
    }
    await options.agree(look);
    if (!check) await carryOut(current, options, { draft, look, pending, verdicts: seen.verdicts });
  });
  return { run, look, steps, nothing };
}

/** The pending upgrade, to this version or one that may be turned to it. */
async function pendingUpgrade(home: ClusterHome, target: string): Promise<Operation | undefined> {
  const pending = await pendingOperation(home);
  if (pending === undefined || (pending.command === 'upgrade' && pending.subject === target)) return pending;
  const { subject, data } = pending;
  if (pending.command !== 'upgrade' || !mayTurn({ subject, from: data.from }, target))
    throw pendingError(home, pending);
  return pending;
}

/** Refuses what `deploy` would refuse as well, but for the version: the roles write all of the spec to the hosts. */
async function refuseOtherChanges(home: ClusterHome, cluster: Cluster): Promise<void> {
  const deployed = await readDeployed(home);
  if (deployed === undefined) return;
  const version = deployed.cluster.kubernetesVersion;
  await refuseForbiddenChanges(home, { ...cluster, kubernetes: { ...cluster.kubernetes, version } });
}

/** Asks the hosts and the cluster; throws what refuses the upgrade. */
async function lookAtCluster(
  session: RunSession,
  options: UpgradeOptions,
  goingOn: boolean,
): Promise<{ look: Look; verdicts: HostVerdict[] }> {
  const { target, catalog } = options;
  await session.step(
    'inventory',
    async () => writeRendered(session.home, renderCluster(options.cluster)),
    (changed) => (changed.length > 0 ? `${changed.join(', ')} written` : 'unchanged'),
  );
  const variables = await writeVariables(session, 'look.json', {
    upgrade_version: target,
    upgrade_lanes: lanesOf(catalog),
    upgrade_going_on: goingOn,
    upgrade_refuse: false,
  });
  const result = await session.playbook('upgrade_look', {
    extraVars: [variables],
    passThrough: session.context.passThrough ?? [],
  });
  const preflight = preflightEvents(session.events);
  const alone = preflight.length === session.events.length;
  const verdicts = judgePreflight(session, preflight, {
    stats: result.stats,
    outcome: alone ? result.outcome : 'done',
  });
  const look = readLook(session.events);
  if (look === undefined) throw playbookError(session, options.again);
  for (const notice of look.notices) session.context.console.warn(findingText(notice));
  if (look.problems.length > 0) throw refusal(look, session.folder.log);
  return { look, verdicts };
}

/** The spec says what the cluster runs already, and no upgrade is pending any more. */
async function settle(session: RunSession, draft: SpecDraft, before: Cluster): Promise<void> {
  if (before.kubernetes.version !== draft.cluster.kubernetes.version) await writeDraft(session.home, draft);
  await writeInventory(session);
  const deployed = await readDeployed(session.home);
  if (deployed !== undefined && deployed.cluster.kubernetesVersion !== draft.cluster.kubernetes.version) {
    const { kubernetesVersion } = deployedFacts(draft.cluster);
    await writeDeployed(session.home, { ...deployed.cluster, kubernetesVersion }, deployed.state);
  }
  await endOperation(session.home);
}

interface Plan {
  readonly draft: SpecDraft;
  readonly look: Look;
  readonly pending: Operation | undefined;
  readonly verdicts: ReadonlyArray<HostVerdict>;
}

async function carryOut(session: RunSession, options: UpgradeOptions, plan: Plan): Promise<void> {
  const { home, folder, context } = session;
  const { target, again } = options;
  // What cannot be had is known before anything has begun.
  const known = await lockedArchitectures(home);
  const architectures = known.length > 0 ? known : architecturesOf(plan.verdicts);
  await runArtifacts(session, architectures, context.signal, options.bundle);
  if (plan.pending === undefined) {
    await beginOperation(home, { command: 'upgrade', subject: target, again, data: { from: plan.look.from } });
  } else if (plan.pending.subject !== target) {
    await turnOperation(home, { subject: target, again });
  }
  await writeDraft(home, plan.draft);
  await writeInventory(session);
  // Once for the operation: a later one would hold what an interrupted upgrade has done already.
  if (plan.pending?.data.snapshot === undefined) {
    const { snapshot } = await backupEtcd(session, { again });
    await updateOperation(home, { snapshot: snapshot.file });
  }
  const variables = await writeVariables(session, 'upgrade.json', {
    upgrade_batch: options.batch,
    upgrade_drain_timeout: options.drainTimeout,
    upgrade_lanes: lanesOf(options.catalog),
    upgrade_going_on: plan.pending !== undefined,
  });
  const passThrough = context.passThrough ?? [];
  const watch = await watchDeployed(home, plan.draft.cluster);
  let done = false;
  try {
    const result = await session.playbook('upgrade', {
      extraVars: [folder.artifacts, variables],
      // Both were done just now.
      passThrough: ['--skip-tags', 'preflight,snapshot', ...passThrough],
      onEvent: watch.handle,
    });
    if (result.outcome !== 'done') throw playbookError(session, again);
    done = true;
  } finally {
    // What was left out by arguments for ansible-playbook is not known.
    await watch.end(done && passThrough.length === 0);
  }
  await endOperation(home);
}

async function writeVariables(session: RunSession, name: string, variables: object): Promise<string> {
  const file = path.join(session.folder.root, name);
  await writeFileAtomic(file, `${JSON.stringify(variables)}\n`, { mode: 0o600 });
  return file;
}

/** The version of a component that goes with a Kubernetes version. */
function versionOf(catalog: Catalog, kubernetes: string, component: string): string {
  const found = componentsFor(catalog, kubernetes).find(({ name }) => name === component);
  if (found === undefined) throw runError(`the catalog has no ${component}`, { code: 'artifacts-no-component' });
  return found.version;
}
