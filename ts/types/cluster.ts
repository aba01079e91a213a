/**
 * The resolved cluster: the one value that everything after `spec` reads.
 *
 * Every derived value (endpoints, SANs, first service address) is computed once, in `ts/spec/resolve.ts`.
 */

/** A host of the cluster. */
export interface Host {
  /** Host name; also the Kubernetes node name and the etcd member name. */
  readonly name: string;
  /** The address other hosts reach it at. */
  readonly address: string;
  readonly roles: ReadonlyArray<HostRole>;
  readonly ssh: { readonly user: string; readonly port: number };
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: ReadonlyArray<Taint>;
  /** Variables of this host alone, passed to Ansible as they are. */
  readonly vars: Readonly<Record<string, unknown>>;
}

/** The groups a host can be in, as the user named them. */
export type HostRole = 'masters' | 'nodes' | 'etcd';

/** A node taint (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/). */
export interface Taint {
  readonly key: string;
  readonly value?: string | undefined;
  readonly effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
}

/** Where the binaries and images come from. */
export type ArtifactSource =
  | { readonly kind: 'auto' }
  | { readonly kind: 'upstream' }
  | { readonly kind: 'mirror'; readonly url: string }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'build' };

/** What runs on the cluster; an add-on that the catalog has components for is named there by its key here. */
export interface Addons {
  readonly coredns: {
    readonly enabled: boolean;
    /** Number of pods, for the number of nodes that the cluster has. */
    readonly replicas: number;
    readonly nodeCache: { readonly enabled: boolean; readonly address: string };
  };
  readonly metricsServer: { readonly enabled: boolean; readonly replicas: number };
  readonly localPath: {
    readonly enabled: boolean;
    /** On the hosts; each volume is a folder in it. */
    readonly directory: string;
    readonly className: string;
    /** Whether claims without a class get this one. */
    readonly defaultClass: boolean;
  };
  readonly registry: {
    readonly enabled: boolean;
    /** HOST[:PORT] that images are named by. */
    readonly name: string;
    readonly nodePort: number;
    /** Of the volume, as a Kubernetes quantity. */
    readonly size: string;
    /** undefined: the cluster's default class. */
    readonly storageClass?: string | undefined;
  };
  readonly dashboard: {
    readonly enabled: boolean;
    readonly access: 'portForward' | 'nodePort' | 'ingress';
    readonly nodePort: number;
    /** With access `ingress`. */
    readonly ingress?:
      | {
          readonly host: string;
          readonly className?: string | undefined;
          readonly tlsSecret?: string | undefined;
          readonly annotations: Readonly<Record<string, string>>;
        }
      | undefined;
    /** Service accounts to log in with. */
    readonly adminAccount: boolean;
    readonly viewerAccount: boolean;
    readonly sessionHours: number;
  };
  readonly logging: {
    readonly enabled: boolean;
    readonly collector: 'fluentd' | 'fluentBit';
    /** Nodes of Elasticsearch. */
    readonly replicas: number;
    /** Of each, as Kubernetes quantities. */
    readonly memory: string;
    readonly size: string;
    /** undefined: the cluster's default class. */
    readonly storageClass?: string | undefined;
    readonly retentionDays: number;
    /** To Kibana. */
    readonly access: 'portForward' | 'nodePort';
    readonly nodePort: number;
  };
}

export type Architecture = 'amd64' | 'arm64';

export interface Cluster {
  readonly name: string;
  readonly kubernetes: {
    /** Without the leading v, e.g. 1.36.4. */
    readonly version: string;
    /** e.g. 1.36. */
    readonly minor: string;
    readonly featureGates: Readonly<Record<string, boolean>>;
  };
  readonly hosts: ReadonlyArray<Host>;
  /** Hosts in the group, in spec order. `etcd` holds the masters unless the spec names others. */
  readonly masters: ReadonlyArray<Host>;
  readonly nodes: ReadonlyArray<Host>;
  readonly etcdHosts: ReadonlyArray<Host>;
  readonly ssh: {
    /** Private key on the control machine, absolute; undefined: the SSH agent or ssh's own defaults. */
    readonly privateKey?: string | undefined;
    /** known_hosts file, absolute; undefined: ssh's own. Host key checking is always on. */
    readonly knownHosts?: string | undefined;
    /** Further ssh options, e.g. a jump host. */
    readonly extraArgs?: string | undefined;
  };
  readonly network: {
    readonly pods: string;
    readonly services: string;
    /** The hosts' network, if the spec gives it. */
    readonly hosts?: string | undefined;
    /** Prefix length of each node's pod network, e.g. 24. */
    readonly nodePrefix: number;
    /** First address of the service network: the `kubernetes` Service. */
    readonly apiServiceAddress: string;
    readonly dnsAddress: string;
    readonly dnsDomain: string;
    readonly nodePorts: { readonly from: number; readonly to: number };
    /** Interface between the hosts, if the spec names one. */
    readonly interface?: string | undefined;
    readonly flannel: {
      readonly datastore: 'kubernetes' | 'etcd';
      readonly backend: 'vxlan' | 'host-gw' | 'wireguard';
      readonly etcdPrefix: string;
      readonly vni: number;
      readonly port: number;
    };
  };
  readonly api: {
    readonly port: number;
    /** kube-nginx's port on 127.0.0.1 of each host. */
    readonly proxyPort: number;
    /** What the components on every host use: https://127.0.0.1:PROXYPORT. */
    readonly localEndpoint: string;
    /** What people and the control machine use, e.g. a load balancer; defaults to the first master. */
    readonly externalEndpoint: string;
    /** All names and addresses of the API server's certificate beyond the master's own. */
    readonly sans: ReadonlyArray<string>;
  };
  readonly etcd: {
    /** https://A:2379,https://B:2379 */
    readonly endpoints: string;
    /** name=https://A:2380,… */
    readonly initialCluster: string;
    readonly dataDir: string;
    readonly walDir: string;
    readonly quotaBytes: number;
    /** Snapshots that each member takes of itself. */
    readonly backup: {
      readonly enabled: boolean;
      /** systemd's OnCalendar. */
      readonly schedule: string;
      readonly keep: number;
      readonly directory: string;
    };
  };
  readonly kubeProxy: {
    readonly mode: 'nftables' | 'iptables' | 'ipvs';
    readonly scheduler: string;
    /** Overrides merged into KubeProxyConfiguration. */
    readonly config: Readonly<Record<string, unknown>>;
  };
  readonly kubelet: {
    readonly maxPods: number;
    /** Overrides merged into KubeletConfiguration. */
    readonly config: Readonly<Record<string, unknown>>;
  };
  readonly runtime: {
    readonly type: 'containerd' | 'docker';
    readonly cgroupDriver: 'systemd' | 'cgroupfs';
    readonly dataDir: string;
    /** For hosts whose bounding set lacks CAP_SYS_RESOURCE, as lab hosts. */
    readonly restrictOomScoreAdj: boolean;
    readonly registryMirrors: Readonly<Record<string, ReadonlyArray<string>>>;
  };
  readonly paths: {
    /** /opt/k8s/bin */
    readonly bin: string;
    /** /opt/k8s/work */
    readonly work: string;
    /** K8S_DIR of the guide: data of the Kubernetes components. */
    readonly data: string;
  };
  readonly hostprep: {
    readonly firewall: 'configure' | 'disable' | 'ignore';
    readonly selinux: 'permissive' | 'disabled' | 'enforcing';
    /** false: swap is left alone (and the kubelet's failSwapOn must be false). */
    readonly swapOff: boolean;
    /** false: OS packages are expected to be there (golden images, air gap). */
    readonly packages: boolean;
    /** false: ipv6 stays as it is; true: switched off as in the guide. */
    readonly disableIpv6: boolean;
    /** Further kernel parameters. */
    readonly sysctls: Readonly<Record<string, string>>;
    readonly timeSync: boolean;
  };
  readonly pki: {
    readonly caDays: number;
    readonly certificateDays: number;
    readonly keyBits: number;
  };
  readonly encryption: { readonly provider: 'secretbox' | 'aescbc' | 'aesgcm' | 'none' };
  readonly audit: {
    readonly enabled: boolean;
    readonly maxAgeDays: number;
    readonly maxBackups: number;
    readonly maxSizeMiB: number;
    /** An audit policy file of the user's own, absolute. */
    readonly policyFile?: string | undefined;
  };
  readonly addons: Addons;
  readonly artifacts: {
    readonly source: ArtifactSource;
    /** HOST[:PORT][/PATH] that all images are pulled from, each under its whole name. */
    readonly imageRegistry?: string | undefined;
  };
  /** Minimum resources that preflight asks for. */
  readonly requirements: {
    readonly masterMemoryMiB: number;
    readonly nodeMemoryMiB: number;
    readonly cpus: number;
    readonly diskGiB: number;
  };
}
