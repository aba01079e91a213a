/** `k8s-ans completion`: a script that completes commands and options in a shell. */
import { Argument, type Command } from 'commander';
import type { Register } from '../cli/register.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const INSTALL: Readonly<Record<Shell, string>> = {
  bash: 'source <(k8s-ans completion bash)',
  zsh: 'source <(k8s-ans completion zsh)   # after compinit',
  fish: 'k8s-ans completion fish > ~/.config/fish/completions/k8s-ans.fish',
};

export const register: Register = (program, run) => {
  program
    .command('completion')
    .description('print a completion script for a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText('after', `\nTo use it:\n${SHELLS.map((shell) => `  ${INSTALL[shell]}`).join('\n')}`)
    .action((shell: Shell) =>
      run(async ({ console }) => {
        const script = completionScript(program, shell);
        console.print(script);
        console.result('completion', { shell, script });
      }),
    );
};

interface Node {
  /** The commands to here, e.g. `certs show`; empty for the program. */
  readonly path: string;
  readonly commands: ReadonlyArray<{ readonly name: string; readonly text: string }>;
  readonly options: ReadonlyArray<{ readonly flags: ReadonlyArray<string>; readonly text: string }>;
}

/** The program's commands and options, flattened. */
function nodesOf(program: Command): Node[] {
  const globals = optionsOf(program);
  const walk = (command: Command, path: ReadonlyArray<string>): Node[] => [
    {
      path: path.join(' '),
      commands: command.commands.map((child) => ({ name: child.name(), text: child.description() })),
      options: path.length === 0 ? globals : [...optionsOf(command), ...globals],
    },
    ...command.commands.flatMap((child) => walk(child, [...path, child.name()])),
  ];
  return walk(program, []);
}

function optionsOf(command: Command): Node['options'] {
  return command
    .createHelp()
    .visibleOptions(command)
    .map((option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined),
      text: option.description,
    }));
}

/** The script for one shell, generated from the program itself. */
export function completionScript(program: Command, shell: Shell): string {
  const nodes = nodesOf(program);
  if (shell === 'bash') return bashScript(nodes);
  return shell === 'zsh' ? zshScript(nodes) : fishScript(nodes);
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Shell lines that walk the words typed so far to the node they stand for. */
function pathCases(nodes: ReadonlyArray<Node>): string {
  return nodes
    .filter((node) => node.path !== '')
    .map((node) => `      ${quote(node.path)}) path="$next" ;;`)
    .join('\n');
}

function bashScript(nodes: ReadonlyArray<Node>): string {
  const words = nodes
    .map((node) => {
      const names = [
        ...node.commands.map((command) => command.name),
        ...node.options.flatMap((option) => option.flags),
      ];
      return `    ${quote(node.path)}) words=${quote(names.join(' '))} ;;`;
    })
    .join('\n');
  return `# bash completion for k8s-ans
_k8s_ans() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" next word words="" index
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    [[ "$word" == -- ]] && { COMPREPLY=($(compgen -f -- "$current")); return; }
    next="\${path:+$path }$word"
    case "$next" in
${pathCases(nodes)}
    esac
  done
  case "$path" in
${words}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _k8s_ans k8s-ans`;
}

function zshScript(nodes: ReadonlyArray<Node>): string {
  const described = (name: string, text: string): string => quote(`${name.replaceAll(':', '\\:')}:${text}`);
  const words = nodes
    .map((node) => {
      const found = [
        ...node.commands.map(({ name, text }) => described(name, text)),
        ...node.options.flatMap(({ flags, text }) => flags.map((flag) => described(flag, text))),
      ];
      return `    ${quote(node.path)}) found=(${found.join(' ')}) ;;`;
    })
    .join('\n');
  return `#compdef k8s-ans
_k8s_ans() {
  local path_ next word
  local -a found
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ "$word" == -- ]] && { _files; return; }
    next="\${path_:+$path_ }$word"
    case "$next" in
${pathCases(nodes).replaceAll('path="$next"', 'path_="$next"')}
    esac
  done
  case "$path_" in
${words}
  esac
  _describe 'k8s-ans' found || _files
}
compdef _k8s_ans k8s-ans`;
}

function fishScript(nodes: ReadonlyArray<Node>): string {
  const lines = nodes.flatMap((node) => {
    const test = `-n ${quote(`test (__k8s_ans_path) = '${node.path}'`)}`;
    return [
      ...node.commands.map(({ name, text }) => `complete -c k8s-ans ${test} -f -a ${quote(name)} -d ${quote(text)}`),
      ...node.options.map(({ flags, text }) => {
        const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
        return `complete -c k8s-ans ${test} ${names.join(' ')} -d ${quote(text)}`;
      }),
    ];
  });
  const known = nodes.filter((node) => node.path !== '').map((node) => quote(node.path));
  return `# fish completion for k8s-ans
function __k8s_ans_path
  set -l path ''
  for word in (commandline -opc)[2..-1]
    set -l next (string trim -- "$path $word")
    contains -- $next ${known.join(' ')}; and set path $next
  end
  echo "$path"
end
${lines.join('\n')}`;
}
