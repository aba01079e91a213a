/** What the role addons applies, rendered by Ansible from its templates. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { packageRoot } from '../../ts/types/package.js';
import { record } from './ansible.js';

vi.setConfig({ testTimeout: 600_000 });

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args?: string[];
  readonly resources: { requests: Record<string, string>; limits: Record<string, string> };
  readonly securityContext: {
    readonly privileged?: boolean;
    readonly allowPrivilegeEscalation?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsNonRoot?: boolean;
    readonly capabilities?: { readonly drop?: string[]; readonly add?: string[] };
  };
}

interface Pod {
  readonly containers: Container[];
  readonly volumes?: Array<Record<string, unknown>>;
  readonly securityContext?: { runAsNonRoot?: boolean; runAsUser?: number; seccompProfile?: { type: string } };
  readonly hostNetwork?: boolean;
}

interface KubernetesObject {
  readonly kind: string;
  readonly metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  readonly data?: Record<string, string>;
  // biome-ignore lint/suspicious/noExplicitAny: of many kinds
  readonly spec?: any;
}

let base: string;
beforeEach(async () => {
  base = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-addons-'));
  await mkdir(path.join(base, 'pki/addons'), { recursive: true });
  await writeFile(path.join(base, 'pki/ca.crt'), 'the CA\n');
  for (const file of [
    'metrics-server.crt',
    'metrics-server.key',
    'registry.crt',
    'registry.key',
    'registry.htpasswd',
    'dashboard.crt',
    'dashboard.key',
    'elasticsearch.crt',
    'elasticsearch.key',
    'kibana.crt',
    'kibana.key',
    'elastic.password',
    'kibana-system.password',
    'log-writer.password',
    'kibana-encryption.password',
  ]) {
    await writeFile(path.join(base, 'pki/addons', file), `${file}\n`);
  }
});
afterEach(() => rm(base, { recursive: true, force: true }));

/** All objects of the add-ons with these variables. */
async function rendered(variables: object = {}): Promise<KubernetesObject[]> {
  const extraVars = path.join(base, 'vars.json');
  const cluster = {
    k8s_bin_dir: '/opt/k8s/bin',
    k8s_cluster_name: 'demo',
    k8s_data_dir: '/data/k8s/k8s',
    k8s_pki_dir: path.join(base, 'pki'),
    k8s_dns_address: '10.254.0.2',
    k8s_dns_domain: 'cluster.local',
    k8s_dns_cache_address: '',
    k8s_node_address: '172.24.8.71',
  };
  const rolesDir = path.join(packageRoot(), 'roles');
  await writeFile(extraVars, JSON.stringify({ base, roles_dir: rolesDir, ...cluster, ...variables }));
  const { result, log } = await record('addons.yml', { extraVars: [extraVars] });
  expect(result.outcome, log).toBe('done');
  const texts = JSON.parse(await readFile(path.join(base, 'manifests.json'), 'utf8')) as string[];
  return texts.flatMap((text) =>
    parseAllDocuments(text).flatMap((document) => {
      expect(document.errors).toEqual([]);
      return (document.toJS() as KubernetesObject | null) ?? [];
    }),
  );
}

const all = {
  addons_metrics_server_enabled: true,
  addons_metrics_server_replicas: 2,
  addons_local_path_enabled: true,
  addons_registry_enabled: true,
  addons_dashboard_enabled: true,
  addons_logging_enabled: true,
  k8s_images: {
    coredns: 'mirror.example.com/registry.k8s.io/coredns/coredns:v9',
    'metrics-server': 'mirror.example.com/registry.k8s.io/metrics-server/metrics-server:v9',
    'local-path-provisioner': 'mirror.example.com/docker.io/rancher/local-path-provisioner:v9',
    registry: 'mirror.example.com/docker.io/library/registry:9',
    headlamp: 'mirror.example.com/ghcr.io/headlamp-k8s/headlamp:v9',
    elasticsearch: 'mirror.example.com/docker.elastic.co/elasticsearch/elasticsearch:9',
    kibana: 'mirror.example.com/docker.elastic.co/kibana/kibana:9',
    fluentd: 'mirror.example.com/docker.io/fluent/fluentd-kubernetes-daemonset:v9',
  },
};

const keys = (objects: ReadonlyArray<KubernetesObject>): string[] =>
  objects.map(({ kind, metadata: { namespace, name } }) => [kind, namespace, name].filter(Boolean).join('/'));

const find = (objects: ReadonlyArray<KubernetesObject>, key: string): KubernetesObject => {
  const found = objects[keys(objects).indexOf(key)];
  if (found === undefined) throw new Error(`no ${key} among ${keys(objects).join(' ')}`);
  return found;
};

/** The pods that the objects make, by the namespace they are in; the helper pod of the provisioner among them. */
function podsOf(objects: ReadonlyArray<KubernetesObject>): Array<{ namespace: string; name: string; pod: Pod }> {
  const templates = objects.flatMap(({ metadata, spec }) =>
    spec?.template === undefined
      ? []
      : [{ namespace: metadata.namespace ?? '', name: metadata.name, pod: spec.template.spec as Pod }],
  );
  const helpers = objects.flatMap(({ metadata, data }) => {
    const text = data?.['helperPod.yaml'];
    if (text === undefined) return [];
    const pod = (parseAllDocuments(text)[0]?.toJS() as { spec: Pod }).spec;
    // What the provisioner adds: createHelperPod in its provisioner.go.
    const volumes = [{ name: 'data', hostPath: { path: '/data/k8s/volumes/' } }];
    return [{ namespace: metadata.namespace ?? '', name: 'helper-pod', pod: { ...pod, volumes } }];
  });
  return [...templates, ...helpers];
}

/** What speaks against a level: https://kubernetes.io/docs/concepts/security/pod-security-standards/, less Windows. */
function violations({ containers, volumes = [], securityContext = {}, hostNetwork }: Pod): string[] {
  const found: string[] = [];
  const no = (level: string, what: string, wrong: boolean | undefined): void => {
    if (wrong) found.push(`${level}: ${what}`);
  };
  const ordinary = ['configMap', 'secret', 'emptyDir', 'projected', 'persistentVolumeClaim', 'downwardAPI', 'csi'];
  no('baseline', 'hostNetwork', hostNetwork);
  no(
    'baseline',
    'hostPath',
    volumes.some((volume) => 'hostPath' in volume),
  );
  no(
    'restricted',
    'volumes',
    volumes.some((volume) => !Object.keys(volume).some((key) => ordinary.includes(key))),
  );
  no('restricted', 'runAsUser', securityContext.runAsUser === 0);
  no('restricted', 'seccompProfile', securityContext.seccompProfile?.type !== 'RuntimeDefault');
  for (const { securityContext: own } of containers) {
    no('baseline', 'privileged', own.privileged);
    no('restricted', 'allowPrivilegeEscalation', own.allowPrivilegeEscalation !== false);
    no('restricted', 'runAsNonRoot', !(own.runAsNonRoot ?? securityContext.runAsNonRoot));
    no('restricted', 'drop ALL', !own.capabilities?.drop?.includes('ALL'));
    no(
      'restricted',
      'add',
      own.capabilities?.add?.some((name) => name !== 'NET_BIND_SERVICE'),
    );
  }
  return found;
}

describe('the add-ons', () => {
  it('are CoreDNS alone where nothing else is asked for', async () => {
    expect(keys(await rendered())).toEqual([
      'ServiceAccount/kube-system/coredns',
      'ClusterRole/system:coredns',
      'ClusterRoleBinding/system:coredns',
      'ConfigMap/kube-system/coredns',
      'Deployment/kube-system/coredns',
      'Service/kube-system/kube-dns',
      'PodDisruptionBudget/kube-system/coredns',
    ]);
  });

  it('are none where all are switched off', async () => {
    expect(await rendered({ addons_coredns_enabled: false })).toEqual([]);
  });

  it('are the objects that each of them needs', async () => {
    const objects = await rendered({ ...all, addons_coredns_enabled: false });
    expect(keys(objects)).toEqual([
      'ServiceAccount/kube-system/metrics-server',
      'ClusterRole/system:aggregated-metrics-reader',
      'ClusterRole/system:metrics-server',
      'ClusterRoleBinding/system:metrics-server',
      'ClusterRoleBinding/metrics-server:system:auth-delegator',
      'RoleBinding/kube-system/metrics-server-auth-reader',
      'Secret/kube-system/metrics-server',
      'Service/kube-system/metrics-server',
      'Deployment/kube-system/metrics-server',
      'PodDisruptionBudget/kube-system/metrics-server',
      'APIService/v1beta1.metrics.k8s.io',
      'Namespace/local-path-storage',
      'ServiceAccount/local-path-storage/local-path-provisioner',
      'Role/local-path-storage/local-path-provisioner',
      'RoleBinding/local-path-storage/local-path-provisioner',
      'ClusterRole/local-path-provisioner',
      'ClusterRoleBinding/local-path-provisioner',
      'ConfigMap/local-path-storage/local-path-config',
      'Deployment/local-path-storage/local-path-provisioner',
      'StorageClass/local-path',
      'Namespace/registry',
      'Secret/registry/registry-tls',
      'Secret/registry/registry-auth',
      'ConfigMap/registry/registry',
      'PersistentVolumeClaim/registry/registry',
      'Deployment/registry/registry',
      'Service/registry/registry',
      'Namespace/headlamp',
      'ServiceAccount/headlamp/headlamp',
      'ServiceAccount/headlamp/headlamp-admin',
      'ClusterRoleBinding/headlamp-admin',
      'ServiceAccount/headlamp/headlamp-viewer',
      'ClusterRole/headlamp-viewer',
      'ClusterRoleBinding/headlamp-viewer',
      'ClusterRoleBinding/headlamp-viewer:view',
      'Secret/headlamp/headlamp-tls',
      'Service/headlamp/headlamp',
      'Deployment/headlamp/headlamp',
      'Namespace/logging',
      'Secret/logging/elasticsearch',
      'Secret/logging/elasticsearch-tls',
      'Secret/logging/kibana-tls',
      'Service/logging/elasticsearch',
      'Service/logging/elasticsearch-nodes',
      'StatefulSet/logging/elasticsearch',
      expect.stringMatching(/^ConfigMap\/logging\/elasticsearch-setup-[0-9a-f]{10}$/),
      expect.stringMatching(/^Job\/logging\/elasticsearch-setup-[0-9a-f]{10}$/),
      'Service/logging/kibana',
      'Deployment/logging/kibana',
      'Namespace/logging-agents',
      'ServiceAccount/logging-agents/collector',
      'ClusterRole/k8s-ans:log-collector',
      'ClusterRoleBinding/k8s-ans:log-collector',
      'Secret/logging-agents/collector',
      'ConfigMap/logging-agents/collector',
      'DaemonSet/logging-agents/fluentd',
    ]);
  });

  it('pass the Pod Security level of their namespaces, with requests and limits, from the images given', async () => {
    const objects = await rendered(all);
    const level = (namespace: string): string | undefined =>
      objects.find(({ kind, metadata }) => kind === 'Namespace' && metadata.name === namespace)?.metadata.labels?.[
        'pod-security.kubernetes.io/enforce'
      ];
    const pods = podsOf(objects);
    expect(pods.map(({ namespace, name, pod }) => [namespace, name, level(namespace), violations(pod)])).toEqual([
      ['kube-system', 'coredns', undefined, []],
      ['kube-system', 'metrics-server', undefined, []],
      ['local-path-storage', 'local-path-provisioner', 'privileged', []],
      ['registry', 'registry', 'restricted', []],
      ['headlamp', 'headlamp', 'restricted', []],
      ['logging', 'elasticsearch', 'restricted', []],
      ['logging', expect.stringMatching('elasticsearch-setup-'), 'restricted', []],
      ['logging', 'kibana', 'restricted', []],
      [
        'logging-agents',
        'fluentd',
        'privileged',
        ['baseline: hostPath', 'restricted: volumes', 'restricted: runAsNonRoot'],
      ],
      [
        'local-path-storage',
        'helper-pod',
        'privileged',
        [
          'baseline: hostPath',
          'restricted: volumes',
          'restricted: runAsUser',
          'restricted: runAsNonRoot',
          'restricted: add',
        ],
      ],
    ]);
    for (const { name, pod } of pods) {
      for (const { resources, securityContext } of pod.containers) {
        expect(Object.keys(resources.requests), name).toEqual(['cpu', 'memory']);
        expect(Object.keys(resources.limits), name).toEqual(['memory']);
        // Java and Node.js write beside their programs, and Fluentd's image is not made for it.
        const writes = ['elasticsearch', 'kibana', 'fluentd'].includes(name);
        expect(securityContext.readOnlyRootFilesystem, name).toBe(writes ? undefined : true);
      }
    }
    expect([...new Set(pods.flatMap(({ pod }) => pod.containers.map(({ image }) => image)))]).toEqual(
      Object.values(all.k8s_images),
    );
  });
});

describe('the DNS cache', () => {
  it('is on every node, in the network of the host, and asks CoreDNS over TCP', async () => {
    const objects = await rendered({ k8s_dns_cache_address: '169.254.20.10' });
    expect(keys(objects).slice(-2)).toEqual([
      'ConfigMap/kube-system/coredns-cache',
      'DaemonSet/kube-system/coredns-cache',
    ]);
    const corefile = find(objects, 'ConfigMap/kube-system/coredns-cache').data?.Corefile ?? '';
    expect(corefile.match(/bind 169\.254\.20\.10/g)).toHaveLength(2);
    expect(corefile.match(/forward \. 10\.254\.0\.2 \{\n\s*force_tcp/g)).toHaveLength(2);
    const { spec } = find(objects, 'DaemonSet/kube-system/coredns-cache').spec.template;
    expect(spec).toMatchObject({ hostNetwork: true, tolerations: [{ operator: 'Exists' }] });
  });
});

describe('metrics-server', () => {
  it('is checked by the API server and checks the kubelets', async () => {
    const objects = await rendered(all);
    const service = find(objects, 'APIService/v1beta1.metrics.k8s.io').spec;
    expect(service).toEqual({
      group: 'metrics.k8s.io',
      version: 'v1beta1',
      groupPriorityMinimum: 100,
      versionPriority: 100,
      service: { name: 'metrics-server', namespace: 'kube-system', port: 443 },
      caBundle: Buffer.from('the CA').toString('base64'),
    });
    expect(find(objects, 'Secret/kube-system/metrics-server').data).toEqual({
      'tls.crt': Buffer.from('metrics-server.crt').toString('base64'),
      'tls.key': Buffer.from('metrics-server.key').toString('base64'),
    });
    const { args } = find(objects, 'Deployment/kube-system/metrics-server').spec.template.spec.containers[0];
    expect(args).toContain('--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt');
    expect(args.join(' ')).not.toContain('insecure');
  });

  it('gets new pods for a new certificate', async () => {
    const annotations = (objects: KubernetesObject[]) =>
      find(objects, 'Deployment/kube-system/metrics-server').spec.template.metadata.annotations;
    const before = annotations(await rendered(all));
    await writeFile(path.join(base, 'pki/addons/metrics-server.crt'), 'another');
    expect(annotations(await rendered(all))).not.toEqual(before);
    expect(before).toEqual({ 'k8s-ans/certificate': expect.stringMatching(/^[0-9a-f]{16}$/) });
  });
});

describe('the StorageClass', () => {
  it('is the default or not, with volumes in the folder of the spec', async () => {
    const variables = {
      addons_local_path_enabled: true,
      addons_local_path_class: 'disk',
      addons_local_path_directory: '/srv/v',
    };
    const objects = await rendered({ ...variables, addons_local_path_default: false });
    expect(find(objects, 'StorageClass/disk').metadata).toEqual({
      name: 'disk',
      annotations: { 'storageclass.kubernetes.io/is-default-class': 'false', defaultVolumeType: 'local' },
    });
    const { data } = find(objects, 'ConfigMap/local-path-storage/local-path-config');
    expect(JSON.parse(data?.['config.json'] ?? '')).toEqual({
      nodePathMap: [{ node: 'DEFAULT_PATH_FOR_NON_LISTED_NODES', paths: ['/srv/v'] }],
    });
  });
});

describe('the registry', () => {
  it('has a claim of the size and class of the spec, and one port on all hosts', async () => {
    const sized = { ...all, addons_registry_size: '5Gi', addons_registry_node_port: 30555 };
    const objects = await rendered(sized);
    expect(find(objects, 'PersistentVolumeClaim/registry/registry').spec).toEqual({
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '5Gi' } },
    });
    expect(find(objects, 'Service/registry/registry').spec.ports).toEqual([
      { name: 'https', port: 443, targetPort: 'https', nodePort: 30555, protocol: 'TCP' },
    ]);
    const classed = await rendered({ ...sized, addons_registry_storage_class: 'disk' });
    expect(find(classed, 'PersistentVolumeClaim/registry/registry').spec.storageClassName).toBe('disk');
  });

  it("is found by each host's containerd at the host's own address, until it is switched off", async () => {
    const told = async (enabled: boolean) => {
      await rendered({
        runtime_registry_enabled: enabled,
        runtime_registry_name: 'registry.cluster.local',
        runtime_registry_port: 30555,
      });
      return JSON.parse(await readFile(path.join(base, 'registry.json'), 'utf8'));
    };
    const folder = '/etc/containerd/certs.d/registry.cluster.local';
    const on = await told(true);
    expect(on.files).toEqual([
      { dest: folder, state: 'directory', mode: '0755' },
      { dest: `${folder}/hosts.toml`, template: 'hosts.toml.j2', mode: '0644' },
    ]);
    expect(on.hosts.split('\n').filter((line: string) => !line.startsWith('#'))).toEqual([
      'server = "https://172.24.8.71:30555"',
      'ca = "/etc/kubernetes/cert/ca.crt"',
      '',
    ]);
    expect((await told(false)).files).toEqual([{ dest: folder, state: 'absent', recursive: true }]);
  });
});

describe('the dashboard', () => {
  const on = { addons_dashboard_enabled: true };
  const container = (objects: KubernetesObject[]) =>
    find(objects, 'Deployment/headlamp/headlamp').spec.template.spec.containers[0];

  it('speaks TLS with a certificate of the cluster, to port-forward or at a port of every host', async () => {
    const forwarded = await rendered(on);
    expect(find(forwarded, 'Service/headlamp/headlamp').spec).toEqual({
      type: 'ClusterIP',
      selector: { app: 'headlamp' },
      ports: [{ name: 'https', port: 443, targetPort: 'https', protocol: 'TCP', appProtocol: 'https' }],
    });
    expect(container(forwarded).args).toEqual([
      '-in-cluster',
      '-in-cluster-context-name=demo',
      '-plugins-dir=/headlamp/plugins',
      '-session-ttl=86400',
      '-tls-cert-path=/tls/tls.crt',
      '-tls-key-path=/tls/tls.key',
    ]);
    const spec = { ...on, addons_dashboard_access: 'nodePort', addons_dashboard_node_port: 31443 };
    expect(find(await rendered(spec), 'Service/headlamp/headlamp').spec).toMatchObject({
      type: 'NodePort',
      ports: [{ name: 'https', nodePort: 31443 }],
    });
  });

  it('leaves TLS to an ingress', async () => {
    const objects = await rendered({
      ...on,
      addons_dashboard_access: 'ingress',
      addons_dashboard_ingress_host: 'k8s.example.com',
      addons_dashboard_ingress_class: 'nginx',
      addons_dashboard_ingress_secret: 'web',
      addons_dashboard_ingress_annotations: { 'example.com/a': 'b' },
    });
    expect(keys(objects)).not.toContain('Secret/headlamp/headlamp-tls');
    expect(container(objects).args.join(' ')).not.toContain('tls');
    expect(find(objects, 'Ingress/headlamp/headlamp')).toMatchObject({
      metadata: { annotations: { 'example.com/a': 'b' } },
      spec: {
        ingressClassName: 'nginx',
        tls: [{ hosts: ['k8s.example.com'], secretName: 'web' }],
        rules: [
          {
            host: 'k8s.example.com',
            http: {
              paths: [
                { path: '/', pathType: 'Prefix', backend: { service: { name: 'headlamp', port: { name: 'http' } } } },
              ],
            },
          },
        ],
      },
    });
  });

  it('has the accounts that are asked for, and none of its own rights', async () => {
    const subjects = (objects: KubernetesObject[]) =>
      objects
        .filter(({ kind, metadata }) => kind === 'ClusterRoleBinding' && metadata.name.startsWith('headlamp'))
        // biome-ignore lint/suspicious/noExplicitAny: of a binding
        .map((one: any) => [one.roleRef.name, one.subjects[0].name]);
    expect(subjects(await rendered(on))).toEqual([
      ['cluster-admin', 'headlamp-admin'],
      ['headlamp-viewer', 'headlamp-viewer'],
      ['view', 'headlamp-viewer'],
    ]);
    expect(subjects(await rendered({ ...on, addons_dashboard_admin: false, addons_dashboard_viewer: false }))).toEqual(
      [],
    );
  });
});

describe('logging', () => {
  const on = { addons_logging_enabled: true };
  const job = (objects: KubernetesObject[]) => objects.find(({ kind }) => kind === 'Job')?.metadata.name;

  it('keeps passwords in Secrets alone', async () => {
    const objects = await rendered(on);
    const others = objects.filter(({ kind }) => kind !== 'Secret');
    for (const name of ['elastic', 'kibana-system', 'log-writer', 'kibana-encryption']) {
      expect(JSON.stringify(others)).not.toContain(`${name}.password`);
    }
    expect(find(objects, 'Secret/logging/elasticsearch').data).toEqual(
      Object.fromEntries(
        ['elastic', 'kibana-system', 'log-writer', 'kibana-encryption'].map((name) => [
          name,
          Buffer.from(`${name}.password`).toString('base64'),
        ]),
      ),
    );
  });

  it('deletes indices after the days of the spec, by a Job that is another one then', async () => {
    const week = await rendered(on);
    const month = await rendered({ ...on, addons_logging_retention_days: 30 });
    const script = month.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.namespace === 'logging');
    expect(script?.data?.['setup.sh']).toContain('"min_age": "30d"');
    expect(job(month)).not.toBe(job(week));
    expect(job(await rendered(on))).toBe(job(week));
  });

  it('has nodes, volumes and the port of Kibana as the spec says', async () => {
    const objects = await rendered({
      ...on,
      addons_logging_replicas: 3,
      addons_logging_memory: '4Gi',
      addons_logging_size: '100Gi',
      addons_logging_storage_class: 'disk',
      addons_logging_access: 'nodePort',
    });
    const { spec } = find(objects, 'StatefulSet/logging/elasticsearch');
    expect(spec.replicas).toBe(3);
    expect(spec.template.spec.containers[0].resources.limits).toEqual({ memory: '4Gi' });
    expect(spec.volumeClaimTemplates[0].spec).toEqual({
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'disk',
      resources: { requests: { storage: '100Gi' } },
    });
    expect(keys(objects)).toContain('PodDisruptionBudget/logging/elasticsearch');
    expect(find(objects, 'Service/logging/kibana').spec).toMatchObject({
      type: 'NodePort',
      ports: [{ port: 443, nodePort: 30601 }],
    });
  });

  it('has Fluent Bit in place of Fluentd where the spec says so', async () => {
    const objects = await rendered({ ...on, addons_logging_collector: 'fluentBit' });
    expect(keys(objects)).not.toContain('DaemonSet/logging-agents/fluentd');
    const [container] = find(objects, 'DaemonSet/logging-agents/fluent-bit').spec.template.spec.containers;
    expect(container).toMatchObject({
      image: 'docker.io/fluent/fluent-bit:5.1.3',
      args: ['--config=/etc/collector/fluent-bit.yaml'],
    });
    const text = find(objects, 'ConfigMap/logging-agents/collector').data?.['fluent-bit.yaml'] ?? '';
    expect(parseAllDocuments(text)[0]?.toJS().pipeline.outputs[0]).toMatchObject({
      host: 'elasticsearch.logging.svc',
      'tls.verify': true,
      http_passwd: `\${WRITER_PASSWORD}`,
    });
  });

  it('reads what Docker writes where that is the runtime', async () => {
    const docker = { ...on, runtime_type: 'docker', runtime_data_dir: '/data/docker' };
    const objects = await rendered(docker);
    const { volumes, containers } = find(objects, 'DaemonSet/logging-agents/fluentd').spec.template.spec;
    expect(volumes).toContainEqual({
      name: 'docker',
      hostPath: { path: '/data/docker/docker/containers', type: 'Directory' },
    });
    expect(containers[0].volumeMounts).toContainEqual({
      name: 'docker',
      mountPath: '/data/docker/docker/containers',
      readOnly: true,
    });
    const text = find(objects, 'ConfigMap/logging-agents/collector').data?.['fluent.conf'] ?? '';
    expect(text).toContain('@type json');
    expect(text).not.toContain('@type cri');
  });
});
