/** Certificates on the hosts: seeing those in use, and rolling out what the PKI folder has. */
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { imageReferences } from '../../artifacts/index.js';
import { ensurePki } from '../../pki/ensure.js';
import { type Observation, readObservation } from '../../pki/observed.js';
import type { ResultEvent } from '../../types/events.js';
import { writeInventory } from './deploy.js';
import { playbookError } from './finish.js';
import type { RunSession } from './session.js';

/** The phases of `deploy` that write certificates, kubeconfigs and CAs, and the check of what came of it. */
const CERTIFICATE_PHASES = 'etcd,masters,nodes,addons,check';

export interface RolloutOptions {
  readonly limit?: string | undefined;
  /** The command line that goes on from a run that did not end well. */
  readonly again: string;
  /** Leaves to issue again: see `EnsureOptions`. */
  readonly renew?: ReadonlyMap<string, string>;
}

/**
 * Brings the PKI folder to what its CAs say and the spec wants, and the hosts to what the PKI folder has: masters and
 * etcd members one after another where they work. Needs no artifacts: pods keep the images that they have.
 *
 * @throws K8sAnsError when the run did not end well
 */
export async function rollOutCertificates(session: RunSession, step: string, options: RolloutOptions): Promise<void> {
  const { cluster, home, context } = session;
  await writeInventory(session);
  await session.step(
    step,
    () => ensurePki(cluster, home, { signal: context.signal, ...(options.renew ? { renew: options.renew } : {}) }),
    ({ created, replaced }) =>
      created.length + replaced.length > 0 ? `${created.length} files made, ${replaced.length} replaced` : 'unchanged',
  );
  const images = path.join(session.folder.root, 'images.json');
  const variables = { k8s_images: await imageReferences(cluster, home) };
  await writeFileAtomic(images, `${JSON.stringify(variables)}\n`, { mode: 0o600 });
  const result = await session.playbook('deploy', {
    limit: options.limit,
    tags: CERTIFICATE_PHASES,
    extraVars: [images],
    // The hosts were judged before the operation began.
    passThrough: ['--skip-tags', 'preflight', ...(context.passThrough ?? [])],
  });
  if (result.outcome !== 'done') throw playbookError(session, options.again);
}

/** Asks all hosts for the certificates that they hold and serve. A host that does not answer is said to be silent. */
export async function observeCertificates(session: RunSession, limit?: string): Promise<Observation> {
  const from = session.events.length;
  await session.playbook('certificates', { limit });
  const results = session.events.slice(from).filter((event): event is ResultEvent => event.event === 'result');
  const seen = results.flatMap(({ host, certificates }) =>
    certificates === undefined ? [] : [readObservation(host, certificates)],
  );
  const lost = results.filter(({ status }) => status === 'failed' || status === 'unreachable');
  return {
    certificates: seen.flatMap(({ certificates }) => certificates),
    silent: [
      ...lost.map(({ host, status, msg }) => ({
        host,
        place: '',
        reason: `${status === 'unreachable' ? 'it cannot be reached' : 'it could not be looked at'}: ${msg ?? 'no message'}`,
      })),
      ...seen.flatMap(({ silent }) => silent),
    ],
  };
}
