/** What of a cluster's home goes into a state file: all that another machine needs and cannot make again. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { ClusterHome } from '../types/home.js';

export const MANIFEST_VERSION = 1;
/** The archive's first file. */
export const MANIFEST_NAME = 'k8s-ans-state.json';
/** The spec's name in the archive, whatever it is called in the home. */
export const SPEC_NAME = 'cluster.yaml';

export const manifestSchema = z.object({
  kind: z.literal('k8s-ans-state'),
  version: z.literal(MANIFEST_VERSION),
  /** The cluster's name. */
  cluster: z.string(),
  /** The release that exported it. */
  tool: z.string(),
  /** ISO 8601. */
  exported: z.string(),
  /** Whether the etcd snapshots of the home are in it. */
  backups: z.boolean(),
  /** All files that follow, in order. */
  files: z.array(z.object({ path: z.string(), size: z.int().min(0) })),
});

/** What a state file says of itself, inside of what is encrypted. */
export type Manifest = z.infer<typeof manifestSchema>;

/** A file of the home that is exported. */
export interface Content {
  /** Its path in the archive, with forward slashes. */
  readonly path: string;
  /** Where it lies. */
  readonly file: string;
  readonly size: number;
  readonly mtime: Date;
}

/**
 * The files of the home that belong into a state file, the spec first, each once.
 *
 * @param referred files of the home that the spec names
 */
export async function contentsOf(
  home: ClusterHome,
  referred: ReadonlyArray<string>,
  options: { readonly backups: boolean },
): Promise<Content[]> {
  const at = (file: string): string => path.relative(home.root, file).split(path.sep).join('/');
  const files = new Map<string, string>([[SPEC_NAME, home.spec]]);
  const add = (file: string): void => {
    if (!files.has(at(file))) files.set(at(file), file);
  };
  for (const file of [home.deployed, home.operation, home.lock, home.kubeconfig]) add(file);
  for (const file of await filesBelow(home.pki)) add(file);
  for (const file of referred) {
    add(file);
    // ssh-keygen writes a public key beside a private one.
    add(`${file}.pub`);
  }
  for (const name of (await readdir(home.runs).catch(() => [])).sort()) {
    if (name !== 'latest') add(path.join(home.runs, name, 'report.json'));
  }
  if (options.backups) for (const file of await filesBelow(home.backups)) add(file);

  const contents: Content[] = [];
  for (const [name, file] of files) {
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile()) contents.push({ path: name, file, size: found.size, mtime: found.mtime });
  }
  return contents;
}

/** All files below a folder, sorted; what a killed run left half-written is not among them. */
async function filesBelow(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  // write-file-atomic's temporary name: the target's, a dot and a number.
  return names
    .filter((name) => !/\.\d{6,}$/.test(name))
    .sort()
    .map((name) => path.join(folder, name));
}

/** Names that `state import` makes itself, or that belong to one machine alone. */
const notImported = new Set(['.lock', 'hosts.yml', 'group_vars', 'environment.sh', 'lab.json', MANIFEST_NAME]);

/** Why the files of a manifest cannot be a cluster's home, or undefined. Pure. */
export function manifestFault({ files }: Manifest): string | undefined {
  const paths = new Set(files.map((entry) => entry.path));
  if (!paths.has(SPEC_NAME)) return `it has no ${SPEC_NAME}`;
  for (const name of paths) {
    const [top = '', ...rest] = name.split('/');
    if (notImported.has(top)) return `${name} does not belong into a state file`;
    if (top === 'runs' && !(rest.length === 2 && rest[0] !== 'latest' && rest[1] === 'report.json')) {
      return `${name} does not belong into a state file`;
    }
    const parents = rest.map((_, index) => [top, ...rest.slice(0, index)].join('/'));
    const parent = parents.find((candidate) => paths.has(candidate));
    if (parent !== undefined) return `${parent} is a file and a folder`;
  }
  return undefined;
}
