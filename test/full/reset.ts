/**
 * `reset` on fresh hosts of their own: what a host was before its first deploy and after a reset differs in nothing that
 * the project owns, also when the reset was killed in the middle; and a deploy makes the cluster anew.
 *
 * It makes the suite's lab anew with two hosts, so it runs last.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { faults } from '../../ts/lab/index.js';
import {
  context,
  eventually,
  json,
  kubectl,
  lab,
  labArgs,
  labName,
  on,
  prepareWorkspace,
  start,
  succeed,
  tryOn,
} from '../e2e/harness.js';

const master = 'k8smaster01';
const node = 'k8snode01';
const hosts = [master, node];
const cluster = ['--cluster', labName];
const small = [...labArgs, '--masters', '1', '--nodes', '1'];

interface ResetResult {
  readonly resets: ReadonlyArray<{
    readonly host: string;
    readonly basis: string;
    readonly stopped: ReadonlyArray<string>;
    readonly unmounted: ReadonlyArray<string>;
    readonly removed: ReadonlyArray<string>;
    readonly restored: ReadonlyArray<string>;
    readonly left: ReadonlyArray<{ readonly what: string }>;
  }>;
}

/** What a host looks like, a line for each thing. */
type Picture = ReadonlyArray<string>;

/**
 * Files with mode, owner and target; sockets that listen; links, routes, packet rules, mounts, the network's
 * parameters (all others are of the one kernel that the lab's hosts share), accounts, units, cgroups, the host's name.
 *
 * Left out: kernel file systems, what systemd, udev and sshd keep for themselves while they run, the journal and the
 * login records, and the account files' own backups.
 */
const look = `
for d in / /var /data; do
  find $d -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /var/log/journal \\) -prune \\
    -o -printf '%p %y %m %u %g %l\\n'
done | grep -vE '^(/etc/(passwd|shadow|group|gshadow|subuid|subgid)-|/etc/\\.pwd\\.lock|/var/log/(wtmp|btmp|lastlog)|/var/lib/systemd/|/var/tmp/systemd-private)'
find /run \\( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/credentials \\) -prune \\
  -o -printf '%p %y %m %u %g\\n' | grep -vE '^/run/(utmp|xtables.lock|sshd)'
ss -Hltnu | awk '{ print "socket", $1, $5 }'
ip -o link | awk '{ print "link", $2 }'; ip route; ip rule
nft -s list ruleset
awk '{ print "mount", $2, $3 }' /proc/mounts | grep -v /run/credentials
sysctl -a 2>/dev/null | grep -E '^net.(ipv4.(ip_forward|conf.all.|vs.)|netfilter.nf_conntrack_(max|tcp_|udp_))'
cat /etc/passwd /etc/group /etc/hosts /etc/hostname; hostname
systemctl list-unit-files --no-legend --plain
systemctl list-units --all --no-legend --plain --state=active,failed --type=service,timer,socket,slice,mount | awk '{ print "unit", $1, $3 }' | grep -vE 'run-credentials|systemd-tmpfiles-clean|session|user'
find /sys/fs/cgroup -maxdepth 3 -type d 2>/dev/null | grep -E 'kube|cri-' || true
`;

async function picture(host: string): Promise<Picture> {
  const text = await on(host, look);
  return text.split('\n').sort();
}

/** Lines of one that the other lacks, with + for those that came. */
function difference(before: Picture, after: Picture): string[] {
  return [
    ...after.filter((line) => !before.includes(line)).map((line) => `+ ${line}`),
    ...before.filter((line) => !after.includes(line)).map((line) => `- ${line}`),
  ];
}

const before = new Map<string, Picture>();

async function expectAsBefore(): Promise<void> {
  for (const host of hosts) expect(difference(before.get(host) ?? [], await picture(host)), host).toEqual([]);
}

async function expectReady(): Promise<void> {
  const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as {
    items: Array<{ metadata: { name: string }; status: { conditions: Array<{ type: string; status: string }> } }>;
  };
  const ready = items.map(({ metadata, status }) => [
    metadata.name,
    status.conditions.find(({ type }) => type === 'Ready')?.status,
  ]);
  expect(ready).toEqual(hosts.map((host) => [host, 'True']));
}

beforeAll(async () => {
  await prepareWorkspace();
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...small]);
  // What somebody else has there: a file of his own where one of ours goes, one in a folder of ours, lines of his own.
  for (const host of hosts) {
    await on(
      host,
      'printf "127.0.0.9 theirs" >> /etc/hosts; echo theirs > /etc/crictl.yaml; chmod 600 /etc/crictl.yaml',
    );
    await on(host, 'mkdir -p /etc/cni/net.d; echo theirs > /etc/cni/net.d/theirs.conf.bak');
    before.set(host, await picture(host));
  }
  await succeed(['deploy', ...cluster]);
});

afterAll(async () => {
  await succeed(['lab', 'down', '--name', labName, '--purge']);
});

describe('is refused', () => {
  test('where nobody can be asked', async () => {
    const result = await start(['reset', ...cluster]);
    expect(result.exitCode).toBe(2);
    expect(String(result.all)).toContain(`This destroys the cluster ${labName} on 2 hosts: k8smaster01, k8snode01.`);
    expect(String(result.all)).toContain('Say so with --yes.');
  });

  test('for a member of the etcd cluster alone', async () => {
    const result = await start(['reset', master, '--yes', ...cluster]);
    expect(result.exitCode).toBe(2);
    expect(String(result.all)).toContain('`k8s-ans node remove k8smaster01` takes it out in order');
  });

  test('for a host that is not in the spec', async () => {
    const result = await start(['reset', 'k8snode09', '--yes', ...cluster]);
    expect(result.exitCode).toBe(2);
    expect(String(result.all)).toContain('Its hosts are k8smaster01, k8snode01.');
  });
});

describe('a worker', () => {
  test('is reset alone, and comes back with a deploy', async () => {
    const { resets } = await json<ResetResult>(['reset', node, '--yes', ...cluster]);
    expect(resets.map(({ host, basis }) => [host, basis])).toEqual([[node, 'ledger']]);
    expect(difference(before.get(node) ?? [], await picture(node))).toEqual([]);
    expect(await on(master, 'systemctl is-active etcd kube-apiserver kubelet')).toBe('active\nactive\nactive');
    await succeed(['deploy', ...cluster]);
    await expectReady();
  });
});

describe('a cluster', () => {
  let foretold: ResetResult;

  test('is foretold by --check, which changes nothing', async () => {
    const pictures = await Promise.all(hosts.map((host) => on(host, 'cat /var/lib/k8s-ans/ledger.json')));
    foretold = await json<ResetResult>(['reset', '--check', ...cluster]);
    expect(await Promise.all(hosts.map((host) => on(host, 'cat /var/lib/k8s-ans/ledger.json')))).toEqual(pictures);
    await expectReady();
  });

  test('goes, and its hosts are what they were', async () => {
    const done = await json<ResetResult>(['reset', '--yes', ...cluster]);
    await expectAsBefore();
    for (const reset of foretold.resets) {
      const real = done.resets.find(({ host }) => host === reset.host);
      // What pods and containers leave under random names changes from one second to the next.
      const steady = (list: ReadonlyArray<string> = []) =>
        list.filter((what) => !/^(pod |process )|veth|\/run\/|\/pods\//.test(what));
      expect(steady(real?.removed)).toEqual(steady(reset.removed));
      expect(real?.restored).toEqual(reset.restored);
      expect(real?.left).toEqual(reset.left);
    }
  });

  test('has nothing to be reset twice', async () => {
    const { resets } = await json<ResetResult>(['reset', '--yes', ...cluster]);
    expect(resets.map(({ host, basis, removed }) => [host, basis, removed])).toEqual(
      hosts.map((host) => [host, 'nothing', []]),
    );
  });

  test('is made anew on the same hosts, with the same keys', async () => {
    await succeed(['deploy', ...cluster]);
    await expectReady();
  });

  test('is reset by the second run when the first was killed in the middle', async () => {
    const first = start(['reset', '--yes', ...cluster]);
    // In the middle: the kubelet is stopped already. On the hosts the work goes on to its end, with nobody listening.
    await eventually(120, async () => {
      expect((await tryOn(node, 'systemctl is-active kubelet')).exitCode).not.toBe(0);
    });
    first.kill('SIGKILL');
    await first;
    const deploy = await start(['deploy', ...cluster]);
    expect(String(deploy.all)).toContain('is not finished yet');
    expect(deploy.exitCode).toBe(4);
    await succeed(['reset', '--yes', ...cluster]);
    await expectAsBefore();
    await succeed(['deploy', ...cluster]);
    await expectReady();
  });

  test('is reset though the work on a host was cut off at any moment', async () => {
    // The module on the host holds this lock as long as it works; the program's text is on no command line.
    const cut = (seconds: number): string =>
      `for i in $(seq 300); do p=$(find /proc/[0-9]*/fd -lname /run/k8s-ans-reset.lock 2>/dev/null | cut -d/ -f3); ` +
      `[ -n "$p" ] && break; sleep 0.1; done; sleep ${seconds}; kill -KILL $p`;
    for (const seconds of [0.3, 1.5, 2.5]) {
      const first = start(['reset', '--yes', ...cluster]);
      await Promise.all(hosts.map((host) => tryOn(host, cut(seconds))));
      expect((await first).exitCode, `cut off after ${seconds} s`).toBe(1);
    }
    await succeed(['reset', '--yes', ...cluster]);
    await expectAsBefore();
  });

  test('is reset but for a host that is down, which is named', async () => {
    await succeed(['deploy', ...cluster]);
    await faults.kill(context, await lab(), node);
    const result = await start(['reset', '--yes', ...cluster]);
    expect(result.exitCode).toBe(1);
    expect(String(result.all)).toContain('k8snode01 could not be reached and was not reset.');
    expect(difference(before.get(master) ?? [], await picture(master))).toEqual([]);
    await faults.start(context, await lab(), node);
    const { resets } = await json<ResetResult>(['reset', '--yes', '--forget', ...cluster]);
    expect(resets.map(({ host, basis }) => [host, basis])).toEqual([
      [master, 'nothing'],
      [node, 'ledger'],
    ]);
  });
});
