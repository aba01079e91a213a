/**
 * The main job, end to end, on one lab: what is refused before anything is changed, a cluster as users judge it, a
 * second run, a lost master, an interrupt, and a run killed in each of its phases.
 *
 * The tests build on one another and run in the order they stand in.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { faults } from '../../ts/lab/index.js';
import {
  context,
  eventually,
  home,
  hosts,
  json,
  kubectl,
  lab,
  labArgs,
  labName,
  labSubnet,
  masters,
  masterUnits,
  nodes,
  nodeUnits,
  on,
  prepareWorkspace,
  start,
  succeed,
  tryOn,
  unitStarts,
  variant,
} from './harness.js';
import { deployWeb } from './web.js';

interface RunResult {
  readonly outcome: string;
  readonly totals: { readonly changed: number };
  readonly hosts: ReadonlyArray<{
    readonly name: string;
    readonly counts: { readonly changed: number; readonly failed: number; readonly unreachable: number };
  }>;
}

beforeAll(async () => {
  await prepareWorkspace();
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...labArgs]);
});

afterAll(async () => {
  await succeed(['lab', 'down', '--name', labName, '--purge']);
  await expectNothingLeft();
});

/** No container, network or process of the lab is left on this machine. */
async function expectNothingLeft(): Promise<void> {
  const processes = (await execa('ps', ['-eo', 'args'])).stdout.split('\n');
  expect(processes.filter((line) => line.includes(`inventory/${labName}`))).toEqual([]);
  expect((await execa('ip', ['-o', 'address'])).stdout).not.toContain(labSubnet.replace(/0\/24$/, ''));
}

describe('refused before anything is changed', () => {
  afterAll(async () => {
    for (const host of hosts) expect((await tryOn(host, 'test -e /opt/k8s')).exitCode, host).toBe(1);
  });

  async function refused(spec: string): Promise<string> {
    const result = await start(['deploy', '--cluster', spec]);
    expect(result.exitCode, String(result.all)).toBe(3);
    return String(result.all);
  }

  test('a host that nobody answers for', async () => {
    const spec = await variant('unreachable', (text) => text.replace('172.24.9.75', '172.24.9.99'));
    const output = await refused(spec);
    expect(output).toContain('preflight refused 1 of 5 hosts; nothing was changed');
    expect(output).toContain('k8snode02');
    expect(output).toMatch(/its address and port in the spec are right/);
  });

  test('a wrong SSH key', async () => {
    const key = path.join(home.root, 'ssh', 'other');
    await rm(key, { force: true });
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const spec = await variant('wrong-key', (text) => text.replace(/privateKey: .*/, `privateKey: ${key}`));
    const output = await refused(spec);
    expect(output).toContain('preflight refused 5 of 5 hosts; nothing was changed');
    expect(output).toContain('See that the key (ssh.privateKey in the spec) is authorized for this user on the host.');
  });

  test('a host key that is not the pinned one', async () => {
    const pinned = path.join(home.root, 'ssh', 'known_hosts');
    const lines = (await readFile(pinned, 'utf8')).trim().split('\n');
    const key = lines[1]?.split(' ').slice(1).join(' ');
    const other = path.join(home.root, 'ssh', 'other_hosts');
    await writeFile(
      other,
      lines.map((line, index) => (index === 0 ? `${line.split(' ')[0]} ${key}` : line)).join('\n'),
      { mode: 0o600 },
    );
    const spec = await variant('wrong-host-key', (text) => text.replace(/knownHosts: .*/, `knownHosts: ${other}`));
    const output = await refused(spec);
    expect(output).toContain('it is never accepted unseen');
  });

  test('a port that something else listens on', async () => {
    await on('k8smaster01', 'systemd-run --quiet --unit=squatter python3 -m http.server 6443');
    try {
      await eventually(10, () => on('k8smaster01', 'curl -s -o /dev/null http://127.0.0.1:6443'));
      const output = await refused(home.spec);
      expect(output).toMatch(/k8smaster01:\n\s+- .*6443.*python3/);
    } finally {
      await on('k8smaster01', 'systemctl stop squatter');
    }
  });

  test('two hosts with one product_uuid', async () => {
    const uuid = await on('k8snode01', 'cat /sys/class/dmi/id/product_uuid');
    await on('k8snode02', `echo '${uuid}' > /run/uuid && mount --bind /run/uuid /sys/class/dmi/id/product_uuid`);
    try {
      const output = await refused(home.spec);
      expect(output).toMatch(/product_uuid/);
      expect(output).toContain('k8snode01');
      expect(output).toContain('k8snode02');
    } finally {
      await on('k8snode02', 'umount /sys/class/dmi/id/product_uuid');
    }
  });

  test('an operating system that is not supported', async () => {
    await on(
      'k8snode01',
      `printf 'ID=arch\\nPRETTY_NAME="Arch Linux"\\n' > /run/os && mount --bind /run/os /etc/os-release`,
    );
    try {
      const output = await refused(home.spec);
      expect(output).toContain(
        'k8snode01:\n    - runs Arch Linux, which is not supported\n      Use one of Debian 12 and 13',
      );
    } finally {
      await on('k8snode01', 'umount /etc/os-release');
    }
  });
});

describe('a cluster', () => {
  test('comes up with one command', async () => {
    const output = await succeed(['lab', 'deploy', ...labArgs]);
    expect(output).toMatch(/Report: +inventory\/e2e\/runs\/.*\/report\.html/);
    expect(await readFile(path.join(home.runs, 'latest', 'report.html'), 'utf8')).toContain('k8smaster01');
  });

  test('has five ready nodes of the version asked for', async () => {
    const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as {
      items: Array<{
        metadata: { name: string };
        status: { nodeInfo: { kubeletVersion: string }; conditions: Array<{ type: string; status: string }> };
      }>;
    };
    const seen = items.map(({ metadata, status }) => [
      metadata.name,
      status.nodeInfo.kubeletVersion,
      status.conditions.find(({ type }) => type === 'Ready')?.status,
    ]);
    expect(seen).toEqual(hosts.map((host) => [host, 'v1.36.4', 'True']));
  });

  test('runs only active units, none of which was restarted', async () => {
    for (const host of hosts) {
      const units = masters.includes(host) ? masterUnits : nodeUnits;
      const states = (await on(host, `systemctl is-active ${units.join(' ')}`)).split('\n');
      expect(states, host).toEqual(units.map(() => 'active'));
      expect(await on(host, 'systemctl --failed --no-legend --plain'), host).toBe('');
    }
  });

  test('took every serving certificate from a CSR', async () => {
    const requests = JSON.parse(await kubectl(['get', 'csr', '-o', 'json'])) as {
      items: Array<{
        spec: { signerName: string; username: string };
        status: { certificate?: string; conditions?: Array<{ type: string; message: string }> };
      }>;
    };
    const serving = requests.items.filter(({ spec }) => spec.signerName === 'kubernetes.io/kubelet-serving');
    expect(serving.filter(({ status }) => status.conditions?.some(({ type }) => type === 'Denied'))).toEqual([]);
    for (const host of hosts) {
      const own = serving.filter(({ spec }) => spec.username === `system:node:${host}`);
      expect(
        own.some(({ status }) => status.certificate !== undefined),
        host,
      ).toBe(true);
      // What the port shows is signed by the cluster's CA, for this host.
      const shown = await on(
        'k8smaster01',
        `openssl s_client -connect ${host}:10250 -CAfile /etc/kubernetes/cert/ca.crt -verify_hostname ${host} -verify_return_error < /dev/null 2>&1`,
      );
      expect(shown, host).toContain('Verify return code: 0 (ok)');
    }
  });

  test('left no bootstrap token and no bootstrap kubeconfig', async () => {
    const secrets = await kubectl([
      '-n',
      'kube-system',
      'get',
      'secrets',
      '--field-selector=type=bootstrap.kubernetes.io/token',
      '-o',
      'name',
    ]);
    expect(secrets).toBe('');
    for (const host of hosts) {
      expect((await tryOn(host, 'test -e /etc/kubernetes/bootstrap.kubeconfig')).exitCode, host).toBe(1);
    }
  });

  test('refuses anonymous requests except those for its health', async () => {
    const ask = (where: string): Promise<string> =>
      on(
        'k8snode01',
        `curl -s -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/cert/ca.crt https://127.0.0.1:8443${where}`,
      );
    expect(await ask('/api')).toBe('401');
    expect(await ask('/api/v1/namespaces/kube-system/secrets')).toBe('401');
    expect(await ask('/readyz')).toBe('200');
    expect(await ask('/livez')).toBe('200');
    // Nothing listens in the clear.
    for (const port of [8080, 10255]) expect((await tryOn('k8smaster01', `nc -z 127.0.0.1 ${port}`)).exitCode).toBe(1);
    expect(await on('k8smaster01', `curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1:10250/pods`)).toBe('401');
  });

  test('keeps Secrets encrypted in etcd', async () => {
    await kubectl(['create', 'secret', 'generic', 'canary', '--from-literal=password=plain-as-day-4711']);
    const certs =
      '--cacert /etc/etcd/cert/ca.crt --cert /etc/etcd/cert/etcd-healthcheck-client.crt --key /etc/etcd/cert/etcd-healthcheck-client.key';
    const get = `/opt/k8s/bin/etcdctl --endpoints https://127.0.0.1:2379 ${certs} get /registry/secrets/default/canary`;
    const raw = await on('k8smaster02', `${get} | tr -d '\\0'`);
    expect(raw).toContain('k8s:enc:secretbox:v1:');
    expect(raw).not.toContain('plain-as-day');
    expect(await kubectl(['get', 'secret', 'canary', '-o', 'jsonpath={.data.password}'])).toBe(
      Buffer.from('plain-as-day-4711').toString('base64'),
    );
  });

  test('keeps its secrets to itself', async () => {
    const secret = '-name "*.key" -o -name "*.kubeconfig" -o -name "encryption*" -o -name environment.sh';
    for (const host of hosts) {
      const folders = masters.includes(host) ? '/etc/kube* /etc/etcd /opt/k8s' : '/etc/kube* /opt/k8s';
      const files = (await on(host, `find ${folders} -type f \\( ${secret} \\) -printf '%m %p\\n'`)).split('\n');
      expect(files.length, host).toBeGreaterThan(1);
      expect(
        files.filter((line) => !line.startsWith('600 ')),
        host,
      ).toEqual([]);
    }
    // A worker holds neither the CA's key nor anything of etcd.
    for (const host of nodes) {
      for (const file of ['/etc/kubernetes/cert/ca.key', '/etc/etcd']) {
        expect((await tryOn(host, `test -e ${file}`)).exitCode, `${host} ${file}`).toBe(1);
      }
    }
    const key = await readFile(path.join(home.pki, 'sa.key'), 'utf8');
    const line = key.split('\n')[1] as string;
    const found = await execa('grep', ['-rlF', line, home.runs], { reject: false });
    expect(found.stdout).toBe('');
    const open = (await execa('find', [home.root, '-type', 'f', '-perm', '/077', '!', '-name', '*.pub'])).stdout;
    expect(open).toBe('');
  });
});

describe('a Deployment with a pod on each worker', () => {
  let pods: Array<{ name: string; node: string; ip: string }>;
  let clusterIp: string;
  let nodePort: string;

  beforeAll(async () => {
    await deployWeb(nodes);
    const found = JSON.parse(await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'json'])) as {
      items: Array<{ metadata: { name: string }; spec: { nodeName: string }; status: { podIP: string } }>;
    };
    pods = found.items.map(({ metadata, spec, status }) => ({
      name: metadata.name,
      node: spec.nodeName,
      ip: status.podIP,
    }));
    const service = JSON.parse(await kubectl(['get', 'service', 'web', '-o', 'json'])) as {
      spec: { clusterIP: string; ports: Array<{ nodePort: number }> };
    };
    clusterIp = service.spec.clusterIP;
    nodePort = String(service.spec.ports[0]?.nodePort);
  });

  const fromPod = (pod: string, url: string): Promise<string> => kubectl(['exec', pod, '--', '/web', 'get', url]);

  test('has them on both', () => {
    expect(pods.map(({ node }) => node).sort()).toEqual(nodes);
  });

  test('is reached through its ClusterIP and its name', async () => {
    for (const { name } of pods) {
      expect(pods.map((pod) => pod.name)).toContain((await fromPod(name, `http://${clusterIp}/`)).trim());
      expect(pods.map((pod) => pod.name)).toContain(
        (await fromPod(name, 'http://web.default.svc.cluster.local/')).trim(),
      );
      expect(pods.map((pod) => pod.name)).toContain((await fromPod(name, 'http://web/')).trim());
    }
  });

  test('is reached through its NodePort on every host', async () => {
    const { plan } = await lab();
    for (const { name, address } of plan.hosts) {
      const answer = await eventually(
        10,
        async () => (await execa('curl', ['-sf', '-m', '5', `http://${address}:${nodePort}/`])).stdout,
      );
      expect(
        pods.map((pod) => pod.name),
        name,
      ).toContain(answer.trim());
    }
  });

  test('has pods that reach each other across hosts', async () => {
    const [first, second] = pods as [(typeof pods)[0], (typeof pods)[0]];
    expect((await fromPod(first.name, `http://${second.ip}:8080/`)).trim()).toBe(second.name);
    expect((await fromPod(second.name, `http://${first.ip}:8080/`)).trim()).toBe(first.name);
  });

  test('shows its logs and takes commands', async () => {
    const [{ name }] = pods as [(typeof pods)[0]];
    await fromPod(name, 'http://127.0.0.1:8080/');
    expect(await eventually(10, () => kubectl(['logs', name]))).toContain('url:/');
    expect(await kubectl(['exec', name, '--', '/web', 'hostname'])).toBe(name);
  });
});

describe('a second run', () => {
  test('is foretold to change nothing, of a cluster that is well', async () => {
    const plan = await start(['plan', '--cluster', labName]);
    expect(plan.exitCode, String(plan.all)).toBe(0);
    expect(String(plan.stdout)).toContain('Nothing is to be done on 5 hosts.');
    const status = await json<{ problems: unknown[]; etcd: { healthy: number } }>([
      ...['status', '--cluster', labName, '--no-drift'],
    ]);
    expect(status).toMatchObject({ problems: [], etcd: { healthy: 3 } });
  });

  test('changes nothing on any host and restarts no unit', async () => {
    const before = await unitStarts();
    const result = await json<RunResult>(['deploy', '--cluster', labName]);
    expect(result.hosts.map(({ name, counts }) => [name, counts.changed])).toEqual(hosts.map((host) => [host, 0]));
    expect(await unitStarts()).toEqual(before);
  });

  test('refuses an artifact that is not the locked one', async () => {
    const lock = await readFile(home.lock, 'utf8');
    const digests = lock.match(/[0-9a-f]{64}/g) as string[];
    await writeFile(home.lock, lock.replace(digests[0] as string, 'f'.repeat(64)), { mode: 0o600 });
    try {
      const result = await start(['deploy', '--cluster', labName]);
      expect(result.exitCode).not.toBe(0);
      expect(String(result.all)).toContain('f'.repeat(64));
      expect(String(result.all)).toMatch(/sha256|digest|checksum/i);
    } finally {
      await writeFile(home.lock, lock, { mode: 0o600 });
    }
  });

  test('is refused while another runs, and names it', async () => {
    const first = start(['deploy', '--cluster', labName]);
    await eventually(30, () => readFile(home.runLock, 'utf8'));
    const second = await start(['deploy', '--cluster', labName]);
    expect(second.exitCode).not.toBe(0);
    expect(String(second.all)).toContain('deploy');
    expect(String(second.all)).toContain(String(first.pid));
    expect((await first).exitCode).toBe(0);
  });
});

describe('without its first master', () => {
  test('answers on every other host through kube-nginx, and is whole again when the master is back', async () => {
    await faults.stop(context, await lab(), 'k8smaster01');
    try {
      for (const host of hosts.filter((name) => name !== 'k8smaster01')) {
        // Each new connection may try the dead master first: several, all of which have to be answered.
        for (let attempt = 0; attempt < 5; attempt++) {
          const code = await on(
            host,
            `curl -s -m 10 -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/cert/ca.crt https://127.0.0.1:8443/readyz`,
          );
          expect(code, host).toBe('200');
        }
      }
      await on(
        'k8smaster02',
        'KUBECONFIG=/etc/kubernetes/admin.kubeconfig /opt/k8s/bin/kubectl create configmap without-first --from-literal=a=b',
      );
    } finally {
      await faults.start(context, await lab(), 'k8smaster01');
    }
    await eventually(120, async () => {
      expect(await kubectl(['get', 'nodes', '--no-headers'])).not.toContain('NotReady');
      for (const unit of masterUnits) expect(await on('k8smaster01', `systemctl is-active ${unit}`)).toBe('active');
      const health = await on('k8smaster01', 'curl -s http://127.0.0.1:2381/readyz');
      expect(health).toContain('ok');
    });
    expect(await kubectl(['get', 'configmap', 'without-first', '-o', 'jsonpath={.data.a}'])).toBe('b');
  });
});

/** Waits until the running command has begun the phase, and is some way into it. */
async function inPhase(phase: string, since: number): Promise<boolean> {
  const deadline = Date.now() + 300_000;
  while (Date.now() < deadline) {
    const text = await readFile(path.join(home.runs, 'latest', 'events.jsonl'), 'utf8').catch(() => '');
    const events = text
      .split('\n')
      .filter((line) => line !== '')
      .flatMap((line) => {
        try {
          return [JSON.parse(line) as { event: string; name?: string; phase?: string; time?: number | string }];
        } catch {
          return [];
        }
      });
    const fresh = events.some((event) => new Date(event.time ?? 0).getTime() >= since);
    if (fresh && events.some((event) => event.event === 'play_start' && (event.phase ?? event.name) === phase))
      return true;
    await sleep(50);
  }
  return false;
}

const phases = ['preflight', 'hostprep', 'artifacts', 'etcd', 'runtime', 'masters', 'nodes', 'addons', 'check'];

describe('interrupted', () => {
  test('Ctrl-C ends everything the run started, and says how to go on', async () => {
    const since = Date.now();
    const run = start(['deploy', '--cluster', labName], { detached: true, cleanup: false });
    expect(await inPhase('masters', since)).toBe(true);
    process.kill(-(run.pid as number), 'SIGINT');
    const result = await run;
    expect(result.exitCode).toBe(130);
    expect(String(result.all)).toContain(`k8s-ans deploy --cluster ${labName}`);
    // Of this cluster: the machine may have others.
    const processes = (await execa('ps', ['-eo', 'args'])).stdout
      .split('\n')
      .filter((line) => line.includes(home.root));
    expect(processes.filter((line) => line.includes('ansible-playbook'))).toEqual([]);
    expect((await execa('find', [home.root, '-name', '*.tmp*', '-o', '-name', '.lock'])).stdout).toBe('');
    expect((await start(['deploy', '--cluster', labName])).exitCode).toBe(0);
  });

  test('killed in the middle of each phase of a first deploy, and started again, it ends well', async () => {
    const found = await lab();
    for (const { name } of found.plan.hosts) await faults.kill(context, found, name);
    await execa('docker', ['rm', '-f', '-v', ...found.plan.hosts.map(({ container }) => container)], {
      env: found.engine.host === undefined ? {} : { DOCKER_HOST: found.engine.host },
    });
    await succeed(['lab', 'up', ...labArgs]);
    const authority = await readFile(path.join(home.pki, 'ca.crt'), 'utf8');
    for (const phase of phases) {
      const since = Date.now();
      const run = start(['deploy', '--cluster', labName], { detached: true, cleanup: false });
      expect(await inPhase(phase, since), phase).toBe(true);
      // Into its tasks; on a fast machine the last phase is over in less than a second.
      await sleep(300);
      process.kill(run.pid as number, 'SIGKILL');
      expect((await run).signal).toBe('SIGKILL');
    }
    const result = await json<RunResult>(['deploy', '--cluster', labName]);
    expect(result.hosts.map(({ name, counts }) => [name, counts.failed + counts.unreachable])).toEqual(
      hosts.map((host) => [host, 0]),
    );
    expect(await kubectl(['get', 'nodes', '--no-headers'])).not.toContain('NotReady');
    expect((await kubectl(['get', 'nodes', '--no-headers'])).trim().split('\n')).toHaveLength(5);
    expect(await readFile(path.join(home.pki, 'ca.crt'), 'utf8')).toBe(authority);
    const again = await json<RunResult>(['deploy', '--cluster', labName]);
    expect(again.totals.changed).toBe(0);
    // One etcd cluster, of which all are members.
    const ids = await Promise.all(
      masters.map((host) =>
        on(
          host,
          `/opt/k8s/bin/etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/cert/ca.crt --cert /etc/etcd/cert/etcd-peer.crt --key /etc/etcd/cert/etcd-peer.key endpoint status -w json`,
        ),
      ),
    );
    const clusters = ids.map(
      (text) =>
        (JSON.parse(text) as Array<{ Status: { header: { cluster_id: number } } }>)[0]?.Status.header.cluster_id,
    );
    expect(new Set(clusters).size).toBe(1);
  });
});
