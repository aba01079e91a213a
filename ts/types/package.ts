/** Where the package's own files (roles, playbooks, catalog) and its caches lie. */
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's root: the nearest folder above this file with a package.json. */
export function packageRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json'))) folder = path.dirname(folder);
  return folder;
}

/**
 * The cache folder: downloads, builds, Python environments, lab images. Everything in it can be deleted.
 *
 * `K8S_ANS_CACHE`, else `$XDG_CACHE_HOME/k8s-ans`, else `~/.cache/k8s-ans`
 * (https://specifications.freedesktop.org/basedir-spec/latest/).
 */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  if (env.K8S_ANS_CACHE) return path.resolve(env.K8S_ANS_CACHE);
  return path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'k8s-ans');
}

/** The package's version, from package.json. */
export function packageVersion(): string {
  const text = readFileSync(path.join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
