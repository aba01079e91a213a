/** Commands that need root. */

/** `words` as root: as they are for root, else through sudo, which asks on the terminal if it must. */
export function asRoot(words: ReadonlyArray<string>, uid: number | undefined = process.getuid?.()): string[] {
  return uid === 0 ? [...words] : ['sudo', ...words];
}
