/**
 * A cluster from one file: made here, then taken by a home and a cache that have nothing, on hosts whose network leads
 * nowhere. What the hosts try is noted on each of them: packets by their destination, names by the server that they ask.
 *
 * It makes the suite's lab anew with two hosts.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cacheRoot } from '../../ts/types/package.js';
import {
  eventually,
  home,
  kubectl,
  lab,
  labArgs,
  labName,
  on,
  prepareWorkspace,
  start,
  succeed,
  workspace,
} from '../e2e/harness.js';
import { type NameServer, nameServer, outside } from './names.js';

const master = 'k8smaster01';
const node = 'k8snode01';
const hosts = [master, node];
const small = [...labArgs, '--masters', '1', '--nodes', '1'];
const cluster = ['--cluster', labName];

/** The machine at the site: its cache has Ansible, and nothing else. */
const offline = path.join(workspace, 'airgap');
const cache = path.join(offline, 'cache');
const bundle = path.join(offline, 'cluster.bundle.tar');
/** Without Go, so that nothing can be built: what is not in the file cannot be had. */
const PATH = (process.env.PATH ?? '')
  .split(path.delimiter)
  .filter((folder) => !existsSync(path.join(folder, 'go')))
  .join(path.delimiter);
const site = { env: { CI: 'true', NO_COLOR: '1', K8S_ANS_CACHE: cache, K8S_ANS_ANSIBLE: 'private', PATH } };

let online: { readonly lock: string; readonly files: ReadonlyMap<string, string> };
let names: NameServer;

/** Notes every destination of a packet that a host, or a pod on it, sends anywhere but into lab and cluster. */
const watch = (inside: ReadonlyArray<string>): string => `
table inet outside {
  set tried4 { type ipv4_addr; flags dynamic; size 1024; }
  set tried6 { type ipv6_addr; flags dynamic; size 1024; }
  chain note {
    ip daddr != { ${inside.join(', ')}, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } add @tried4 { ip daddr }
    ip6 daddr != { ::1, fe80::/10, ff00::/8 } add @tried6 { ip6 daddr }
  }
  chain output { type filter hook output priority -400; jump note; }
  chain prerouting { type filter hook prerouting priority -400; jump note; }
}
`;

/** The addresses that a host has tried. */
async function tried(host: string): Promise<string[]> {
  const { nftables } = JSON.parse(await on(host, 'nft -j list table inet outside')) as {
    nftables: Array<{ set?: { elem?: Array<string | { elem: { val: string } }> } }>;
  };
  const found = nftables.flatMap(({ set }) => set?.elem ?? []);
  return found.map((one) => (typeof one === 'string' ? one : one.elem.val)).sort();
}

/** What Ansible is given and the cluster is frozen to. */
async function homeFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const name of ['hosts.yml', 'group_vars/all.yml', 'environment.sh', 'artifacts.lock']) {
    files.set(name, await readFile(path.join(home.root, name), 'utf8'));
  }
  return files;
}

beforeAll(async () => {
  await prepareWorkspace();
  await rm(offline, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...small]);
  await succeed(['render', ...cluster]);
  await succeed(['artifacts', 'bundle', ...cluster, '--output', bundle]);
  online = { lock: await readFile(home.lock, 'utf8'), files: await homeFiles() };
  await rm(home.lock);
  // A machine that is to manage clusters has Python and Ansible; its cache has neither binary nor image.
  for (const name of await readdir(cacheRoot())) {
    if (/^venv-[0-9a-f]+$/.test(name)) await symlink(path.join(cacheRoot(), name), path.join(cache, name));
  }
  const { plan } = await lab();
  const spec = await readFile(path.join(home.root, 'group_vars', 'all.yml'), 'utf8');
  const networks = ['k8s_pod_cidr', 'k8s_service_cidr'].map((name) => {
    const value = new RegExp(`^${name}: "?([0-9./]+)"?$`, 'm').exec(spec)?.[1];
    if (value === undefined) throw new Error(`group_vars has no ${name}`);
    return value;
  });
  for (const host of hosts) {
    await on(host, 'nft -f -', Buffer.from(watch([plan.network.subnet, ...networks])));
  }
  names = await nameServer(plan.network.gateway);
});

afterAll(async () => {
  await names?.close();
  await rm(offline, { recursive: true, force: true });
});

test('a bundle with one flipped byte is refused before any host is touched, naming the file', async () => {
  const broken = path.join(offline, 'broken.bundle.tar');
  await copyFile(bundle, broken);
  const file = await open(broken, 'r+');
  try {
    // Somewhere in the middle of what is by far the most of it: the binaries.
    const at = Math.floor((await file.stat()).size / 2);
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
    buffer[0] = (buffer[0] as number) ^ 1;
    await file.write(buffer, 0, 1, at);
  } finally {
    await file.close();
  }
  const before = await Promise.all(hosts.map((host) => on(host, 'journalctl -q -u ssh -o cat | wc -l; ls /opt')));
  const result = await start(['deploy', ...cluster, '--bundle', broken], site);
  expect(result.exitCode).toBe(4);
  expect(result.all).toMatch(
    /error: the bundle .*broken\.bundle\.tar is broken and nothing of it is used:\n +amd64\/bin\/\S+: it has the sha256 [0-9a-f]{64}, but SHA256SUMS says [0-9a-f]{64}\n/,
  );
  // Each look is one login of its own.
  const after = await Promise.all(hosts.map((host) => on(host, 'journalctl -q -u ssh -o cat | wc -l; ls /opt')));
  const logins = (text: string): number => Number(text.split('\n')[0]);
  const each = await Promise.all(hosts.map((host) => on(host, 'journalctl -q -u ssh -o cat | wc -l')));
  hosts.forEach((_, index) => {
    const [first, second, third] = [before[index], after[index], each[index]].map((text) => logins(text ?? ''));
    expect((second as number) - (first as number)).toBe((third as number) - (second as number));
  });
  expect(existsSync(home.runs)).toBe(false);
  expect(existsSync(path.join(cache, 'build'))).toBe(false);
  await rm(broken);
});

test('the cluster comes up from the file alone', async () => {
  await succeed(['artifacts', 'verify', '--bundle', bundle]);
  const result = await start(['deploy', ...cluster, '--bundle', bundle], site);
  expect(result.exitCode, result.all as unknown as string).toBe(0);
  expect(result.all).toContain(`Artifacts are taken from the bundle ${bundle}.`);
  await kubectl(['--namespace', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=120s']);
  const ready = await kubectl([
    'get',
    'nodes',
    '--output',
    'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}',
  ]);
  expect(ready.split(' ')).toEqual(hosts.map(() => 'True'));
});

test('home and lock are those of an online run, to the byte', async () => {
  expect(await readFile(home.lock, 'utf8')).toBe(online.lock);
  expect(await homeFiles()).toEqual(online.files);
});

test('a later run needs the file no more, and changes nothing', async () => {
  await rename(bundle, `${bundle}.away`);
  const result = await start(['plan', ...cluster], site);
  await rename(`${bundle}.away`, bundle);
  expect(result.exitCode, result.all as unknown as string).toBe(0);
});

test('no host has tried an address outside, nor asked for a name', async () => {
  for (const host of hosts) expect([host, await tried(host)]).toEqual([host, []]);
  // CoreDNS asks its own probe for a loop: a name of random digits.
  expect([...names.asked].filter((line) => !/ asks \d+\.\d+$/.test(line))).toEqual([]);
});

test('and it would have been seen', async () => {
  const pod = '$(pgrep -xo coredns)';
  await on(node, "timeout 2 bash -c '</dev/tcp/192.0.2.1/443' || true");
  await on(
    node,
    "timeout 5 getent ahostsv4 registry.k8s.io | grep -q . && timeout 2 bash -c '</dev/tcp/registry.k8s.io/443' || true",
  );
  const withPod = await eventually(30, async () => {
    for (const host of hosts) if ((await on(host, 'pgrep -xo coredns || true')) !== '') return host;
    throw new Error('no host runs CoreDNS');
  });
  await on(withPod, `nsenter --net --target ${pod} timeout 2 bash -c '</dev/tcp/192.0.2.2/443' || true`);
  expect(await tried(node)).toEqual(expect.arrayContaining(['192.0.2.1', outside]));
  expect(await tried(withPod)).toContain('192.0.2.2');
  expect([...names.asked].some((line) => line.endsWith(' asks registry.k8s.io'))).toBe(true);
});
