/**
 * Docker as the runtime: a cluster deployed with it, used as a user would, and taken away.
 *
 * It makes the suite's lab anew with two hosts.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { editSpec } from '../../ts/spec/edit.js';
import type { ClusterStatus } from '../../ts/types/status.js';
import {
  eventually,
  home,
  json,
  kubectl,
  labArgs,
  labName,
  on,
  prepareWorkspace,
  start,
  startKubectl,
  succeed,
} from '../e2e/harness.js';
import { deployWeb } from '../e2e/web.js';

const node = 'k8snode01';
const hosts = ['k8smaster01', node];
const cluster = ['--cluster', labName];

/** The pods of the test's Deployment. */
async function webPods(): Promise<string[]> {
  return (await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ');
}

beforeAll(async () => {
  await prepareWorkspace();
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...labArgs, '--masters', '1', '--nodes', '1']);
  await editSpec(home, (document) => document.setIn(['runtime', 'type'], 'docker'));
});

afterAll(async () => {
  await start(['lab', 'down', '--name', labName, '--purge']);
});

test('deploy brings up a cluster whose pods Docker runs, and the second changes nothing', async () => {
  await succeed(['deploy', ...cluster]);
  const again = await json<{ totals: { changed: number } }>(['deploy', ...cluster]);
  expect(again.totals.changed).toBe(0);
  const runtimes = await kubectl([
    'get',
    'nodes',
    '-o',
    'jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}',
  ]);
  expect(runtimes).toMatch(/^docker:\/\/\S+ docker:\/\/\S+$/);
  const status = await json<ClusterStatus>(['status', ...cluster]);
  expect(status.problems).toEqual([]);
});

test('exec, logs, attach and port-forward work', async () => {
  await deployWeb([node], 'moby');
  const [pod] = (await webPods()) as [string];
  expect(await kubectl(['exec', pod, '--', '/web', 'hostname'])).toBe(pod);
  const forward = startKubectl(['port-forward', `pod/${pod}`, '18080:8080']);
  const attached = startKubectl(['attach', pod]);
  let seen = '';
  attached.all?.on('data', (chunk: Buffer) => {
    seen += String(chunk);
  });
  try {
    await eventually(20, async () => {
      const answer = await fetch('http://127.0.0.1:18080/forwarded');
      expect(await answer.text()).toBe(pod);
      expect(seen).toContain('url:/forwarded from 127.0.0.1');
    });
  } finally {
    forward.kill();
    attached.kill();
  }
  expect(await kubectl(['logs', pod])).toContain('url:/forwarded from 127.0.0.1');
});

test('pods go on while Docker and cri-dockerd restart', async () => {
  const restarts = [
    'get',
    'pods',
    '-l',
    'app=web',
    '-o',
    'jsonpath={.items[*].status.containerStatuses[*].restartCount}',
  ];
  const before = await webPods();
  await on(node, 'systemctl restart docker');
  await kubectl(['wait', '--for=condition=Ready', `node/${node}`, '--timeout=60s']);
  await eventually(60, () => kubectl(['exec', before[0] as string, '--', '/web', 'hostname']));
  expect(await webPods()).toEqual(before);
  expect(await kubectl(restarts)).toBe('0 0');
});

test('a reset leaves nothing of it', async () => {
  await succeed(['reset', '--yes', ...cluster]);
  for (const host of hosts) {
    const left =
      '/etc/docker /run/docker.sock /run/docker /run/cri-dockerd.sock /data/k8s/containerd /etc/systemd/system/docker.service';
    expect(await on(host, `ls -d ${left} 2>/dev/null || true`)).toBe('');
    expect(await on(host, 'pgrep -a dockerd; pgrep -a containerd; getent group docker || true')).toBe('');
  }
});
