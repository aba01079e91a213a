/** The preflight step: looks at all hosts, changes nothing, and refuses with every host's reasons. */
import { z } from 'zod';
import type { RunResult } from '../../playbook/run.js';
import type { Architecture } from '../../types/cluster.js';
import { ExitCode, K8sAnsError } from '../../types/errors.js';
import type { ResultEvent, RunEvent } from '../../types/events.js';
import type { PlaybookOptions, RunSession } from './session.js';

/** The task that judges all hosts together; a failure of its own is no host's. */
const JUDGE = 'k8s_ans.cluster.preflight';

const finding = z.object({ host: z.string(), code: z.string(), message: z.string(), next: z.string().optional() });

/** What the preflight module says of all hosts (ansible/plugins/modules/preflight.py). */
const judgement = z.object({
  architecture: z.record(z.string(), z.string()),
  problems: z.array(finding),
  notices: z.array(finding).default([]),
});

type Finding = z.infer<typeof finding>;
type Judgement = z.infer<typeof judgement>;

export interface HostVerdict {
  readonly host: string;
  readonly architecture: Architecture | undefined;
  readonly problems: ReadonlyArray<string>;
  /** Worth knowing, but no reason to refuse. */
  readonly warnings: ReadonlyArray<string>;
}

/** Preflight found reasons not to touch the hosts: exit code 3. */
export class PreflightError extends K8sAnsError {
  readonly hosts: ReadonlyArray<HostVerdict>;

  constructor(hosts: ReadonlyArray<HostVerdict>, where: string) {
    const refused = hosts.filter((host) => host.problems.length > 0);
    const reasons = refused.flatMap(({ host, problems }) => [
      `  ${host}:`,
      ...problems.map((problem) => `    - ${problem.replaceAll('\n', '\n      ')}`),
    ]);
    super(`preflight refused ${refused.length} of ${hosts.length} hosts; nothing was changed\n${reasons.join('\n')}`, {
      code: 'preflight-refused',
      exitCode: ExitCode.preflightRefused,
      where,
      next: 'Mend what is named above, then run the command again.',
    });
    this.hosts = hosts;
  }
}

/**
 * Runs the preflight playbook.
 *
 * @returns what was found on every host
 * @throws {PreflightError} when any host has a problem or cannot be reached
 */
export async function runPreflight(session: RunSession, options: PlaybookOptions): Promise<HostVerdict[]> {
  const from = session.events.length;
  const result = await session.playbook('preflight', {
    limit: options.limit,
    passThrough: session.context.passThrough ?? [],
  });
  return judgePreflight(session, session.events.slice(from), result);
}

/** The events of a playbook that begins with preflight, up to its next play. */
export function preflightEvents(events: ReadonlyArray<RunEvent>): RunEvent[] {
  const next = events.findIndex((event) => event.event === 'play_start' && event.phase !== 'preflight');
  return events.slice(0, next === -1 ? undefined : next);
}

/**
 * Shows what preflight's events warn of.
 *
 * @throws {PreflightError} when any host has a problem or cannot be reached
 */
export function judgePreflight(
  session: RunSession,
  events: ReadonlyArray<RunEvent>,
  result: Pick<RunResult, 'stats' | 'outcome'>,
): HostVerdict[] {
  const verdicts = readVerdicts(events, result);
  for (const { host, warnings } of verdicts) {
    for (const warning of warnings) session.context.console.warn(`${host}: ${warning}`);
  }
  if (verdicts.some((verdict) => verdict.problems.length > 0)) throw new PreflightError(verdicts, session.folder.log);
  const broken = events.find((event) => event.event === 'result' && event.status === 'failed');
  if (broken || (result.outcome !== 'done' && !events.some(isJudgement))) {
    const why = broken?.event === 'result' ? `: ${broken.msg}` : '';
    throw new K8sAnsError(`preflight could not judge the hosts${why}`, {
      code: 'preflight-incomplete',
      exitCode: ExitCode.runFailed,
      where: session.folder.log,
      next: 'Read the log, then run the command again.',
    });
  }
  return verdicts;
}

function isJudgement(event: RunEvent): boolean {
  return event.event === 'result' && event.preflight !== undefined;
}

/** What the events of a preflight run say about each host. */
export function readVerdicts(events: ReadonlyArray<RunEvent>, result: Pick<RunResult, 'stats'>): HostVerdict[] {
  const hosts = new Set<string>(Object.keys(result.stats ?? {}));
  for (const event of events) if (event.event === 'play_start') for (const host of event.hosts) hosts.add(host);
  const results = events.filter((event): event is ResultEvent => event.event === 'result');
  const judgements = results.flatMap(({ preflight }) => {
    const parsed = judgement.safeParse(preflight);
    return parsed.success ? [parsed.data] : [];
  });
  const refused = judgements.some(({ problems }) => problems.length > 0);
  return [...hosts].map((host) => {
    const own = results.filter((event) => event.host === host);
    const silent = own.find((event) => event.status === 'unreachable' || event.unreachable);
    const of = (findings: (one: Judgement) => Finding[]): string[] =>
      // Ssh's own words say more than "did not answer".
      judgements
        .flatMap(findings)
        .filter((one) => one.host === host && !(silent && one.code === 'unreachable'))
        .map(findingText);
    const problems = of((one) => one.problems);
    if (silent) problems.push(unreachableText(silent));
    // A host on which the check cannot run, e.g. for want of Python or of rights.
    const broken = own.find((event) => event.status === 'failed' && event.module !== JUDGE);
    if (broken && !refused) problems.push(broken.msg ?? 'a check failed');
    const architecture = judgements
      .map((one) => one.architecture[host])
      .find((name) => name === 'amd64' || name === 'arm64');
    return { host, architecture, problems: [...new Set(problems)], warnings: of((one) => one.notices) };
  });
}

/** ssh's own words tell what is wrong; what to do about it they do not. */
function unreachableText(event: ResultEvent): string {
  const said = event.msg ?? '';
  const advice = /host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/i.test(said)
    ? 'Compare the host key with the one in known_hosts, and pin the right one; it is never accepted unseen.'
    : /permission denied/i.test(said)
      ? 'See that the key (ssh.privateKey in the spec) is authorized for this user on the host.'
      : 'See that the host runs, that its address and port in the spec are right, and that sshd answers.';
  return `it cannot be reached: ${said.replace(/^Task failed: /, '')}\n${advice}`;
}

function findingText({ message, next }: Finding): string {
  return `${message}${next ? `\n${next[0]?.toUpperCase()}${next.slice(1)}.` : ''}`.replace(/\.\.$/, '.');
}

/** The architectures of all hosts. */
export function architecturesOf(verdicts: ReadonlyArray<HostVerdict>): Architecture[] {
  return [...new Set(verdicts.flatMap((verdict) => verdict.architecture ?? []))].sort();
}
