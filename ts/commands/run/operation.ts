/**
 * The journal of an operation that takes several steps (an upgrade, a host that leaves, a CA that is rotated):
 * `operation.json` in the cluster's home.
 *
 * It is there from before the first change until after the last one, so that an operation which was interrupted is
 * finished by the same command, and no other command works on a cluster that is half-way. The caller holds the run lock.
 */
import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import { environmentError, type K8sAnsError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { writeSecret } from '../../types/secrets.js';

const schema = z.strictObject({
  version: z.literal(1),
  /** e.g. `upgrade`. */
  command: z.string(),
  /** What it is about, e.g. the version or the host. */
  subject: z.string(),
  /** The command line that goes on from where it stopped. */
  again: z.string(),
  /** ISO 8601. */
  since: z.string(),
  /** What the command itself has to remember. */
  data: z.record(z.string(), z.unknown()),
});

/** An operation that has begun and has not ended. */
export type Operation = z.infer<typeof schema>;

export type OperationStart = Pick<Operation, 'command' | 'subject' | 'again' | 'data'>;

/**
 * The pending operation, or undefined.
 *
 * @throws K8sAnsError `operation-unreadable`
 */
export async function pendingOperation(home: ClusterHome): Promise<Operation | undefined> {
  const text = await readFile(home.operation, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw environmentError('The journal of the pending operation cannot be read.', {
      code: 'operation-unreadable',
      where: home.operation,
      next: 'Look at the cluster with `k8s-ans status`; when nothing is half done, remove the file.',
      cause,
    });
  }
}

/**
 * Begins an operation, or goes on with the pending one of the same command and subject, whose data is then returned.
 *
 * @throws K8sAnsError `operation-pending` when another one is pending
 */
export async function beginOperation(
  home: ClusterHome,
  start: OperationStart,
): Promise<{ readonly operation: Operation; readonly resumed: boolean }> {
  const pending = await pendingOperation(home);
  if (pending !== undefined) {
    if (pending.command !== start.command || pending.subject !== start.subject) throw pendingError(home, pending);
    return { operation: pending, resumed: true };
  }
  const operation: Operation = { version: 1, since: new Date().toISOString(), ...start };
  await write(home, operation);
  return { operation, resumed: false };
}

/**
 * Turns the pending operation to another subject, for a command that can: what it has to remember stays.
 *
 * The caller has seen that the pending one may be turned.
 */
export async function turnOperation(home: ClusterHome, to: Pick<Operation, 'subject' | 'again'>): Promise<void> {
  const pending = await pendingOperation(home);
  if (pending === undefined) throw new Error('no operation is pending');
  await write(home, { ...pending, ...to });
}

/** Remembers where the pending operation is. */
export async function updateOperation(home: ClusterHome, data: Readonly<Record<string, unknown>>): Promise<void> {
  const pending = await pendingOperation(home);
  if (pending === undefined) throw new Error('no operation is pending');
  await write(home, { ...pending, data: { ...pending.data, ...data } });
}

/** The operation is done. */
export async function endOperation(home: ClusterHome): Promise<void> {
  await rm(home.operation, { force: true });
}

/**
 * For commands that are no operation themselves and change the cluster.
 *
 * @throws K8sAnsError `operation-pending`
 */
export async function refusePending(home: ClusterHome): Promise<void> {
  const pending = await pendingOperation(home);
  if (pending !== undefined) throw pendingError(home, pending);
}

/** The error that names what has to be finished first. */
export function pendingError(home: ClusterHome, { command, subject, since, again }: Operation): K8sAnsError {
  return environmentError(`\`${command} ${subject}\`, begun at ${since}, is not finished yet.`, {
    code: 'operation-pending',
    where: home.operation,
    next: `Finish it with \`${again}\`: it goes on from where it stopped.`,
  });
}

async function write(home: ClusterHome, operation: Operation): Promise<void> {
  await writeSecret(home.operation, `${JSON.stringify(operation, null, 2)}\n`);
}
