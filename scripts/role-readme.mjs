// Writes each role's README.md from its argument specs and defaults; `--check` only says which are stale.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseDocument } from 'yaml';

const roles = path.join(import.meta.dirname, '..', 'roles');
const check = process.argv.includes('--check');

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
    `${short_description}. ${[description]
      .flat()
      .join(' ')
      .replace(/C\(([^)]*)\)/g, '`$1`')}`,
    '',
    ...(Object.keys(options).length === 0 ? [] : tableOf(options, defaults)),
  ];
}

function tableOf(options, defaults) {
  return [
    '| variable | type | default | what |',
    '| --- | --- | --- | --- |',
    ...Object.entries(options).map(
      ([key, option]) => `| \`${key}\` | ${option.type} | ${cell(defaults.get(key))} | ${option.description} |`,
    ),
    '',
  ];
}

function readme(role) {
  const specs = parse(readFileSync(path.join(roles, role, 'meta', 'argument_specs.yml'), 'utf8')).argument_specs;
  const { main, ...parts } = specs;
  const defaults = defaultsOf(role);
  const rows = (required) =>
    Object.entries(main.options)
      .filter(([, option]) => Boolean(option.required) === required)
      .map(([name, option]) => {
        const type = option.choices ? option.choices.map((choice) => `\`${choice}\``).join(', ') : option.type;
        return required
          ? `| \`${name}\` | ${type} | ${option.description} |`
          : `| \`${name}\` | ${type} | ${cell(defaults.get(name))} | ${option.description} |`;
      });
  return [
    `# ${role}`,
    '',
    `${main.short_description}.`,
    '',
    [main.description].flat().join('\n\n'),
    '',
    '## From the inventory',
    '',
    'The `k8s_` variables belong to the whole cluster; `k8s-ans render` writes them to `group_vars/all.yml`.',
    '',
    '| variable | type | what |',
    '| --- | --- | --- |',
    ...rows(true),
    '',
    "## The role's own",
    '',
    '| variable | type or choices | default | what |',
    '| --- | --- | --- | --- |',
    ...rows(false),
    '',
    ...Object.entries(parts).flatMap(([name, part]) => partOf(name, part, defaults)),
    '## Example',
    '',
    '```yaml',
    `- hosts: ${role === 'etcd' ? 'etcd' : ['masters', 'addons'].includes(role) ? 'masters' : 'masters:nodes'}`,
    '  roles:',
    `    - role: k8s_ans.cluster.${role}`,
    '```',
    '',
    '<!-- Made from meta/argument_specs.yml by `npm run docs:roles`. -->',
    '',
  ].join('\n');
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
