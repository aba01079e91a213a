import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  clusterComponents,
  componentsFor,
  defaultVersion,
  everyChoice,
  fill,
  isOnlyPulled,
  loadCatalog,
} from '../../ts/artifacts/catalog.js';
import { listFiles } from '../../ts/artifacts/inspect.js';
import { describeSource, directoryCandidates, sourceUrl } from '../../ts/artifacts/source.js';
import { digestFromRelease, digestFromSums } from '../../ts/artifacts/verify.js';
import { packageRoot } from '../../ts/types/package.js';
import { exampleCluster } from '../fixtures/cluster.js';
import { sha256 } from '../fixtures/upstream.js';

const catalog = loadCatalog();
const components = componentsFor(catalog, '1.36.4');

describe('the catalog', () => {
  it('names where upstream publishes each file of amd64', () => {
    const urls = components.flatMap((component) => component.files('amd64').map(({ url }) => url));
    const kubernetes = 'https://dl.k8s.io/release/v1.36.4/bin/linux/amd64';
    const hub = 'https://github.com';
    expect(urls).toEqual([
      `${kubernetes}/kube-apiserver`,
      `${kubernetes}/kube-controller-manager`,
      `${kubernetes}/kube-scheduler`,
      `${kubernetes}/kubeadm`,
      `${kubernetes}/kubectl`,
      `${kubernetes}/kubelet`,
      `${kubernetes}/kube-proxy`,
      `${hub}/etcd-io/etcd/releases/download/v3.6.14/etcd-v3.6.14-linux-amd64.tar.gz`,
      `${hub}/containerd/containerd/releases/download/v2.3.6/containerd-static-2.3.6-linux-amd64.tar.gz`,
      `${hub}/opencontainers/runc/releases/download/v1.5.1/runc.amd64`,
      `${hub}/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz`,
      `${hub}/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz`,
      `${hub}/flannel-io/cni-plugin/releases/download/v1.9.1-flannel3/cni-plugin-flannel-linux-amd64-v1.9.1-flannel3.tgz`,
      `${hub}/flannel-io/flannel/releases/download/v0.28.9/flannel-v0.28.9-linux-amd64.tar.gz`,
    ]);
  });

  it('leaves open what no public source states, for each architecture', () => {
    const open = listFiles(components, ['amd64', 'arm64'], undefined).filter(({ state }) => state === 'open');
    const names = (architecture: string) =>
      open.filter((file) => file.architecture === architecture).map(({ file }) => file);
    expect(names('arm64')).toEqual([
      'kube-apiserver',
      'kube-controller-manager',
      'kube-scheduler',
      'kube-proxy',
      'containerd-static-2.3.6-linux-arm64.tar.gz',
      'runc.arm64',
      'cni-plugin-flannel-linux-arm64-v1.9.1-flannel3.tgz',
      'flannel-v0.28.9-linux-arm64.tar.gz',
    ]);
    expect(names('amd64').length).toBe(8);
  });

  it('has open digests for a patch version that it does not know', () => {
    const [kubernetes] = componentsFor(catalog, '1.36.9');
    const kubelet = kubernetes?.files('arm64').find(({ id }) => id === 'kubernetes/kubelet');
    expect(kubelet?.url).toBe('https://dl.k8s.io/release/v1.36.9/bin/linux/arm64/kubelet');
    expect(kubelet?.sha256).toBeUndefined();
  });

  it('refuses a minor without a lane', () => {
    expect(() => componentsFor(catalog, '1.34.8')).toThrow(
      expect.objectContaining({
        message: 'the catalog has no artifacts for Kubernetes 1.34.8',
        code: 'artifacts-no-lane',
        exitCode: 2,
        next: `Use a version of 1.35, 1.36, 1.37; the catalog's default is 1.36.4.`,
      }),
    );
    expect(() => componentsFor(catalog, 'latest')).toThrow('the catalog has no artifacts for Kubernetes latest');
    expect(defaultVersion(catalog)).toBe('1.36.4');
  });

  it('pins modules whose go.mod requires the very versions', async () => {
    const required: Record<string, [module: string, version: string]> = {
      kubernetes: ['k8s.io/kubernetes', 'v1.36.4'],
      etcd: ['go.etcd.io/etcd/server/v3', 'v3.6.14'],
      containerd: ['github.com/containerd/containerd/v2', 'v2.3.6'],
      runc: ['github.com/opencontainers/runc', 'v1.5.1'],
      'cri-tools': ['sigs.k8s.io/cri-tools', 'v1.36.0'],
      'cni-plugins': ['github.com/containernetworking/plugins', 'v1.9.1'],
      'flannel-cni': ['github.com/containernetworking/plugins', 'v0.9.1'],
      flannel: ['github.com/flannel-io/flannel', 'v0.28.9'],
      docker: ['github.com/moby/moby/v2', 'v2.0.0-beta.24'],
      'cri-dockerd': ['github.com/Mirantis/cri-dockerd', 'v0.4.0'],
      coredns: ['github.com/coredns/coredns', 'v1.14.2'],
      pause: ['k8s.io/kubernetes', 'v1.36.4'],
      'metrics-server': ['sigs.k8s.io/metrics-server', 'v0.9.0'],
      'local-path-provisioner': ['github.com/rancher/local-path-provisioner', 'v0.0.30'],
      registry: ['github.com/distribution/distribution/v3', 'v3.1.2'],
    };
    const all = componentsFor(catalog, '1.36.4', everyChoice(catalog));
    const pulled = all.filter(isOnlyPulled).map(({ name }) => name);
    expect(pulled).toEqual(['headlamp', 'elasticsearch', 'kibana', 'fluentd', 'fluent-bit']);
    const built = all.filter((component) => !isOnlyPulled(component));
    expect(built.map(({ name }) => name)).toEqual(Object.keys(required));
    for (const { name, version, recipe, binaries } of built) {
      const pin = recipe?.modules[version];
      const [module, moduleVersion] = required[name] ?? [];
      const text = await readFile(path.join(packageRoot(), 'artifacts', 'go', pin?.module ?? '', 'go.mod'), 'utf8');
      expect(text).toMatch(new RegExp(`^\\t(require )?${module} ${moduleVersion}( |$)`, 'm'));
      for (const goPackage of Object.values(recipe?.packages ?? {})) {
        expect(text).toMatch(new RegExp(`^(\\t|tool )${goPackage}$`, 'm'));
      }
      if (binaries.length > 0)
        expect(Object.keys(recipe?.packages ?? {}).sort()).toEqual(binaries.map((one) => one.name).sort());
    }
  });

  it('has components of add-ons for the clusters that have these switched on', () => {
    const { kubernetes, addons, runtime } = exampleCluster();
    const added = (own: Partial<typeof addons>): string[] =>
      clusterComponents(catalog, { kubernetes, runtime, addons: { ...addons, ...own } })
        .map(({ name }) => name)
        .slice(components.length);
    expect(Object.keys(addons)).toEqual(['coredns', ...everyChoice(catalog).addons]);
    expect(added({})).toEqual([]);
    expect(added({ registry: { ...addons.registry, enabled: true } })).toEqual(['registry']);
    expect(added({ metricsServer: { enabled: true, replicas: 1 } })).toEqual(['metrics-server']);
  });

  it('has those of Docker for the clusters that run it', () => {
    const { runtime, ...cluster } = exampleCluster();
    const names = (type: 'containerd' | 'docker'): string[] =>
      clusterComponents(catalog, { ...cluster, runtime: { ...runtime, type } }).map(({ name }) => name);
    const common = names('containerd');
    expect(names('docker').filter((name) => !common.includes(name))).toEqual(['docker', 'cri-dockerd']);
  });

  it('names a placeholder that has no value', () => {
    expect(() => fill('v{version}/{arhc}', { version: '1' })).toThrow('the catalog uses {arhc} where it has no value');
  });
});

describe('places', () => {
  const url = 'https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet';

  it('a mirror holds HOST/PATH', () => {
    expect(sourceUrl({ kind: 'mirror', url: 'https://mirror.example.org/k8s/', reason: '' }, url)).toBe(
      'https://mirror.example.org/k8s/dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet',
    );
    expect(sourceUrl({ kind: 'upstream', reason: '' }, url)).toBe(url);
  });

  it('a directory holds HOST/PATH, ARCHITECTURE/NAME or NAME', () => {
    expect(directoryCandidates('/srv', { url, name: 'kubelet', architecture: 'amd64' })).toEqual([
      '/srv/dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet',
      '/srv/amd64/kubelet',
      '/srv/kubelet',
    ]);
  });

  it('says where artifacts come from', () => {
    expect(describeSource({ kind: 'upstream', reason: 'its hosts answer' })).toBe(
      'Artifacts are taken from upstream: its hosts answer.',
    );
  });
});

describe('checksum files', () => {
  const digest = sha256('x');

  it.each([
    ['the digest alone', `${digest}\n`],
    ['the digest alone, upper case, without end', digest.toUpperCase()],
    ['a line of sha256sum', `${sha256('y')}  runc.arm64\n${digest}  runc.amd64\n`],
    ['a line in binary mode', `${digest} *runc.amd64\n`],
    ['a line with a folder', `${digest}  ./release/runc.amd64\r\n`],
    ['the BSD form', `SHA256 (runc.amd64) = ${digest}\n`],
  ])('takes %s', (_form, text) => {
    expect(digestFromSums(text, 'runc.amd64')).toBe(digest);
  });

  it.each([
    ['another file', `${digest}  runc.arm64\n`],
    ['a name that only ends alike', `${digest}  my-runc.amd64\n`],
    ['another sum', `${'0'.repeat(128)}  runc.amd64\n`],
    ['two digests without names', `${digest}\n${digest}\n`],
    ['an error page', '<html>Not found</html>'],
    ['nothing', ''],
  ])('does not take %s', (_form, text) => {
    expect(digestFromSums(text, 'runc.amd64')).toBeUndefined();
  });

  it("takes what GitHub states for a release's asset, and nothing else", () => {
    const release = JSON.stringify({
      assets: [
        { name: 'a', digest: null },
        { name: 'b', digest: `sha256:${digest}` },
      ],
    });
    expect(digestFromRelease(release, 'b')).toBe(digest);
    expect(digestFromRelease(release, 'a')).toBeUndefined();
    expect(digestFromRelease('{}', 'b')).toBeUndefined();
    expect(digestFromRelease('null', 'b')).toBeUndefined();
    expect(digestFromRelease('rate limited', 'b')).toBeUndefined();
  });
});
