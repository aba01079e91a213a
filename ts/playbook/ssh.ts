/** The folder of ssh's connection masters: one for a command's runs, none of them left behind. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { listProcesses, sendSignal } from './processes.js';

// Not os.tmpdir(): on macOS it is too long for a socket's path.
export const CONTROL_PREFIX = '/tmp/k8s-ans-';

export interface SshControl {
  /** Sockets lie here; short, since a socket's path has at most 104 (macOS) or 108 (Linux) characters. */
  readonly directory: string;
  /** Ends the masters and removes the folder. */
  close(): Promise<void>;
}

/** Makes the folder, 0700 as mkdtemp does. */
export async function openSshControl(): Promise<SshControl> {
  const directory = await mkdtemp(CONTROL_PREFIX);
  return { directory, close: () => closeSshControl(directory) };
}

/** Ends the masters of a folder and removes it; for the folder of a command that was killed. */
export async function closeSshControl(directory: string): Promise<void> {
  const sockets = await readdir(directory).catch(() => []);
  await Promise.all(
    sockets.map((socket) =>
      // The host's name is not used with -O, but ssh wants one.
      execa('ssh', ['-O', 'exit', '-o', `ControlPath=${path.join(directory, socket)}`, 'none'], {
        reject: false,
        timeout: 3000,
        stdio: 'ignore',
      }),
    ),
  );
  // A master that no longer listens: its title names its socket (ssh's mux_server: "ssh: PATH [mux]").
  for (const found of await listProcesses()) {
    if (found.command.includes(`${directory}/`) && /(^|\/)ssh\b/.test(found.command)) sendSignal(found.pid, 'SIGKILL');
  }
  await rm(directory, { recursive: true, force: true });
}
