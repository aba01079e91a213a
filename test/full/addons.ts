/** The add-ons as a user has them: switched on, used, changed, switched off, and nothing of them left. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Document, parseDocument } from 'yaml';
import type { ClusterStatus } from '../../ts/types/status.js';
import {
  eventually,
  home,
  hosts,
  json,
  kubectl,
  lab,
  labName,
  masters,
  nodes,
  on,
  start,
  succeed,
} from '../e2e/harness.js';
import { deployWeb, removeWeb, webImage } from '../e2e/web.js';
import { ask, push, type RegistryAccess } from './registry-client.js';

/** The spec as it is before these tests. */
let original: string;

beforeAll(async () => {
  original = await readFile(home.spec, 'utf8');
  await deployWeb(nodes);
});

afterAll(async () => {
  await removeWeb();
  await writeFile(home.spec, original, { mode: 0o600 });
  await succeed(['deploy', '--cluster', labName]);
});

interface DeployResult {
  readonly totals: { readonly changed: number };
  readonly waiting: ReadonlyArray<string>;
}
const deploy = (): Promise<DeployResult> => json<DeployResult>(['deploy', '--cluster', labName]);

const edit = async (change: (spec: Document) => void): Promise<void> => {
  const document = parseDocument(await readFile(home.spec, 'utf8'));
  change(document);
  await writeFile(home.spec, document.toString({ lineWidth: 110 }), { mode: 0o600 });
};

/** kubectl on a master, with its warnings. */
const warned = (line: string): Promise<string> =>
  on(masters[0] as string, `/opt/k8s/bin/kubectl --kubeconfig /etc/kubernetes/admin.kubeconfig ${line} 2>&1`);

const addressOf = async (host: string): Promise<string> =>
  (await lab()).plan.hosts.find(({ name }) => name === host)?.address ?? host;

const password = async (): Promise<string> =>
  (await readFile(path.join(home.pki, 'addons/registry.password'), 'utf8')).trim();

async function access(host: string, port: number): Promise<RegistryAccess> {
  const ca = await readFile(path.join(home.pki, 'ca.crt'), 'utf8');
  return { address: `${await addressOf(host)}:${port}`, ca, user: 'admin', password: await password() };
}

/** A pod that passes the level restricted, with one container. */
function pod(name: string, container: object, spec: object = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 65532,
        fsGroup: 65532,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...spec,
      containers: [
        {
          name,
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          ...container,
        },
      ],
    },
  });
}

const ended = (name: string, phase: string): Promise<void> =>
  eventually(60, async () => {
    expect(await kubectl(['get', 'pod', name, '-o', 'jsonpath={.status.phase}'])).toBe(phase);
  });

describe('switched on', () => {
  test('they arrive healthy, and the second deploy changes nothing', async () => {
    await edit((spec) => {
      spec.setIn(['addons', 'metricsServer'], { enabled: true });
      spec.setIn(['addons', 'localPath'], { enabled: true });
      spec.setIn(['addons', 'registry'], { enabled: true, size: '1Gi' });
      spec.setIn(['addons', 'coredns', 'nodeCache'], { enabled: true });
    });
    await deploy();
    expect((await deploy()).totals.changed).toBe(0);
    const status = await json<ClusterStatus>(['status', '--cluster', labName]);
    expect(status.problems).toEqual([]);
    expect(status.api?.workloads.map(({ name }) => name).sort()).toEqual([
      'coredns',
      'coredns-cache',
      'local-path-provisioner',
      'metrics-server',
      'registry',
    ]);
  });

  test('all pods of kube-system pass the level restricted, but for the cache, which is in the network of the host', async () => {
    const label = 'pod-security.kubernetes.io/enforce=restricted';
    const said = await warned(`label namespace kube-system --dry-run=server ${label}`);
    const [, faults, ...more] = said.split('\n');
    expect(faults).toMatch(/^Warning: coredns-cache-\w+ \(and 4 other pods\): host namespaces, /);
    expect(more).toEqual(['namespace/kube-system labeled (server dry run)']);
  });
});

describe('CoreDNS', () => {
  test('has its pods on different hosts, and answers while one of them is killed', async () => {
    const selector = ['-n', 'kube-system', '-l', 'k8s-app=kube-dns'];
    const placed = await kubectl(['get', 'pods', ...selector, '-o', 'jsonpath={.items[*].spec.nodeName}']);
    expect(new Set(placed.split(' ')).size).toBe(2);
    const victim = (await kubectl(['get', 'pods', ...selector, '-o', 'name'])).split('\n')[0] as string;
    const [asking] = (await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'name'])).split('\n') as [string];
    const name = 'kubernetes.default.svc.cluster.local';
    const answers = kubectl(['exec', asking, '--', '/web', 'lookup', name, '60']);
    await kubectl(['-n', 'kube-system', 'delete', victim, '--wait=false']);
    expect((await answers).split('\n')).toEqual(Array.from({ length: 60 }, () => '[10.254.0.1]'));
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=120s']);
  });
});

describe('the DNS cache', () => {
  test('is what new pods ask first, and they do without it', async () => {
    await kubectl(['rollout', 'restart', 'deployment/web']);
    await kubectl(['rollout', 'status', 'deployment/web', '--timeout=120s']);
    const found = JSON.parse(await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'json'])) as {
      items: Array<{ metadata: { name: string }; spec: { nodeName: string } }>;
    };
    const [{ metadata, spec }] = found.items as [(typeof found.items)[0]];
    const ask = (name: string): Promise<string> => kubectl(['exec', metadata.name, '--', '/web', 'lookup', name, '1']);
    const name = 'registry.registry.svc.cluster.local';
    const address = await kubectl(['-n', 'registry', 'get', 'service', 'registry', '-o', 'jsonpath={.spec.clusterIP}']);
    expect(await ask(name)).toBe(`[${address}]`);
    // It is this node's cache that has answered.
    const metrics = await on(spec.nodeName, 'curl -s http://127.0.0.1:9253/metrics');
    expect(metrics).toMatch(/^coredns_dns_requests_total\{[^}]*server="dns:\/\/169\.254\.20\.10:53"[^}]*\} [1-9]/m);
    await kubectl(['-n', 'kube-system', 'delete', 'daemonset', 'coredns-cache', '--cascade=foreground', '--wait=true']);
    expect(await ask(name)).toBe(`[${address}]`);
    await deploy();
    expect((await deploy()).totals.changed).toBe(0);
  });
});

describe('add-ons whose images cannot be had here', () => {
  const images = [
    'headlamp/headlamp waits for its image ghcr.io/headlamp-k8s/headlamp:v0.45.0',
    'logging-agents/fluentd waits for its image docker.io/fluent/fluentd-kubernetes-daemonset:v1.19.3-debian-elasticsearch9-1.1',
    'logging/elasticsearch waits for its image docker.elastic.co/elasticsearch/elasticsearch:9.5.4',
    expect.stringMatching(
      /^logging\/elasticsearch-setup-\w+ waits for its image docker.elastic.co\/elasticsearch\/elasticsearch:9.5.4$/,
    ),
    'logging/kibana waits for its image docker.elastic.co/kibana/kibana:9.5.4',
  ];

  test('are taken by the API server with their pods, and wait for their images', async () => {
    await edit((spec) => {
      spec.setIn(['addons', 'dashboard'], { enabled: true, access: 'nodePort' });
      spec.setIn(['addons', 'logging'], { enabled: true, size: '1Gi', memory: '256Mi' });
    });
    expect((await deploy()).waiting).toEqual(images);
    const again = await deploy();
    expect(again.totals.changed).toBe(0);
    expect(again.waiting).toEqual(images);
    for (const namespace of ['headlamp', 'logging', 'logging-agents']) {
      // Pods that a level forbids are not made, and an event of their owner says so.
      const events = await kubectl([
        '-n',
        namespace,
        'get',
        'events',
        '--field-selector=reason=FailedCreate',
        '-o',
        'name',
      ]);
      expect(events).toBe('');
      const phases = await kubectl(['-n', namespace, 'get', 'pods', '-o', 'jsonpath={.items[*].status.phase}']);
      expect(new Set(phases.split(' '))).toEqual(new Set(['Pending']));
    }
  });

  test('say so in status, which finds nothing else', async () => {
    const { stdout } = await start(['status', '--cluster', labName, '--json']);
    const { result } = JSON.parse(String(stdout)) as { result: ClusterStatus };
    expect(result.problems.map(({ message }) => message).sort()).toEqual([
      'elasticsearch has 0 of 1 pods available',
      `fluentd has 0 of ${hosts.length} pods available`,
      'headlamp has 0 of 1 pods available',
      'kibana has 0 of 1 pods available',
    ]);
  });

  test('their accounts may do what they are for', async () => {
    const may = (account: string, ...what: string[]): Promise<string> =>
      kubectl(['auth', 'can-i', ...what, `--as=system:serviceaccount:headlamp:${account}`]).catch(() => 'no');
    expect(await may('headlamp-admin', 'delete', 'nodes')).toBe('yes');
    expect(await may('headlamp-viewer', 'list', 'nodes')).toBe('yes');
    expect(await may('headlamp-viewer', 'list', 'pods', '--all-namespaces')).toBe('yes');
    expect(await may('headlamp-viewer', 'get', 'secrets', '--all-namespaces')).toBe('no');
    expect(await may('headlamp-viewer', 'delete', 'pods')).toBe('no');
    expect(await may('headlamp', 'list', 'pods')).toBe('no');
  });

  test('go as they came', async () => {
    await edit((spec) => {
      spec.deleteIn(['addons', 'dashboard']);
      spec.deleteIn(['addons', 'logging']);
    });
    expect((await deploy()).waiting).toEqual([]);
    const left = await kubectl(['get', 'namespaces,clusterroles,clusterrolebindings,persistentvolumes', '-o', 'name']);
    expect(left.split('\n').filter((line) => /headlamp|logging|log-collector|elasticsearch/.test(line))).toEqual([]);
  });
});

describe('metrics-server', () => {
  test('answers kubectl top, and its certificate is checked', async () => {
    // Two samples of each kubelet make the first value.
    const rows = await eventually(120, async () => {
      const lines = (await kubectl(['top', 'nodes', '--no-headers'])).split('\n').map((line) => line.split(/\s+/));
      expect(lines.map(([name]) => name).sort()).toEqual([...hosts].sort());
      return lines;
    });
    for (const [, cpu, , memory] of rows) {
      expect(cpu).toMatch(/^[1-9]\d*m$/);
      expect(memory).toMatch(/^[1-9]\d*Mi$/);
    }
    const pods = await kubectl(['top', 'pods', '-n', 'kube-system', '--no-headers']);
    expect(pods).toMatch(/^metrics-server-\S+ +\d+m +[1-9]\d*Mi/m);
    const service = JSON.parse(await kubectl(['get', 'apiservice', 'v1beta1.metrics.k8s.io', '-o', 'json']));
    expect(service.spec.insecureSkipTLSVerify).toBeUndefined();
    expect(Buffer.from(service.spec.caBundle, 'base64').toString().trim()).toBe(
      (await readFile(path.join(home.pki, 'ca.crt'), 'utf8')).trim(),
    );
  });
});

describe('the StorageClass', () => {
  const image = 'docker.io/rancher/local-path-provisioner:v0.0.30';
  const volume = {
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'kept' } }],
  };
  const shell = (command: string) => ({
    image,
    command: ['/bin/sh', '-c', command],
    volumeMounts: [{ name: 'data', mountPath: '/data' }],
  });

  test('gives a volume that survives its pod, and takes it back with its claim', async () => {
    const claim = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'kept' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '10Mi' } } },
    };
    await kubectl(['apply', '-f', '-'], JSON.stringify(claim));
    await kubectl(['apply', '-f', '-'], pod('writer', shell('echo kept > /data/file'), volume));
    await ended('writer', 'Succeeded');
    await kubectl(['delete', 'pod', 'writer']);
    await kubectl(['apply', '-f', '-'], pod('reader', shell('read line < /data/file; echo "$line"'), volume));
    await ended('reader', 'Succeeded');
    expect(await kubectl(['logs', 'reader'])).toBe('kept');
    const folders = 'ls -d /data/k8s/volumes/*_default_kept 2>/dev/null | wc -l';
    const count = async () => (await Promise.all(hosts.map((host) => on(host, folders)))).map(Number);
    expect((await count()).reduce((sum, one) => sum + one)).toBe(1);
    await kubectl(['delete', 'pod', 'reader']);
    await kubectl(['delete', 'pvc', 'kept']);
    await eventually(60, async () => expect((await count()).reduce((sum, one) => sum + one)).toBe(0));
  });
});

describe('the registry', () => {
  const name = 'registry.cluster.local';

  test('wants its password', async () => {
    const good = await access(masters[0] as string, 30500);
    expect((await ask(good, 'GET', '/v2/')).status).toBe(200);
    expect((await ask({ ...good, password: 'wrong' }, 'GET', '/v2/')).status).toBe(401);
  });

  test('takes an image from this machine, and pods on any host are given it', async () => {
    await push(await access(nodes[1] as string, 30500), 'team/web', '1', await webImage(`${name}/team/web:1`));
    const login = [`--docker-server=${name}`, '--docker-username=admin', `--docker-password=${await password()}`];
    await kubectl(['create', 'secret', 'docker-registry', 'registry', ...login]);
    for (const host of [masters[0], nodes[0]] as string[]) {
      const container = { image: `${name}/team/web:1`, imagePullPolicy: 'Always' };
      const spec = { nodeName: host, imagePullSecrets: [{ name: 'registry' }] };
      await kubectl(['apply', '-f', '-'], pod('pulled', container, spec));
      await kubectl(['wait', '--for=condition=Ready', 'pod/pulled', '--timeout=120s']);
      await kubectl(['delete', 'pod', 'pulled']);
    }
    await kubectl(['delete', 'secret', 'registry']);
  });

  test('keeps its images when its pod goes', async () => {
    await kubectl(['-n', 'registry', 'delete', 'pod', '-l', 'app=registry']);
    await kubectl(['-n', 'registry', 'rollout', 'status', 'deployment/registry', '--timeout=120s']);
    const tags = await eventually(30, async () =>
      ask(await access(nodes[0] as string, 30500), 'GET', '/v2/team/web/tags/list'),
    );
    expect(JSON.parse(tags.body)).toEqual({ name: 'team/web', tags: ['1'] });
  });

  test('has its password in one file of the home, and in no log, event or report', async () => {
    expect((await stat(path.join(home.pki, 'addons/registry.password'))).mode & 0o777).toBe(0o600);
    const secret = await password();
    const runs = await readdir(home.runs, { recursive: true, withFileTypes: true });
    const files = runs.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
    const htpasswd = (await readFile(path.join(home.pki, 'addons/registry.htpasswd'), 'utf8'))
      .trim()
      .split(':')[1] as string;
    for (const file of files) {
      const text = await readFile(file, 'utf8');
      for (const word of [secret, htpasswd, Buffer.from(htpasswd).toString('base64').slice(4, 40)]) {
        expect(text.includes(word), file).toBe(false);
      }
    }
  });
});

describe('changed', () => {
  test('each follows its spec, and the second deploy changes nothing', async () => {
    await edit((spec) => {
      spec.setIn(['addons', 'coredns', 'replicas'], 3);
      spec.setIn(['addons', 'metricsServer', 'replicas'], 2);
      spec.setIn(['addons', 'localPath', 'defaultClass'], false);
      spec.setIn(['addons', 'registry', 'storageClass'], 'local-path');
      spec.setIn(['addons', 'registry', 'nodePort'], 30501);
    });
    await deploy();
    expect((await deploy()).totals.changed).toBe(0);
    const replicas = await kubectl([
      '-n',
      'kube-system',
      'get',
      'deploy',
      '-o',
      'jsonpath={.items[*].status.readyReplicas}',
    ]);
    expect(replicas).toBe('3 2');
    expect(await kubectl(['-n', 'kube-system', 'get', 'pdb', '-o', 'name'])).toContain('metrics-server');
    expect((await ask(await access(masters[1] as string, 30501), 'GET', '/v2/team/web/tags/list')).status).toBe(200);
    expect(await on(nodes[0] as string, 'cat /etc/containerd/certs.d/registry.cluster.local/hosts.toml')).toContain(
      ':30501"',
    );

    await edit((spec) => spec.setIn(['addons', 'metricsServer', 'replicas'], 1));
    await deploy();
    // An object that the add-on no longer has is not left over.
    expect(await kubectl(['-n', 'kube-system', 'get', 'pdb', '-o', 'name'])).toBe('poddisruptionbudget.policy/coredns');
  });
});

describe('switched off', () => {
  test('nothing of them is left, in the API and on the hosts', async () => {
    await writeFile(home.spec, original, { mode: 0o600 });
    await deploy();
    expect((await deploy()).totals.changed).toBe(0);
    const kinds =
      'namespaces,deployments,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,apiservices,clusterroles,clusterrolebindings,roles,rolebindings,storageclasses,persistentvolumes,persistentvolumeclaims';
    const left = await kubectl(['get', kinds, '--all-namespaces', '-o', 'name']);
    // The published CA is in every namespace; the namespaces themselves are gone.
    expect(left.split('\n').filter((line) => /metrics|local-path|registry|persistentvolume/.test(line))).toEqual([]);
    for (const host of hosts) {
      expect(await on(host, 'ls -d /etc/containerd/certs.d/registry* /data/k8s/volumes/* 2>/dev/null || true')).toBe(
        '',
      );
    }
  });
});
