/** SSH to lab hosts: the lab's own key, pinned host keys, waiting for sshd. */
import { chmod, mkdir, readFile, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import writeFileAtomic from 'write-file-atomic';
import type { CommandContext } from '../types/console.js';
import { environmentError } from '../types/errors.js';
import { type Engine, tryDocker } from './docker.js';
import type { PlannedHost } from './plan.js';
import type { LabHome } from './state.js';

/** Makes the lab's key pair if it is not there; returns the public key, a line for authorized_keys. */
export async function ensureKey(home: LabHome, comment: string): Promise<string> {
  await mkdir(home.ssh, { recursive: true, mode: 0o700 });
  const publicKey = `${home.privateKey}.pub`;
  const existing = await readFile(publicKey, 'utf8').catch(() => undefined);
  if (existing !== undefined && (await readFile(home.privateKey).catch(() => undefined)) !== undefined) {
    await chmod(home.privateKey, 0o600);
    return existing.trim();
  }
  // ssh-keygen asks before it overwrites half of a pair.
  await rm(home.privateKey, { force: true });
  await rm(publicKey, { force: true });
  const result = await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', home.privateKey], {
    reject: false,
    stdin: 'ignore',
  });
  if (result.exitCode !== 0) {
    throw environmentError(`ssh-keygen failed: ${result.stderr || result.message}`, {
      code: 'ssh-missing',
      next: 'Run `k8s-ans doctor --fix`.',
    });
  }
  return (await readFile(publicKey, 'utf8')).trim();
}

/** The lines of known_hosts for hosts and their public host keys. */
export function knownHosts(hosts: ReadonlyArray<{ name: string; address: string; key: string }>): string {
  return hosts
    .map(({ name, address, key }) => `${name},${address} ${key.trim().split(/\s+/).slice(0, 2).join(' ')}\n`)
    .join('');
}

/**
 * Reads every host's key through the engine, which nobody on the network can pretend to be, and pins them.
 *
 * @throws K8sAnsError `lab-host` if a host makes no key within a minute.
 */
export async function pinHostKeys(
  context: CommandContext,
  engine: Engine,
  hosts: ReadonlyArray<PlannedHost>,
  home: LabHome,
): Promise<void> {
  const keyed = await Promise.all(
    hosts.map(async (host) => {
      const deadline = Date.now() + 60_000;
      for (;;) {
        const args = ['exec', host.container, 'cat', '/etc/k8s-lab/made', '/etc/ssh/ssh_host_ed25519_key.pub'];
        const result = await tryDocker(engine, args, context);
        if (result.exitCode === 0) return { name: host.name, address: host.address, key: result.stdout };
        if (Date.now() > deadline) throw await hostFault(context, engine, host, 'made no SSH host key');
        await sleep(200, undefined, { signal: context.signal });
      }
    }),
  );
  const text = knownHosts(keyed);
  if ((await readFile(home.knownHosts, 'utf8').catch(() => '')) !== text) {
    await writeFileAtomic(home.knownHosts, text, { mode: 0o600 });
  }
}

/** The arguments of ssh for a lab host, with the host key checked and nothing of the user's own configuration. */
export function sshArgs(home: Pick<LabHome, 'privateKey' | 'knownHosts'>, address: string): string[] {
  const option = (text: string): string[] => ['-o', text];
  return [
    ...['-F', '/dev/null', '-i', home.privateKey],
    ...option('IdentitiesOnly=yes'),
    ...option('BatchMode=yes'),
    ...option(`UserKnownHostsFile="${home.knownHosts}"`),
    ...option('GlobalKnownHostsFile=/dev/null'),
    ...option('StrictHostKeyChecking=yes'),
    ...option('ConnectTimeout=10'),
    ...option('LogLevel=ERROR'),
    `root@${address}`,
  ];
}

/**
 * Waits until every host lets us in over SSH and its boot has ended.
 *
 * @throws K8sAnsError `lab-host` with the end of the host's log.
 */
export async function waitForSsh(
  context: CommandContext,
  engine: Engine,
  hosts: ReadonlyArray<PlannedHost>,
  home: LabHome,
): Promise<void> {
  await Promise.all(
    hosts.map(async (host) => {
      const deadline = Date.now() + 60_000;
      const args = [...sshArgs(home, host.address), 'systemctl is-system-running --wait'];
      for (;;) {
        const result = await execa('ssh', args, {
          reject: false,
          stdin: 'ignore',
          timeout: 30_000,
          cancelSignal: context.signal,
        });
        if (context.signal.aborted) throw context.signal.reason;
        // A host with a failed unit is `degraded`, and up.
        if (/^(running|degraded)/.test(result.stdout)) return;
        if (Date.now() > deadline) {
          throw await hostFault(context, engine, host, `does not answer over SSH (${result.stderr || result.stdout})`);
        }
        await sleep(300, undefined, { signal: context.signal });
      }
    }),
  );
}

async function hostFault(context: CommandContext, engine: Engine, host: PlannedHost, what: string) {
  const log = await tryDocker(engine, ['logs', '--tail', '5', host.container], context);
  const words = `${log.stdout}\n${log.stderr}`.trim();
  return environmentError(`the lab host ${host.name} ${what}${words === '' ? '' : `: ${words}`}`, {
    code: 'lab-host',
    where: host.container,
    next: 'Run `k8s-ans lab down` and `k8s-ans lab up`.',
  });
}
