/**
 * The Go toolchain that `k8s-ans doctor --fix` put into the cache, for machines whose own Go is missing or too old.
 *
 * `CACHE/go/current` is a link to a GOROOT.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import semver from 'semver';
import { cacheRoot, packageRoot } from '../types/package.js';

/** The link to the private GOROOT. It may not be there. */
export function privateGoRoot(env: NodeJS.ProcessEnv): string {
  return path.join(cacheRoot(env), 'go', 'current');
}

/** `env` with the private Go first on PATH, if there is one. Its version is the one wanted, so it never switches. */
export function withPrivateGo(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const bin = path.join(privateGoRoot(env), 'bin');
  if (!existsSync(path.join(bin, 'go'))) return env;
  return { ...env, PATH: `${bin}${path.delimiter}${env.PATH ?? ''}`, GOROOT: '', GOTOOLCHAIN: 'local' };
}

/** The `go` line of a go.mod (https://go.dev/ref/mod#go-mod-file-go), e.g. 1.26.8. */
export function goDirective(goMod: string): string | undefined {
  return /^go\s+(\S+)\s*$/m.exec(goMod)?.[1];
}

/** The Go that all pinned modules can be built with: the newest that a go.mod of the package asks for. */
export async function neededGo(modules: string = path.join(packageRoot(), 'artifacts', 'go')): Promise<string> {
  const versions: string[] = [];
  for (const name of await readdir(modules)) {
    const text = await readFile(path.join(modules, name, 'go.mod'), 'utf8').catch(() => '');
    const version = goDirective(text);
    if (version !== undefined) versions.push(version);
  }
  const coerced = versions.map((version) => semver.coerce(version)?.version ?? '0.0.0');
  return coerced.sort(semver.rcompare)[0] ?? '0.0.0';
}
