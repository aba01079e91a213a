/** `--bundle FILE`: the artifacts come from one file, and nothing else is asked. */
import path from 'node:path';
import type { Command } from 'commander';
import type { OnProgress } from '../../artifacts/index.js';
import type { CheckedBundle } from '../../bundle/read.js';
import { unpackBundle } from '../../bundle/unpack.js';
import { formatBytes, formatDuration } from '../../report/format.js';
import type { CommandContext, Console } from '../../types/console.js';
import { usageError } from '../../types/errors.js';
import { cacheRoot } from '../../types/package.js';

/** Adds `--bundle`. */
export function addBundleOption(command: Command): Command {
  return command.option('--bundle <file>', 'take all artifacts from this file of `artifacts bundle`, and no network');
}

/**
 * Checks the bundle whole and brings it into the cache: before a run begins, so before any host is touched.
 *
 * @param kubernetes the version that the run installs
 * @throws K8sAnsError as `readBundle`; `bundle-version` (exit code 2) for a bundle of another Kubernetes version
 */
export async function openBundle(
  context: CommandContext,
  file: string | undefined,
  kubernetes: string,
): Promise<CheckedBundle | undefined> {
  if (file === undefined) return undefined;
  const { console, cwd, env, signal } = context;
  const bundle = await unpackBundle(path.resolve(cwd, file), {
    cache: cacheRoot(env),
    signal,
    onProgress: sayBundle(console),
  });
  if (bundle.description.kubernetes !== kubernetes) {
    throw usageError(
      `${bundle.file} is of Kubernetes ${bundle.description.kubernetes}, and this run installs ${kubernetes}`,
      {
        code: 'bundle-version',
        where: bundle.file,
        next: `Make one with \`k8s-ans artifacts bundle\` of a cluster with ${kubernetes}, or change kubernetes.version in the spec.`,
      },
    );
  }
  return bundle;
}

/** Reading a large file takes a while: its beginning and end are told. */
export function sayBundle(console: Console): OnProgress {
  return ({ kind, message, done, seconds }) => {
    if (kind === 'step' && console.verbosity < 2) return;
    const end = seconds === undefined ? '' : ` in ${formatDuration(seconds * 1000)}`;
    console.info(`${message}${done === undefined ? '' : `: ${formatBytes(done)}`}${end}`);
  };
}
