/**
 * Reads the assignments of a shell script without running it.
 *
 * A general bash parser is not needed: environment.sh holds assignments only. What is understood: comments, `export`,
 * plain words, both kinds of quotes, arrays over several lines, `$NAME` of a variable assigned above, and `$(…)` or
 * backquotes, which are noticed and not run.
 */

export interface Assignment {
  readonly name: string;
  /** From 1. */
  readonly line: number;
  /** A text, or the words of an array. */
  readonly value: string | ReadonlyArray<string>;
  /** True where the value holds a command substitution: it is known to the shell alone. */
  readonly dynamic: boolean;
}

export interface ShellScript {
  readonly assignments: ReadonlyArray<Assignment>;
  /** Lines that are no assignment, as they stand. */
  readonly others: ReadonlyArray<{ readonly line: number; readonly text: string }>;
}

interface Word {
  readonly text: string;
  readonly dynamic: boolean;
}

/** Reads a script's assignments, in its order. */
export function readAssignments(script: string): ShellScript {
  const assignments: Assignment[] = [];
  const others: { line: number; text: string }[] = [];
  const known = new Map<string, string>();
  let at = 0;

  const line = (): number => script.slice(0, at).split('\n').length;
  const peek = (): string => script[at] ?? '';
  const skip = (pattern: RegExp): string => {
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = at;
    const [found = ''] = sticky.exec(script) ?? [];
    at += found.length;
    return found;
  };

  /** Past `$(…)`, with the brackets inside it. */
  const skipSubstitution = (): void => {
    let depth = 0;
    do {
      if (peek() === '(') depth += 1;
      if (peek() === ')') depth -= 1;
      at += 1;
    } while (depth > 0 && at < script.length);
  };

  const expansion = (): Word => {
    if (peek() === '`') {
      skip(/`[^`]*`?/);
      return { text: '', dynamic: true };
    }
    if (script.startsWith('$(', at)) {
      at += 1;
      skipSubstitution();
      return { text: '', dynamic: true };
    }
    const written = skip(/\$\{[A-Za-z_]\w*\}|\$[A-Za-z_]\w*/);
    if (written === '') {
      at += 1;
      return { text: '$', dynamic: false };
    }
    const name = written.replace(/[${}]/g, '');
    return { text: known.get(name) ?? written, dynamic: false };
  };

  const word = (): Word => {
    let text = '';
    let dynamic = false;
    const add = (part: Word): void => {
      text += part.text;
      dynamic ||= part.dynamic;
    };
    while (at < script.length && !/[\s;()#]/.test(peek())) {
      const character = peek();
      if (character === "'") text += skip(/'[^']*'?/).replace(/^'|'$/g, '');
      else if (character === '"') {
        at += 1;
        while (at < script.length && peek() !== '"') {
          if (peek() === '\\') text += skip(/\\[\s\S]?/).slice(1);
          else if (peek() === '$' || peek() === '`') add(expansion());
          else text += skip(/[^"\\$`]+/);
        }
        at += 1;
      } else if (character === '$' || character === '`') add(expansion());
      else if (character === '\\') text += skip(/\\[\s\S]?/).slice(1);
      // A # begins a comment only between words.
      else text += skip(/[^\s;()'"$`\\]+/);
    }
    return { text, dynamic };
  };

  const array = (): { words: string[]; dynamic: boolean } => {
    const words: string[] = [];
    let dynamic = false;
    at += 1;
    for (;;) {
      skip(/(\s|#[^\n]*)+/);
      if (at >= script.length) break;
      if (peek() === ')') {
        at += 1;
        break;
      }
      const before = at;
      const next = word();
      // Something that is no word (a stray bracket): step over it.
      if (at === before) at += 1;
      else words.push(next.text);
      dynamic ||= next.dynamic;
    }
    return { words, dynamic };
  };

  while (at < script.length) {
    skip(/(\s|;)+/);
    if (at >= script.length) break;
    if (peek() === '#') {
      skip(/[^\n]*/);
      continue;
    }
    const start = at;
    const startLine = line();
    skip(/(export|readonly|declare)([ \t]+-\w+)*[ \t]+/);
    const name = skip(/[A-Za-z_]\w*(?==)/);
    if (name === '') {
      at = start;
      others.push({ line: startLine, text: skip(/[^\n]*/).trim() });
      continue;
    }
    at += 1;
    if (peek() === '(') {
      const { words, dynamic } = array();
      assignments.push({ name, line: startLine, value: words, dynamic });
    } else {
      const value = word();
      assignments.push({ name, line: startLine, value: value.text, dynamic: value.dynamic });
      if (!value.dynamic) known.set(name, value.text);
    }
  }
  return { assignments, others };
}
