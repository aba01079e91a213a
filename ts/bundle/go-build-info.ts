/**
 * Which Go modules a binary was built from, read from the binary itself as `go version -m` does, without Go.
 *
 * Sources of fact: the package debug/buildinfo of Go's standard library (the layout of the section .go.buildinfo since
 * Go 1.18, strings inline), runtime/debug's BuildInfo.String (the lines), and elf(5).
 */

/** Reads `length` bytes at `offset`; fewer where the file ends. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>;

export interface GoModule {
  readonly path: string;
  readonly version: string;
}

export interface GoBuildInfo {
  /** Go's version, e.g. go1.26.8. */
  readonly go: string;
  /** The main package's path. */
  readonly package: string;
  readonly main: GoModule | undefined;
  /** What it was built with; a replaced module is what replaced it. */
  readonly dependencies: ReadonlyArray<GoModule>;
}

const MAGIC = Buffer.from('\xff Go buildinf:', 'latin1');
/** The flag of strings that stand in the section itself. */
const INLINE = 2;
const HEADER = 32;

/** The build information of an ELF file, or undefined for a file that is no Go binary of Go 1.18 or newer. */
export async function goBuildInfo(read: ReadAt): Promise<GoBuildInfo | undefined> {
  const section = await elfSection(read, '.go.buildinfo');
  if (section === undefined || section.length < HEADER || !section.subarray(0, MAGIC.length).equals(MAGIC))
    return undefined;
  if (((section[MAGIC.length + 1] ?? 0) & INLINE) === 0) return undefined;
  const go = inlineString(section, HEADER);
  const info = go && inlineString(section, go.end);
  if (go === undefined || info === undefined) return undefined;
  // The lines stand between two marks of 16 bytes, by which a linker finds them.
  const text = info.bytes.subarray(16, -16).toString('utf8');
  return parseBuildInfo(go.bytes.toString('utf8'), text);
}

/** Reads the lines of BuildInfo.String. */
export function parseBuildInfo(go: string, text: string): GoBuildInfo {
  let main: GoModule | undefined;
  let goPackage = '';
  const dependencies: GoModule[] = [];
  for (const line of text.split('\n')) {
    const [kind, name = '', version = ''] = line.split('\t');
    if (kind === 'path') goPackage = name;
    else if (kind === 'mod') main = { path: name, version };
    else if (kind === 'dep') dependencies.push({ path: name, version });
    // It stands below the module that it replaces; a folder in its place has no version.
    else if (kind === '=>' && version !== '' && dependencies.length > 0) {
      dependencies[dependencies.length - 1] = { path: name, version };
    }
  }
  return { go, package: goPackage, main, dependencies };
}

/** A string with its length before it as a varint (encoding/binary). */
function inlineString(section: Buffer, at: number): { bytes: Buffer; end: number } | undefined {
  let length = 0;
  let shift = 1;
  for (let index = at; index < section.length; index++) {
    const byte = section[index] as number;
    length += (byte & 0x7f) * shift;
    shift *= 128;
    if (byte < 0x80) {
      const end = index + 1 + length;
      return end > section.length ? undefined : { bytes: section.subarray(index + 1, end), end };
    }
  }
  return undefined;
}

/** The content of a section of a 64-bit little-endian ELF file: what amd64 and arm64 have. */
async function elfSection(read: ReadAt, name: string): Promise<Buffer | undefined> {
  const header = await read(0, 64);
  if (header.length < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
    return undefined;
  const [size, count, names] = [header.readUInt16LE(0x3a), header.readUInt16LE(0x3c), header.readUInt16LE(0x3e)];
  const table = await read(Number(header.readBigUInt64LE(0x28)), size * count);
  if (size < 64 || table.length < size * count || names >= count) return undefined;
  const content = (index: number): Promise<Buffer> => {
    const at = index * size;
    return read(Number(table.readBigUInt64LE(at + 0x18)), Number(table.readBigUInt64LE(at + 0x20)));
  };
  const strings = await content(names);
  for (let index = 0; index < count; index++) {
    const from = table.readUInt32LE(index * size);
    const to = strings.indexOf(0, from);
    if (to !== -1 && strings.toString('latin1', from, to) === name) return content(index);
  }
  return undefined;
}
