import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { renderCluster } from '../../ts/render/render.js';
import { readEnvironment } from '../../ts/spec/environment.js';
import { parseSpec } from '../../ts/spec/load.js';
import { formatProblems, SpecError } from '../../ts/spec/problems.js';
import { resolveCluster } from '../../ts/spec/resolve.js';
import type { SpecInput } from '../../ts/spec/schema.js';
import { readAssignments } from '../../ts/spec/shell.js';
import { specText } from '../../ts/spec/write.js';
import type { Cluster } from '../../ts/types/cluster.js';

const fixtures = path.join(import.meta.dirname, '../fixtures');
const script = (name: string): string => readFileSync(path.join(fixtures, 'environment', name), 'utf8');

function clusterOf(text: string): Cluster {
  const parsed = parseSpec(text, 'cluster.yaml');
  if (!parsed.ok) throw new Error(formatProblems(parsed.problems));
  return resolveCluster(parsed.spec, '/home/user/demo');
}

const guide: SpecInput = {
  apiVersion: 'k8s-ans/v1',
  name: 'guide',
  hosts: [
    { name: 'k8smaster01', address: '172.24.8.71', roles: ['masters'] },
    { name: 'k8smaster02', address: '172.24.8.72', roles: ['masters'] },
    { name: 'k8smaster03', address: '172.24.8.73', roles: ['masters'] },
    { name: 'k8snode01', address: '172.24.8.74', roles: ['nodes'] },
    { name: 'k8snode02', address: '172.24.8.75', roles: ['nodes'] },
  ],
  network: {
    services: '10.254.0.0/16',
    pods: '172.30.0.0/16',
    dnsAddress: '10.254.0.2',
    dnsDomain: 'cluster.local',
    interface: 'eth0',
    nodePorts: { from: 30000, to: 32767 },
    flannel: { etcdPrefix: '/kubernetes/network' },
  },
  api: { proxyPort: 8443 },
  etcd: { dataDir: '/data/k8s/etcd/data', walDir: '/data/k8s/etcd/wal' },
  paths: { data: '/data/k8s/k8s', bin: '/opt/k8s/bin' },
};

describe('readEnvironment', () => {
  it.each(['guide.sh', 'guide-lower-case.sh'])("reads the guide's file: %s", (name) => {
    const read = readEnvironment(script(name), name, 'guide');
    expect(read.spec).toEqual(guide);
    expect(read.encryptionKey).toBeUndefined();
    expect(read.remarks).toEqual([
      `${name}:46: DOCKER_DIR (/data/k8s/docker) is left out: the runtime is containerd, in a folder of its own.`,
      `${name}:51: BOOTSTRAP_TOKEN is left out: tokens are made for each run and expire.`,
      `${name}:4: ENCRYPTION_KEY is a command, which is not run: a new key is made with the PKI.`,
    ]);
  });

  it("makes of the guide's file the same cluster as the spec of the guide", () => {
    const { spec } = readEnvironment(script('guide.sh'), 'guide.sh', 'guide');
    const own = clusterOf(readFileSync(path.join(fixtures, 'specs/good/guide.yaml'), 'utf8'));
    expect(clusterOf(specText(spec))).toEqual(own);
  });

  it("reads a user's own file, runs nothing of it, and says what it left out", () => {
    const read = readEnvironment(script('own.sh'), 'own.sh', 'own');
    expect(read.spec).toEqual({
      apiVersion: 'k8s-ans/v1',
      name: 'own',
      hosts: [
        { name: 'w1', address: '192.0.2.31', roles: ['nodes'] },
        { name: 'm1', address: '192.0.2.11', roles: ['masters', 'nodes'] },
        { name: 'e1', address: '192.0.2.21', roles: ['etcd'] },
      ],
      network: {
        services: '10.96.0.0/16',
        dnsAddress: '10.96.0.10',
        dnsDomain: 'k8s.example.com',
        nodePorts: { from: 31000, to: 31999 },
      },
      api: { externalEndpoint: 'https://192.0.2.100:6443' },
      etcd: { dataDir: '/srv/k8s/etcd', walDir: '/srv/k8s/wal' },
      paths: { data: '/srv/k8s/data', bin: '/usr/local/k8s/bin' },
      runtime: { dataDir: '/srv/images' },
    });
    expect(read.encryptionKey).toBe('MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=');
    expect(read.remarks).toEqual([
      'own.sh:3: "set -euo pipefail" is no assignment: ignored.',
      'own.sh:4: "touch /tmp/k8s-ans-must-not-run" is no assignment: ignored.',
      'own.sh:5: BASE is not a variable of the guide: ignored.',
      'own.sh:25: HTTP_PROXY is not a variable of the guide: ignored.',
      'own.sh:21: CLUSTER_CIDR holds a command, which is not run: the default is used.',
      'own.sh:23: the dot at the end of k8s.example.com. is left out.',
      'own.sh:17: KUBE_APISERVER (https://192.0.2.100:6443) becomes api.externalEndpoint: on the hosts, kube-nginx at 127.0.0.1 is used.',
    ]);
    expect(existsSync('/tmp/k8s-ans-must-not-run')).toBe(false);
    expect(clusterOf(specText(read.spec)).etcd.initialCluster).toBe('e1=https://192.0.2.21:2380');
  });

  it('refuses a file that contradicts itself, with all contradictions', async () => {
    let problems = '';
    try {
      readEnvironment(script('contradicting.sh'), 'contradicting.sh', 'demo');
    } catch (error) {
      problems = formatProblems((error as SpecError).problems);
      expect(error).toBeInstanceOf(SpecError);
    }
    await expect(`${problems}\n`).toMatchFileSnapshot(path.join(fixtures, 'environment/contradicting.txt'));
  });

  it('refuses a file without masters', () => {
    expect(() => readEnvironment('export FOO=1\n', 'e.sh', 'demo')).toThrow(
      'e.sh has 1 problem:\ne.sh:1:1: MASTER_IPS: is missing',
    );
  });

  it.each(['guide', 'full'])('reads back what was rendered: %s', (name) => {
    const original = clusterOf(readFileSync(path.join(fixtures, `specs/good/${name}.yaml`), 'utf8'));
    const rendered = renderCluster(original).get('environment.sh') ?? '';
    const read = readEnvironment(rendered, 'environment.sh', original.name);
    expect(read.remarks).toEqual([]);
    // What environment.sh has no variable for is not compared.
    const again = clusterOf(specText(read.spec));
    expect(renderCluster(again).get('environment.sh')).toBe(rendered);
    if (name === 'guide') expect(again).toEqual(original);
  });
});

describe('readAssignments', () => {
  const values = (text: string) => readAssignments(text).assignments.map(({ name, value }) => [name, value]);

  it('understands quotes, escapes and expansions', () => {
    expect(values(`A='a b'"c d"e\\ f; B="\${A}-$A" C=\${D:-x}`)).toEqual([
      ['A', 'a bc de f'],
      ['B', 'a bc de f-a bc de f'],
      ['C', '$' + '{D:-x}'],
    ]);
  });

  it('notices substitutions, nested ones too', () => {
    const { assignments } = readAssignments('A=$(echo $(date) "(")) \nB=`id`\nC="x$(id)y"\nD=1\n');
    expect(assignments.map(({ name, dynamic }) => [name, dynamic])).toEqual([
      ['A', true],
      ['B', true],
      ['C', true],
      ['D', false],
    ]);
  });

  it('reads arrays over several lines with comments, and ends on a broken one', () => {
    expect(values('A=(a # one\n "b c"\n)\nB=(x y')).toEqual([
      ['A', ['a', 'b c']],
      ['B', ['x', 'y']],
    ]);
  });

  it('ends on anything', () => {
    for (const text of ['A="', "A='", 'A=$(', 'A=`', 'A=(', '(', ')', 'A=$', '=', 'export ', 'A=\\']) {
      expect(() => readAssignments(text)).not.toThrow();
    }
  });
});
