/** Writes a commented spec to begin with. */
import { readFileSync } from 'node:fs';
import mustache from 'mustache';
import { stringify } from 'yaml';
import { addressText, parseNetwork } from './networks.js';
import type { SpecInput } from './schema.js';
import { specSchema } from './schema.js';

/** The text of a cluster.yaml for a spec: its values, the defaults, and what each part is for. */
export function specText(input: SpecInput): string {
  const template = readFileSync(new URL('./cluster.yaml.mustache', import.meta.url), 'utf8');
  const spec = specSchema.parse(input);
  const { network } = spec;
  const scalar = (value: unknown): string => stringify(value, { lineWidth: 0 }).trimEnd();
  const text = mustache.render(template, {
    name: scalar(spec.name),
    version: spec.kubernetes.version,
    user: scalar(spec.ssh.user),
    port: spec.ssh.port === 22 ? '' : spec.ssh.port,
    hosts: spec.hosts.map((host) => ({
      name: scalar(host.name),
      address: host.address,
      roles: host.roles.join(', '),
    })),
    pods: network.pods,
    services: network.services,
    dnsAddress: network.dnsAddress ?? addressText(parseNetwork(network.services).first + 2),
    dnsDomain: network.dnsDomain,
    nodePorts: network.nodePorts,
    interface: network.interface === undefined ? '' : scalar(network.interface),
    etcdPrefix: network.flannel.etcdPrefix === '/kubernetes/network' ? '' : network.flannel.etcdPrefix,
    proxyPort: spec.api.proxyPort,
    externalEndpoint: spec.api.externalEndpoint ?? '',
    etcdDataDir: spec.etcd.dataDir,
    etcdWalDir: spec.etcd.walDir,
    bin: spec.paths.bin,
    data: spec.paths.data,
    runtimeDataDir: spec.runtime.dataDir,
  });
  return text;
}
