// Runs a tool of the roles' development environment: node scripts/dev-venv.mjs ansible-lint ...
//
// The environment is made from ansible/requirements-dev.txt (pinned and hashed) in the cache, once per content of that
// file: CACHE/venv-dev-HASH, a link to the folder it was made in. The collection is found as k8s_ans.cluster.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const cache = process.env.K8S_ANS_CACHE
  ? path.resolve(process.env.K8S_ANS_CACHE)
  : path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'k8s-ans');

/** The environment's bin folder. */
function ensureEnvironment() {
  const requirements = path.join(root, 'ansible', 'requirements-dev.txt');
  const python = findPython();
  const hash = createHash('sha256')
    .update(python.version)
    .update(readFileSync(requirements))
    .digest('hex')
    .slice(0, 12);
  const link = path.join(cache, `venv-dev-${hash}`);
  const bin = path.join(link, 'bin');
  if (existsSync(path.join(bin, 'python'))) return bin;
  console.error(`Making the development environment in ${link}.`);
  mkdirSync(cache, { recursive: true, mode: 0o700 });
  const folder = `${link}.${process.pid}`;
  try {
    const run = (command, args) => execFileSync(command, args, { stdio: ['ignore', 2, 2] });
    run(python.command, ['-m', 'venv', folder]);
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-input', '--disable-pip-version-check'];
    run(path.join(folder, 'bin', 'python'), [...pip, '--require-hashes', '--requirement', requirements]);
    rmSync(link, { force: true });
    symlinkSync(path.basename(folder), `${link}.link-${process.pid}`);
    renameSync(`${link}.link-${process.pid}`, link);
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  return bin;
}

/** The first Python that is 3.11 or newer and can make environments. */
function findPython() {
  const probe = 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print(sys.executable, sys.version)';
  for (const command of ['python3', 'python3.13', 'python3.12', 'python3.11', 'python3.14']) {
    const found = spawnSync(command, ['-c', probe], { encoding: 'utf8' });
    if (found.status === 0) return { command, version: found.stdout };
  }
  throw new Error('no Python 3.11 or newer with its venv module was found: k8s-ans doctor --fix installs it');
}

/** A folder in which ansible-core finds this checkout as the collection k8s_ans.cluster. */
function ensureCollections() {
  const hash = createHash('sha256').update(root).digest('hex').slice(0, 12);
  const folder = path.join(cache, `collections-dev-${hash}`);
  const cluster = path.join(folder, 'ansible_collections', 'k8s_ans', 'cluster');
  mkdirSync(cluster, { recursive: true });
  const links = { plugins: 'ansible/plugins', playbooks: 'ansible/playbooks', roles: 'roles', meta: 'meta' };
  for (const [name, target] of Object.entries({ ...links, 'galaxy.yml': 'galaxy.yml' })) {
    const link = path.join(cluster, name);
    if (existsSync(link) || !existsSync(path.join(root, target))) continue;
    rmSync(link, { force: true });
    symlinkSync(path.join(root, target), link);
  }
  return folder;
}

const [tool, ...args] = process.argv.slice(2);
if (!tool) {
  console.error('usage: node scripts/dev-venv.mjs TOOL [ARGUMENT...]   e.g. ansible-lint, yamllint, molecule');
  process.exit(2);
}
const bin = ensureEnvironment();
// Ansible refuses any other encoding than UTF-8.
const locale = process.env.LC_ALL || process.env.LC_CTYPE || process.env.LANG || '';
const { status, signal, error } = spawnSync(path.join(bin, tool), args, {
  stdio: 'inherit',
  env: {
    ...process.env,
    ...(/utf-?8/i.test(locale) ? {} : { LC_ALL: process.platform === 'darwin' ? 'en_US.UTF-8' : 'C.UTF-8' }),
    PATH: `${bin}${path.delimiter}${process.env.PATH ?? ''}`,
    ANSIBLE_COLLECTIONS_PATH: ensureCollections(),
  },
});
if (error) console.error(`${tool}: ${error.message}`);
process.exit(status ?? (signal ? 130 : 1));
