/**
 * The one table of what the PKI holds: a pure function of the cluster.
 *
 * Subjects are what Kubernetes' built-in RBAC expects (https://kubernetes.io/docs/setup/best-practices/certificates/),
 * with one difference on purpose: the API server's kubelet client is not in `system:masters`, it is bound to
 * `system:kubelet-api-admin` alone.
 */
import ipaddr from 'ipaddr.js';
import type { Cluster, Host } from '../types/cluster.js';

/** The certificate authorities, and the base name of their files in the PKI folder. */
export const AUTHORITY_FILES = {
  kubernetes: 'ca',
  etcd: 'etcd-ca',
  'front-proxy': 'front-proxy-ca',
} as const;

export type AuthorityName = keyof typeof AUTHORITY_FILES;

export const AUTHORITY_NAMES = Object.keys(AUTHORITY_FILES) as ReadonlyArray<AuthorityName>;

/** What a leaf certificate proves: `server` is TLS server authentication, `client` TLS client authentication. */
export type Usage = 'server' | 'client';

/** A leaf certificate that the cluster needs. */
export interface CertificateRequest {
  /** Base path in the PKI folder, e.g. `hosts/k8smaster01/apiserver`; `.crt` and `.key` are added. */
  readonly path: string;
  readonly issuer: AuthorityName;
  readonly commonName: string;
  /** Kubernetes reads these as the user's groups. */
  readonly organizations: ReadonlyArray<string>;
  readonly usages: ReadonlyArray<Usage>;
  /** Subject alternative names: lower case, sorted, without repetition. */
  readonly dnsNames: ReadonlyArray<string>;
  /** Subject alternative addresses, normalised by ipaddr.js, sorted, without repetition. */
  readonly addresses: ReadonlyArray<string>;
}

/** A kubeconfig that the cluster needs, made from a certificate of the plan. */
export interface KubeconfigRequest {
  /** Path in the cluster home. */
  readonly path: string;
  /** `path` of the client certificate in the plan. */
  readonly certificate: string;
  readonly server: string;
  /** Name of the user entry. */
  readonly user: string;
}

const LOOPBACK = ['localhost', '127.0.0.1'];

/** Every leaf certificate of the cluster, in a stable order. */
export function certificatePlan(cluster: Cluster): ReadonlyArray<CertificateRequest> {
  const plan: CertificateRequest[] = [
    kubernetesClient('admin', 'kubernetes-admin', ['system:masters']),
    kubernetesClient('kubeconfigs/controller-manager', 'system:kube-controller-manager'),
    kubernetesClient('kubeconfigs/scheduler', 'system:kube-scheduler'),
    kubernetesClient('kubeconfigs/kube-proxy', 'system:kube-proxy'),
    kubernetesClient('kubeconfigs/csr-approver', 'k8s-ans:csr-approver'),
  ];
  const flannelInEtcd = cluster.network.flannel.datastore === 'etcd';
  if (!flannelInEtcd) plan.push(kubernetesClient('kubeconfigs/flanneld', 'flanneld'));

  const members = new Set(cluster.etcdHosts.map((host) => host.name));
  const masters = new Set(cluster.masters.map((host) => host.name));
  for (const host of cluster.hosts) {
    if (members.has(host.name)) plan.push(...etcdMember(host));
    if (masters.has(host.name)) plan.push(...master(cluster, host));
    // With flannel's configuration in etcd every host that runs flanneld holds an etcd credential.
    if (flannelInEtcd) plan.push(client(`hosts/${host.name}/flanneld-etcd-client`, 'etcd', 'flanneld-etcd-client'));
  }
  plan.push(...addonServers(cluster));
  return plan;
}

/** Every kubeconfig of the cluster; the components' go through the proxy of the host they run on. */
export function kubeconfigPlan(cluster: Cluster): ReadonlyArray<KubeconfigRequest> {
  const component = (name: string): KubeconfigRequest => ({
    path: `pki/kubeconfigs/${name}.conf`,
    certificate: `kubeconfigs/${name}`,
    server: cluster.api.localEndpoint,
    user: name,
  });
  const components = ['controller-manager', 'scheduler', 'kube-proxy'];
  if (cluster.network.flannel.datastore === 'kubernetes') components.push('flanneld');
  const user = `${cluster.name}-admin`;
  return [
    ...components.map(component),
    // For the masters: works whatever becomes of the external endpoint.
    { path: 'pki/kubeconfigs/admin.conf', certificate: 'admin', server: cluster.api.localEndpoint, user },
    { path: 'kubeconfig', certificate: 'admin', server: cluster.api.externalEndpoint, user },
  ];
}

function etcdMember(host: Host): CertificateRequest[] {
  // etcd's gateway and its peers dial with the certificate they serve with: both usages
  // (https://etcd.io/docs/v3.6/op-guide/security/).
  const names = sans([...LOOPBACK, host.name, host.address]);
  const both: ReadonlyArray<Usage> = ['server', 'client'];
  const at = (file: string): string => `hosts/${host.name}/${file}`;
  const common = { issuer: 'etcd', commonName: host.name, organizations: [], usages: both, ...names } as const;
  return [
    { path: at('etcd-server'), ...common },
    { path: at('etcd-peer'), ...common },
    client(at('etcd-healthcheck-client'), 'etcd', 'kube-etcd-healthcheck-client'),
  ];
}

/** What add-ons that are switched on serve with. */
function addonServers(cluster: Cluster): CertificateRequest[] {
  const { metricsServer, registry, dashboard, logging } = cluster.addons;
  const service = (name: string, namespace: string): string[] => [
    `${name}.${namespace}`,
    `${name}.${namespace}.svc`,
    `${name}.${namespace}.svc.${cluster.network.dnsDomain}`,
  ];
  const plan: CertificateRequest[] = [];
  if (metricsServer.enabled) {
    // The API server asks for the name NAME.NAMESPACE.svc, whatever address it dials.
    plan.push(server('addons/metrics-server', 'metrics-server', service('metrics-server', 'kube-system')));
  }
  if (registry.enabled) {
    plan.push(
      server('addons/registry', 'registry', [
        registry.name.replace(/:\d+$/, ''),
        ...service('registry', 'registry'),
        ...LOOPBACK,
        // Any host answers at the node port.
        ...cluster.hosts.flatMap(({ name, address }) => [name, address]),
      ]),
    );
  }
  if (dashboard.enabled && dashboard.access !== 'ingress') {
    plan.push(
      server('addons/dashboard', 'headlamp', [
        ...service('headlamp', 'headlamp'),
        ...LOOPBACK,
        ...cluster.hosts.flatMap(({ name, address }) => [name, address]),
      ]),
    );
  }
  if (logging.enabled) {
    // Its nodes are each other's clients as well.
    const elasticsearch = server('addons/elasticsearch', 'elasticsearch', [
      ...service('elasticsearch', 'logging'),
      ...LOOPBACK,
    ]);
    plan.push({ ...elasticsearch, usages: ['server', 'client'] });
    plan.push(
      server('addons/kibana', 'kibana', [
        ...service('kibana', 'logging'),
        ...LOOPBACK,
        ...cluster.hosts.flatMap(({ name, address }) => [name, address]),
      ]),
    );
  }
  return plan;
}

function server(path: string, commonName: string, names: ReadonlyArray<string>): CertificateRequest {
  return { path, issuer: 'kubernetes', commonName, organizations: [], usages: ['server'], ...sans(names) };
}

function master(cluster: Cluster, host: Host): CertificateRequest[] {
  const at = (file: string): string => `hosts/${host.name}/${file}`;
  const own = [...LOOPBACK, host.name, host.address];
  return [
    server(at('apiserver'), 'kube-apiserver', apiServerNames(cluster)),
    client(at('apiserver-etcd-client'), 'etcd', 'kube-apiserver-etcd-client'),
    client(at('apiserver-kubelet-client'), 'kubernetes', 'kube-apiserver-kubelet-client'),
    client(at('front-proxy-client'), 'front-proxy', 'front-proxy-client'),
    server(at('controller-manager'), 'kube-controller-manager', own),
    server(at('scheduler'), 'kube-scheduler', own),
  ];
}

/** The same names on every master: whichever of them a client reaches, by whichever name. */
function apiServerNames(cluster: Cluster): string[] {
  return [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    `kubernetes.default.svc.${cluster.network.dnsDomain}`,
    ...LOOPBACK,
    cluster.network.apiServiceAddress,
    ...cluster.masters.flatMap((host) => [host.name, host.address]),
    ...cluster.api.sans,
    new URL(cluster.api.externalEndpoint).hostname.replace(/^\[|\]$/g, ''),
  ];
}

function kubernetesClient(path: string, commonName: string, organizations: string[] = []): CertificateRequest {
  return { ...client(path, 'kubernetes', commonName), organizations };
}

function client(path: string, issuer: AuthorityName, commonName: string): CertificateRequest {
  return { path, issuer, commonName, organizations: [], usages: ['client'], dnsNames: [], addresses: [] };
}

function sans(names: ReadonlyArray<string>): Pick<CertificateRequest, 'dnsNames' | 'addresses'> {
  const isAddress = (name: string): boolean => ipaddr.isValid(name);
  return {
    dnsNames: unique(names.filter((name) => !isAddress(name)).map((name) => name.toLowerCase())),
    addresses: unique(names.filter(isAddress).map((name) => ipaddr.parse(name).toNormalizedString())),
  };
}

function unique(values: ReadonlyArray<string>): string[] {
  return [...new Set(values)].sort();
}
