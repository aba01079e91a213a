/** `k8s-ans certs rotate-ca`: replaces CAs in stages, so that at no moment one component distrusts another. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import type { Run } from '../../cli/register.js';
import { signedBy } from '../../pki/observed.js';
import { AUTHORITY_NAMES, type AuthorityName } from '../../pki/plan.js';
import {
  demote,
  discardNext,
  prepareNext,
  promoteNext,
  type RotationStage,
  retirePrevious,
  rotationStage,
} from '../../pki/rotation.js';
import { readPair } from '../../pki/store.js';
import { nextPath, previousPath } from '../../pki/trust.js';
import { plural } from '../../report/format.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import { loadCluster } from '../../spec/load.js';
import { clusterOption, locateCluster } from '../../spec/locate.js';
import type { CommandContext } from '../../types/console.js';
import { runError, usageError } from '../../types/errors.js';
import type { ResultEvent } from '../../types/events.js';
import { observeCertificates, rollOutCertificates } from '../run/certificates.js';
import { finishRun, playbookError, runResult } from '../run/finish.js';
import { beginOperation, endOperation, pendingOperation, updateOperation } from '../run/operation.js';
import { runPreflight } from '../run/preflight.js';
import { type RunSession, runSession } from '../run/session.js';

/** The stages in their order. */
const STAGES = ['trust', 'reissue', 'finish'] as const;
type Stage = (typeof STAGES)[number];

interface RotateOptions {
  readonly cluster?: string;
  readonly until?: Exclude<Stage, 'finish'>;
  readonly undo?: boolean;
}

const journal = z.object({
  /** The stage that was begun last. */
  stage: z.enum(STAGES),
  undo: z.boolean(),
});

/** How long a kubelet's new certificate may take to be asked for, approved and signed. */
const PATIENCE_MS = 120_000;
const PAUSE_MS = 5_000;

export function addRotate(certs: Command, run: Run): void {
  certs
    .command('rotate-ca')
    .description('replace CAs in stages: all trust old and new, all is issued again by the new, the old is dropped')
    .argument('[ca]', `${AUTHORITY_NAMES.join(', ')} or all`, parseAuthorities, AUTHORITY_NAMES)
    .option('--cluster <name|folder|file>', clusterOption)
    .addOption(
      new Option('--until <stage>', 'stop after this stage; the same command without it goes on').choices(
        STAGES.slice(0, -1),
      ),
    )
    .option('--undo', 'go back to the old CA, as long as it is not dropped')
    .action((names: ReadonlyArray<AuthorityName>, options: RotateOptions) =>
      run((context) => rotate(context, names, options)),
    );
}

function parseAuthorities(value: string): ReadonlyArray<AuthorityName> {
  if (value === 'all') return AUTHORITY_NAMES;
  const name = AUTHORITY_NAMES.find((candidate) => candidate === value);
  if (name === undefined) throw new InvalidArgumentError(`Name one of ${AUTHORITY_NAMES.join(', ')}, or all.`);
  return [name];
}

async function rotate(
  context: CommandContext,
  names: ReadonlyArray<AuthorityName>,
  options: RotateOptions,
): Promise<void> {
  const { console } = context;
  if (options.undo && options.until !== undefined) {
    throw usageError('--undo and --until exclude each other.', {
      code: 'usage',
      next: 'Say --undo to go back, or --until to stop after a stage.',
    });
  }
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const subject = names.length === AUTHORITY_NAMES.length ? 'all' : String(names[0]);
  const whole = `k8s-ans certs rotate-ca ${subject}${options.cluster ? ` --cluster ${options.cluster}` : ''}`;
  const again = `${whole}${options.until ? ` --until ${options.until}` : ''}${options.undo ? ' --undo' : ''}`;
  const settings = { command: 'certs rotate-ca', cluster, home, lock: true, check: false };
  let reached = 'trust' as Stage;
  let oldPods: ReadonlyArray<string> = [];
  const done = await runSession(context, settings, async (session) => {
    const stages = await Promise.all(names.map((name) => rotationStage(home, name)));
    if (options.undo && stages.every((stage) => stage === 'none') && (await pendingOperation(home)) === undefined) {
      throw nothingToUndo();
    }
    await refuseForbiddenChanges(home, cluster);
    await runPreflight(session, {});
    const data = { stage: firstStage(stages, options.undo === true), undo: options.undo === true };
    const begun = await beginOperation(home, { command: 'certs rotate-ca', subject, again, data });
    let { stage, undo } = journal.parse(begun.operation.data);
    if (options.undo && !undo) {
      if (stage === 'finish') throw cannotUndo(subject, home.pki);
      ({ stage, undo } = data);
      await updateOperation(home, data);
    }
    if (begun.resumed) console.info(`Going on at the stage "${stage}".`);
    const rotation: Rotation = { session, names, again, undo };
    for (const current of STAGES.slice(STAGES.indexOf(stage))) {
      await updateOperation(home, { stage: current });
      if (current === 'trust') oldPods = await trust(rotation);
      else if (current === 'reissue') await reissue(rotation);
      else await finish(rotation);
      reached = current;
      if (current === options.until) break;
    }
    await endOperation(home);
  });
  finishRun(context, done, again);
  if (oldPods.length > 0) console.warn(oldPodsText(oldPods));
  console.info(
    reached === 'finish'
      ? closingText(names, options.undo === true)
      : `Stopped after the stage "${reached}". Go on with \`${whole}\`, or go back with \`${whole} --undo\`.`,
  );
  console.result('certs-rotate-ca', { ...runResult(done), authorities: names, stage: reached, oldPods });
}

/** Where a rotation begins that no journal tells of: after `--until`, where that stopped. */
function firstStage(stages: ReadonlyArray<RotationStage>, undo: boolean): Stage {
  return undo || stages.every((stage) => stage === 'reissue') ? 'reissue' : 'trust';
}

interface Rotation {
  readonly session: RunSession;
  readonly names: ReadonlyArray<AuthorityName>;
  readonly again: string;
  readonly undo: boolean;
}

/**
 * A new CA beside the old one, and all hosts and pods told to trust both. What signs, and all certificates, stay.
 *
 * @returns pods that may still trust the old CA alone
 */
async function trust({ session, names, again }: Rotation): Promise<ReadonlyArray<string>> {
  const { cluster, home } = session;
  for (const name of names) {
    if ((await rotationStage(home, name)) !== 'reissue') await prepareNext(cluster, home, name);
  }
  await rollOutCertificates(session, 'trust both', { again });
  // Pods know the kubernetes CA only.
  if (!names.includes('kubernetes')) return [];
  const from = session.events.length;
  const result = await session.playbook('trust', {});
  if (result.outcome !== 'done') throw playbookError(session, again);
  return session.events
    .slice(from)
    .filter((event): event is ResultEvent => event.event === 'result')
    .flatMap((event) => event.old_pods ?? []);
}

/** The new CA signs (undoing: the old one again), and whatever the other one signed is issued again. */
async function reissue({ session, names, again, undo }: Rotation): Promise<void> {
  for (const name of names) await (undo ? demote : promoteNext)(session.home, name);
  await rollOutCertificates(session, 'issue again', { again });
}

/** Drops the CA that signs no more, once nothing of it is in use anywhere. */
async function finish({ session, names, again, undo }: Rotation): Promise<void> {
  const { home } = session;
  const pairs = await Promise.all(names.map((name) => readPair(home, undo ? nextPath(name) : previousPath(name))));
  const leaving = pairs.flatMap(({ certificate }) => certificate ?? []);
  // None: this stage was interrupted when they were dropped already.
  if (leaving.length > 0) await waitUntilUnused(session, leaving, again);
  for (const name of names) await (undo ? discardNext : retirePrevious)(home, name);
  await rollOutCertificates(session, 'trust one', { again });
}

/** @throws K8sAnsError `ca-in-use`, naming host and place, when a certificate of it stays in use */
async function waitUntilUnused(session: RunSession, authorities: ReadonlyArray<string>, again: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { certificates, silent } = await observeCertificates(session);
    const used = signedBy(certificates, authorities).map(({ host, place }) => `${host}: ${place}`);
    const unknown = silent.map(({ host, place, reason }) => `${host}: ${place ? `${place}: ` : ''}${reason}`);
    if (used.length === 0 && unknown.length === 0) return;
    if (Date.now() > deadline) {
      const reasons = [
        ...used.map((text) => `  - ${text} has a certificate of it`),
        ...unknown.map((text) => `  - ${text}`),
      ];
      throw runError(`The CA that is to go is still in use, or may be:\n${reasons.join('\n')}`, {
        code: 'ca-in-use',
        where: session.home.pki,
        next: `Nothing distrusts anything yet. Mend what is named, or remove a host that is gone from the spec; then run \`${again}\`.`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    session.context.signal.throwIfAborted();
  }
}

function oldPodsText(pods: ReadonlyArray<string>): string {
  const shown = pods.slice(0, 20).map((pod) => `  ${pod}`);
  const rest = pods.length > shown.length ? [`  and ${pods.length - shown.length} more`] : [];
  return [
    `${plural(pods.length, 'pod')} started before the new CA was trusted. Those whose program reads ca.crt only when it starts go on with the old CA: API servers stay verifiable for them until that one ends, kubelets do not. Restart them when it suits you:`,
    ...shown,
    ...rest,
  ].join('\n');
}

function closingText(names: ReadonlyArray<AuthorityName>, undone: boolean): string {
  if (undone) return 'Back to the old CA; the new one is trusted nowhere.';
  const text = 'Replaced. The old CA is trusted nowhere, and its key is gone from this machine.';
  return names.includes('kubernetes')
    ? `${text}\nEvery copy of the kubeconfig is void: fetch it anew (k8s-ans kubeconfig --output or --merge). Certificates that users were given from the old CA are void as well.`
    : text;
}

function nothingToUndo(): Error {
  return usageError('No rotation is under way, so there is nothing to go back to.', {
    code: 'rotation-none',
    next: 'An old CA that has been dropped cannot be brought back; rotate again for a new one.',
  });
}

function cannotUndo(subject: string, where: string): Error {
  return usageError(`The last stage of the rotation (${subject}) has begun: the old CA may be gone from some hosts.`, {
    code: 'rotation-finishing',
    where,
    next: 'Go on without --undo.',
  });
}
