/** `k8s-ans artifacts list|lock|fetch|verify|bundle|build`: the binaries and images of a cluster on this machine. */
import path from 'node:path';
import Table from 'cli-table3';
import { InvalidArgumentError } from 'commander';
import {
  ArtifactLock,
  buildComponent,
  type Component,
  canBeBuilt,
  clusterComponents,
  componentsFor,
  defaultVersion,
  everyChoice,
  isOnlyPulled,
  type ListedFile,
  listFiles,
  loadCatalog,
  lockFiles,
  machineArchitecture,
  type OnProgress,
  prepareArtifacts,
  pullMissingImages,
  verifyCache,
} from '../artifacts/index.js';
import { readBundle } from '../bundle/read.js';
import type { Register } from '../cli/register.js';
import { formatBytes } from '../report/format.js';
import { loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { Architecture, Cluster } from '../types/cluster.js';
import type { CommandContext, Console } from '../types/console.js';
import { runError, usageError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { cacheRoot } from '../types/package.js';
import { lockedArchitectures } from './run/artifacts.js';
import { sayBundle } from './run/bundle.js';

interface ClusterOptions {
  readonly cluster?: string;
  readonly arch: ReadonlyArray<Architecture>;
}

interface VersionOptions extends ClusterOptions {
  readonly kubernetes?: string;
}

export const register: Register = (program, run) => {
  const artifacts = program.command('artifacts').description('the binaries and images that a cluster is made of');
  const add = (name: string, description: string) =>
    artifacts
      .command(name)
      .description(description)
      .option('--cluster <name|dir|file>', clusterOption)
      .option('--arch <list>', "architectures, e.g. amd64,arm64 (default: this machine's)", parseArchitectures, [
        machineArchitecture() ?? 'amd64',
      ]);
  const version = "Kubernetes version (default: the cluster's, else the catalog's)";
  add('list', 'list the published files with their digests')
    .option('--kubernetes <version>', version)
    .action((options: VersionOptions) => run((context) => list(context, options)));
  add('lock', "take open digests from the publisher's checksum files and freeze them in artifacts.lock").action(
    (options: ClusterOptions) => run((context) => lock(context, options)),
  );
  add('fetch', 'download or build everything, check it and freeze it in artifacts.lock').action(
    (options: ClusterOptions) => run((context) => fetchAll(context, options)),
  );
  add('verify', 'compute the digest of everything in the cache that artifacts.lock names, or of a bundle')
    .option('--bundle <file>', 'check this bundle whole instead; needs no cluster')
    .action((options: ClusterOptions & { bundle?: string }) =>
      run((context) =>
        options.bundle === undefined ? verify(context, options) : verifyBundle(context, options.bundle),
      ),
    );
  artifacts
    .command('bundle')
    .description('fetch everything and write it into one file, for a site without a network')
    .option('--cluster <name|dir|file>', clusterOption)
    .option(
      '--arch <list>',
      "architectures (default: those of artifacts.lock, else this machine's)",
      parseArchitectures,
    )
    .option('--output <file>', 'the file to write (default: NAME-VERSION.bundle.tar)')
    .action((options: BundleOptions) => run((context) => bundle(context, options)));
  add('build', 'compile the artifacts from pinned Go modules into the cache')
    .option('--kubernetes <version>', version)
    .option('--component <list>', 'only these components, e.g. etcd,runc', (value: string) => value.split(','))
    .action((options: VersionOptions & { component?: string[] }) => run((context) => build(context, options)));
};

interface BundleOptions extends Partial<ClusterOptions> {
  readonly output?: string;
}

async function list(context: CommandContext, options: VersionOptions): Promise<void> {
  const { version, home, components } = await wanted(context, options);
  const lockFile = home === undefined ? undefined : await ArtifactLock.read(home.lock, version);
  const files = listFiles(components, options.arch, lockFile);
  context.console.print(fileTable(files, context.console));
  const open = files.filter(({ state }) => state === 'open').length;
  if (open > 0) {
    context.console.print(`${open} digests are open: \`k8s-ans artifacts lock\` takes them from their publishers.`);
  }
  context.console.result('artifacts', { kubernetes: version, files });
}

async function lock(context: CommandContext, options: ClusterOptions): Promise<void> {
  const { home, cluster } = await theCluster(context, options);
  const { taken, written, signatures } = await lockFiles({
    ...runOptions(context, options),
    home,
    cluster,
  });
  for (const { url, sha256, from } of taken) context.console.print(`${sha256}  ${url}\n  stated by ${from}`);
  context.console.print(written ? `${home.lock} is written.` : `${home.lock} already has them all.`);
  context.console.result('artifacts-lock', { lock: home.lock, taken, written, signatures });
}

async function fetchAll(context: CommandContext, options: ClusterOptions): Promise<void> {
  const { home, cluster } = await theCluster(context, options);
  const prepared = await prepareArtifacts({
    ...runOptions(context, options),
    home,
    cluster,
    signatures: true,
  });
  for (const [architecture, { binaries, images }] of Object.entries(prepared.variables.k8s_artifacts)) {
    const archives = images.filter((image) => image.path !== null).length;
    context.console.print(
      `${architecture}: ${binaries.length} binaries and ${archives} image archives are here and verified.`,
    );
  }
  context.console.print(prepared.lockWritten ? `${home.lock} is written.` : `${home.lock} is as it was.`);
  context.console.result('artifacts-fetch', { source: prepared.source, ...prepared.variables });
}

async function verify(context: CommandContext, options: ClusterOptions): Promise<void> {
  const { home, cluster } = await theCluster(context, options);
  const { version } = cluster.kubernetes;
  const frozen = await ArtifactLock.read(home.lock, version);
  const states = await verifyCache(
    clusterComponents(loadCatalog(), cluster),
    options.arch,
    frozen,
    cacheRoot(context.env),
  );
  const bad = states.filter(({ state }) => state !== 'ok');
  for (const { state, architecture, name, path } of bad)
    context.console.print(`${state}: ${name} (${architecture}), ${path}`);
  context.console.result('artifacts-verify', { artifacts: states });
  if (states.length === 0) {
    throw usageError(`${home.lock} names no artifacts for ${options.arch.join(' and ')}`, {
      code: 'artifacts-not-locked',
      where: home.lock,
      next: 'Run `k8s-ans artifacts fetch` first.',
    });
  }
  if (bad.length > 0) {
    throw runError(`${bad.length} of ${states.length} artifacts are missing or altered.`, {
      code: 'artifacts-altered',
      where: cacheRoot(context.env),
      next: 'Run `k8s-ans artifacts fetch`: it brings again what is missing and replaces what is altered.',
    });
  }
  context.console.print(`All ${states.length} artifacts have the digests of ${home.lock}.`);
}

async function verifyBundle(context: CommandContext, file: string): Promise<void> {
  const { console, cwd, signal } = context;
  const onProgress = sayBundle(console);
  let said = 0;
  const checked = await readBundle(path.resolve(cwd, file), {
    signal,
    onBytes: (done) => {
      if (done - said < 64 << 20) return;
      said = done;
      onProgress({ kind: 'step', name: 'bundle', message: `checking ${file}`, done });
    },
  });
  const { description, digests, sha256, size } = checked;
  const { kubernetes, architectures } = description;
  console.print(
    `${file} is whole: ${digests.size} files for Kubernetes ${kubernetes} (${architectures.join(', ')}), ${formatBytes(size)}.\n${sha256}  ${file}`,
  );
  console.result('artifacts-verify-bundle', {
    file: checked.file,
    kubernetes,
    architectures,
    sha256,
    size,
    files: Object.fromEntries(digests),
  });
}

async function bundle(context: CommandContext, options: BundleOptions): Promise<void> {
  const { console, cwd, env, signal } = context;
  const { home, cluster } = await theCluster(context, options);
  const { version } = cluster.kubernetes;
  const locked = await lockedArchitectures(home);
  const architectures = options.arch ?? (locked.length > 0 ? locked : [machineArchitecture() ?? 'amd64']);
  const fetching = runOptions(context, { arch: architectures });
  await prepareArtifacts({ ...fetching, home, cluster, signatures: true });
  const components = clusterComponents(loadCatalog(), cluster);
  const lock = await ArtifactLock.read(home.lock, version);
  for (const architecture of architectures) await pullMissingImages(components, architecture, lock, fetching);
  await lock.write();
  const file = path.resolve(cwd, options.output ?? `${cluster.name}-${version}.bundle.tar`);
  console.info(`Writing ${file}: what is in it is looked at for the bill of materials first.`);
  const { writeBundle } = await import('../bundle/write.js');
  const written = await writeBundle({
    file,
    components,
    architectures,
    lock,
    cache: cacheRoot(env),
    signal,
  });
  const { digests, sha256, size } = written;
  console.print(
    `${file} is written: ${digests.size} files for Kubernetes ${version} (${architectures.join(', ')}), ${formatBytes(size)}.\n${sha256}  ${path.basename(file)}`,
  );
  console.result('artifacts-bundle', {
    file,
    kubernetes: version,
    architectures,
    sha256,
    size,
    files: Object.fromEntries(digests),
  });
}

async function build(context: CommandContext, options: VersionOptions & { component?: string[] }): Promise<void> {
  const { version, home, components: all } = await wanted(context, options);
  const components = chosenComponents(all, home !== undefined, options.component);
  const { console, env, signal } = context;
  console.info(`Building Kubernetes ${version} and what goes with it into ${cacheRoot(env)}/build.`);
  const done = [];
  for (const architecture of options.arch) {
    for (const component of components) {
      const one = await buildComponent(component, architecture, {
        cache: cacheRoot(env),
        env,
        signal,
        onProgress: say(console),
      });
      const files = [...one.files.keys()].join(' ');
      const how = one.compiled ? `built in ${one.seconds.toFixed(1)} s` : 'in the cache';
      console.print(`${one.component} ${one.version} (${architecture}): ${how}: ${files}\n  ${one.folder}`);
      done.push({ ...one, architecture, files: Object.fromEntries(one.files) });
    }
  }
  console.result('artifacts-build', { kubernetes: version, builds: done });
}

/** Those that are named, else all of the cluster; without one, those that every cluster has. */
function chosenComponents(
  all: ReadonlyArray<Component>,
  ofCluster: boolean,
  names: string[] | undefined,
): ReadonlyArray<Component> {
  if (names === undefined) {
    const every = all.filter(({ addon, runtime }) => ofCluster || (addon === undefined && runtime === undefined));
    const ours = every.filter((component) => !isOnlyPulled(component));
    return ours.every(canBeBuilt) ? ours : refuseUnpinned(ours);
  }
  return names.map((name) => {
    const component = all.find((one) => one.name === name);
    if (component !== undefined) return component;
    throw usageError(`there is no component ${name}`, {
      code: 'artifacts-no-component',
      next: `Use some of ${all.map((one) => one.name).join(', ')}.`,
    });
  });
}

function refuseUnpinned(all: ReadonlyArray<Component>): never {
  const unpinned = all.filter((component) => !canBeBuilt(component));
  throw usageError(
    `the catalog pins no Go modules for ${unpinned.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
    { code: 'build-not-pinned', next: `Build Kubernetes ${defaultVersion(loadCatalog())}, or choose another source.` },
  );
}

interface Wanted {
  readonly version: string;
  readonly home: ClusterHome | undefined;
  readonly components: ReadonlyArray<Component>;
}

/** The version to look at, with the cluster it is of, if any; without one, the components of all add-ons are meant. */
async function wanted(context: CommandContext, options: VersionOptions): Promise<Wanted> {
  const catalog = loadCatalog();
  const alone = (version: string): Wanted => ({
    version,
    home: undefined,
    components: componentsFor(catalog, version, everyChoice(catalog)),
  });
  if (options.kubernetes !== undefined) return alone(options.kubernetes.replace(/^v/, ''));
  let home: ClusterHome;
  try {
    home = await locateCluster(context, options.cluster);
  } catch (error) {
    if (options.cluster !== undefined) throw error;
    return alone(defaultVersion(catalog));
  }
  const cluster = await loadCluster(home);
  return { version: cluster.kubernetes.version, home, components: clusterComponents(catalog, cluster) };
}

async function theCluster(
  context: CommandContext,
  options: Pick<ClusterOptions, 'cluster'>,
): Promise<{ home: ClusterHome; cluster: Cluster }> {
  const home = await locateCluster(context, options.cluster);
  return { home, cluster: await loadCluster(home) };
}

function runOptions(context: CommandContext, options: Pick<ClusterOptions, 'arch'>) {
  const { env, signal, console } = context;
  return { architectures: options.arch, env, signal, cache: cacheRoot(env), onProgress: say(console) };
}

/** Progress as lines: notes, beginnings and ends; the bytes between them only at a higher verbosity. */
function say(console: Console): OnProgress {
  return ({ kind, message, done, total, seconds }) => {
    if (kind === 'step') {
      if (console.verbosity > 1) console.info(`${message}: ${done ?? '?'} of ${total ?? '?'}`);
    } else {
      console.info(seconds === undefined ? message : `${message} in ${seconds.toFixed(1)} s`);
    }
  };
}

function fileTable(files: ReadonlyArray<ListedFile>, console: Console): string {
  const table = new Table({
    head: ['component', 'version', 'arch', 'file', 'sha256', 'stated by'],
    style: { compact: true, ...(console.color ? {} : { head: [], border: [] }) },
  });
  for (const { component, version, architecture, file, sha256, state } of files) {
    const digest = sha256 === null ? 'open' : console.verbosity > 0 ? sha256 : `${sha256.slice(0, 12)}…`;
    table.push([component, version, architecture, file, digest, state === 'open' ? '' : state]);
  }
  return table.toString();
}

function parseArchitectures(value: string): Architecture[] {
  return value.split(',').map((name) => {
    if (name !== 'amd64' && name !== 'arm64') throw new InvalidArgumentError('Use amd64, arm64 or amd64,arm64.');
    return name;
  });
}
