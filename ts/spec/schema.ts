/**
 * The shape of `cluster.yaml`: strict, every default in its place, every field described.
 *
 * What one value must look like is checked here; what several values must be to each other, in `rules.ts`.
 */
import { z } from 'zod';
import * as formats from './formats.js';
import { defaultVersion } from './versions.js';

/** A string that `check` accepts; its fault becomes the issue's message and hint. */
function text(check: formats.Check) {
  return z.string().superRefine((value, context) => {
    const fault = check(value);
    if (fault !== undefined) {
      context.addIssue({ code: 'custom', message: fault.message, params: { hint: fault.hint } });
    }
  });
}

const whole = (from: number, to: number) => z.int().min(from).max(to);
const port = () => whole(1, 65535);

const taint = z.strictObject({
  key: text(formats.labelKey).describe('Key of the taint, [DOMAIN/]NAME.'),
  value: text(formats.labelValue).optional().describe('Value of the taint; may be left out.'),
  effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).describe('What the taint does to pods.'),
});

const host = z.strictObject({
  name: text(formats.hostName).describe('Host name in lower case; also the name of the Kubernetes node.'),
  address: text(formats.address).describe('IPv4 address that the other hosts and this machine reach it at.'),
  roles: z
    .array(z.enum(['masters', 'nodes', 'etcd']))
    .min(1)
    .default(['nodes'])
    .describe(
      'Groups of the host: masters (control plane; a Kubernetes node as well, tainted), nodes (workers), etcd. ' +
        'A host that is in masters and in nodes takes workloads: it gets no taint of its own.',
    ),
  ssh: z
    .strictObject({
      user: text(formats.userName).optional().describe('User of this host, in place of ssh.user.'),
      port: port().optional().describe('SSH port of this host, in place of ssh.port.'),
    })
    .prefault({})
    .describe('How this host is reached, where it differs from the others.'),
  labels: z
    .record(text(formats.labelKey), text(formats.labelValue))
    .default({})
    .describe('Labels of the Kubernetes node.'),
  taints: z
    .array(taint)
    .optional()
    .describe('Taints of the Kubernetes node; a master has node-role.kubernetes.io/control-plane:NoSchedule.'),
  vars: z
    .record(text(formats.variableName), z.unknown())
    .default({})
    .describe('Ansible variables of this host alone, passed on as they are.'),
});

/** The spec. Everything has a default but `name` and `hosts`. */
export const specSchema = z
  .strictObject({
    apiVersion: z.literal('k8s-ans/v1').default('k8s-ans/v1').describe("The spec's format."),
    name: text(formats.clusterName).describe("The cluster's name: a DNS label."),
    kubernetes: z
      .strictObject({
        version: text(formats.version)
          .default(defaultVersion)
          .describe('Version of Kubernetes, X.Y.Z without a leading v.'),
        featureGates: z
          .record(z.string(), z.boolean())
          .default({})
          .describe('Feature gates of all Kubernetes components, true or false each.'),
      })
      .prefault({})
      .describe('Kubernetes itself.'),
    ssh: z
      .strictObject({
        user: text(formats.userName).default('root').describe('User of the hosts; needs sudo if it is not root.'),
        port: port().default(22).describe('SSH port of the hosts.'),
        privateKey: text(formats.filled)
          .optional()
          .describe("Private key on this machine, relative to the spec's folder; else the SSH agent's keys."),
        knownHosts: text(formats.filled)
          .optional()
          .describe("File of known host keys, relative to the spec's folder; else ssh's own. Always checked."),
        extraArgs: text(formats.filled).optional().describe('Further options of ssh, such as -J bastion.'),
      })
      .prefault({})
      .describe('How the hosts are reached.'),
    hosts: z.array(host).min(1).describe('The hosts of the cluster.'),
    network: z
      .strictObject({
        pods: text(formats.network).default('172.30.0.0/16').describe('Network of the pods (CLUSTER_CIDR).'),
        services: text(formats.network).default('10.254.0.0/16').describe('Network of the services (SERVICE_CIDR).'),
        hosts: text(formats.network)
          .optional()
          .describe('Network of the hosts; if given, all host addresses must lie in it.'),
        nodePrefix: whole(8, 29).default(24).describe("Prefix length of each node's part of the pod network."),
        dnsAddress: text(formats.address)
          .optional()
          .describe('Address of the DNS service; default: the second of the service network (CLUSTER_DNS_SVC_IP).'),
        dnsDomain: text(formats.domain)
          .default('cluster.local')
          .describe('DNS domain of the cluster, without a dot at its end (CLUSTER_DNS_DOMAIN).'),
        nodePorts: z
          .strictObject({
            from: port().default(30000).describe('First port.'),
            to: port().default(32767).describe('Last port.'),
          })
          .prefault({})
          .describe('Ports of services of type NodePort (NODE_PORT_RANGE).'),
        interface: text(formats.interfaceName)
          .optional()
          .describe("Interface between the hosts (IFACE); default: the one that has the host's address."),
        flannel: z
          .strictObject({
            datastore: z
              .enum(['kubernetes', 'etcd'])
              .default('kubernetes')
              .describe('Where flannel keeps its leases. This release deploys kubernetes.'),
            backend: z
              .enum(['vxlan', 'host-gw', 'wireguard'])
              .default('vxlan')
              .describe('How flannel carries packets. This release deploys vxlan and host-gw.'),
            etcdPrefix: text(formats.etcdPrefix)
              .default('/kubernetes/network')
              .describe("Flannel's path in etcd with datastore etcd (FLANNEL_ETCD_PREFIX)."),
            vni: whole(1, 16777215).default(1).describe('VXLAN network identifier.'),
            port: port().default(8472).describe('UDP port of VXLAN.'),
          })
          .prefault({})
          .describe('The pod network.'),
      })
      .prefault({})
      .describe('Networks, addresses and names.'),
    api: z
      .strictObject({
        port: port().default(6443).describe("The API server's port on the masters."),
        proxyPort: port()
          .default(8443)
          .describe("kube-nginx's port on 127.0.0.1 of every host; leads to all API servers (KUBE_APISERVER)."),
        externalEndpoint: text(formats.endpoint)
          .optional()
          .describe('URL that people and this machine use, such as a load balancer; default: the first master.'),
        sans: z
          .array(text(formats.subjectAlternativeName))
          .default([])
          .describe("Further names and addresses of the API server's certificates."),
      })
      .prefault({})
      .describe('The API server.'),
    etcd: z
      .strictObject({
        dataDir: text(formats.hostPath).default('/data/k8s/etcd/data').describe('Data folder (ETCD_DATA_DIR).'),
        walDir: text(formats.hostPath)
          .default('/data/k8s/etcd/wal')
          .describe('Folder of the write-ahead log, best on a fast disk of its own (ETCD_WAL_DIR).'),
        quotaBytes: whole(67108864, 17179869184)
          .default(8589934592)
          .describe('Largest size of the database in bytes; etcd advises 8 GiB at most.'),
        backup: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Have each member take snapshots of itself by a timer.'),
            schedule: text(formats.calendar)
              .default('daily')
              .describe("When, as systemd's OnCalendar: daily, or Mon..Fri 03:00."),
            keep: whole(1, 1000).default(7).describe('How many of these snapshots are kept on each member.'),
            directory: text(formats.hostPath)
              .default('/data/k8s/etcd/backup')
              .describe('Folder on the members, best on another disk than the data.'),
          })
          .prefault({})
          .describe("Snapshots on the members' own disks; `k8s-ans etcd backup` fetches one to this machine."),
      })
      .prefault({})
      .describe('etcd. Its members are the hosts with the role etcd, or else the masters.'),
    kubeProxy: z
      .strictObject({
        mode: z
          .enum(['nftables', 'iptables', 'ipvs'])
          .default('nftables')
          .describe('How services are balanced. This release deploys nftables and iptables.'),
        scheduler: z.enum(['rr', 'wrr', 'lc', 'wlc', 'sh']).default('rr').describe('Scheduler of the mode ipvs.'),
        config: z.record(z.string(), z.unknown()).default({}).describe('Merged into KubeProxyConfiguration.'),
      })
      .prefault({})
      .describe('kube-proxy.'),
    kubelet: z
      .strictObject({
        maxPods: whole(1, 1000).default(110).describe('Most pods on one node.'),
        config: z.record(z.string(), z.unknown()).default({}).describe('Merged into KubeletConfiguration.'),
      })
      .prefault({})
      .describe('The kubelet.'),
    runtime: z
      .strictObject({
        type: z
          .enum(['containerd', 'docker'])
          .default('containerd')
          .describe('Container runtime: containerd, or Docker Engine with cri-dockerd on top of it.'),
        cgroupDriver: z.enum(['systemd', 'cgroupfs']).default('systemd').describe('Who manages the cgroups.'),
        dataDir: text(formats.hostPath)
          .default('/data/k8s/containerd')
          .describe('Data folder of the runtime: images and containers (DOCKER_DIR).'),
        restrictOomScoreAdj: z
          .boolean()
          .default(false)
          .describe('For hosts that lack CAP_SYS_RESOURCE, such as lab hosts.'),
        registryMirrors: z
          .record(text(formats.filled), z.array(text(formats.registryUrl)).min(1))
          .default({})
          .describe(
            'Mirrors by registry, such as docker.io: [https://mirror.example.com]. Docker knows those of docker.io alone.',
          ),
      })
      .prefault({})
      .describe('The container runtime.'),
    paths: z
      .strictObject({
        bin: text(formats.hostPath).default('/opt/k8s/bin').describe('Folder of the binaries.'),
        work: text(formats.hostPath).default('/opt/k8s/work').describe('Folder for work in progress.'),
        data: text(formats.hostPath)
          .default('/data/k8s/k8s')
          .describe('Data folder of the Kubernetes components (K8S_DIR).'),
      })
      .prefault({})
      .describe('Folders on the hosts.'),
    hostprep: z
      .strictObject({
        firewall: z
          .enum(['configure', 'disable', 'ignore'])
          .default('configure')
          .describe('The firewall of the hosts: open the ports, switch it off, or leave it alone.'),
        selinux: z
          .enum(['permissive', 'disabled', 'enforcing'])
          .default('permissive')
          .describe('State of SELinux, where the host has it.'),
        swapOff: z.boolean().default(true).describe('Switch swap off, now and at boot.'),
        packages: z.boolean().default(true).describe('Install OS packages; false: they are expected to be there.'),
        disableIpv6: z.boolean().default(false).describe('Switch IPv6 off, as in the guide.'),
        sysctls: z
          .record(
            text(formats.sysctlKey),
            z.union([z.string(), z.number()], { error: 'is neither a number nor a text' }),
          )
          .default({})
          .describe('Further kernel parameters.'),
        timeSync: z.boolean().default(true).describe('See that the clocks are synchronised.'),
      })
      .prefault({})
      .describe('Preparation of the hosts.'),
    pki: z
      .strictObject({
        caDays: whole(1, 36500).default(3650).describe('Lifetime of the certificate authorities, in days.'),
        certificateDays: whole(1, 36500).default(365).describe('Lifetime of the certificates, in days.'),
        keyBits: z.literal([2048, 3072, 4096]).default(2048).describe('Length of the RSA keys.'),
      })
      .prefault({})
      .describe('Certificates.'),
    encryption: z
      .strictObject({
        provider: z
          .enum(['secretbox', 'aescbc', 'aesgcm', 'none'])
          .default('secretbox')
          .describe('How Secrets are encrypted in etcd.'),
      })
      .prefault({})
      .describe('Encryption at rest.'),
    audit: z
      .strictObject({
        enabled: z.boolean().default(true).describe('Write an audit log.'),
        maxAgeDays: whole(0, 3650).default(30).describe('How many days a log file is kept.'),
        maxBackups: whole(0, 1000).default(10).describe('How many log files are kept.'),
        maxSizeMiB: whole(1, 102400).default(100).describe('Size in MiB at which a log file is rotated.'),
        policyFile: text(formats.filled)
          .optional()
          .describe("An audit policy of your own, relative to the spec's folder; else the role's."),
      })
      .prefault({})
      .describe("The API server's audit log."),
    addons: z
      .strictObject({
        coredns: z
          .strictObject({
            enabled: z.boolean().default(true).describe('Deploy it.'),
            replicas: whole(1, 100).default(2).describe('Number of pods, at least.'),
            nodesPerReplica: whole(0, 5000)
              .default(16)
              .describe('One pod for each so many nodes, where that is more than replicas; 0: always replicas.'),
            nodeCache: z
              .strictObject({
                enabled: z.boolean().default(false).describe('Deploy it.'),
                address: text(formats.linkLocalAddress)
                  .default('169.254.20.10')
                  .describe('Link-local address that it answers at on every node.'),
              })
              .prefault({})
              .describe('A DNS cache on every node, which pods ask first.'),
          })
          .prefault({})
          .describe('DNS of the cluster.'),
        metricsServer: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Deploy it.'),
            replicas: whole(1, 10).default(1).describe('Number of pods.'),
          })
          .prefault({})
          .describe('metrics-server: what kubectl top and the HorizontalPodAutoscaler ask.'),
        localPath: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Deploy it.'),
            directory: text(formats.hostPath)
              .default('/data/k8s/volumes')
              .describe('Folder on the hosts; each volume is a folder in it.'),
            className: text(formats.objectName).default('local-path').describe('Name of the StorageClass.'),
            defaultClass: z.boolean().default(true).describe('Whether claims that name no class get this one.'),
          })
          .prefault({})
          .describe('Volumes on the disks of the nodes, by the local-path provisioner.'),
        registry: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Deploy it.'),
            name: text(formats.registryName)
              .optional()
              .describe(
                'HOST[:PORT] that images are named by; default: registry. and the DNS domain of the cluster, with Docker also nodePort.',
              ),
            nodePort: port().default(30500).describe('Port on every host that it is reached at.'),
            size: text(formats.quantity).default('20Gi').describe('Size of its volume.'),
            storageClass: text(formats.objectName)
              .optional()
              .describe("StorageClass of its volume; default: the cluster's default class."),
          })
          .prefault({})
          .describe('A registry for images: distribution, with TLS and a password.'),
        dashboard: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Deploy it.'),
            access: z
              .enum(['portForward', 'nodePort', 'ingress'])
              .default('portForward')
              .describe('How it is reached: kubectl port-forward, a port on every host, or an ingress.'),
            nodePort: port().default(30443).describe('Port on every host, with access nodePort.'),
            ingress: z
              .strictObject({
                host: text(formats.domain).describe('Name that it is reached at.'),
                className: text(formats.objectName).optional().describe("IngressClass; default: the cluster's."),
                tlsSecret: text(formats.objectName)
                  .optional()
                  .describe('Secret in the namespace headlamp with the certificate of the ingress.'),
                annotations: z.record(z.string(), z.string()).default({}).describe('Annotations of the ingress.'),
              })
              .optional()
              .describe('With access ingress.'),
            adminAccount: z
              .boolean()
              .default(true)
              .describe('Make the account headlamp-admin, which may do everything.'),
            viewerAccount: z.boolean().default(true).describe('Make the account headlamp-viewer, which may only read.'),
            sessionHours: whole(1, 720).default(24).describe('Hours after which a login ends.'),
          })
          .prefault({})
          .describe('Dashboard: Headlamp, with login by token.'),
        logging: z
          .strictObject({
            enabled: z.boolean().default(false).describe('Deploy it.'),
            collector: z
              .enum(['fluentd', 'fluentBit'])
              .default('fluentd')
              .describe("What reads the containers' logs on every node."),
            replicas: whole(1, 9).default(1).describe('Nodes of Elasticsearch.'),
            memory: text(formats.quantity).default('2Gi').describe('Memory of each of them; half of it is heap.'),
            size: text(formats.quantity).default('30Gi').describe('Size of the volume of each of them.'),
            storageClass: text(formats.objectName)
              .optional()
              .describe("StorageClass of the volumes; default: the cluster's default class."),
            retentionDays: whole(1, 3650).default(7).describe('Days after which an index is deleted.'),
            access: z
              .enum(['portForward', 'nodePort'])
              .default('portForward')
              .describe('How Kibana is reached: kubectl port-forward, or a port on every host.'),
            nodePort: port().default(30601).describe('Port on every host, with access nodePort.'),
          })
          .prefault({})
          .describe('Logs of all containers: Elasticsearch, Kibana, and Fluentd or Fluent Bit on every node.'),
      })
      .prefault({})
      .describe('What runs on the cluster.'),
    artifacts: z
      .strictObject({
        source: z
          .union(
            [
              z.enum(['auto', 'upstream', 'build']),
              z.strictObject({ mirror: text(formats.httpsUrl).describe('https URL of a mirror of the same layout.') }),
              z.strictObject({
                directory: text(formats.filled).describe("Folder on this machine, relative to the spec's folder."),
              }),
            ],
            { error: 'is not one of auto, upstream, build, {mirror: URL}, {directory: PATH}' },
          )
          .default('auto')
          .describe('auto (what is reachable), upstream, build (with Go), {mirror: URL} or {directory: PATH}.'),
        imageRegistry: text(formats.registryPrefix)
          .optional()
          .describe('HOST[:PORT][/PATH] that all images are pulled from in place of their own registries.'),
      })
      .prefault({})
      .describe('Where binaries and images come from.'),
    requirements: z
      .strictObject({
        masterMemoryMiB: whole(0, 16777216).default(1700).describe('Memory of a master in MiB, as kubeadm asks for.'),
        nodeMemoryMiB: whole(0, 16777216).default(900).describe('Memory of a node in MiB.'),
        cpus: whole(0, 4096).default(2).describe('CPUs of a host.'),
        diskGiB: whole(0, 1048576).default(10).describe('Free disk space of the data folders in GiB.'),
      })
      .prefault({})
      .describe('What preflight asks of each host.'),
  })
  .describe('A Kubernetes cluster deployed by k8s-ans.');

/** A spec as read, with defaults filled in. */
export type Spec = z.output<typeof specSchema>;

/** A spec as a person writes it. */
export type SpecInput = z.input<typeof specSchema>;

/** The JSON Schema (draft 2020-12) of cluster.yaml, for editors. */
export function jsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(specSchema, { io: 'input', target: 'draft-2020-12' }) as Record<string, unknown>;
}
