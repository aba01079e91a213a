/** YAML for Ansible: deterministic, and read by PyYAML (YAML 1.1) as it was meant. */
import { Scalar, stringify } from 'yaml';

/** A text that Ansible evaluates, of ours and on purpose. */
export class Jinja {
  constructor(readonly template: string) {}
}

/**
 * The YAML of a value. Mappings keep their order; give `sorted` ones where the order has no meaning.
 *
 * A text of the user's that looks like a Jinja template is marked `!unsafe`, so that Ansible takes it as it is.
 */
export function ansibleYaml(value: unknown): string {
  // Version 1.1: "yes", "on", "012" and 12:30 get quotes, which PyYAML needs.
  return stringify(guard(value), { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
}

/** A mapping with sorted keys, at every depth. */
export function sorted<T>(value: T): T {
  if (Array.isArray(value)) return value.map(sorted) as T;
  if (typeof value !== 'object' || value === null || value instanceof Jinja) return value;
  const entries = Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, inner]) => [key, sorted(inner)]);
  return Object.fromEntries(entries) as T;
}

function guard(value: unknown): unknown {
  if (value instanceof Jinja) return quotedScalar(value.template);
  if (typeof value === 'string' && /\{[{%#]/.test(value)) {
    const scalar = quotedScalar(value);
    scalar.tag = '!unsafe';
    return scalar;
  }
  if (Array.isArray(value)) return value.map(guard);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, guard(inner)]));
}

function quotedScalar(text: string): Scalar {
  const scalar = new Scalar(text);
  scalar.type = 'QUOTE_DOUBLE';
  return scalar;
}
