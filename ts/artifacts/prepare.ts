/** Brings all artifacts of a cluster into the cache, verified, and says where they lie. */
import type { Architecture, Cluster } from '../types/cluster.js';
import { environmentError } from '../types/errors.js';
import type { ClusterHome } from '../types/home.js';
import { cacheRoot } from '../types/package.js';
import { type BuiltComponent, buildComponent, cachedBuild } from './build.js';
import {
  type Catalog,
  type Component,
  clusterComponents,
  type HostGroup,
  isOnlyPulled,
  loadCatalog,
} from './catalog.js';
import type { answers, Limits } from './fetch.js';
import { ArtifactLock } from './lock.js';
import { cachedFile, type LockedArtifact, lockedArtifacts } from './places.js';
import type { OnProgress } from './progress.js';
import { imageInFolder, type PublishedOptions, publishedBinaries } from './published.js';
import { autoBuilds, type ChosenSource, chooseSource, describeSource } from './source.js';
import { hasCosign } from './verify.js';

export interface PrepareOptions {
  readonly cluster: Pick<Cluster, 'kubernetes' | 'artifacts' | 'addons' | 'runtime'>;
  readonly home: Pick<ClusterHome, 'lock'>;
  readonly architectures: ReadonlyArray<Architecture>;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cache?: string | undefined;
  readonly catalog?: Catalog | undefined;
  /** Folder of the Go modules for source `build`; default: the package's. */
  readonly modules?: string | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** How `auto` asks whether upstream's hosts answer. */
  readonly probe?: typeof answers | undefined;
  /** True: check signatures with cosign, where the publisher signs and cosign is there. */
  readonly signatures?: boolean | undefined;
  /** A bundle whose artifacts are in the cache: everything is taken from it, whatever the spec's source is. */
  readonly bundle?: PreparedBundle | undefined;
}

/** A bundle that was checked and whose artifacts lie in the cache. */
export interface PreparedBundle {
  readonly file: string;
  readonly lock: ArtifactLock;
}

/** A binary as the roles take it. */
export interface PreparedBinary {
  readonly name: string;
  readonly component: string;
  readonly version: string;
  /** On the control machine. */
  readonly path: string;
  readonly sha256: string;
  readonly groups: ReadonlyArray<HostGroup>;
  /** `bin`: the cluster's binary folder; `cni`: the CNI plugin folder. */
  readonly dest: 'bin' | 'cni';
}

/** An image as the roles take it. */
export interface PreparedImage {
  readonly name: string;
  readonly ref: string;
  /** OCI archive on the control machine; null: hosts pull it from its registry. */
  readonly path: string | null;
  /** Of the archive. */
  readonly sha256: string | null;
  /** The published digest, `sha256:…`, that a pulled image must have; null if unknown or not pulled. */
  readonly digest: string | null;
  readonly groups: ReadonlyArray<HostGroup>;
}

export interface ArchitectureArtifacts {
  readonly binaries: ReadonlyArray<PreparedBinary>;
  readonly images: ReadonlyArray<PreparedImage>;
}

export interface PreparedArtifacts {
  readonly source: {
    readonly kind: ChosenSource['kind'] | 'bundle';
    /** For people: which source, and why. */
    readonly sentence: string;
  };
  /** What the roles are given, as extra variables. */
  readonly variables: {
    readonly k8s_artifacts: Readonly<Partial<Record<Architecture, ArchitectureArtifacts>>>;
    /**
     * Component (`pause`, `coredns`) → the reference of its image in the cluster's Kubernetes version, with the
     * registry and the digest that it is pulled with.
     */
    readonly k8s_images: Readonly<Record<string, string>>;
  };
  /** With source `build`: what was built or found in the cache. */
  readonly builds: ReadonlyArray<BuiltComponent & { readonly architecture: Architecture }>;
  /** True if artifacts.lock changed. */
  readonly lockWritten: boolean;
}

/** How many downloads run at once. */
const parallelDownloads = 4;

/**
 * Fetches or builds everything, checks every digest, and freezes it in the lock.
 *
 * Throws usage and environment errors (see source.ts, fetch.ts, build.ts, lock.ts); the lock is then as it was.
 */
export async function prepareArtifacts(options: PrepareOptions): Promise<PreparedArtifacts> {
  const { cluster, home, architectures, signal, onProgress } = options;
  const env = options.env ?? process.env;
  const cache = options.cache ?? cacheRoot(env);
  const components = clusterComponents(options.catalog ?? loadCatalog(), cluster);
  const lock = await ArtifactLock.read(home.lock, cluster.kubernetes.version);
  const { bundle } = options;
  const source =
    bundle === undefined
      ? await chooseSource(cluster.artifacts.source, components, lock, env, signal, options.probe)
      : undefined;
  const sentence =
    source === undefined ? `Artifacts are taken from the bundle ${bundle?.file}.` : describeSource(source);
  onProgress({ kind: 'note', name: 'source', message: sentence });
  const k8s_artifacts: Partial<Record<Architecture, ArchitectureArtifacts>> = {};
  const builds: (BuiltComponent & { architecture: Architecture })[] = [];
  for (const architecture of architectures) {
    if (bundle !== undefined) {
      lock.adopt(bundle.lock, architecture);
      k8s_artifacts[architecture] = await frozenArtifacts(components, architecture, bundle, cache);
    } else if (source?.kind === 'build') {
      const built = await build(components, architecture, lock, { ...options, env, cache });
      builds.push(...built.map((one) => ({ ...one, architecture })));
      k8s_artifacts[architecture] = describeBuilt(components, built, architecture, lock, onProgress);
    } else if (source !== undefined) {
      const signatures = options.signatures === true && (await canVerify(env, onProgress));
      const published = { source, lock, cache, env, signal, onProgress, limits: options.limits, signatures };
      k8s_artifacts[architecture] = await fetchAll(components, architecture, published);
    }
    lock.keepOnly(architecture, {
      files: components.flatMap((component) => component.files(architecture).map(({ id }) => id)),
      binaries: components.flatMap((component) => component.binaries.map(({ name }) => name)),
      images: components.flatMap((component) => (component.image === undefined ? [] : [component.image.name])),
    });
  }
  lock.source =
    source === undefined ? (bundle?.lock.source ?? 'upstream') : source.kind === 'build' ? 'build' : 'upstream';
  const lockWritten = await lock.write();
  const images = Object.values(k8s_artifacts).flatMap((one) =>
    one.images.map(({ name, path, digest }) => ({ name, pulled: path === null, digest })),
  );
  const k8s_images = podReferences(components, images, cluster.artifacts.imageRegistry);
  return {
    source: { kind: source?.kind ?? 'bundle', sentence },
    variables: { k8s_artifacts, k8s_images },
    builds,
    lockWritten,
  };
}

/**
 * What pods name the images by, as the last preparation left it in artifacts.lock; for operations that need nothing else.
 */
export async function imageReferences(
  cluster: Pick<Cluster, 'kubernetes' | 'artifacts' | 'addons' | 'runtime'>,
  home: Pick<ClusterHome, 'lock'>,
  catalog: Catalog = loadCatalog(),
): Promise<Record<string, string>> {
  const lock = await ArtifactLock.read(home.lock, cluster.kubernetes.version);
  const components = clusterComponents(catalog, cluster);
  const images = components.flatMap(({ name }) =>
    (['amd64', 'arm64'] as const).flatMap((architecture) => {
      const locked = lock.image(architecture, name);
      return locked === undefined
        ? []
        : [{ name, pulled: locked.origin === 'registry', digest: locked.digest ?? null }];
    }),
  );
  return podReferences(components, images, cluster.artifacts.imageRegistry);
}

interface KnownImage {
  readonly name: string;
  readonly pulled: boolean;
  readonly digest: string | null;
}

/**
 * What pods name the components' images by. One that comes as an archive is on the hosts under its own name; one that
 * is pulled comes from the spec's registry, if it has one, and with its digest where one stands for all architectures.
 */
function podReferences(
  components: ReadonlyArray<Component>,
  images: ReadonlyArray<KnownImage>,
  registry: string | undefined,
): Record<string, string> {
  const reference = (component: string, ref: string): string => {
    const own = images.filter(({ name }) => name === component);
    if (!own.some(({ pulled }) => pulled)) return ref;
    const [digest, ...others] = new Set(own.map((image) => image.digest));
    // containerd knows the image that it must not remove by the very text that is in its configuration.
    const pinned = digest && others.length === 0 && component !== 'pause' ? `@${digest}` : '';
    return `${registry === undefined ? '' : `${registry}/`}${ref}${pinned}`;
  };
  return Object.fromEntries(
    components.flatMap(({ name, image }) => (image === undefined ? [] : [[name, reference(name, image.ref)] as const])),
  );
}

/**
 * Whether `prepareArtifacts` would compile, so that the compilers can be seen to first.
 *
 * True for source `build`, and for `auto` where artifacts.lock or an unreachable upstream leads to it.
 */
export async function wouldBuild(
  options: Pick<PrepareOptions, 'cluster' | 'home' | 'signal' | 'catalog' | 'probe'>,
): Promise<boolean> {
  const { cluster, home, signal } = options;
  const { kind } = cluster.artifacts.source;
  if (kind !== 'auto') return kind === 'build';
  const { version } = cluster.kubernetes;
  const components = clusterComponents(options.catalog ?? loadCatalog(), cluster);
  return autoBuilds(components, await ArtifactLock.read(home.lock, version), signal, options.probe);
}

/**
 * What a bundle's lock names of an architecture, as it lies in the cache.
 *
 * Throws an environment error `bundle-architecture` where it names nothing of it, `bundle-other-versions` where it has
 * other versions than the components, and `bundle-not-unpacked` where the cache lacks some of it.
 */
export async function frozenArtifacts(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  bundle: PreparedBundle,
  cache: string,
): Promise<ArchitectureArtifacts> {
  const { file, lock } = bundle;
  if (!lock.architectures.includes(architecture)) {
    throw environmentError(`${file} has no artifacts for ${architecture}, only for ${lock.architectures.join(', ')}`, {
      code: 'bundle-architecture',
      where: file,
      next: `Make it anew with \`k8s-ans artifacts bundle --arch ${[...lock.architectures, architecture].sort().join(',')}\`.`,
    });
  }
  const other = otherVersions(components, architecture, lock);
  if (other !== undefined) {
    throw environmentError(`${file} is not what this k8s-ans installs: ${other}`, {
      code: 'bundle-other-versions',
      where: file,
      next: 'Make the bundle with the same version of k8s-ans and the same add-ons, or use those that it was made with.',
    });
  }
  const artifacts = lockedArtifacts(components, architecture, lock, cache);
  const found = new Map<string, { path: string; sha256: string }>();
  for (const { kind, name, sha256, places } of artifacts) {
    const there = await cachedFile(places, sha256);
    if (there === undefined) {
      throw environmentError(`${name} (${architecture}) of ${file} is not in the cache any more`, {
        code: 'bundle-not-unpacked',
        where: places[0] ?? cache,
        next: 'Something deleted it meanwhile; run the command again.',
      });
    }
    found.set(`${kind} ${name}`, only(there));
  }
  const at = (kind: LockedArtifact['kind'], name: string) => found.get(`${kind} ${name}`) as PreparedFile;
  return {
    binaries: components.flatMap((component) =>
      component.binaries.map(({ name, groups, dest }): PreparedBinary => {
        const version = lock.binary(architecture, name)?.version ?? component.version;
        return { name, component: component.name, version, ...at('binary', name), groups, dest };
      }),
    ),
    images: components.flatMap(({ image }): PreparedImage[] =>
      image === undefined
        ? []
        : [
            {
              name: image.name,
              ref: image.ref,
              ...at('image', image.name),
              digest: null,
              groups: image.groups,
            },
          ],
    ),
  };
}

/** What the lock lacks or has in another version than the components, in words; undefined: nothing. */
function otherVersions(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  lock: ArtifactLock,
): string | undefined {
  for (const component of components) {
    const built = component.recipe?.modules[component.version]?.version;
    for (const { name } of component.binaries) {
      const locked = lock.binary(architecture, name);
      const wanted = (locked?.origin.startsWith('build:') === true ? built : undefined) ?? component.version;
      if (locked === undefined) return `it lacks ${name}`;
      if (locked.version !== wanted) return `it has ${name} ${locked.version}, not ${wanted}`;
    }
    const image = component.image && lock.image(architecture, component.image.name);
    if (component.image !== undefined && image === undefined) return `it lacks the image ${component.image.ref}`;
    if (component.image !== undefined && image?.ref !== component.image.ref) {
      return `it has the image ${image?.ref}, not ${component.image.ref}`;
    }
  }
  return undefined;
}

async function build(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  lock: ArtifactLock,
  options: PrepareOptions & { env: NodeJS.ProcessEnv; cache: string },
): Promise<BuiltComponent[]> {
  const { cache, env, signal, onProgress, modules } = options;
  const done: BuiltComponent[] = [];
  // One after the other: `go build` uses all cores by itself.
  for (const component of components.filter((one) => !isOnlyPulled(one))) {
    const key = lockedKey(component, architecture, lock);
    const frozen = key === undefined ? undefined : await cachedBuild(component, architecture, key, cache);
    const one = frozen ?? (await buildComponent(component, architecture, { cache, env, signal, onProgress, modules }));
    if (key !== undefined && one.key !== key) {
      onProgress({
        kind: 'note',
        name: component.name,
        message: `${component.name} ${one.version} (${architecture}) was built with another toolchain or other modules than before: its digests are frozen anew.`,
      });
    }
    done.push(one);
  }
  return done;
}

/** The key of the build that the lock froze a component to. */
function lockedKey(component: Component, architecture: Architecture, lock: ArtifactLock): string | undefined {
  const origin =
    component.image === undefined
      ? lock.binary(architecture, component.binaries[0]?.name ?? '')?.origin
      : lock.image(architecture, component.image.name)?.origin;
  return origin?.startsWith('build:') ? origin.slice('build:'.length) : undefined;
}

function describeBuilt(
  components: ReadonlyArray<Component>,
  built: ReadonlyArray<BuiltComponent>,
  architecture: Architecture,
  lock: ArtifactLock,
  onProgress: OnProgress,
): ArchitectureArtifacts {
  const binaries: PreparedBinary[] = [];
  const images: PreparedImage[] = [];
  for (const component of components) {
    const one = built.find(({ component: name }) => name === component.name);
    if (one === undefined) {
      images.push(...pulledImage(component, architecture, lock, onProgress));
      continue;
    }
    const { version } = one;
    const origin = `build:${one.key}`;
    const file = (name: string): { path: string; sha256: string } => {
      const found = one.files.get(name);
      if (found === undefined) throw new Error(`${one.folder} lacks ${name}`);
      return found;
    };
    for (const { name, groups, dest } of component.binaries) {
      const { path, sha256 } = file(name);
      lock.freezeBinary(architecture, name, { version, origin, sha256 });
      binaries.push({ name, component: component.name, version, path, sha256, groups, dest });
    }
    if (component.image !== undefined) {
      const { name, ref, groups } = component.image;
      const { path, sha256 } = file(`${name}.tar`);
      lock.freezeImage(architecture, name, { ref, origin, sha256 });
      images.push({ name, ref, path, sha256, digest: null, groups });
    }
  }
  return { binaries, images };
}

async function fetchAll(
  components: ReadonlyArray<Component>,
  architecture: Architecture,
  options: PublishedOptions,
): Promise<ArchitectureArtifacts> {
  const found = new Map<string, { path: string; sha256: string }>();
  const waiting = components.flatMap((component) => component.files(architecture));
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const workers = Array.from({ length: parallelDownloads }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      for (const [name, binary] of await publishedBinaries(file, { ...options, signal })) found.set(name, binary);
    }
  });
  try {
    await Promise.all(workers);
  } catch (error) {
    failed.abort(error);
    await Promise.allSettled(workers);
    options.signal.throwIfAborted();
    throw error;
  }
  const binaries = components.flatMap((component) =>
    component.binaries.map(({ name, groups, dest }): PreparedBinary => {
      const binary = found.get(name);
      if (binary === undefined) throw new Error(`the catalog has no file with ${name}`);
      return { name, component: component.name, version: component.version, ...only(binary), groups, dest };
    }),
  );
  const images: PreparedImage[] = [];
  for (const component of components) images.push(...(await image(component, architecture, options)));
  return { binaries, images };
}

async function image(
  component: Component,
  architecture: Architecture,
  options: PublishedOptions,
): Promise<PreparedImage[]> {
  if (component.image === undefined) return [];
  const { name, ref, groups } = component.image;
  const { source, lock, cache } = options;
  const frozen = lock.image(architecture, name);
  const here =
    frozen?.ref === ref
      ? await cachedFile(
          lockedArtifacts([component], architecture, lock, cache).flatMap(({ places }) => places),
          frozen.sha256,
        )
      : undefined;
  // A registry's image that lies in the cache, as where a bundle brought it, is sent to the hosts.
  if (here !== undefined && frozen?.origin === 'registry') {
    return [{ name, ref, ...only(here), digest: null, groups }];
  }
  const archive =
    source.kind === 'directory' ? await imageInFolder(source.path, name, architecture, options) : undefined;
  // Frozen to an archive and not in a folder any more, as where a bundle brought it.
  if (archive === undefined && here !== undefined && frozen?.origin === 'archive') {
    return [{ name, ref, ...only(here), digest: null, groups }];
  }
  if (archive === undefined) return pulledImage(component, architecture, lock, options.onProgress);
  lock.freezeImage(architecture, name, { ref, origin: 'archive', sha256: archive.sha256 });
  return [{ name, ref, ...only(archive), digest: null, groups }];
}

/** The component's image, if it has one, as the hosts pull it from its registry; frozen so. */
function pulledImage(
  component: Component,
  architecture: Architecture,
  lock: ArtifactLock,
  onProgress: OnProgress,
): PreparedImage[] {
  if (component.image === undefined) return [];
  const { name, ref, groups } = component.image;
  const frozen = lock.image(architecture, name);
  const known = frozen?.ref === ref ? frozen.digest?.replace(/^sha256:/, '') : undefined;
  const stated = component.imageDigest(architecture) ?? known;
  const digest = stated === undefined ? null : `sha256:${stated}`;
  lock.freezeImage(architecture, name, { ref, origin: 'registry', ...(digest !== null && { digest }) });
  onProgress({ kind: 'note', name, message: `The image ${ref} is pulled by the hosts from its registry.` });
  return [{ name, ref, path: null, sha256: null, digest, groups }];
}

async function canVerify(env: NodeJS.ProcessEnv, onProgress: OnProgress): Promise<boolean> {
  if (await hasCosign(env)) return true;
  onProgress({
    kind: 'note',
    name: 'signatures',
    message: 'cosign is not on PATH: digests are checked, signatures are not.',
  });
  return false;
}

interface PreparedFile {
  readonly path: string;
  readonly sha256: string;
}

function only({ path, sha256 }: PreparedFile): PreparedFile {
  return { path, sha256 };
}
