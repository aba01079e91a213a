/** What a reset says to a person: what will be gone, and what came of every host. */
import { plural } from '../../report/format.js';
import type { HostReset, ResetOptions } from './reset.js';

/** What a person is told of every host, a paragraph each. */
export function formatResets(resets: ReadonlyArray<HostReset>, check: boolean): string {
  return resets
    .map((reset) => {
      if (reset.basis === 'nothing') return `${reset.host}: carries nothing of k8s-ans; it was not touched.`;
      const counts = [
        [reset.stopped, 'stopped'],
        [reset.unmounted, 'unmounted'],
        [reset.removed, 'removed'],
        [reset.restored, 'put back'],
      ] as const;
      const parts = counts.filter(([list]) => list.length > 0).map(([list, what]) => `${list.length} ${what}`);
      const basis = reset.basis === 'known' ? ' (it has no ledger: by what k8s-ans is known to make)' : '';
      const left = reset.left.map(({ what, why }) => `  left: ${what}: ${why}`);
      const head = `${reset.host}${basis}: ${parts.join(', ') || 'nothing was to be done'}${check ? ', if it were done' : ''}`;
      return [head, ...left, ...reset.reboot.map((text) => `  ${text}`)].join('\n');
    })
    .join('\n');
}

/** What will be gone, for the question. */
export function losses({ cluster, hosts, whole, forget: keys }: ResetOptions): string {
  const what = whole
    ? [
        `This destroys the cluster ${cluster.name} on ${plural(hosts.length, 'host')}: ${hosts.join(', ')}.`,
        '  Gone: every object in etcd, all pods with what they keep on the hosts, images, logs, certificates, networks.',
      ]
    : [
        `This takes ${hosts.join(', ')} out of service.`,
        '  Gone: its pods with what they keep on the host, images, logs, certificates, networks.',
        '  Its Node object stays in the cluster, and pods are not moved first: `k8s-ans node remove` does both.',
      ];
  const home = keys
    ? '  Gone from this machine: the keys and certificates of the cluster, for good.'
    : '  Staying on this machine: spec, keys and certificates, so that `k8s-ans deploy` makes it anew.';
  return [...what, '  Staying on the hosts: packages of the operating system, and what others made.', home].join('\n');
}
