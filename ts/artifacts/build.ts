/**
 * Source `build`: compiles a component from the Go modules pinned under artifacts/go into the cache.
 *
 * The output of one component, version and architecture lies in `build/COMPONENT-VERSION-ARCH-KEY`, where the key
 * covers everything that shapes the bytes: go.mod, go.sum, the recipe, the Go and C compilers. It appears whole or
 * not at all, and later runs reuse it.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import semver from 'semver';
import type { Architecture } from '../types/cluster.js';
import { environmentError, type K8sAnsError, usageError } from '../types/errors.js';
import { packageRoot } from '../types/package.js';
import { type BuildRecipe, type Component, fill } from './catalog.js';
import { type FolderContent, makeFolder, readFolder } from './files.js';
import { binaryImageFiles, ociArchive } from './oci.js';
import { withPrivateGo } from './private-go.js';
import type { OnProgress } from './progress.js';
import { type CCompiler, cCompiler, goVersion, lastLines } from './toolchain.js';

/** What a build gave. */
export interface BuiltComponent {
  readonly component: string;
  /** The version that the binaries say: the recipe's where it differs from upstream's. */
  readonly version: string;
  readonly key: string;
  readonly folder: string;
  /** Binaries by name; for an image component, the archive `NAME.tar` with its reference. */
  readonly files: FolderContent['files'];
  /** False: it was in the cache. */
  readonly compiled: boolean;
  readonly seconds: number;
}

export interface BuildOptions {
  /** cacheRoot() */
  readonly cache: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  /** Folder of the Go modules; default: the package's artifacts/go. */
  readonly modules?: string | undefined;
}

/** Bumped when the form of what a build leaves in the cache changes. */
const format = 1;

/** The folder of a build in the cache. */
export function buildFolder(cache: string, component: Component, architecture: Architecture, key: string): string {
  return path.join(cache, 'build', `${component.name}-${component.version}-${architecture}-${key}`);
}

/** A build that is complete in the cache under this key, or undefined. Needs no compiler. */
export async function cachedBuild(
  component: Component,
  architecture: Architecture,
  key: string,
  cache: string,
  thorough = false,
): Promise<BuiltComponent | undefined> {
  const folder = buildFolder(cache, component, architecture, key);
  const content = await readFolder(folder, thorough);
  if (content === undefined) return undefined;
  return built(component, key, folder, content, false, 0);
}

/**
 * Builds a component, or takes it from the cache.
 *
 * Throws a usage error where the catalog pins no modules for its version, and environment errors where a compiler is
 * missing or the compilation fails.
 */
export async function buildComponent(
  component: Component,
  architecture: Architecture,
  options: BuildOptions,
): Promise<BuiltComponent> {
  const { cache, signal, onProgress } = options;
  const plan = await buildPlan(component, architecture, options);
  const cached = await cachedBuild(component, architecture, plan.key, cache);
  if (cached !== undefined) return cached;
  const name = `${component.name} ${plan.version} (${architecture})`;
  onProgress({ kind: 'start', name, message: `building ${name}`, done: 0, total: plan.outputs.length });
  const begun = Date.now();
  const folder = buildFolder(cache, component, architecture, plan.key);
  const content = await makeFolder(folder, signal, async (temporary) => {
    await compile(plan, temporary, name, options);
    const remarks = { component: component.name, version: plan.version, architecture, toolchain: plan.toolchain };
    if (component.image === undefined) return { files: plan.outputs.map((output) => ({ name: output })), remarks };
    const { name: first, ref, built: image } = component.image;
    if (image === undefined) throw new Error(`the catalog does not say how the image of ${component.name} is built`);
    const { entrypoint, user, files: others } = image;
    const places = Object.entries({ [first]: entrypoint, ...others });
    const binaries = await Promise.all(
      places.map(async ([binary, place]) => [place, await readFile(path.join(temporary, binary))] as const),
    );
    const files = binaryImageFiles(new Map(binaries), user);
    const archive = `${component.image.name}.tar`;
    await writeFile(
      path.join(temporary, archive),
      ociArchive({ ref, architecture, user, entrypoint: [entrypoint], files }),
    );
    return { files: [{ name: archive, ref }], remarks };
  });
  const seconds = (Date.now() - begun) / 1000;
  onProgress({ kind: 'done', name, message: `built ${name}`, seconds });
  return built(component, plan.key, folder, content, true, seconds);
}

interface Plan {
  readonly version: string;
  readonly module: string;
  readonly recipe: BuildRecipe;
  readonly key: string;
  readonly toolchain: string;
  readonly env: NodeJS.ProcessEnv;
  readonly outputs: ReadonlyArray<string>;
  readonly steps: ReadonlyArray<GoStep | CStep>;
}

interface GoStep {
  readonly kind: 'go';
  readonly flags: ReadonlyArray<string>;
  /** Binary name → package. */
  readonly packages: Readonly<Record<string, string>>;
}

interface CStep {
  readonly kind: 'c';
  readonly compiler: string;
  readonly flags: ReadonlyArray<string>;
  readonly module: string;
  readonly source: string;
  readonly output: string;
}

async function buildPlan(component: Component, architecture: Architecture, options: BuildOptions): Promise<Plan> {
  const { recipe } = component;
  const pin = recipe?.modules[component.version];
  if (recipe === undefined || pin === undefined) {
    const known = Object.keys(recipe?.modules ?? {}).join(', ');
    throw usageError(`source build has no Go modules pinned for ${component.name} ${component.version}`, {
      code: 'build-not-pinned',
      next: `Use ${component.name} ${known || 'from another source'}, or choose source upstream, mirror or directory.`,
    });
  }
  const module = path.join(options.modules ?? path.join(packageRoot(), 'artifacts', 'go'), pin.module);
  const version = pin.version ?? component.version;
  const withC = recipe.cgo.architectures.includes(architecture);
  const base = goEnvironment(options.env, architecture);
  const go = await goVersion(module, base, options.signal);
  let compiler: CCompiler | undefined;
  if (withC || recipe.c !== undefined) {
    compiler = await cCompiler(architecture, withC ? recipe.cgo.libraries : [], options.env, options.signal);
  }
  const env = { ...base };
  if (withC && compiler !== undefined) {
    Object.assign(env, { CGO_ENABLED: '1', CC: compiler.command });
    if (compiler.pkgConfigPath !== undefined) env.PKG_CONFIG_LIBDIR = compiler.pkgConfigPath;
  }
  const values = {
    version,
    major: String(semver.coerce(version)?.major ?? ''),
    minor: String(semver.coerce(version)?.minor ?? ''),
    date: pin.date,
    commit: pin.commit,
  };
  const steps: (GoStep | CStep)[] = goSteps(recipe, values, withC);
  if (recipe.c !== undefined && compiler !== undefined) {
    steps.push({
      kind: 'c',
      compiler: compiler.command,
      flags: recipe.c.flags.map((flag) => fill(flag, values)),
      module: recipe.c.module,
      source: recipe.c.source,
      output: component.name,
    });
  }
  const toolchain = [go, compiler?.identity].filter((part) => part !== undefined).join(', ');
  const hash = createHash('sha256');
  const shaping = [env.CGO_ENABLED, env.GOOS, env.GOARCH, env.GOAMD64, env.GOARM64];
  for (const part of [format, toolchain, shaping, steps, component.image ?? null]) hash.update(JSON.stringify(part));
  for (const file of ['go.mod', 'go.sum']) hash.update(await readFile(path.join(module, file)));
  const outputs = steps.flatMap((step) => (step.kind === 'go' ? Object.keys(step.packages) : [step.output]));
  return { version, module, recipe, key: hash.digest('hex').slice(0, 16), toolchain, env, outputs, steps };
}

/** One `go build` for the packages that share their flags. */
function goSteps(recipe: BuildRecipe, values: Readonly<Record<string, string | undefined>>, withC: boolean): GoStep[] {
  const linker = ['-s', '-w'];
  for (const [variable, value] of Object.entries(recipe.variables))
    linker.push('-X', `${variable}=${fill(value, values)}`);
  if (withC) linker.push('-linkmode', 'external', '-extldflags', recipe.cgoLinker);
  const steps = new Map<string, { kind: 'go'; flags: string[]; packages: Record<string, string> }>();
  for (const [name, goPackage] of Object.entries(recipe.packages)) {
    const tags = [...recipe.tags, ...(recipe.packageTags[name] ?? [])].join(',');
    const step = steps.get(tags) ?? {
      kind: 'go' as const,
      flags: [
        '-mod=readonly',
        '-buildvcs=false',
        '-trimpath',
        ...(tags === '' ? [] : [`-tags=${tags}`]),
        ...recipe.flags,
        `-ldflags=${linker.join(' ')}`,
      ],
      packages: {},
    };
    step.packages[name] = goPackage;
    steps.set(tags, step);
  }
  return [...steps.values()];
}

/** The caller's environment, less the Go settings that would shape the output. */
function goEnvironment(env: NodeJS.ProcessEnv, architecture: Architecture): NodeJS.ProcessEnv {
  return {
    ...withPrivateGo(env),
    GOFLAGS: '',
    GOWORK: 'off',
    GOOS: 'linux',
    GOARCH: architecture,
    GOAMD64: 'v1',
    GOARM64: 'v8.0',
    GOEXPERIMENT: '',
    GODEBUG: '',
    CGO_ENABLED: '0',
  };
}

async function compile(plan: Plan, temporary: string, name: string, options: BuildOptions): Promise<void> {
  let finished = 0;
  for (const step of plan.steps) {
    if (step.kind === 'c') {
      const folder = await moduleFolder(step.module, plan, name, options.signal);
      const output = path.join(temporary, step.output);
      await tool(
        step.compiler,
        [...step.flags, '-s', '-o', output, step.source],
        folder,
        plan.env,
        name,
        options.signal,
      );
      finished += 1;
      continue;
    }
    // `go build -o FOLDER/` names each binary after its package.
    const watch = setInterval(() => {
      readdir(temporary).then(
        (files) =>
          options.onProgress({
            kind: 'step',
            name,
            message: `building ${name}`,
            done: Math.min(plan.outputs.length, Math.max(finished, files.length)),
            total: plan.outputs.length,
          }),
        () => undefined,
      );
    }, 1000);
    try {
      const packages = Object.values(step.packages);
      const args = ['build', ...step.flags, '-o', `${temporary}/`, ...packages];
      await tool('go', args, plan.module, plan.env, name, options.signal);
    } finally {
      clearInterval(watch);
    }
    for (const [binary, goPackage] of Object.entries(step.packages)) {
      const given = path.join(temporary, packageBinary(goPackage));
      if (given !== path.join(temporary, binary)) await rename(given, path.join(temporary, binary));
      await stat(path.join(temporary, binary));
    }
    finished += Object.keys(step.packages).length;
  }
}

/** The name `go build` gives a package's binary: the last element of its path that is no major version. */
function packageBinary(goPackage: string): string {
  const elements = goPackage.split('/');
  const last = elements.at(-1) ?? goPackage;
  return /^v[0-9]+$/.test(last) ? (elements.at(-2) ?? last) : last;
}

async function moduleFolder(module: string, plan: Plan, name: string, signal: AbortSignal): Promise<string> {
  const output = await tool('go', ['mod', 'download', '-json', module], plan.module, plan.env, name, signal);
  const { Dir } = JSON.parse(output) as { Dir?: string };
  if (Dir === undefined) throw new Error(`go mod download said nothing of ${module}'s folder`);
  return Dir;
}

/** Runs a compiler in a process group of its own, so that an abort ends what it started too. */
async function tool(
  command: string,
  args: ReadonlyArray<string>,
  cwd: string,
  env: NodeJS.ProcessEnv,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted();
  const child = execa(command, args, { cwd, env, extendEnv: false, reject: false, stdin: 'ignore', detached: true });
  const end = (kill: NodeJS.Signals) => () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, kill);
    } catch {
      // It has ended.
    }
  };
  const abort = end('SIGTERM');
  const atExit = end('SIGKILL');
  signal.addEventListener('abort', abort, { once: true });
  process.once('exit', atExit);
  const result = await child;
  signal.removeEventListener('abort', abort);
  process.removeListener('exit', atExit);
  signal.throwIfAborted();
  if (!result.failed) return result.stdout;
  throw compileError(name, command, result.code, lastLines(result.stderr || result.shortMessage));
}

function compileError(name: string, command: string, code: string | undefined, output: string): K8sAnsError {
  const unreachable = /dial tcp|no such host|i\/o timeout|proxyconnect|connection refused|TLS handshake/.test(output);
  if (code === 'ENOENT') {
    return environmentError(`building ${name} needs ${command}, which is not on PATH`, {
      code: 'build-no-tool',
      next: 'Run `k8s-ans doctor --fix`.',
    });
  }
  return environmentError(`building ${name} failed: ${output}`, {
    code: unreachable ? 'build-no-modules' : 'build-failed',
    next: unreachable
      ? 'The Go module proxy cannot be reached: look at `go env GOPROXY`, or choose another source under artifacts.source in cluster.yaml.'
      : 'Mend what the compiler says and run it again; what was built before is kept.',
  });
}

function built(
  component: Component,
  key: string,
  folder: string,
  content: FolderContent,
  compiled: boolean,
  seconds: number,
): BuiltComponent {
  const version = content.remarks.version ?? component.version;
  return { component: component.name, version, key, folder, files: content.files, compiled, seconds };
}
