/**
 * artifacts.lock: the digests that a cluster's artifacts are frozen to, by architecture.
 *
 * Once a digest stands in it, a file of the same origin with another digest is refused.
 */
import { readFile } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import type { Architecture } from '../types/cluster.js';
import { environmentError, usageError } from '../types/errors.js';
import { isCode } from './files.js';

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'a sha256 in hexadecimal');

/** A file as published. */
const fileSchema = z.strictObject({
  url: z.string(),
  sha256: digest,
  /** What vouched for the digest when it was frozen: `catalog`, or the URL of the publisher's checksum file. */
  from: z.string(),
  /** True: cosign accepted the publisher's signature. */
  signed: z.boolean().optional(),
});

/** A binary as installed. `origin` is `upstream` or `build:KEY`. */
const binarySchema = z.strictObject({ version: z.string(), origin: z.string(), sha256: digest });

/** An image: the archive's sha256, or the published digest that hosts pull. */
const imageSchema = z.strictObject({
  ref: z.string(),
  origin: z.string(),
  sha256: digest.optional(),
  digest: z.string().optional(),
});

const architectureSchema = z.strictObject({
  files: z.record(z.string(), fileSchema).default({}),
  binaries: z.record(z.string(), binarySchema).default({}),
  images: z.record(z.string(), imageSchema).default({}),
});

const lockSchema = z.strictObject({
  schema: z.literal(1),
  kubernetes: z.string(),
  /** Where the artifacts came from last: source `auto` stays with it. */
  source: z.enum(['upstream', 'build']).optional(),
  amd64: architectureSchema.optional(),
  arm64: architectureSchema.optional(),
});

type LockContent = z.infer<typeof lockSchema>;
export type LockedFile = z.infer<typeof fileSchema>;
export type LockedBinary = z.infer<typeof binarySchema>;
export type LockedImage = z.infer<typeof imageSchema>;

const header = `# Written by k8s-ans: the artifacts that this cluster is frozen to. Keep it with cluster.yaml.
# A file whose digest differs from this one is refused.
`;

/** The lock of one cluster, held in memory until `write`. */
export class ArtifactLock {
  private readonly file: string;
  private content: LockContent;
  private before: string;

  private constructor(file: string, content: LockContent, before: string) {
    this.file = file;
    this.content = content;
    this.before = before;
  }

  /**
   * Reads the lock, or starts an empty one. Entries for another Kubernetes version are kept only while their URL,
   * version or reference stays the same, so an upgrade starts afresh for what it changes.
   *
   * Throws a usage error for a file that is no lock.
   */
  static async read(file: string, kubernetes: string): Promise<ArtifactLock> {
    let text: string;
    try {
      text = await readFile(file, 'utf8');
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error;
      return new ArtifactLock(file, { schema: 1, kubernetes }, '');
    }
    const { source, ...rest } = parseLock(file, text);
    const same = rest.kubernetes === kubernetes;
    return new ArtifactLock(file, { ...rest, kubernetes, ...(same && source !== undefined && { source }) }, text);
  }

  /** The lock that a text is, as it stands. Throws a usage error for a text that is none; `where` names it. */
  static parse(where: string, text: string): ArtifactLock {
    return new ArtifactLock(where, parseLock(where, text), text);
  }

  get kubernetes(): string {
    return this.content.kubernetes;
  }

  /** The architectures that it names artifacts of. */
  get architectures(): Architecture[] {
    return (['amd64', 'arm64'] as const).filter((architecture) => this.content[architecture] !== undefined);
  }

  get source(): 'upstream' | 'build' | undefined {
    return this.content.source;
  }

  set source(source: 'upstream' | 'build') {
    this.content.source = source;
  }

  locked(architecture: Architecture, id: string, url: string): LockedFile | undefined {
    const entry = this.content[architecture]?.files[id];
    return entry?.url === url ? entry : undefined;
  }

  binary(architecture: Architecture, name: string): LockedBinary | undefined {
    return this.content[architecture]?.binaries[name];
  }

  image(architecture: Architecture, name: string): LockedImage | undefined {
    return this.content[architecture]?.images[name];
  }

  /** Everything that it names of an architecture. */
  entries(architecture: Architecture): Readonly<z.infer<typeof architectureSchema>> {
    return this.content[architecture] ?? { files: {}, binaries: {}, images: {} };
  }

  /** Freezes all that another lock names of an architecture. Throws `lock-differs`. */
  adopt(other: ArtifactLock, architecture: Architecture): void {
    const { files, binaries, images } = other.entries(architecture);
    for (const [id, entry] of Object.entries(files)) this.freezeFile(architecture, id, entry);
    for (const [name, entry] of Object.entries(binaries)) this.freezeBinary(architecture, name, entry);
    for (const [name, entry] of Object.entries(images)) this.freezeImage(architecture, name, entry);
  }

  /** Freezes a published file. Throws `lock-differs` if it is frozen to another digest. */
  freezeFile(architecture: Architecture, id: string, entry: LockedFile): void {
    const known = this.locked(architecture, id, entry.url);
    if (known !== undefined && known.sha256 !== entry.sha256) throw this.differs(entry.url, known.sha256, entry.sha256);
    const signed = known?.signed === true || entry.signed === true;
    this.of(architecture).files[id] = { ...(known ?? entry), ...(signed && { signed: true }) };
  }

  /** Freezes a binary. Throws `lock-differs` if it has another digest and comes from the same origin. */
  freezeBinary(architecture: Architecture, name: string, entry: LockedBinary): void {
    const known = this.binary(architecture, name);
    const comparable = known?.origin === entry.origin && known.version === entry.version;
    if (comparable && known.sha256 !== entry.sha256) {
      throw this.differs(`${name} ${entry.version} (${architecture})`, known.sha256, entry.sha256);
    }
    this.of(architecture).binaries[name] = entry;
  }

  /** Freezes an image. Throws `lock-differs` if its archive or digest differs and it comes from the same origin. */
  freezeImage(architecture: Architecture, name: string, entry: LockedImage): void {
    const known = this.image(architecture, name);
    if (known?.origin === entry.origin && known.ref === entry.ref) {
      const was = known.sha256 ?? known.digest;
      const is = entry.sha256 ?? entry.digest;
      if (was !== undefined && is !== undefined && was !== is) throw this.differs(entry.ref, was, is);
    }
    this.of(architecture).images[name] = entry;
  }

  /** Drops what is not among these names, e.g. after an upgrade took a component away. */
  keepOnly(architecture: Architecture, names: { files: string[]; binaries: string[]; images: string[] }): void {
    const entry = this.of(architecture);
    for (const kind of ['files', 'binaries', 'images'] as const) {
      for (const name of Object.keys(entry[kind])) if (!names[kind].includes(name)) delete entry[kind][name];
    }
  }

  /** Writes the lock, 0600 and atomically, unless nothing changed. Returns whether it was written. */
  async write(): Promise<boolean> {
    const text = this.text();
    if (text === this.before) return false;
    await writeFileAtomic(this.file, text, { mode: 0o600 });
    this.before = text;
    return true;
  }

  /** The file's text; with `architectures`, less what is of others. */
  text(architectures: ReadonlyArray<Architecture> = this.architectures): string {
    const { amd64, arm64, ...rest } = this.content;
    const content: LockContent = {
      ...rest,
      ...(amd64 !== undefined && architectures.includes('amd64') && { amd64 }),
      ...(arm64 !== undefined && architectures.includes('arm64') && { arm64 }),
    };
    return header + stringify(lockSchema.parse(content), { sortMapEntries: true, lineWidth: 0 });
  }

  private of(architecture: Architecture): z.infer<typeof architectureSchema> {
    const entry = this.content[architecture] ?? { files: {}, binaries: {}, images: {} };
    this.content[architecture] = entry;
    return entry;
  }

  private differs(what: string, was: string, is: string): Error {
    return environmentError(`${what} now has the sha256 ${is}, but artifacts.lock froze it to ${was}`, {
      code: 'lock-differs',
      where: this.file,
      next: 'Find out why before anything else. If the change is meant, delete the entry from artifacts.lock and run `k8s-ans artifacts lock`.',
    });
  }
}

function parseLock(where: string, text: string): LockContent {
  const result = lockSchema.safeParse(readYaml(text));
  if (result.success) return result.data;
  throw usageError(`${where} is not an artifacts lock: ${z.prettifyError(result.error)}`, {
    code: 'lock-invalid',
    where,
    next: 'Restore it from where you keep the cluster home, or delete it and run `k8s-ans artifacts lock`.',
  });
}

function readYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
