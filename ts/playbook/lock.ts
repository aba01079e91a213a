/**
 * The run lock of a cluster: one command at a time changes it.
 *
 * The lock is a file in the cluster's home that names its holder. A holder that died (SIGKILL, power loss) is
 * recognised, its Ansible run is ended if that still goes on, and the lock is taken over.
 */
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { ExitCode, K8sAnsError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { bootId, findProcess, isAlive, type ProcessId, stopTree } from './processes.js';
import { CONTROL_PREFIX, closeSshControl } from './ssh.js';

const holderSchema = z.object({
  /** Tells this holding of the lock from all others. */
  id: z.string(),
  pid: z.number(),
  started: z.string(),
  host: z.string(),
  boot: z.string(),
  command: z.string(),
  /** ISO 8601. */
  since: z.string(),
  /** The ansible-playbook processes of this holder. */
  children: z.array(z.object({ pid: z.number(), started: z.string() })),
  /** The folder of its ssh connection masters. */
  control: z.string().startsWith(CONTROL_PREFIX).optional(),
});

type Holder = z.infer<typeof holderSchema>;

export interface RunLock {
  /** Set when the lock was left by a command that died: what that was, e.g. `deploy (pid 12, since …)`. */
  readonly tookOver: string | undefined;
  /** Remembers a child process, so that whoever takes the lock over can end it. */
  addChild(pid: number): Promise<void>;
  /** Remembers the folder of the ssh connection masters, for the same reason. */
  setControl(directory: string): Promise<void>;
  /** Gives the lock back; it may be called twice. */
  release(): Promise<void>;
}

/**
 * Takes the cluster's run lock.
 *
 * @param command what is run, for the message another command shows
 * @throws {K8sAnsError} `cluster-locked`, exit code 4, naming the command that holds it
 */
export async function acquireRunLock(home: ClusterHome, command: string): Promise<RunLock> {
  const file = home.runLock;
  const self = await findProcess(process.pid);
  let holder: Holder = {
    id: randomUUID(),
    pid: process.pid,
    started: self?.started ?? '',
    host: os.hostname(),
    boot: await bootId(),
    command,
    since: new Date().toISOString(),
    children: [],
  };
  const draft = `${file}.${process.pid}`;
  let tookOver: string | undefined;
  for (let tries = 0; !(await createExclusive(file, draft, holder)); tries += 1) {
    const found = await readHolder(file);
    if (found === undefined) continue;
    if (tries >= 5 || !(await isStale(found, holder))) throw lockedError(file, found.holder);
    // First what it left behind: nobody gets the lock while that still goes on.
    if (found.holder?.boot === holder.boot) {
      for (const child of found.holder.children) await stopTree(child);
      if (found.holder.control !== undefined) await closeSshControl(found.holder.control);
    }
    if (await setAside(file, found.text)) tookOver = found.holder && describe(found.holder);
  }
  const update = async (more: Partial<Holder>): Promise<void> => {
    holder = { ...holder, ...more };
    await writeFileAtomic(file, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
  };
  return {
    tookOver,
    addChild: async (pid) => {
      const child: ProcessId | undefined = await findProcess(pid);
      if (!child) return;
      const alive = await Promise.all(holder.children.map(isAlive));
      const children = holder.children.filter((_, index) => alive[index]);
      await update({ children: [...children, { pid: child.pid, started: child.started }] });
    },
    setControl: (control) => update({ control }),
    release: async () => {
      const found = await readHolder(file);
      if (found?.holder?.id === holder.id) await rm(file, { force: true });
    },
  };
}

/** Creates the lock with its content in one step: a link to a file that is written already. */
async function createExclusive(file: string, draft: string, holder: Holder): Promise<boolean> {
  await writeFile(draft, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
  try {
    await link(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  } finally {
    await rm(draft, { force: true });
  }
}

interface Found {
  readonly text: string;
  /** Undefined: the file is no lock of ours. */
  readonly holder: Holder | undefined;
}

async function readHolder(file: string): Promise<Found | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return { text, holder: holderSchema.parse(JSON.parse(text)) };
  } catch {
    return { text, holder: undefined };
  }
}

/** A lock of another machine is never stale: its processes cannot be seen from here. */
async function isStale(found: Found, self: Holder): Promise<boolean> {
  const { holder } = found;
  if (!holder || holder.host !== self.host) return false;
  return holder.boot !== self.boot || !(await isAlive(holder));
}

/** Moves the stale lock away; false when another command was faster, whose lock is then put back. */
async function setAside(file: string, text: string): Promise<boolean> {
  const aside = `${file}.stale-${process.pid}`;
  try {
    await rename(file, aside);
  } catch {
    return false;
  }
  const same = (await readFile(aside, 'utf8')) === text;
  if (!same) await link(aside, file).catch(() => undefined);
  await rm(aside, { force: true });
  return same;
}

function describe(holder: Holder): string {
  return `${holder.command} (pid ${holder.pid} on ${holder.host}, since ${holder.since})`;
}

function lockedError(file: string, holder: Holder | undefined): K8sAnsError {
  return new K8sAnsError(
    holder
      ? `another command is changing this cluster: ${describe(holder)}`
      : 'the cluster has a lock that is not readable',
    {
      code: 'cluster-locked',
      exitCode: ExitCode.environment,
      where: file,
      next: `Wait until it is done. If it is certain that nothing runs any more, remove ${file}.`,
    },
  );
}
