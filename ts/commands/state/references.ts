/** Paths in a spec that lead to something on this machine, and what becomes of them on another. */
import path from 'node:path';
import type { Spec } from '../../spec/schema.js';
import type { Cluster } from '../../types/cluster.js';

/** A path in the spec that leads to something on this machine. */
export interface Reference {
  /** Such as `ssh.privateKey`. */
  readonly field: string;
  /** As it is written. */
  readonly written: string;
  /** Absolute. */
  readonly file: string;
  /** Whether it lies in the cluster's home, and is exported. */
  readonly inside: boolean;
  /** Whether it is written relative to the home, so that it holds wherever the home lies. */
  readonly portable: boolean;
}

/** The spec's paths on this machine. `root` is the folder that relative ones are relative to. Pure. */
export function references(spec: Spec, cluster: Cluster, root: string): Reference[] {
  const { source } = cluster.artifacts;
  const found: Array<[string, string | undefined, string | undefined]> = [
    ['ssh.privateKey', spec.ssh.privateKey, cluster.ssh.privateKey],
    ['ssh.knownHosts', spec.ssh.knownHosts, cluster.ssh.knownHosts],
    ['audit.policyFile', spec.audit.policyFile, cluster.audit.policyFile],
    [
      'artifacts.source.directory',
      typeof spec.artifacts.source === 'object' && 'directory' in spec.artifacts.source
        ? spec.artifacts.source.directory
        : undefined,
      source.kind === 'directory' ? source.path : undefined,
    ],
    ...spec.hosts.map(({ vars }, index): [string, string | undefined, string | undefined] => {
      const key = vars.ansible_ssh_private_key_file;
      const file = typeof key === 'string' ? key : undefined;
      return [`hosts[${index}].vars.ansible_ssh_private_key_file`, file, file && path.resolve(root, file)];
    }),
  ];
  return found.flatMap(([field, written, file]) => {
    if (written === undefined || file === undefined) return [];
    const relative = path.relative(root, file);
    const inside = relative !== '' && !relative.startsWith('..') && !path.isAbsolute(relative);
    // A folder of artifacts is too large, and another machine fetches or builds what the lock names.
    const exported = inside && field !== 'artifacts.source.directory';
    const portable = !path.isAbsolute(written) && !written.startsWith('~');
    return [{ field, written, file, inside: exported, portable }];
  });
}
