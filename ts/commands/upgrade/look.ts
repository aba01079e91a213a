/** What the cluster answered about its versions (ansible/plugins/modules/cluster_versions.py). */
import { z } from 'zod';
import { ExitCode, K8sAnsError } from '../../types/errors.js';
import type { ResultEvent, RunEvent } from '../../types/events.js';

const text = z.string().nullable();
const finding = z.object({ host: text.optional(), code: z.string(), message: z.string(), next: z.string() });
const member = z.object({ host: z.string(), version: text, problem: text });
const api = z.object({ api: z.string(), removed_release: z.string() });

const lookSchema = z.object({
  target: z.string(),
  /** The oldest version that an API server or a kubelet runs. */
  from: text,
  /** All API servers and kubelets run the target, and no node is closed by an upgrade. */
  reached: z.boolean(),
  api_servers: z.array(member),
  etcd: z.array(member),
  nodes: z.array(
    z.object({
      name: z.string(),
      version: z.string(),
      ready: z.boolean(),
      closed: z.boolean(),
      /** Closed for pods by k8s-ans. */
      ours: z.boolean(),
    }),
  ),
  problems: z.array(finding),
  notices: z.array(finding),
  /** Called by clients, and not served by the target. */
  removed_apis: z.array(api),
  later_removed_apis: z.array(api),
});

export type Look = z.infer<typeof lookSchema>;
type Finding = z.infer<typeof finding>;

/** The last look among the events, or undefined. */
export function readLook(events: ReadonlyArray<RunEvent>): Look | undefined {
  const found = events.findLast(
    (event): event is ResultEvent => event.event === 'result' && event.upgrade !== undefined,
  );
  const parsed = lookSchema.safeParse(found?.upgrade);
  return parsed.success ? parsed.data : undefined;
}

/** A finding as a line: where, what, and what to do. */
export function findingText({ host, message, next }: Finding): string {
  return `${host ? `${host}: ` : ''}${message}\n      next: ${next}`;
}

/** The error that refuses an upgrade: exit code 3, with all reasons. */
export function refusal(look: Look, where: string): K8sAnsError {
  const [first] = look.problems;
  return new K8sAnsError(
    `the upgrade to ${look.target} is refused; nothing was changed\n${look.problems.map((one) => `    - ${findingText(one)}`).join('\n')}`,
    {
      code: first?.code.startsWith('skew-') ? first.code : 'upgrade-refused',
      exitCode: ExitCode.preflightRefused,
      where,
      next: 'Mend what is named above, then run the command again.',
    },
  );
}
