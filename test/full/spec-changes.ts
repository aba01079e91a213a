/** The spec of the running cluster is changed: what may be is applied with the least restarts, the rest is refused. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Document, parseDocument } from 'yaml';
import type { Plan } from '../../ts/types/plan.js';
import {
  eventually,
  type Finished,
  home,
  hosts,
  kubectl,
  labName,
  masters,
  nodes,
  on,
  start,
  tryOn,
  unitStarts,
} from '../e2e/harness.js';
import { deployWeb } from '../e2e/web.js';
import { startClient } from './client.js';
import { deploy, gist, NOTHING, plan, SOMETHING } from './plans.js';

/** The spec as it is before these tests. */
let original: string;
const policy = path.join(home.root, 'audit-test.yaml');

beforeAll(async () => {
  original = await readFile(home.spec, 'utf8');
  await deployWeb(nodes);
});

afterAll(async () => {
  await writeFile(home.spec, original);
  await rm(policy, { force: true });
});

const edit = async (change: (spec: Document) => void): Promise<void> => {
  const document = parseDocument(original);
  change(document);
  await writeFile(home.spec, document.toString({ lineWidth: 110 }));
};

/** Units whose process is another one than before, by host. */
async function restarted(work: () => Promise<unknown>): Promise<Record<string, string[]>> {
  const before = await unitStarts();
  await work();
  const after = await unitStarts();
  const units = (text = ''): string[] => text.trim().split('\n\n');
  return Object.fromEntries(
    hosts.map((host) => {
      const old = new Set(units(before[host]));
      const changed = units(after[host]).filter((unit) => !old.has(unit));
      const names = changed.map((unit) => /^Id=(.*)\.service$/m.exec(unit)?.[1] ?? unit);
      return [host, names.sort()];
    }),
  );
}

const onAll = (line: string): Promise<string[]> => Promise.all(hosts.map((host) => on(host, line)));
/** The kube-proxy chains for services, in either kind of rules. */
const nftables = 'nft list table ip kube-proxy 2>/dev/null | grep -c 10.254.0.1 || true';
const iptables = 'iptables-save -t nat | grep -c -- "-A KUBE-SVC" || true';

describe('what a running cluster cannot take', () => {
  const refusal = async (
    command: string,
  ): Promise<{ code: string; problems: Array<{ path: string; line: number }> }> => {
    const result = (await start(['--json', command, '--cluster', labName])) as unknown as Finished;
    expect(result.exitCode, result.all as string).toBe(2);
    return JSON.parse(result.stdout as unknown as string).error;
  };

  test('is refused by deploy and plan alike, all at once, and nothing is touched', async () => {
    await edit((spec) => {
      spec.setIn(['name'], 'renamed');
      spec.setIn(['network', 'pods'], '172.29.0.0/16');
      spec.setIn(['network', 'services'], '10.253.0.0/16');
      spec.setIn(['network', 'flannel', 'backend'], 'host-gw');
      spec.deleteIn(['hosts', masters.length + nodes.length - 1]);
    });
    const rendered = await readFile(home.groupVars.concat('/all.yml'), 'utf8');
    const changed = await restarted(async () => {
      for (const command of ['deploy', 'plan']) {
        const { code, problems } = await refusal(command);
        expect(code).toBe('spec-immutable');
        expect(problems.map((problem) => problem.path).sort()).toEqual([
          'hosts',
          'name',
          'network.flannel.backend',
          'network.pods',
          'network.services',
        ]);
        const lines = (await readFile(home.spec, 'utf8')).split('\n');
        const pods = problems.find((problem) => problem.path === 'network.pods');
        expect(lines[(pods?.line ?? 0) - 1]).toContain('172.29.0.0/16');
      }
    });
    expect(changed).toEqual(Object.fromEntries(hosts.map((host) => [host, []])));
    expect(await readFile(home.groupVars.concat('/all.yml'), 'utf8')).toBe(rendered);
    await writeFile(home.spec, original);
  });
});

describe('what may be changed', () => {
  test('takes effect with the restarts that it needs, while a client works', async () => {
    await writeFile(
      policy,
      'apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n  - level: Metadata\n    users: ["nobody"]\n',
    );
    await edit((spec) => {
      spec.setIn(['kubeProxy', 'mode'], 'iptables');
      spec.setIn(['kubelet', 'maxPods'], 97);
      spec.setIn(['network', 'nodePorts'], { from: 30000, to: 31999 });
      spec.setIn(['kubernetes', 'featureGates'], { NodeLogQuery: true });
      spec.setIn(['audit', 'policyFile'], 'audit-test.yaml');
      spec.setIn(['hosts', masters.length, 'labels'], { disk: 'fast' });
    });
    const planned = await plan(labName);
    expect(planned.code).toBe(SOMETHING);

    const client = await startClient();
    let done: Plan | undefined;
    const changed = await restarted(async () => {
      ({ done } = await deploy(labName));
    });
    const seen = await client.stop('a changed spec');
    // What plan listed is what deploy changed.
    expect(gist(planned.value.plan)).toEqual(gist(done as Plan));
    expect(seen.lost).toEqual([]);
    expect(seen.writes.longestGapMs).toBeLessThan(15_000);
    expect(seen.service.longestGapMs).toBeLessThan(15_000);
    expect(changed).toEqual({
      ...Object.fromEntries(
        masters.map((host) => [
          host,
          ['flanneld', 'kube-apiserver', 'kube-controller-manager', 'kube-proxy', 'kube-scheduler', 'kubelet'],
        ]),
      ),
      ...Object.fromEntries(nodes.map((host) => [host, ['flanneld', 'kube-proxy', 'kubelet']])),
    });

    // The rules of the old mode are gone, those of the new one are there, and the service answers.
    expect(await onAll(nftables)).toEqual(hosts.map(() => '0'));
    for (const count of await onAll(iptables)) expect(Number(count)).toBeGreaterThan(0);
    const address = await kubectl(['get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}']);
    await eventually(30, () => onAll(`curl -sf -m 2 http://${address}/`));

    const pods = await kubectl(['get', 'nodes', '-o', 'jsonpath={.items[*].status.capacity.pods}']);
    expect(pods.split(' ')).toEqual(hosts.map(() => '97'));
    const labelled = await kubectl(['get', 'nodes', '-l', 'disk=fast', '-o', 'jsonpath={.items[*].metadata.name}']);
    expect(labelled).toBe(nodes[0]);
    const gate = await kubectl(['get', '--raw', '/metrics']);
    expect(gate).toMatch(/^kubernetes_feature_enabled\{name="NodeLogQuery",stage="[A-Z]*"\} 1$/m);
    for (const host of masters) {
      expect(await on(host, 'cat /etc/kubernetes/audit-policy.yaml')).toBe((await readFile(policy, 'utf8')).trimEnd());
    }
    const refused = await kubectl(['create', 'service', 'nodeport', 'too-high', '--tcp=80', '--node-port=32500']).then(
      () => 'taken',
      (error: Error) => error.message,
    );
    expect(refused).toContain('30000-31999');

    // And that was all.
    expect((await plan(labName)).code).toBe(NOTHING);
  });

  test('CoreDNS can be taken away, and only ours is', async () => {
    await kubectl(['-n', 'kube-system', 'create', 'configmap', 'coredns-custom', '--from-literal=mine=yes']);
    await edit((spec) => spec.setIn(['addons', 'coredns', 'enabled'], false));
    await deploy(labName);
    const left = await kubectl(['-n', 'kube-system', 'get', 'deploy,svc,sa,cm,pdb', '-o', 'name']);
    expect(left.split('\n').filter((name) => /coredns|kube-dns/.test(name))).toEqual(['configmap/coredns-custom']);
    expect((await deploy(labName)).changed).toBe(0);
    await kubectl(['-n', 'kube-system', 'delete', 'configmap', 'coredns-custom']);
  });

  test('taken back, all is as it was', async () => {
    await writeFile(home.spec, original);
    await deploy(labName);
    for (const count of await onAll(nftables)) expect(Number(count)).toBeGreaterThan(0);
    expect(await onAll(iptables)).toEqual(hosts.map(() => '0'));
    // CoreDNS is back, and services are reached by name.
    expect(
      await kubectl(['exec', 'deployment/web', '--', '/web', 'get', 'http://web.default.svc.cluster.local/']),
    ).toMatch(/^web-/);
    const { code, text } = await plan(labName);
    expect(code, text).toBe(NOTHING);
    expect((await tryOn('k8snode01', 'test -e /etc/kubernetes/kubelet.yaml')).exitCode).toBe(0);
  });
});
