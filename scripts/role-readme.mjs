// Writes each role's README.md from its argument specs and defaults; `--check` only says which are stale.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseDocument } from 'yaml';

const root = path.dirname(import.meta.dirname);
const roles = path.join(root, 'roles');
const check = process.argv.includes('--check');

const shared = defaultsOf('k8s');
const examples = readFileSync(path.join(root, 'docs', 'ansible', 'roles.yml'), 'utf8').split('\n\n');
const playbooks = ['preflight', 'prepare', 'converge', 'reset', 'upgrade'].map((name) => [
  name,
  parse(readFileSync(path.join(root, 'ansible', 'playbooks', `${name}.yml`), 'utf8')),
]);

/** The defaults as they are written, since many hold Jinja expressions. */
function defaultsOf(role) {
  const document = parseDocument(readFileSync(path.join(roles, role, 'defaults', 'main.yml'), 'utf8'));
  const values = new Map();
  for (const pair of document.contents?.items ?? []) {
    values.set(pair.key.value, pair.value?.toJSON?.() ?? null);
  }
  return values;
}

function cell(value) {
  if (value === undefined) return '';
  const text = typeof value === 'string' ? value.trim().replace(/\s+/g, ' ') : JSON.stringify(value);
  if (text === '') return '`""`';
  return `\`${(text.length > 90 ? 'see defaults/main.yml' : text).replaceAll('|', '\\|')}\``;
}

/** A tasks file beside main that can be called by its own name. */
function partOf(name, { short_description, description, options }, defaults) {
  return [
    `## \`tasks_from: ${name}\``,
    '',
    `${short_description}. ${[description].flat().join(' ')}`,
    '',
    ...(Object.keys(options).length === 0 ? [] : tableOf(options, defaults)),
  ];
}

function tableOf(options, defaults) {
  return [
    '| variable | type | default | what |',
    '| --- | --- | --- | --- |',
    ...Object.entries(options).map(
      ([key, option]) =>
        `| \`${key}\` | ${option.type} | ${option.required && !defaults.has(key) ? 'required' : cell(defaults.get(key))} | ${option.description} |`,
    ),
    '',
  ];
}

/** The role's play in docs/ansible/roles.yml, which is checked as a playbook. */
function exampleOf(role) {
  const found = examples.find(
    (play) => play.includes(`- role: k8s_ans.cluster.${role}\n`) || play.trimEnd().endsWith(`.${role}`),
  );
  if (!found) throw new Error(`docs/ansible/roles.yml has no play with the role ${role}`);
  return found.replace(/^(---|#.*)\n/gm, '').trimEnd();
}

/** The tags with which the playbooks run the role, or tasks of it. */
function tagsOf(role) {
  const name = `k8s_ans.cluster.${role}`;
  const tags = new Set();
  for (const [, plays] of playbooks.filter(([playbook]) => playbook !== 'upgrade' || role === 'upgrade')) {
    for (const play of plays) {
      const uses = [
        ...(play.roles ?? []).filter((entry) => entry.role === name),
        ...(play.tasks ?? []).filter((task) => task['ansible.builtin.import_role']?.name === name),
      ];
      for (const use of uses) for (const tag of [play.tags ?? [], use.tags ?? []].flat()) tags.add(tag);
    }
  }
  return [...tags];
}

function tagsText(role) {
  const tags = role === 'k8s' ? [] : tagsOf(role);
  if (tags.length === 0) return [];
  const list = tags.map((tag) => `\`${tag}\``).join(' or ');
  return ['## Tags', '', `The playbooks run it with the tag ${list}.`, ''];
}

function readme(role) {
  const specs = parse(readFileSync(path.join(roles, role, 'meta', 'argument_specs.yml'), 'utf8')).argument_specs;
  const { [role === 'k8s' ? 'variables' : 'main']: main, ...parts } = specs;
  const defaults = defaultsOf(role);
  const rows = (names) =>
    names.map(([name, option]) => {
      const type = option.choices ? option.choices.map((choice) => `\`${choice}\``).join(', ') : option.type;
      const given = defaults.has(name) ? defaults.get(name) : shared.get(name);
      return `| \`${name}\` | ${type} | ${given === undefined && option.required ? 'required' : cell(given)} | ${option.description} |`;
    });
  const table = (names) => [
    '| variable | type or choices | default | what |',
    '| --- | --- | --- | --- |',
    ...rows(names),
    '',
  ];
  const common = Object.entries(main.options).filter(([name]) => role !== 'k8s' && name.startsWith('k8s_'));
  const own = Object.entries(main.options).filter((entry) => !common.some(([name]) => name === entry[0]));
  return [
    `# ${role}`,
    '',
    `${main.short_description}.`,
    '',
    [main.description].flat().join('\n\n'),
    '',
    ...(common.length === 0
      ? []
      : [
          "## The cluster's variables",
          '',
          'All roles share them. [k8s](../k8s) gives their defaults; `k8s-ans render` writes them to `group_vars/all.yml`.',
          '',
          ...table(common),
        ]),
    ...(own.length === 0 ? [] : ["## The role's own", '', ...table(own)]),
    ...Object.entries(parts).flatMap(([name, part]) => partOf(name, part, new Map([...shared, ...defaults]))),
    ...tagsText(role),
    '## Example',
    '',
    '```yaml',
    exampleOf(role),
    '```',
    '',
    '<!-- Made from meta/argument_specs.yml, defaults and docs/ansible/roles.yml by `npm run docs:roles`. -->',
    '',
  ]
    .join('\n')
    .replace(/C\(([^)]*)\)/g, '`$1`');
}

const stale = [];
for (const role of readdirSync(roles).sort()) {
  const file = path.join(roles, role, 'README.md');
  const text = readme(role);
  let before = '';
  try {
    before = readFileSync(file, 'utf8');
  } catch {}
  if (before === text) continue;
  stale.push(role);
  if (!check) writeFileSync(file, text);
}
if (check && stale.length > 0) {
  console.error(`README.md is stale in: ${stale.join(', ')}. Run npm run docs:roles`);
  process.exitCode = 1;
}
