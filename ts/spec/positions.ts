/** Where the values of a YAML document stand. */
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, type LineCounter, type Node, type Pair } from 'yaml';
import type { SpecPath } from './problems.js';

export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface Positions {
  /** Of the value at the path, or of the nearest thing around it that the file has. */
  value(path: SpecPath): Position;
  /** Of the key at the end of the path, or of the nearest thing around it. */
  key(path: SpecPath): Position;
  node(node: Node): Position;
  /** Whether the file itself has the value. */
  given(path: SpecPath): boolean;
}

interface Found {
  readonly key: Node | undefined;
  readonly value: Node | undefined;
}

/** The positions of a parsed document. */
export function positionsOf(document: Document, lines: LineCounter): Positions {
  const follow = (node: unknown): unknown => (isAlias(node) ? node.resolve(document) : node);

  const child = (parent: Node | undefined, step: string | number): Found | undefined => {
    const node = follow(parent);
    if (isMap(node)) {
      const pair = (node.items as Pair[]).find(({ key }) => String(isScalar(key) ? key.value : key) === String(step));
      if (pair === undefined) return undefined;
      return { key: isNode(pair.key) ? pair.key : undefined, value: isNode(pair.value) ? pair.value : undefined };
    }
    if (isSeq(node) && typeof step === 'number') {
      const item = node.items[step];
      return isNode(item) ? { key: undefined, value: item } : undefined;
    }
    return undefined;
  };

  const walk = (path: SpecPath): { found: Found; depth: number } => {
    let found: Found = { key: undefined, value: isNode(document.contents) ? document.contents : undefined };
    let depth = 0;
    for (const step of path) {
      const next = child(found.value, step);
      if (next === undefined) break;
      found = next;
      depth += 1;
    }
    return { found, depth };
  };

  const at = (node: Node | undefined): Position => {
    const offset = node?.range?.[0];
    if (offset === undefined) return { line: 1, column: 1 };
    const { line, col } = lines.linePos(offset);
    // An offset at the very end of an empty file has no line yet.
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };

  const isEmpty = (node: Node | undefined): boolean => isScalar(node) && node.value === null;

  return {
    value(path) {
      const { found, depth } = walk(path);
      // Of what the file lacks, the key above it is the place; of an item of a list, the item.
      if (depth < path.length || isEmpty(found.value)) return at(found.key ?? found.value);
      return at(found.value ?? found.key);
    },
    key(path) {
      const { found } = walk(path);
      return at(found.key ?? found.value);
    },
    node: at,
    given(path) {
      return walk(path).depth === path.length;
    },
  };
}
