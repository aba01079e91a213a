/** What the machine under the lab is like, seen from a container with a lab host's privileges. */
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { CommandContext } from '../types/console.js';
import { environmentError } from '../types/errors.js';
import { cacheRoot } from '../types/package.js';
import { type Engine, tryDocker } from './docker.js';
import { type Privilege, privilegeArgs, privileges } from './plan.js';

export interface MachineFacts {
  readonly privilege: Privilege;
  readonly cgroupVersion: 1 | 2;
  readonly swap: boolean;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Capability of raising limits and lowering OOM scores. */
  readonly sysResource: boolean;
  /** Kernel parameters that all hosts share with the machine. */
  readonly sysctls: Readonly<Record<string, string>>;
}

/**
 * Parameters of the kernel that are not of a network namespace, and that host preparation, the kubelet or the lab
 * itself set: the machine gets them back when its last lab is gone.
 */
const sharedSysctls = [
  ...['fs.file-max', 'fs.nr_open', 'fs.inotify.max_user_instances', 'fs.inotify.max_user_watches', 'kernel.pid_max'],
  ...['kernel.panic', 'kernel.panic_on_oops', 'kernel.keys.root_maxkeys', 'kernel.keys.root_maxbytes'],
  ...['kernel.softlockup_panic', 'kernel.sysrq', 'kernel.threads-max', 'vm.max_map_count', 'vm.overcommit_memory'],
  ...['vm.panic_on_oom', 'vm.swappiness', 'vm.dirty_ratio', 'vm.dirty_background_ratio', 'vm.min_free_kbytes'],
];

/** Five hosts with systemd, a kubelet and a runtime each use up the kernel's default of 128 instances. */
const wantedSysctls: Readonly<Record<string, number>> = {
  'fs.inotify.max_user_instances': 1024,
  'fs.inotify.max_user_watches': 524288,
};

const probe = [
  'grep CapBnd: /proc/self/status',
  'if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo "Cgroup: 2"; else echo "Cgroup: 1"; fi',
  'echo "Swaps: $(($(wc -l < /proc/swaps) - 1))"',
  'echo "Cpus: $(nproc)"',
  'grep MemTotal: /proc/meminfo',
  ...sharedSysctls.map((name) => `echo "${name}: $(cat ${sysctlFile(name)} 2>/dev/null)"`),
].join('\n');

function sysctlFile(name: string): string {
  return `/proc/sys/${name.replaceAll('.', '/')}`;
}

/** The facts in what the probe wrote. */
export function readProbe(text: string, privilege: Privilege): MachineFacts {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) values.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const sysctls: Record<string, string> = {};
  for (const name of sharedSysctls) {
    const value = values.get(name);
    if (value !== undefined && value !== '') sysctls[name] = value;
  }
  const sysResource = 24n;
  return {
    privilege,
    cgroupVersion: values.get('Cgroup') === '2' ? 2 : 1,
    swap: Number(values.get('Swaps') ?? 0) > 0,
    cpus: Number(values.get('Cpus') ?? 1),
    memoryMiB: Math.floor(Number.parseInt(values.get('MemTotal') ?? '0', 10) / 1024),
    sysResource: ((BigInt(`0x${values.get('CapBnd') ?? '0'}`) >> sysResource) & 1n) === 1n,
    sysctls,
  };
}

/**
 * Finds out how privileged a container can be here, and what the machine is like.
 *
 * @throws K8sAnsError `lab-privileges` if no container with enough privileges starts.
 */
export async function probeMachine(context: CommandContext, engine: Engine, image: string): Promise<MachineFacts> {
  let refusal = '';
  for (const privilege of privileges(await boundingSet())) {
    const result = await tryDocker(
      engine,
      ['run', '--rm', '--network', 'none', ...privilegeArgs(privilege), image, '/bin/sh', '-c', probe],
      context,
    );
    if (result.exitCode === 0) return readProbe(result.stdout, privilege);
    refusal = result.stderr.trim().split('\n')[0] ?? '';
  }
  throw environmentError(`no container with the privileges of a server starts here: ${refusal}`, {
    code: 'lab-privileges',
    where: engine.host ?? 'the default Docker engine',
    next: 'Use an engine that runs as root (not rootless) and outside of a restricted container.',
  });
}

/** CapBnd of this process; all capabilities where the machine is not Linux (the engine is then in a VM). */
async function boundingSet(): Promise<string> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  return /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '1ffffffffff';
}

function savedSysctls(context: CommandContext): string {
  return path.join(cacheRoot(context.env), 'lab', 'sysctls.json');
}

/** Remembers the machine's shared kernel parameters, then raises those that the lab needs higher. */
export async function raiseSysctls(
  context: CommandContext,
  engine: Engine,
  image: string,
  facts: MachineFacts,
): Promise<void> {
  const file = savedSysctls(context);
  if ((await readFile(file, 'utf8').catch(() => undefined)) === undefined) {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomic(file, `${JSON.stringify(facts.sysctls, null, 2)}\n`);
  }
  const raised = Object.entries(wantedSysctls).filter(([name, value]) => Number(facts.sysctls[name] ?? value) < value);
  if (raised.length === 0) return;
  context.console.info(`Raising ${raised.map(([name, value]) => `${name} to ${value}`).join(' and ')} until lab down`);
  await writeSysctls(
    context,
    engine,
    image,
    facts.privilege,
    raised.map(([name, value]) => [name, String(value)]),
  );
}

/** Gives the machine its kernel parameters back. */
export async function restoreSysctls(context: CommandContext, engine: Engine, image: string): Promise<void> {
  const file = savedSysctls(context);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return;
  const facts = await probeMachine(context, engine, image);
  const changed = Object.entries(JSON.parse(text) as Record<string, string>).filter(
    ([name, value]) => facts.sysctls[name] !== undefined && facts.sysctls[name] !== value,
  );
  await writeSysctls(context, engine, image, facts.privilege, changed);
  await rm(file, { force: true });
}

async function writeSysctls(
  context: CommandContext,
  engine: Engine,
  image: string,
  privilege: Privilege,
  values: ReadonlyArray<readonly [string, string]>,
): Promise<void> {
  if (values.length === 0) return;
  const lines = values.map(([name, value]) => `printf '%s\\n' '${value}' > ${sysctlFile(name)}`);
  const script = ['mount -o remount,bind,rw /proc/sys 2>/dev/null || true', ...lines].join('\n');
  const result = await tryDocker(
    engine,
    ['run', '--rm', '--network', 'none', ...privilegeArgs(privilege), image, '/bin/sh', '-c', script],
    context,
  );
  if (result.exitCode !== 0) context.console.warn(`Kernel parameters were not set: ${result.stderr.trim()}`);
}
