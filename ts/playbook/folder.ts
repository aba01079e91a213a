/** The folder of one run: `runs/<time>-<command>/`, with its events, log, artifact list and report. */
import { mkdir, mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import type { ClusterHome } from '../types/home.js';

export interface RunFolder {
  readonly id: string;
  readonly root: string;
  readonly events: string;
  /** What ansible-playbook itself printed. */
  readonly log: string;
  readonly artifacts: string;
  readonly report: string;
  readonly html: string;
}

/** The paths in a run's folder. */
export function runFolderAt(root: string): RunFolder {
  const at = (name: string): string => path.join(root, name);
  return {
    id: path.basename(root),
    root,
    events: at('events.jsonl'),
    log: at('ansible.log'),
    artifacts: at('artifacts.json'),
    report: at('report.json'),
    html: at('report.html'),
  };
}

/** Makes the folder (0700) and points `runs/latest` to it. */
export async function createRunFolder(home: ClusterHome, command: string, now = new Date()): Promise<RunFolder> {
  await mkdir(home.runs, { recursive: true, mode: 0o700 });
  // 20261124T051500Z-deploy: sorts by time, and is a file name everywhere.
  const stamp = now
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:]/g, '');
  const what = command.replaceAll(/[^\w.]+/g, '-');
  for (let number = 1; ; number += 1) {
    const id = `${stamp}-${what}${number > 1 ? `-${number}` : ''}`;
    try {
      await mkdir(path.join(home.runs, id), { mode: 0o700 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw error;
    }
    await pointLatest(home.runs, id);
    return runFolderAt(path.join(home.runs, id));
  }
}

async function pointLatest(runs: string, id: string): Promise<void> {
  const draft = path.join(runs, `.latest-${process.pid}`);
  await rm(draft, { force: true });
  await symlink(id, draft);
  await rename(draft, path.join(runs, 'latest'));
}

const WORK_PREFIX = '.work-';

/**
 * Makes a private folder under `runs/` for what is needed while a command runs, and no longer. The caller removes it;
 * one that a killed command left is removed by the next command that makes one.
 */
export async function createWorkFolder(home: Pick<ClusterHome, 'runs'>): Promise<string> {
  await mkdir(home.runs, { recursive: true, mode: 0o700 });
  for (const name of await readdir(home.runs)) {
    const pid = name.startsWith(WORK_PREFIX) ? Number.parseInt(name.slice(WORK_PREFIX.length), 10) : Number.NaN;
    if (Number.isInteger(pid) && !lives(pid)) await rm(path.join(home.runs, name), { recursive: true, force: true });
  }
  return mkdtemp(path.join(home.runs, `${WORK_PREFIX}${process.pid}-`));
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
