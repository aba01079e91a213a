/** `k8s-ans kubeconfig`: where the administrator's kubeconfig is, and how to use it. */
import { lstat, mkdir, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Register } from '../cli/register.js';
import { mergeKubeconfig } from '../pki/kubeconfig.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import { environmentError, usageError } from '../types/errors.js';
import { readTextIfExists, writeSecret } from '../types/secrets.js';

interface Options {
  readonly cluster?: string;
  readonly output?: string;
  readonly merge?: boolean;
}

export const register: Register = (program, run) => {
  program
    .command('kubeconfig')
    .description("print the path of the administrator's kubeconfig, copy it, or merge it into your own")
    .option('--cluster <name|dir|file>', clusterOption)
    .option('--output <file>', 'write a copy to this file, readable by you alone')
    .option('--merge', 'merge into ~/.kube/config (or the first file of KUBECONFIG), with a backup of it')
    .action((options: Options) => run((context) => kubeconfig(context, options)));
};

async function kubeconfig(context: CommandContext, options: Options): Promise<void> {
  const { console, cwd, env } = context;
  if (options.output !== undefined && options.merge) {
    throw usageError('--output and --merge exclude each other.', {
      code: 'usage',
      next: 'Give --output for a file of its own, or --merge for your existing kubeconfig.',
    });
  }
  const home = await locateCluster(context, options.cluster);
  const source = await readTextIfExists(home.kubeconfig);
  if (source === undefined) {
    throw environmentError('This cluster has no kubeconfig on this machine yet.', {
      code: 'kubeconfig-missing',
      where: home.kubeconfig,
      next: 'Run k8s-ans deploy, which makes it.',
    });
  }
  if (options.merge) {
    const target = mergeTarget(env);
    const { backup, currentContext, replaced } = await mergeInto(target, source);
    for (const entry of replaced) console.warn(`Replaced ${entry} in ${target}.`);
    if (backup !== undefined) console.info(`The file as it was: ${backup}`);
    console.print(`Merged into ${target}; its current context is ${currentContext}.`);
    console.result('kubeconfig', { path: target, merged: true, backup: backup ?? null, currentContext, replaced });
    return;
  }
  const file = options.output === undefined ? home.kubeconfig : path.resolve(cwd, options.output);
  if (file !== home.kubeconfig) await writeSecret(file, source);
  console.print(`${file}\nexport KUBECONFIG=${shellQuoted(file)}`);
  console.result('kubeconfig', { path: file, merged: false });
}

/** The file that `kubectl config` would write a new entry to, nearly: the first of KUBECONFIG, else ~/.kube/config. */
function mergeTarget(env: NodeJS.ProcessEnv): string {
  const listed = env.KUBECONFIG?.split(path.delimiter).find((entry) => entry !== '');
  return path.resolve(listed ?? path.join(env.HOME || os.homedir(), '.kube', 'config'));
}

/**
 * Merges into the file, under the lock that kubectl itself takes (client-go, tools/clientcmd/loader.go: `FILE.lock`,
 * made exclusively).
 */
async function mergeInto(
  target: string,
  source: string,
): Promise<{ backup: string | undefined; currentContext: string; replaced: ReadonlyArray<string> }> {
  const lock = `${target}.lock`;
  await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
  try {
    await (await open(lock, 'wx', 0o600)).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw environmentError('Another program is changing this kubeconfig.', {
      code: 'kubeconfig-locked',
      where: target,
      next: `Try again. If nothing is running, remove ${lock}.`,
    });
  }
  try {
    const before = await readTextIfExists(target);
    const merged = mergeKubeconfig(before, source, target);
    const { currentContext, replaced } = merged;
    if (before === merged.text) return { backup: undefined, currentContext, replaced };
    const backup = before === undefined ? undefined : await writeBackup(target, before);
    await writeSecret(target, merged.text);
    return { backup, currentContext, replaced };
  } finally {
    await rm(lock, { force: true });
  }
}

async function writeBackup(target: string, content: string): Promise<string> {
  const time = new Date()
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(':', '');
  for (let count = 0; ; count += 1) {
    const file = `${target}.${time}${count === 0 ? '' : `-${count}`}.bak`;
    const taken = await lstat(file).then(
      () => true,
      () => false,
    );
    if (taken) continue;
    await writeSecret(file, content);
    return file;
  }
}

function shellQuoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
