/**
 * Finding and ending processes, on Linux through /proc and elsewhere through ps.
 *
 * A process group is not enough to end an Ansible run: ansible-core makes each worker a session leader
 * (executor/process/worker.py, `_detach`), and ssh's connection masters leave the tree altogether.
 */
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  /** When it was started, in the system's own terms: with the pid it names one process for good. */
  readonly started: string;
  readonly zombie: boolean;
  readonly command: string;
}

/** A process as it is remembered: the pid alone could be another one's by now. */
export interface ProcessId {
  readonly pid: number;
  readonly started: string;
}

/** All processes of this machine that can be seen. */
export async function listProcesses(): Promise<ProcessInfo[]> {
  if (process.platform === 'linux') {
    return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (readProc(Number(name)) ?? []) : []));
  }
  // BSD and macOS; lstart is five words, e.g. "Tue Nov 24 05:08:38 2026".
  const { stdout } = await execa('ps', ['-A', '-o', 'pid=,ppid=,stat=,lstart=,command='], {
    env: { LC_ALL: 'C' },
    reject: false,
  });
  return stdout.split('\n').flatMap((line) => {
    const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*)$/.exec(line);
    if (!match) return [];
    const [, pid, parent, state = '', started = '', command = ''] = match;
    return [{ pid: Number(pid), parent: Number(parent), started, zombie: state.startsWith('Z'), command }];
  });
}

/** One process of Linux's /proc (proc_pid_stat(5)); undefined when it is gone. */
function readProc(pid: number): ProcessInfo | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name is in parentheses and may hold anything, so read from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return { pid, parent: Number(fields[1]), started: fields[19] ?? '', zombie: fields[0] === 'Z', command };
  } catch {
    return undefined;
  }
}

/** The process with this pid, if it is alive. */
export async function findProcess(pid: number): Promise<ProcessInfo | undefined> {
  const found =
    process.platform === 'linux' ? readProc(pid) : (await listProcesses()).find((process) => process.pid === pid);
  return found?.zombie ? undefined : found;
}

/** True while the remembered process lives, and not another one with its pid. */
export async function isAlive(id: ProcessId): Promise<boolean> {
  return (await findProcess(id.pid))?.started === id.started;
}

/** A process and all its descendants that are alive, the process first. */
export async function processTree(pid: number): Promise<ProcessInfo[]> {
  const all = (await listProcesses()).filter((process) => !process.zombie);
  const tree = all.filter((process) => process.pid === pid);
  const known = new Set([pid]);
  for (let grown = true; grown; ) {
    const children = all.filter((process) => known.has(process.parent) && !known.has(process.pid));
    for (const child of children) known.add(child.pid);
    tree.push(...children);
    grown = children.length > 0;
  }
  return tree;
}

/** Sends a signal; false when the process is gone. */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * Ends a process and everything below it: SIGINT first, so that it can put its things in order, then SIGKILL.
 *
 * @param patience milliseconds it is given after SIGINT
 */
export async function stopTree(root: ProcessId, patience = 8000): Promise<void> {
  const seen = new Map<number, ProcessInfo>();
  const look = async (): Promise<void> => {
    if (await isAlive(root)) for (const found of await processTree(root.pid)) seen.set(found.pid, found);
  };
  await look();
  if (seen.has(root.pid)) sendSignal(root.pid, 'SIGINT');
  for (const end = Date.now() + patience; Date.now() < end && (await isAlive(root)); await sleep(100)) await look();
  for (const found of seen.values()) {
    if (await isAlive(found)) sendSignal(found.pid, 'SIGKILL');
  }
}

/** Names this boot of the machine; pids mean nothing in another one. */
export async function bootId(): Promise<string> {
  if (process.platform === 'linux') return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const { stdout } = await execa('sysctl', ['-n', 'kern.bootsessionuuid'], { reject: false });
  return stdout?.trim() || os.hostname();
}
