/** Installs what this machine lacks, after saying how and asking. */
import { confirm, isCancel } from '@clack/prompts';
import { execa } from 'execa';
import { asRoot } from '../../lab/root.js';
import type { CommandContext } from '../../types/console.js';
import { ExitCode, environmentError, K8sAnsError } from '../../types/errors.js';
import type { Finding, System } from './checks.js';
import { ensureGo, goPlan } from './go.js';

/** What is to be done, each step as the person is told of it. */
export interface FixPlan {
  /** Commands as they are run, with sudo where this is not root. */
  readonly commands: ReadonlyArray<ReadonlyArray<string>>;
  /** The version of Go to put into the cache. */
  readonly go?: string | undefined;
  /** What k8s-ans cannot do here. */
  readonly manual: ReadonlyArray<string>;
}

/**
 * What mends the findings on a system. Pure.
 *
 * @param available the packages that apt knows, of those wanted; undefined: all
 */
export function planFix(
  findings: ReadonlyArray<Finding>,
  system: Pick<System, 'apt'>,
  available?: ReadonlySet<string>,
  uid: number | undefined = process.getuid?.(),
): FixPlan {
  const packages = new Set<string>();
  const manual: string[] = [];
  let go: string | undefined;
  for (const finding of findings.filter(({ ok }) => !ok)) {
    const { remedy } = finding;
    if (remedy.kind === 'go' && process.platform === 'linux') go = remedy.version;
    else if (remedy.kind === 'apt' && system.apt) for (const name of remedy.packages) packages.add(name);
    else manual.push(finding.manual);
  }
  const install = [...packages].filter((name) => available?.has(name) ?? true).sort();
  const commands =
    packages.size === 0
      ? []
      : [
          asRoot(['apt-get', 'update'], uid),
          asRoot(
            [
              'env',
              'DEBIAN_FRONTEND=noninteractive',
              'apt-get',
              'install',
              '--yes',
              '--no-install-recommends',
              ...install,
            ],
            uid,
          ),
        ];
  return { commands, go, manual: [...new Set(manual)] };
}

/** The packages that findings want and apt knows. Debian 12 has docker's command in docker.io, 13 in docker-cli. */
async function knownPackages(context: CommandContext, findings: ReadonlyArray<Finding>): Promise<Set<string>> {
  const wanted = findings.flatMap(({ ok, remedy }) => (!ok && remedy.kind === 'apt' ? remedy.packages : []));
  const known = new Set<string>();
  for (const name of new Set(wanted)) {
    const result = await execa('apt-cache', ['show', '--no-all-versions', name], {
      reject: false,
      stdin: 'ignore',
      cancelSignal: context.signal,
    });
    context.signal.throwIfAborted();
    // Before the first `apt-get update` apt knows nothing: then all are wanted but the one that only some systems have.
    if (result.exitCode === 0 || (result.exitCode !== 0 && name !== 'docker-cli')) known.add(name);
  }
  return known;
}

/**
 * Mends the findings as far as possible here: says what it will do, asks (or takes --yes), does it.
 *
 * @throws K8sAnsError exit code 4 if it cannot ask, is refused, or a command fails.
 */
export async function fix(context: CommandContext, findings: ReadonlyArray<Finding>, system: System): Promise<void> {
  const plan = planFix(findings, system, await knownPackages(context, findings));
  if (plan.commands.length === 0 && plan.go === undefined) return;
  const steps = [
    ...plan.commands.map((words) => words.join(' ')),
    ...(plan.go === undefined ? [] : await goPlan(context, plan.go)),
  ];
  context.console.info(`To be done:\n${steps.map((step) => `  ${step}`).join('\n')}`);
  await agree(context);
  for (const [file, ...args] of plan.commands as ReadonlyArray<[string, ...string[]]>) {
    const result = await execa(file, args, {
      env: context.env,
      extendEnv: false,
      reject: false,
      // With --json stdout is the result's.
      stdio: ['inherit', context.console.json ? process.stderr : 'inherit', 'inherit'],
      cancelSignal: context.signal,
    });
    context.signal.throwIfAborted();
    if (result.exitCode !== 0) {
      throw environmentError(`\`${[file, ...args].join(' ')}\` failed`, {
        code: 'doctor-fix',
        next: 'Its own words are above. Mend the cause, then run `k8s-ans doctor --fix` again.',
        cause: result,
      });
    }
  }
  if (plan.go !== undefined) await ensureGo(context, plan.go);
}

async function agree(context: CommandContext): Promise<void> {
  if (context.yes === true) return;
  if (!context.console.interactive || process.stdin.isTTY !== true) {
    throw environmentError('nobody can be asked whether this may be installed', {
      code: 'doctor-not-agreed',
      next: 'Say so with --yes, or run the commands yourself.',
    });
  }
  const answer = await confirm({ message: 'Do this now?' });
  if (isCancel(answer)) {
    throw new K8sAnsError('interrupted', { code: 'interrupted', exitCode: ExitCode.interrupted });
  }
  if (!answer) {
    throw environmentError('nothing was installed', {
      code: 'doctor-not-agreed',
      next: 'Run the commands yourself, or run this one again.',
    });
  }
}
