/** The version that an upgrade is to go to, as far as this machine alone can judge it. */
import semver from 'semver';
import { type Catalog, componentsFor } from '../../artifacts/index.js';
import { minorOf, versionFault } from '../../spec/versions.js';
import { usageError } from '../../types/errors.js';

/** By minor, the version that the catalog installs of it. */
export function lanesOf(catalog: Catalog): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(catalog.lanes).map(([minor, lane]) => [minor, lane.kubernetes]));
}

/**
 * Checks the version that a person typed, and returns it without a leading v.
 *
 * @param current what the spec says now
 * @throws K8sAnsError (exit code 2) `upgrade-version`, `upgrade-step`, `upgrade-no-artifacts`
 */
export function checkTarget(text: string, current: string, catalog: Catalog): string {
  const lanes = lanesOf(catalog);
  const bare = text.trim().replace(/^v/, '');
  const parsed = semver.parse(bare);
  if (parsed === null || parsed.prerelease.length > 0 || parsed.build.length > 0) {
    const lane = lanes[bare];
    throw usageError(`${text} is not a Kubernetes release`, {
      code: 'upgrade-version',
      next: `Write all three numbers, such as --to ${lane ?? Object.values(lanes).at(-1)}.`,
    });
  }
  const version = parsed.version;
  // The hosts are asked as well; what is plain already here needs no SSH.
  const step = `${semver.major(current)}.${semver.minor(current) + 1}`;
  if (semver.gt(`${minorOf(version)}.0`, `${step}.0`)) {
    throw usageError(`Kubernetes goes up one minor at a time, and ${version} is more than one on from ${current}`, {
      code: 'upgrade-step',
      next: lanes[step]
        ? `First run \`k8s-ans upgrade --to ${lanes[step]}\`.`
        : `First upgrade to a version of ${step}, for which this release has no artifacts.`,
    });
  }
  const fault = versionFault(version);
  if (fault !== undefined) {
    throw usageError(fault.message, {
      code: 'upgrade-no-artifacts',
      next: `This release can go to ${Object.values(lanes).join(', ')} and other patch versions of these minors.`,
    });
  }
  componentsFor(catalog, version);
  return version;
}

/** Whether a pending upgrade may be turned to another version: within the minor it goes to, or back to where it began. */
export function mayTurn(pending: { readonly subject: string; readonly from: unknown }, target: string): boolean {
  return minorOf(pending.subject) === minorOf(target) || pending.from === target;
}
