/** The files that Ansible and people read, from the resolved cluster: pure, and the same to the byte every time. */
import { readFileSync } from 'node:fs';
import mustache from 'mustache';
import type { Cluster, Host, Taint } from '../types/cluster.js';
import { ansibleYaml, Jinja, sorted } from './yaml.js';

const notice = 'Written by `k8s-ans render` from cluster.yaml: changes here are lost.';

/** A host on its way out: no longer of the cluster, and still to be reached. It is in the group `leaving` alone. */
export interface LeavingHost {
  readonly host: Host;
  /** It is lost: nothing is to be done on it. */
  readonly dead: boolean;
  /** Whether it was a master. */
  readonly master: boolean;
  /** How long its pods may take to move away. */
  readonly timeoutSeconds: number;
}

export interface RenderOptions {
  readonly leaving?: LeavingHost | undefined;
}

/**
 * All rendered files by their path in the cluster's home: `hosts.yml`, `group_vars/all.yml`, `environment.sh`.
 * No file holds a secret.
 */
export function renderCluster(cluster: Cluster, options: RenderOptions = {}): Map<string, string> {
  return new Map([
    ['hosts.yml', `# ${notice}\n---\n${ansibleYaml(inventory(cluster, options))}`],
    ['group_vars/all.yml', `# ${notice}\n---\n${ansibleYaml(groupVariables(cluster))}`],
    ['environment.sh', environment(cluster)],
  ]);
}

const brief = ({ name, address }: Host): { name: string; address: string } => ({ name, address });

function taintVariables(taints: ReadonlyArray<Taint>): object[] {
  return taints.map(({ key, value, effect }) => ({ key, ...(value === undefined ? {} : { value }), effect }));
}

function hostVariables(host: Host): object {
  return {
    ansible_host: host.address,
    ansible_user: host.ssh.user,
    ansible_port: host.ssh.port,
    k8s_node_name: host.name,
    k8s_node_address: host.address,
    k8s_node_labels: sorted(host.labels),
    k8s_node_taints: taintVariables(host.taints),
    ...sorted(host.vars),
  };
}

function leavingVariables({ host, dead, master, timeoutSeconds }: LeavingHost): object {
  return {
    ...hostVariables(host),
    k8s_leaving_dead: dead,
    k8s_leaving_master: master,
    k8s_leaving_timeout: timeoutSeconds,
  };
}

function inventory(cluster: Cluster, { leaving }: RenderOptions): object {
  const group = (hosts: ReadonlyArray<Host>): object => ({
    hosts: Object.fromEntries(hosts.map(({ name }) => [name, {}])),
  });
  const hosts = cluster.hosts.map((host) => [host.name, hostVariables(host)]);
  if (leaving !== undefined) hosts.push([leaving.host.name, leavingVariables(leaving)]);
  return {
    all: {
      vars: sshVariables(cluster),
      hosts: Object.fromEntries(hosts),
      children: {
        k8s: {
          children: {
            masters: group(cluster.masters),
            nodes: group(cluster.nodes),
            etcd: group(cluster.etcdHosts),
          },
        },
        ...(leaving === undefined ? {} : { leaving: group([leaving.host]) }),
      },
    },
  };
}

function sshVariables({ ssh }: Cluster): object {
  // ssh splits the value of UserKnownHostsFile at blanks unless it is quoted itself; Ansible splits the whole as a
  // shell does.
  const knownHosts = ssh.knownHosts === undefined ? [] : [`-o 'UserKnownHostsFile="${ssh.knownHosts}"'`];
  const args = [...knownHosts, '-o StrictHostKeyChecking=yes', ...(ssh.extraArgs === undefined ? [] : [ssh.extraArgs])];
  return {
    ...(ssh.privateKey === undefined ? {} : { ansible_ssh_private_key_file: ssh.privateKey }),
    ansible_ssh_common_args: args.join(' '),
  };
}

/** The variables of all hosts, as the roles' `meta/argument_specs.yml` describe them. */
function groupVariables(cluster: Cluster): object {
  const { kubernetes, network, api, etcd, kubeProxy, kubelet, runtime, hostprep, audit, requirements } = cluster;
  const { coredns, metricsServer, localPath, registry, dashboard, logging } = cluster.addons;
  return {
    k8s_cluster_name: cluster.name,
    k8s_version: kubernetes.version,
    k8s_minor: kubernetes.minor,
    k8s_feature_gates: sorted(kubernetes.featureGates),
    k8s_bin_dir: cluster.paths.bin,
    k8s_work_dir: cluster.paths.work,
    k8s_data_dir: cluster.paths.data,
    k8s_all_hosts: cluster.hosts.map(brief),
    k8s_masters: cluster.masters.map(brief),
    k8s_nodes: cluster.nodes.map(brief),
    k8s_etcd_members: cluster.etcdHosts.map(brief),
    k8s_pod_cidr: network.pods,
    k8s_service_cidr: network.services,
    k8s_node_prefix: network.nodePrefix,
    k8s_api_service_address: network.apiServiceAddress,
    k8s_dns_address: network.dnsAddress,
    k8s_dns_domain: network.dnsDomain,
    k8s_node_port_range: `${network.nodePorts.from}-${network.nodePorts.to}`,
    k8s_interface: network.interface ?? '',
    k8s_api_port: api.port,
    k8s_proxy_port: api.proxyPort,
    k8s_api_local_endpoint: api.localEndpoint,
    k8s_api_external_endpoint: api.externalEndpoint,
    k8s_etcd_endpoints: etcd.endpoints,
    k8s_etcd_initial_cluster: etcd.initialCluster,
    k8s_pki_dir: new Jinja('{{ inventory_dir }}/pki'),
    k8s_trust_dir: new Jinja('{{ inventory_dir }}/pki/trust'),
    k8s_environment_file: new Jinja('{{ inventory_dir }}/environment.sh'),
    etcd_data_dir: etcd.dataDir,
    etcd_wal_dir: etcd.walDir,
    etcd_quota_backend_bytes: etcd.quotaBytes,
    etcd_backup_enabled: etcd.backup.enabled,
    etcd_backup_schedule: etcd.backup.schedule,
    etcd_backup_keep: etcd.backup.keep,
    etcd_backup_timer_dir: etcd.backup.directory,
    hostprep_firewall: hostprep.firewall,
    hostprep_selinux: hostprep.selinux,
    hostprep_swap_off: hostprep.swapOff,
    hostprep_packages_manage: hostprep.packages,
    hostprep_disable_ipv6: hostprep.disableIpv6,
    hostprep_sysctls: sorted(hostprep.sysctls),
    hostprep_time_sync: hostprep.timeSync,
    runtime_type: runtime.type,
    runtime_cgroup_driver: runtime.cgroupDriver,
    runtime_data_dir: runtime.dataDir,
    runtime_restrict_oom_score_adj: runtime.restrictOomScoreAdj,
    runtime_registry_mirrors: sorted(runtime.registryMirrors),
    nodes_kube_proxy_mode: kubeProxy.mode,
    nodes_kube_proxy_scheduler: kubeProxy.scheduler,
    nodes_kube_proxy_config: sorted(kubeProxy.config),
    nodes_max_pods: kubelet.maxPods,
    nodes_kubelet_config: sorted(kubelet.config),
    network_datastore: network.flannel.datastore,
    network_backend: network.flannel.backend,
    network_etcd_prefix: network.flannel.etcdPrefix,
    network_vni: network.flannel.vni,
    network_port: network.flannel.port,
    masters_audit_enabled: audit.enabled,
    masters_audit_max_age: audit.maxAgeDays,
    masters_audit_max_backups: audit.maxBackups,
    masters_audit_max_size: audit.maxSizeMiB,
    masters_audit_policy_file: audit.policyFile ?? '',
    masters_certificate_days: cluster.pki.certificateDays,
    addons_coredns_enabled: coredns.enabled,
    addons_coredns_replicas: coredns.replicas,
    k8s_dns_cache_address: coredns.enabled && coredns.nodeCache.enabled ? coredns.nodeCache.address : '',
    addons_metrics_server_enabled: metricsServer.enabled,
    addons_metrics_server_replicas: metricsServer.replicas,
    addons_local_path_enabled: localPath.enabled,
    addons_local_path_directory: localPath.directory,
    addons_local_path_class: localPath.className,
    addons_local_path_default: localPath.defaultClass,
    addons_registry_enabled: registry.enabled,
    addons_registry_node_port: registry.nodePort,
    addons_registry_size: registry.size,
    addons_registry_storage_class: registry.storageClass ?? '',
    addons_dashboard_enabled: dashboard.enabled,
    addons_dashboard_access: dashboard.access,
    addons_dashboard_node_port: dashboard.nodePort,
    addons_dashboard_ingress_host: dashboard.ingress?.host ?? '',
    addons_dashboard_ingress_class: dashboard.ingress?.className ?? '',
    addons_dashboard_ingress_secret: dashboard.ingress?.tlsSecret ?? '',
    addons_dashboard_ingress_annotations: dashboard.ingress?.annotations ?? {},
    addons_dashboard_admin: dashboard.adminAccount,
    addons_dashboard_viewer: dashboard.viewerAccount,
    addons_dashboard_session_seconds: dashboard.sessionHours * 3600,
    addons_logging_enabled: logging.enabled,
    addons_logging_collector: logging.collector,
    addons_logging_replicas: logging.replicas,
    addons_logging_memory: logging.memory,
    addons_logging_size: logging.size,
    addons_logging_storage_class: logging.storageClass ?? '',
    addons_logging_retention_days: logging.retentionDays,
    addons_logging_access: logging.access,
    addons_logging_node_port: logging.nodePort,
    runtime_registry_enabled: registry.enabled,
    runtime_registry_name: registry.name,
    runtime_registry_port: registry.nodePort,
    preflight_master_memory_mib: requirements.masterMemoryMiB,
    preflight_node_memory_mib: requirements.nodeMemoryMiB,
    preflight_cpus: requirements.cpus,
    preflight_disk_gib: requirements.diskGiB,
  };
}

/** The guide's environment.sh. Values are quoted for the shell; secrets are left out. */
function environment(cluster: Cluster): string {
  const template = readFileSync(new URL('./environment.sh.mustache', import.meta.url), 'utf8');
  const { network, etcd } = cluster;
  const words = (hosts: ReadonlyArray<Host>, field: 'name' | 'address'): string =>
    hosts.map((host) => host[field]).join(' ');
  return mustache.render(template, {
    notice,
    name: cluster.name,
    masterAddresses: words(cluster.masters, 'address'),
    masterNames: words(cluster.masters, 'name'),
    nodeAddresses: words(cluster.nodes, 'address'),
    nodeNames: words(cluster.nodes, 'name'),
    allAddresses: words(cluster.hosts, 'address'),
    allNames: words(cluster.hosts, 'name'),
    etcdEndpoints: quoted(etcd.endpoints),
    etcdNodes: quoted(etcd.initialCluster),
    apiServer: quoted(cluster.api.localEndpoint),
    interface: network.interface === undefined ? '' : quoted(network.interface),
    etcdDataDir: quoted(etcd.dataDir),
    etcdWalDir: quoted(etcd.walDir),
    dataDir: quoted(cluster.paths.data),
    runtime: cluster.runtime.type,
    runtimeDir: quoted(cluster.runtime.dataDir),
    services: quoted(network.services),
    pods: quoted(network.pods),
    nodePorts: quoted(`${network.nodePorts.from}-${network.nodePorts.to}`),
    etcdPrefix: quoted(network.flannel.etcdPrefix),
    apiServiceAddress: quoted(network.apiServiceAddress),
    dnsAddress: quoted(network.dnsAddress),
    dnsDomain: quoted(network.dnsDomain),
    bin: cluster.paths.bin,
  });
}

/** In double quotes, as the guide writes its values. */
function quoted(value: string): string {
  return `"${value.replace(/["\\$`]/g, '\\$&')}"`;
}
