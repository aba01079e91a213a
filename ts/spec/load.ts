/** Reads a spec: all its problems at once, or a resolved cluster. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Document, LineCounter, parseDocument, visit, type YAMLError } from 'yaml';
import type { Cluster } from '../types/cluster.js';
import { usageError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { type Finding, findingsOf } from './issues.js';
import { type Positions, positionsOf } from './positions.js';
import { type Problem, pathText, SpecError, type SpecPath, sortProblems } from './problems.js';
import { resolveCluster } from './resolve.js';
import { checkRules, type RuleContext } from './rules.js';
import { type Spec, specSchema } from './schema.js';

export type ParsedSpec =
  | { readonly ok: true; readonly spec: Spec }
  | { readonly ok: false; readonly problems: ReadonlyArray<Problem> };

export interface ParseOptions {
  /** Whether the cluster is there already: see `isDeployed`. */
  readonly deployed?: boolean;
}

/** Whether the spec in this folder is that of a cluster which was deployed: it has its certificate authorities. */
export function isDeployed(folder: string): boolean {
  return existsSync(path.join(folder, 'pki', 'etcd-ca.crt'));
}

/**
 * Parses and checks the text of a spec.
 *
 * @param file the name that problems show
 */
export function parseSpec(text: string, file: string, options: ParseOptions = {}): ParsedSpec {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = document.errors.map((error) => yamlProblem(error, lines, file));
  const fail = (): ParsedSpec => ({ ok: false, problems: sortProblems(problems) });
  // After a broken syntax anything else would be guesswork; a key given twice leaves the rest readable.
  if (document.errors.some(({ code }) => code !== 'DUPLICATE_KEY')) return fail();

  const positions = positionsOf(document, lines);
  problems.push(...unresolvedAliases(document, positions, file));
  if (problems.some(({ message }) => message === unknownAnchor)) return fail();
  let root: unknown;
  try {
    // Aliases count double in a plain value: the limit keeps a file from growing without end in memory.
    root = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    const message = `not YAML: ${(error as Error).message}`;
    problems.push({ file, line: 1, column: 1, path: '', message, hint: 'write the values out, without aliases' });
    return fail();
  }
  if (typeof root !== 'object' || root === null || Array.isArray(root)) {
    const empty = root === null || root === undefined;
    problems.push({
      file,
      line: 1,
      column: 1,
      path: '',
      value: root,
      message: empty ? 'the file is empty' : 'the file is not a mapping of keys to values',
      hint: '`k8s-ans init` writes a spec to begin with',
    });
    return fail();
  }

  const { spec, findings, broken } = mend(root);
  const locate = (finding: Finding): Problem => ({
    file,
    ...(finding.place === 'key' ? positions.key(finding.path) : positions.value(finding.path)),
    path: pathText(finding.path),
    value: finding.value,
    message: finding.message,
    hint: finding.hint,
  });
  problems.push(...findings.map(locate));
  if (spec !== undefined) {
    problems.push(...ruleFindings(spec, positions, broken, root, options).map(locate));
    if (problems.length === 0) return { ok: true, spec };
  }
  return fail();
}

/**
 * Reads the spec of a home, or a spec file, and resolves it.
 *
 * @throws SpecError (exit code 2, `spec-invalid`) with all problems
 */
export async function loadCluster(source: ClusterHome | string): Promise<Cluster> {
  return (await loadSpec(source)).cluster;
}

/** As `loadCluster`, with the spec as it was read. */
export async function loadSpec(source: ClusterHome | string): Promise<{ spec: Spec; cluster: Cluster }> {
  const file = path.resolve(typeof source === 'string' ? source : source.spec);
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw usageError(`The spec cannot be read: ${cause.code === 'ENOENT' ? 'there is no such file' : cause.message}.`, {
      code: 'spec-unreadable',
      where: file,
      next: 'Name it with --cluster, or write one with `k8s-ans init`.',
      cause,
    });
  });
  const shown = displayPath(file);
  const parsed = parseSpec(text, shown, { deployed: isDeployed(path.dirname(file)) });
  if (!parsed.ok) throw new SpecError(shown, parsed.problems);
  const cluster = resolveCluster(parsed.spec, path.dirname(file));
  const missing = missingFiles(cluster, parsed.spec, text, shown);
  if (missing.length > 0) throw new SpecError(shown, missing);
  return { spec: parsed.spec, cluster };
}

/** A file as a person sees it: relative to the current folder where it lies below it. */
export function displayPath(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative === '' || relative.startsWith('..') || path.isAbsolute(relative) ? file : relative;
}

/** Files that the spec names and that must be there before anything begins. */
function missingFiles(cluster: Cluster, spec: Spec, text: string, file: string): Problem[] {
  const policy = cluster.audit.policyFile;
  if (policy === undefined || existsSync(policy)) return [];
  const lines = new LineCounter();
  const positions = positionsOf(parseDocument(text, { lineCounter: lines }), lines);
  return [
    {
      file,
      ...positions.value(['audit', 'policyFile']),
      path: 'audit.policyFile',
      value: spec.audit.policyFile,
      message: `"${spec.audit.policyFile}" does not exist (${policy})`,
      hint: "mend the path, or leave it out for the role's policy",
    },
  ];
}

const unknownAnchor = 'the anchor of this alias is not defined above it';

function unresolvedAliases(document: Document, positions: Positions, file: string): Problem[] {
  const problems: Problem[] = [];
  visit(document, {
    Alias(_, node) {
      if (node.resolve(document) !== undefined) return;
      const hint = `define &${node.source} first, or put the text in quotes: "*${node.source}"`;
      problems.push({ file, ...positions.node(node), path: '', message: unknownAnchor, hint });
    },
  });
  return problems;
}

/** What the parser says, in our words where it can be mended by rote. */
function yamlProblem(error: YAMLError, lines: LineCounter, file: string): Problem {
  const { line, col } = lines.linePos(error.pos[0]);
  const place = { file, line: Math.max(line, 1), column: Math.max(col, 1), path: '' };
  const hints: Partial<Record<YAMLError['code'], string>> = {
    DUPLICATE_KEY: 'keep one of the two',
    TAB_AS_INDENT: 'indent with blanks',
    MULTIPLE_DOCS: 'remove the line ---: a file describes one cluster',
    BAD_INDENT: 'compare the indentation with that of the lines above',
    MISSING_CHAR: 'look for a quote or bracket that is not closed',
    BAD_ALIAS: 'put the text in quotes',
  };
  const messages: Partial<Record<YAMLError['code'], string>> = {
    DUPLICATE_KEY: 'this key is already given in the same mapping',
    MULTIPLE_DOCS: 'the file holds more than one document',
    TAB_AS_INDENT: 'YAML does not take tabs as indentation',
  };
  const quote = /^Missing closing (["'])quote$/.exec(error.message)?.[1];
  const said = quote === undefined ? error.message.replace(/\.$/, '') : `a closing ${quote} is missing`;
  const hint = / and end with a /.test(said) ? hints.MISSING_CHAR : hints[error.code];
  return { ...place, message: messages[error.code] ?? `not YAML: ${said}`, hint };
}

/** How often a mended spec is looked at again; each round removes what the one before found. */
const maxRounds = 5;

/**
 * Checks the shape, and makes a spec that the rules can read even where the shape is wrong: faulty values are
 * replaced by their defaults, or by placeholders where there is none, and remembered as broken.
 */
function mend(root: object): { spec: Spec | undefined; findings: Finding[]; broken: SpecPath[] } {
  const findings: Finding[] = [];
  const broken: SpecPath[] = [];
  const copy = structuredClone(root);
  for (let round = 0; round < maxRounds; round += 1) {
    const result = specSchema.safeParse(copy);
    if (result.success) return { spec: result.data, findings, broken };
    const found = result.error.issues.flatMap((issue) => findingsOf(issue, copy));
    for (const finding of found) {
      // What a placeholder or a removed value leads to in its turn says nothing about the file.
      if (round === 0 || !touches(broken, finding.path)) findings.push(finding);
    }
    for (const { path: at, place, meant } of found) {
      if (meant !== undefined) broken.push(meant);
      if (place === 'key') remove(copy, at);
      else replace(copy, at);
      broken.push(at);
    }
  }
  return { spec: undefined, findings, broken };
}

function covers(broken: ReadonlyArray<SpecPath>, at: SpecPath): boolean {
  return broken.some((path) => path.every((step, index) => step === at[index]));
}

/** Whether a broken value lies at the path, above it or below it. */
function touches(broken: ReadonlyArray<SpecPath>, at: SpecPath): boolean {
  return covers(broken, at) || broken.some((path) => covers([at], path));
}

function parentOf(root: object, at: SpecPath): object | undefined {
  return at.slice(0, -1).reduce<unknown>((value, step) => {
    return typeof value === 'object' && value !== null ? Reflect.get(value, step) : undefined;
  }, root) as object | undefined;
}

function remove(root: object, at: SpecPath): void {
  const parent = parentOf(root, at);
  const step = at.at(-1);
  if (parent !== undefined && step !== undefined) Reflect.deleteProperty(parent, step);
}

/** Removes a faulty value; what has no default gets a placeholder from ranges for documentation (RFC 5737). */
function replace(root: object, at: SpecPath): void {
  const parent = parentOf(root, at);
  const step = at.at(-1);
  if (parent === undefined || step === undefined) return;
  const placeholder = (value: unknown): void => void Reflect.set(parent, step, value);
  if (at.length === 1 && step === 'name') placeholder('placeholder');
  else if (at.length === 1 && step === 'hosts') placeholder([placeholderHost(0)]);
  else if (at[0] === 'hosts' && at.length === 2) placeholder(placeholderHost(Number(step)));
  else if (at[0] === 'hosts' && at.length === 3 && (step === 'name' || step === 'address')) {
    placeholder(placeholderHost(Number(at[1]))[step]);
  } else if (Array.isArray(parent)) {
    // An item cannot be left out without moving the others: its list goes.
    replace(root, at.slice(0, -1));
  } else if (at[0] === 'hosts' && at[2] === 'taints' && at.length === 5) replace(root, at.slice(0, 3));
  else Reflect.deleteProperty(parent, step);
}

function placeholderHost(index: number): { name: string; address: string } {
  return { name: `placeholder-${index}`, address: `192.0.2.${index % 256}` };
}

function ruleFindings(
  spec: Spec,
  positions: Positions,
  broken: ReadonlyArray<SpecPath>,
  root: unknown,
  options: ParseOptions,
): Finding[] {
  const findings: Finding[] = [];
  const sound = (...paths: ReadonlyArray<SpecPath>): boolean =>
    paths.every((at) => !covers(broken, at) && !broken.some((path) => isWithinList(path, at)));
  const context: RuleContext = {
    spec,
    deployed: options.deployed ?? false,
    sound,
    given: (at) => positions.given(at) && !covers(broken, at),
    line: (at) => positions.value(at).line,
    report(at, message, hint, uses = [], place = 'value') {
      if (!sound(...uses)) return;
      const value = at.reduce<unknown>(
        (inner, step) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, step) : undefined),
        root,
      );
      findings.push({ path: at, place, value, message, hint });
    },
  };
  checkRules(context);
  return findings;
}

/** Whether a fault at `path` took the list or mapping at `at` with it: all of a host's roles, taints, vars. */
function isWithinList(path: SpecPath, at: SpecPath): boolean {
  return at.length >= 2 && path.length > at.length && at.every((step, index) => step === path[index]);
}
