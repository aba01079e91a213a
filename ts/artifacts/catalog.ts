/** The catalog: which components and versions belong to a Kubernetes minor, and where upstream publishes them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import semver from 'semver';
import { parse } from 'yaml';
import { z } from 'zod';
import type { Architecture, Cluster } from '../types/cluster.js';
import { usageError } from '../types/errors.js';
import { packageRoot } from '../types/package.js';

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'a sha256 in hexadecimal');
const group = z.enum(['masters', 'nodes', 'etcd']);
const strings = z.record(z.string(), z.string());

const buildSchema = z.strictObject({
  /** By the component's version: the Go module under artifacts/go, and what is stamped in. */
  modules: z.record(
    z.string(),
    z.strictObject({
      module: z.string(),
      /** The version that is built, where it is not the upstream release's. */
      version: z.string().optional(),
      date: z.string().optional(),
      commit: z.string().optional(),
    }),
  ),
  tags: z.array(z.string()).default([]),
  flags: z.array(z.string()).default([]),
  /** Linker variables (-X). */
  variables: strings.default({}),
  packages: strings.default({}),
  packageTags: z.record(z.string(), z.array(z.string())).default({}),
  /** Where cgo is on, with the C libraries (pkg-config names) that are linked in statically. */
  cgo: z
    .strictObject({ architectures: z.array(z.enum(['amd64', 'arm64'])), libraries: z.array(z.string()) })
    .default({ architectures: [], libraries: [] }),
  /** How the C linker is told to link statically, where cgo is on. */
  cgoLinker: z.string().default('-static'),
  /** A C program instead of Go packages. */
  c: z.strictObject({ module: z.string(), source: z.string(), flags: z.array(z.string()) }).optional(),
});

const componentSchema = z.strictObject({
  /** The add-on that it belongs to, by its key in the spec; without one, every cluster has the component. */
  addon: z.string().optional(),
  /** The container runtime that it belongs to; without one, clusters with any. */
  runtime: z.string().optional(),
  /** Its version where no lane says another. */
  version: z.string().optional(),
  upstream: z
    .strictObject({
      url: z.url(),
      /** The publisher's checksum file. Without one the digests must stand in the catalog. */
      checksum: z.url().optional(),
      checksumFormat: z.enum(['sums', 'github-release']).default('sums'),
      cosign: z
        .strictObject({ signature: z.url(), certificate: z.url(), identity: z.string(), issuer: z.string() })
        .optional(),
    })
    .optional(),
  binaries: z
    .array(
      z.strictObject({
        name: z.string(),
        groups: z.array(group),
        dest: z.enum(['bin', 'cni']).default('bin'),
        /** Path in the archive; without it, the published file is the binary. */
        member: z.string().optional(),
      }),
    )
    .default([]),
  image: z
    .strictObject({
      ref: z.string(),
      groups: z.array(group),
      /** Of the image that is built, which one without a recipe is not. */
      built: z
        .strictObject({
          entrypoint: z.string(),
          user: z.string(),
          /** Further binaries of the recipe, and where the image has them. */
          files: strings.default({}),
        })
        .optional(),
    })
    .optional(),
  build: buildSchema.optional(),
  digests: z.record(
    z.string(),
    z.record(z.string(), z.strictObject({ amd64: digest.nullable(), arm64: digest.nullable() })),
  ),
});

const catalogSchema = z.strictObject({
  schema: z.literal(1),
  default: z.string(),
  lanes: z.record(z.string(), z.intersection(z.object({ kubernetes: z.string() }), strings)),
  components: z.record(z.string(), componentSchema),
});

export type Catalog = z.infer<typeof catalogSchema>;
export type BuildRecipe = z.infer<typeof buildSchema>;
export type HostGroup = z.infer<typeof group>;

/** A component in the version that a cluster uses. */
export interface Component {
  readonly name: string;
  /** The add-on that it belongs to. */
  readonly addon: string | undefined;
  /** The container runtime that it belongs to, where that is not every cluster's. */
  readonly runtime: string | undefined;
  readonly version: string;
  readonly binaries: ReadonlyArray<ComponentBinary>;
  readonly image: ComponentImage | undefined;
  readonly recipe: BuildRecipe | undefined;
  /** What upstream publishes for the architecture; empty for components that come as images. */
  files(architecture: Architecture): UpstreamFile[];
  /** The image's published digest, if known. */
  imageDigest(architecture: Architecture): string | undefined;
}

export interface ComponentBinary {
  readonly name: string;
  readonly groups: ReadonlyArray<HostGroup>;
  readonly dest: 'bin' | 'cni';
}

export interface ComponentImage {
  readonly name: string;
  readonly ref: string;
  readonly groups: ReadonlyArray<HostGroup>;
  /** How it is built, where it can be. */
  readonly built?: BuiltImage | undefined;
}

export interface BuiltImage {
  readonly entrypoint: string;
  readonly user: string;
  /** Binaries beside the entry point, and their paths in the image. */
  readonly files: Readonly<Record<string, string>>;
}

/** A file that upstream publishes: a binary, or an archive of some. */
export interface UpstreamFile {
  /** Unique among a cluster's files of one architecture: COMPONENT/BINARY or COMPONENT/archive. */
  readonly id: string;
  readonly component: string;
  readonly version: string;
  readonly architecture: Architecture;
  /** The file's name in the URL. */
  readonly name: string;
  readonly url: string;
  /** The publisher's checksum file, if there is one. */
  readonly checksum: string | undefined;
  readonly checksumFormat: 'sums' | 'github-release';
  readonly cosign:
    | { readonly signature: string; readonly certificate: string; readonly identity: string; readonly issuer: string }
    | undefined;
  /** The catalog's digest; undefined: open. */
  readonly sha256: string | undefined;
  /** The binaries in it. `member` is the path in the archive; undefined: the file is the binary. */
  readonly binaries: ReadonlyArray<{ readonly name: string; readonly member: string | undefined }>;
}

/** Reads the package's catalog, or another file of its form. */
export function loadCatalog(file = path.join(packageRoot(), 'artifacts', 'catalog.yaml')): Catalog {
  return catalogSchema.parse(parse(readFileSync(file, 'utf8')));
}

/** What a cluster has beyond that which all have. */
export interface ComponentChoice {
  readonly addons: ReadonlyArray<string>;
  readonly runtimes: ReadonlyArray<string>;
}

/** The components that this cluster needs: those of all clusters, and those of its add-ons and its runtime. */
export function clusterComponents(
  catalog: Catalog,
  cluster: Pick<Cluster, 'kubernetes' | 'addons' | 'runtime'>,
): Component[] {
  const addons = Object.entries(cluster.addons).flatMap(([name, { enabled }]) => (enabled ? [name] : []));
  return componentsFor(catalog, cluster.kubernetes.version, { addons, runtimes: [cluster.runtime.type] });
}

/** All add-ons and runtimes that the catalog has components for. */
export function everyChoice(catalog: Catalog): ComponentChoice {
  const all = Object.values(catalog.components);
  return {
    addons: [...new Set(all.flatMap(({ addon }) => addon ?? []))],
    runtimes: [...new Set(all.flatMap(({ runtime }) => runtime ?? []))],
  };
}

/**
 * The components of a cluster with this Kubernetes version (without the leading v), these add-ons and runtimes, in the
 * catalog's order.
 *
 * A patch version other than the lane's is allowed: its digests are open. Throws a usage error for a minor that the
 * catalog has no lane for.
 */
export function componentsFor(
  catalog: Catalog,
  kubernetes: string,
  { addons, runtimes }: ComponentChoice = { addons: [], runtimes: [] },
): Component[] {
  const parsed = semver.parse(kubernetes);
  const lane = parsed === null ? undefined : catalog.lanes[`${parsed.major}.${parsed.minor}`];
  if (lane === undefined) {
    throw usageError(`the catalog has no artifacts for Kubernetes ${kubernetes}`, {
      code: 'artifacts-no-lane',
      where: 'artifacts/catalog.yaml',
      next: `Use a version of ${Object.keys(catalog.lanes).join(', ')}; the catalog's default is ${defaultVersion(catalog)}.`,
    });
  }
  const wanted = Object.entries(catalog.components).filter(
    ([, { addon, runtime }]) =>
      (addon === undefined || addons.includes(addon)) && (runtime === undefined || runtimes.includes(runtime)),
  );
  return wanted.map(([name, entry]) => {
    const version = name === 'kubernetes' ? kubernetes : (lane[name] ?? entry.version);
    if (version === undefined) throw new Error(`the catalog's lane for ${kubernetes} has no version of ${name}`);
    return component(name, version, entry);
  });
}

/** The Kubernetes version that is used where nothing names one. */
export function defaultVersion(catalog: Catalog): string {
  const lane = catalog.lanes[catalog.default];
  if (lane === undefined) throw new Error('the catalog has no default lane');
  return lane.kubernetes;
}

/** Replaces {name} by values.name; a name without a value is an error of the catalog. */
export function fill(template: string, values: Readonly<Record<string, string | undefined>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`the catalog uses ${whole} where it has no value: ${template}`);
    return value;
  });
}

/** What `uname -m` says, which some publishers name their files by. */
const machines: Readonly<Record<Architecture, string>> = { amd64: 'x86_64', arm64: 'aarch64' };

function component(name: string, version: string, entry: Catalog['components'][string]): Component {
  const known = entry.digests[version];
  const file = (architecture: Architecture, key: string, binaries: typeof entry.binaries): UpstreamFile[] => {
    if (entry.upstream === undefined) return [];
    const values = { version, arch: architecture, machine: machines[architecture], binary: key };
    const { upstream } = entry;
    const url = fill(upstream.url, values);
    return [
      {
        id: `${name}/${key}`,
        component: name,
        version,
        architecture,
        name: path.posix.basename(new URL(url).pathname),
        url,
        checksum: upstream.checksum === undefined ? undefined : fill(upstream.checksum, values),
        checksumFormat: upstream.checksumFormat,
        cosign: upstream.cosign && {
          ...upstream.cosign,
          signature: fill(upstream.cosign.signature, values),
          certificate: fill(upstream.cosign.certificate, values),
        },
        sha256: known?.[key]?.[architecture] ?? undefined,
        binaries: binaries.map((binary) => ({
          name: binary.name,
          member: binary.member === undefined ? undefined : fill(binary.member, values),
        })),
      },
    ];
  };
  return {
    name,
    addon: entry.addon,
    runtime: entry.runtime,
    version,
    binaries: entry.binaries.map(({ name, groups, dest }) => ({ name, groups, dest })),
    image: entry.image && { ...entry.image, name, ref: fill(entry.image.ref, { version }) },
    recipe: entry.build,
    files(architecture) {
      const loose = entry.binaries.filter((binary) => binary.member === undefined);
      const packed = entry.binaries.filter((binary) => binary.member !== undefined);
      return [
        ...loose.flatMap((binary) => file(architecture, binary.name, [binary])),
        ...(packed.length > 0 ? file(architecture, 'archive', packed) : []),
      ];
    },
    imageDigest: (architecture) => known?.image?.[architecture] ?? undefined,
  };
}

/** True for an image that nobody can build from Go modules: hosts pull it, whatever the source is. */
export function isOnlyPulled(component: Component): boolean {
  return component.recipe === undefined && component.image !== undefined;
}

/** True if the catalog pins Go modules for the component's version. */
export function canBeBuilt(component: Component): boolean {
  return component.recipe?.modules[component.version] !== undefined;
}
