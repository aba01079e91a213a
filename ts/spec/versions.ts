/**
 * The Kubernetes minors this release knows.
 *
 * Source: https://kubernetes.io/releases/ and https://kubernetes.io/releases/patch-releases/ (1.34's end of life).
 */
import semver from 'semver';

/** The minors that upstream supports; the catalog has a lane for each. */
export const supportedMinors: readonly string[] = ['1.35', '1.36', '1.37'];

/** What a spec gets that names no version. */
export const defaultVersion = '1.36.4';

/** When upstream ended the support of a minor, as far as it matters for a message. */
const endOfLife: Readonly<Record<string, string>> = { '1.34': '2026-10-27' };

/** The minor of a version: 1.36 of 1.36.4. */
export function minorOf(version: string): string {
  return `${semver.major(version)}.${semver.minor(version)}`;
}

/** Why a version cannot be deployed and which one can; undefined where it can. */
export function versionFault(version: string): { message: string; hint: string } | undefined {
  const minor = minorOf(version);
  if (supportedMinors.includes(minor)) return undefined;
  const range = `${supportedMinors[0]} to ${supportedMinors.at(-1)}`;
  const hint = `the nearest version that this release deploys is ${defaultVersion}`;
  if (semver.lt(`${minor}.0`, `${supportedMinors[0]}.0`)) {
    const ended = endOfLife[minor];
    const reason = ended === undefined ? 'is out of upstream support' : `reached its end of life on ${ended}`;
    return { message: `"${version}" is too old: Kubernetes ${minor} ${reason}, supported are ${range}`, hint };
  }
  return { message: `"${version}" is newer than what this release knows: ${range}`, hint };
}
