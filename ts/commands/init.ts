/** `k8s-ans init`: write a commented cluster.yaml, from flags, answers or an environment.sh. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { cancel, isCancel, text } from '@clack/prompts';
import { Option } from 'commander';
import writeFileAtomic from 'write-file-atomic';
import type { Register } from '../cli/register.js';
import { type EnvironmentSpec, readEnvironment } from '../spec/environment.js';
import * as formats from '../spec/formats.js';
import { displayPath, parseSpec } from '../spec/load.js';
import { SpecError } from '../spec/problems.js';
import { type SpecInput, specSchema } from '../spec/schema.js';
import { specText } from '../spec/write.js';
import type { CommandContext } from '../types/console.js';
import { ExitCode, K8sAnsError, usageError } from '../types/errors.js';
import { clusterHome } from '../types/home.js';

interface InitOptions {
  readonly name?: string;
  readonly masters?: string;
  readonly nodes?: string;
  readonly sshUser?: string;
  readonly kubernetesVersion?: string;
  readonly fromEnvironment?: string;
  readonly dir?: string;
  readonly output?: string;
  readonly force?: boolean;
}

export const register: Register = (program, run) => {
  program
    .command('init')
    .description('write a commented cluster.yaml, from flags, a few questions, or an environment.sh')
    .option('--name <name>', 'name of the cluster')
    .option('--masters <hosts>', 'masters, as name=address,name=address')
    .option('--nodes <hosts>', 'nodes (workers), as name=address,name=address')
    .option('--ssh-user <user>', 'user of the hosts (default: root)')
    .option('--kubernetes-version <version>', 'version of Kubernetes')
    .option('--from-environment <file>', "read the guide's environment.sh; the file is not run")
    .option('--dir <folder>', "the cluster's home (default: inventory/NAME)")
    .addOption(new Option('--output <file>', 'the spec file itself, in place of --dir').conflicts('dir'))
    .option('--force', 'replace a spec that is there')
    .action((options: InitOptions) => run((context) => init(context, options)));
};

async function init(context: CommandContext, options: InitOptions): Promise<void> {
  const { console } = context;
  const read = await readSource(context, options);
  const input: SpecInput = {
    ...read.spec,
    ...(options.sshUser === undefined ? {} : { ssh: { ...read.spec.ssh, user: options.sshUser } }),
    ...(options.kubernetesVersion === undefined ? {} : { kubernetes: { version: options.kubernetesVersion } }),
  };
  const file =
    options.output === undefined
      ? clusterHome(path.resolve(context.cwd, options.dir ?? path.join('inventory', input.name))).spec
      : path.resolve(context.cwd, options.output);
  const root = path.dirname(file);
  const content = checkedText(input, displayPath(file));
  const keyFile = path.join(clusterHome(root).pki, 'encryption.key');

  for (const present of [file, ...(read.encryptionKey === undefined ? [] : [keyFile])]) {
    if (options.force || !existsSync(present)) continue;
    throw usageError('The file is there already.', {
      code: 'file-exists',
      where: present,
      next: 'Choose another --name or --dir, or replace it with --force.',
    });
  }
  const isHome = options.output === undefined;
  await mkdir(root, { recursive: true, mode: 0o700 });
  if (isHome) await chmod(root, 0o700);
  await writeFileAtomic(file, content, { mode: 0o600 });
  if (read.encryptionKey !== undefined) {
    await mkdir(path.dirname(keyFile), { recursive: true, mode: 0o700 });
    await writeFileAtomic(keyFile, `${read.encryptionKey}\n`, { mode: 0o600 });
    console.info(`The encryption key was written to ${displayPath(keyFile)} (0600), and nowhere else.`);
  }
  for (const remark of read.remarks) console.warn(remark);
  console.print(`Written: ${displayPath(file)}`);
  console.print(`Next: look it over, then \`k8s-ans validate --cluster ${displayPath(file)}\`.`);
  console.result('init', {
    spec: file,
    ...(read.encryptionKey === undefined ? {} : { encryptionKeyFile: keyFile }),
    remarks: read.remarks,
  });
}

/** The spec from an environment.sh, from the flags, or from answers. */
async function readSource(context: CommandContext, options: InitOptions): Promise<EnvironmentSpec> {
  if (options.fromEnvironment !== undefined) {
    if (options.masters !== undefined || options.nodes !== undefined) {
      throw usageError('--from-environment names the hosts: --masters and --nodes cannot be given with it.', {
        code: 'usage',
        next: 'Leave them out, and change the spec afterwards.',
      });
    }
    const file = path.resolve(context.cwd, options.fromEnvironment);
    const script = await readFile(file, 'utf8').catch((cause: Error) => {
      throw usageError(`The file cannot be read: ${cause.message}.`, {
        code: 'file-unreadable',
        where: file,
        next: 'Name an environment.sh with --from-environment.',
        cause,
      });
    });
    return readEnvironment(script, displayPath(file), options.name ?? 'k8s');
  }
  if (options.masters !== undefined) {
    return fromAnswers({ name: options.name ?? 'k8s', masters: options.masters, nodes: options.nodes ?? '' });
  }
  if (!context.console.interactive || !process.stdin.isTTY) {
    throw usageError('The hosts are missing.', {
      code: 'usage',
      next: 'Give --masters name=address,… (and --nodes), or --from-environment FILE.',
    });
  }
  return fromAnswers({
    name: options.name ?? (await ask(context, 'Name of the cluster', 'k8s', fault(formats.clusterName))),
    masters: await ask(context, 'Masters, as name=address,name=address', undefined, hostsFault(true)),
    nodes: options.nodes ?? (await ask(context, 'Nodes (workers), likewise', '', hostsFault(false))),
  });
}

function fromAnswers(answers: { name: string; masters: string; nodes: string }): EnvironmentSpec {
  const masters = parseHosts(answers.masters);
  const nodes = parseHosts(answers.nodes);
  const both = (name: string): boolean => masters.some((host) => host.name === name);
  const hosts = [
    ...masters.map((host) => ({
      ...host,
      roles: nodes.some(({ name }) => name === host.name)
        ? ['masters' as const, 'nodes' as const]
        : ['masters' as const],
    })),
    ...nodes.filter(({ name }) => !both(name)).map((host) => ({ ...host, roles: ['nodes' as const] })),
  ];
  return { spec: { name: answers.name, hosts }, remarks: [] };
}

/** The text of the spec, once it is known to be sound. */
function checkedText(input: SpecInput, file: string): string {
  // Values of the wrong shape are shown as they would stand in the file.
  const shape = specSchema.safeParse(input);
  if (!shape.success) {
    const parsed = parseSpec(JSON.stringify(input, undefined, 2), file);
    if (!parsed.ok) throw new SpecError('the spec from these values', parsed.problems);
  }
  const content = specText(input);
  const parsed = parseSpec(content, file);
  if (!parsed.ok) throw new SpecError('the spec from these values', parsed.problems);
  return content;
}

/** `name=address,name=address` as hosts. */
function parseHosts(value: string): { name: string; address: string }[] {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const [name = '', address = '', ...rest] = part.split('=');
      if (name !== '' && address !== '' && rest.length === 0) return { name, address };
      throw usageError(`"${part}" is not NAME=ADDRESS.`, {
        code: 'usage',
        next: 'Write hosts in the form k8smaster01=172.24.8.71,k8smaster02=172.24.8.72.',
      });
    });
}

type Validate = (value: string | undefined) => string | undefined;

const fault =
  (check: formats.Check): Validate =>
  (value) =>
    value === undefined || value === '' ? undefined : check(value)?.message;

function hostsFault(required: boolean): Validate {
  return (value = '') => {
    if (value.trim() === '') return required ? 'Name at least one.' : undefined;
    try {
      for (const host of parseHosts(value)) {
        const found = formats.hostName(host.name) ?? formats.address(host.address);
        if (found !== undefined) return found.message;
      }
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  };
}

async function ask(
  context: CommandContext,
  message: string,
  byDefault: string | undefined,
  validate: Validate,
): Promise<string> {
  const answer = await text({
    message,
    validate,
    signal: context.signal,
    ...(byDefault === undefined || byDefault === '' ? {} : { placeholder: byDefault }),
    ...(byDefault === undefined ? {} : { defaultValue: byDefault }),
  });
  if (isCancel(answer)) {
    cancel('Nothing was written.');
    throw new K8sAnsError('Interrupted; nothing was written.', { code: 'interrupted', exitCode: ExitCode.interrupted });
  }
  return answer;
}
