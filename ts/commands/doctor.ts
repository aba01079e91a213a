/** `k8s-ans doctor`: what this machine lacks, and its mending. */
import pc from 'picocolors';
import { defaultVersion, loadCatalog } from '../artifacts/index.js';
import type { Register } from '../cli/register.js';
import type { CommandContext } from '../types/console.js';
import { environmentError, usageError } from '../types/errors.js';
import { mustBuild } from './doctor/build.js';
import { examine, type Finding, type Scope, scopes, thisSystem } from './doctor/checks.js';
import { fix, planFix } from './doctor/fix.js';

interface DoctorOptions {
  readonly fix?: boolean;
  readonly tests?: boolean;
  readonly only?: string;
}

export const register: Register = (program, run) => {
  program
    .command('doctor')
    .description('say what this machine lacks for deploying, for the lab, and for building the binaries')
    .option('--fix', 'install what is missing, after saying how (with --yes: without asking)')
    .option('--only <what>', `only what these need, of ${scopes.join(', ')} (separated by commas)`)
    .option('--tests', "what the project's own tests need as well")
    .action((options: DoctorOptions) =>
      run(async (context) => {
        const wanted = scopesOf(options);
        const scopes = options.only === undefined ? await withoutIdleBuild(context, wanted) : wanted;
        await doctor(context, { scopes, fix: options.fix === true });
      }),
    );
};

function scopesOf(options: DoctorOptions): Scope[] {
  if (options.only === undefined)
    return options.tests === true ? [...scopes] : scopes.filter((scope) => scope !== 'tests');
  const names = options.only.split(',').map((name) => name.trim());
  const unknown = names.filter((name) => !scopes.some((scope) => scope === name));
  if (unknown.length > 0) {
    throw usageError(`--only does not know ${unknown.join(', ')}`, {
      code: 'doctor-scope',
      next: `Choose from ${scopes.join(', ')}.`,
    });
  }
  return scopes.filter((scope) => names.includes(scope) || (scope === 'tests' && options.tests === true));
}

/** Leaves out what building needs where nothing will be built. */
async function withoutIdleBuild(context: CommandContext, wanted: ReadonlyArray<Scope>): Promise<Scope[]> {
  if (await mustBuild(context, { kind: 'auto' }, defaultVersion(loadCatalog()))) {
    return [...wanted];
  }
  context.console.info('The publishers of the binaries can be reached: nothing needs to be built here (--only build).');
  return wanted.filter((scope) => scope !== 'build');
}

export interface DoctorRun {
  readonly scopes: ReadonlyArray<Scope>;
  readonly fix: boolean;
  /** True: say nothing where nothing is missing (for commands that begin with a check). */
  readonly quiet?: boolean;
}

/**
 * Examines this machine, mends it if asked to, and says what is missing.
 *
 * @throws K8sAnsError exit code 4 if something needed is missing at the end.
 */
export async function doctor(context: CommandContext, options: DoctorRun): Promise<Finding[]> {
  const system = await thisSystem();
  let findings = await examine(context, options.scopes);
  const lacking = (): Finding[] => findings.filter(({ ok }) => !ok);
  if (options.quiet !== true || lacking().length > 0) context.console.print(describe(findings, context.console.color));
  if (options.fix && lacking().length > 0) {
    await fix(context, findings, system);
    const before = new Set(lacking().map(({ id }) => id));
    findings = await examine(context, options.scopes);
    const mended = findings.filter(({ ok, id }) => ok && before.has(id));
    if (mended.length > 0) context.console.print(describe(mended, context.console.color));
  }
  if (options.quiet !== true) context.console.result('doctor', { system, findings });
  const missing = lacking();
  if (missing.length === 0) return findings;
  const { commands, manual } = planFix(missing, system);
  throw environmentError(`this machine lacks: ${missing.map(({ what }) => what).join('; ')}`, {
    code: 'doctor-missing',
    where: system.name,
    next:
      options.fix || (commands.length === 0 && manual.length === missing.length)
        ? manual.join(' ') || 'See above.'
        : 'Run `k8s-ans doctor --fix`, which says first what it will do.',
  });
}

/** The findings as lines for people. */
export function describe(findings: ReadonlyArray<Finding>, color: boolean): string {
  const colors = pc.createColors(color);
  return findings
    .map((finding) => {
      const { ok, found, what, why } = finding;
      const state = ok ? (found ?? what) : `${what}: ${found === undefined ? 'missing' : `${found} is too old`}`;
      return `${ok ? colors.green('✔') : colors.red('✘')} ${state} ${colors.dim(`(${why})`)}`;
    })
    .join('\n');
}
