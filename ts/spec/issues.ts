/** Zod's issues as problems that a person can act on. */
import { distance } from 'fastest-levenshtein';
import type { z } from 'zod';
import { pathText, type SpecPath } from './problems.js';
import { specSchema } from './schema.js';
import { defaultVersion } from './versions.js';

/** An issue in our own words. `place` says whether the key or the value is at fault. */
export interface Finding {
  readonly path: SpecPath;
  readonly place: 'key' | 'value';
  readonly value?: unknown;
  readonly message: string;
  readonly hint?: string | undefined;
  /** The field that an unknown key is taken for: nothing can be said about its value. */
  readonly meant?: SpecPath | undefined;
}

type Issue = z.core.$ZodIssue;

/** What other tools and the guide call a field of ours, and where that goes here. */
const otherNames: Readonly<Record<string, string>> = {
  podcidr: 'write network.pods',
  podsubnet: 'write network.pods',
  clustercidr: 'write network.pods',
  servicecidr: 'write network.services',
  servicesubnet: 'write network.services',
  nodeportrange: 'write network.nodePorts',
  clusterdns: 'write network.dnsAddress',
  clusterdomain: 'write network.dnsDomain',
  kubernetesversion: 'write kubernetes.version',
  masters: 'write hosts with roles: [masters]',
  nodes: 'write hosts with roles: [nodes]',
  workers: 'write hosts with roles: [nodes]',
  ip: 'write address',
  hostname: 'write name',
  kind: 'remove it: a spec has no kind',
  metadata: 'write name at the top level',
  '<<': 'repeat the values: merge keys are not supported',
};

const plain = (key: string): string => key.toLowerCase().replace(/[-_]/g, '');

/** The inner schema without its defaults and optional marks. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  const { innerType } = schema._zod.def as { innerType?: z.core.$ZodType };
  return innerType === undefined ? schema : bare(innerType);
}

/** The schema at a path of the spec; undefined where the path leaves it. */
function schemaAt(path: SpecPath): z.core.$ZodType | undefined {
  return path.reduce<z.core.$ZodType | undefined>((schema, step) => {
    if (schema === undefined) return undefined;
    const definition = bare(schema)._zod.def as {
      shape?: Record<string, z.core.$ZodType>;
      element?: z.core.$ZodType;
      valueType?: z.core.$ZodType;
    };
    return definition.shape?.[String(step)] ?? definition.element ?? definition.valueType;
  }, specSchema);
}

function keysAt(path: SpecPath): string[] {
  const schema = schemaAt(path);
  if (schema === undefined) return [];
  return Object.keys((bare(schema)._zod.def as { shape?: object }).shape ?? {});
}

function descriptionAt(path: SpecPath): string | undefined {
  return (schemaAt(path) as { description?: string } | undefined)?.description;
}

/** All paths of the schema that end in the key, in the schema's order. */
function pathsTo(key: string, path: SpecPath = []): string[] {
  return keysAt(path).flatMap((name) => {
    const here = [...path, name];
    const below = pathsTo(key, here);
    return plain(name) === plain(key) ? [pathText(here), ...below] : below;
  });
}

/** The candidate that is nearest to what was written, if one is near. */
export function nearest(written: string, candidates: ReadonlyArray<string>): string | undefined {
  const [best] = candidates
    .map((name) => ({ name, steps: distance(plain(written), plain(name)) }))
    .sort((one, other) => one.steps - other.steps);
  // Two letters in the wrong order are two steps.
  const most = Math.max(written.length > 3 ? 2 : 1, Math.floor(written.length / 3));
  return best !== undefined && best.steps <= most ? best.name : undefined;
}

function unknownKeyHint(path: SpecPath, key: string): string {
  const known = keysAt(path);
  const near = nearest(key, known);
  if (near !== undefined) return `did you mean "${near}"?`;
  const other = otherNames[plain(key)];
  if (other !== undefined) return other;
  const [elsewhere] = pathsTo(key);
  if (elsewhere !== undefined) return `it belongs at ${elsewhere}`;
  return known.length === 0 ? 'remove it' : `known here: ${known.join(', ')}`;
}

/** A value in a message: short, and never a whole mapping. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…"` : text;
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
};

function typeHint(expected: string, value: unknown, path: SpecPath): string | undefined {
  if (value === null) return 'give a value or delete the line';
  if (pathText(path) === 'kubernetes.version') return `write the whole version, such as ${defaultVersion}`;
  if (expected === 'object') return `write it as a mapping of ${keysAt(path).join(', ')}`;
  if (expected === 'string' && ['number', 'boolean'].includes(typeof value)) return `put it in quotes: "${value}"`;
  if (expected === 'boolean' && typeof value === 'string') {
    if (/^(yes|on|y|true)$/i.test(value)) return 'write true';
    if (/^(no|off|n|false)$/i.test(value)) return 'write false';
  }
  if (['int', 'number'].includes(expected) && typeof value === 'string' && /^\d+$/.test(value)) {
    return `write it without quotes: ${value}`;
  }
  if (expected === 'array' && typeof value !== 'object') return `write it as a list: [${value}]`;
  if (expected === 'array') return 'begin each item with "- "';
  return undefined;
}

/** The range of a number's schema, in words. */
function rangeAt(path: SpecPath): string {
  const schema = schemaAt(path);
  const { minValue, maxValue } = (schema === undefined ? {} : bare(schema)) as { minValue?: number; maxValue?: number };
  return `a whole number from ${minValue} to ${maxValue}`;
}

function hintOf(issue: Issue): string | undefined {
  return issue.code === 'custom' ? (issue.params?.hint as string | undefined) : undefined;
}

function valueAt(root: unknown, path: SpecPath): unknown {
  return path.reduce<unknown>(
    (value, step) => (typeof value === 'object' && value !== null ? Reflect.get(value, step) : undefined),
    root,
  );
}

/** Turns one zod issue into findings (an issue can name several keys). */
export function findingsOf(issue: Issue, root: unknown): Finding[] {
  const path = issue.path as SpecPath;
  const value = valueAt(root, path);
  const finding = (message: string, hint?: string): Finding[] => [{ path, place: 'value', value, message, hint }];

  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const near = nearest(key, keysAt(path));
        return {
          path: [...path, key],
          place: 'key',
          value: valueAt(root, [...path, key]),
          message: 'is not a known key',
          hint: unknownKeyHint(path, key),
          meant: near === undefined ? undefined : [...path, near],
        };
      });
    case 'invalid_key': {
      const [inner] = issue.issues;
      return [
        {
          path,
          place: 'key',
          value: path.at(-1),
          message: inner?.message ?? 'is not a valid key',
          hint: inner === undefined ? undefined : hintOf(inner),
        },
      ];
    }
    case 'invalid_type': {
      if (value === undefined) {
        const description = descriptionAt(path);
        return finding('is required, and missing', description === undefined ? undefined : `add it: ${description}`);
      }
      const expected = typeNames[issue.expected] ?? issue.expected;
      const message = value === null ? `has no value, ${expected} is expected` : `${shown(value)} is not ${expected}`;
      return finding(message, typeHint(issue.expected, value, path));
    }
    case 'invalid_value': {
      if (value === undefined) return finding('is required, and missing', `one of ${issue.values.join(', ')}`);
      const values = issue.values.map(String);
      const near = typeof value === 'string' ? nearest(value, values) : undefined;
      const message =
        values.length === 1
          ? `${shown(value)} is not ${values[0]}`
          : `${shown(value)} is not one of ${values.join(', ')}`;
      return finding(message, near === undefined ? undefined : `did you mean ${near}?`);
    }
    case 'too_small':
    case 'too_big':
      if (Array.isArray(value)) return finding('is empty', 'give at least one item');
      return finding(`${shown(value)} is not ${rangeAt(path)}`);
    case 'invalid_union':
      return finding(`${shown(value)} ${issue.message}`, unionHint(value, issue));
    case 'custom':
      return finding(issue.message, hintOf(issue));
    default:
      return finding(`${shown(value)}: ${issue.message}`);
  }
}

function unionHint(value: unknown, issue: Extract<Issue, { code: 'invalid_union' }>): string | undefined {
  const words = issue.errors
    .flat()
    .flatMap((inner) => (inner.code === 'invalid_value' ? inner.values.map(String) : []));
  if (typeof value === 'string') {
    if (URL.canParse(value)) return `write {mirror: ${value}}`;
    if (words.includes(value)) return `write it without quotes: ${value}`;
    const near = nearest(value, words);
    return near === undefined ? undefined : `did you mean ${near}?`;
  }
  const isMapping = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isMapping ? 'give one of the keys mirror and directory, and nothing else' : undefined;
}
