// The plain script's side of the benchmark: takes what it needs from a cluster that stands, and runs it.
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { parse } from 'yaml';

const cniFolder = '/opt/k8s/cni/bin';
/** Milliseconds after which the whole script is ended. */
const limit = 15 * 60_000;

/**
 * Captures what the plain script needs from the cluster of `home`, into `folder`.
 *
 * Configuration comes from the hosts as it is (the files that `report` says were changed, less the binaries), RBAC and
 * add-ons from the API (the objects that it says were changed), binaries and images from `artifacts`.
 *
 * @param home the cluster home, see ts/types/home.ts
 * @param report report.json of the first deploy
 * @param artifacts k8s_artifacts of that run, of one architecture: {binaries, images}
 */
export async function capture({ folder, home, report, artifacts, signal }) {
  const variables = parse(await readFile(path.join(home.groupVars, 'all.yml'), 'utf8'));
  const groups = { masters: variables.k8s_masters, nodes: variables.k8s_nodes, etcd: variables.k8s_etcd_members };
  const hosts = variables.k8s_all_hosts.map(({ name, address }) => ({
    name,
    address,
    groups: Object.keys(groups).filter((group) => groups[group].some((member) => member.name === name)),
  }));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const control = await mkdtemp('/tmp/k8s-ans-bench-');
  const plain = { folder, control, hosts, variables };
  await writeFile(path.join(folder, 'ssh_config'), sshConfig(hosts, home, control));
  await writeFile(
    path.join(folder, 'hosts'),
    hosts.map((host) => `${[host.name, ...host.groups].join(' ')}\n`).join(''),
  );

  const directories = { bin: variables.k8s_bin_dir, cni: cniFolder };
  const binaries = artifacts.binaries.map((item) => ({ ...item, dest: `${directories[item.dest]}/${item.name}` }));
  const images = artifacts.images
    .filter((image) => image.path)
    .map((image) => ({ ...image, dest: `/opt/k8s/work/images/${image.name}.tar` }));
  const manifests = { path: path.join(folder, 'manifests.json'), dest: '/opt/k8s/work/manifests.json' };
  const kubectl = binaries.find(({ name }) => name === 'kubectl').path;
  await writeFile(manifests.path, await objects({ kubectl, kubeconfig: home.kubeconfig, report, signal }));

  const sent = [...binaries, ...images, manifests];
  for (const item of sent) {
    const link = path.join(folder, 'tree', item.dest);
    await mkdir(path.dirname(link), { recursive: true });
    await symlink(item.path, link);
  }
  await Promise.all(
    hosts.map(async (host, index) => {
      const own = [...binaries, ...images].filter((item) => item.groups.some((group) => host.groups.includes(group)));
      if (index === 0) own.push(manifests);
      await writeFile(path.join(folder, `${host.name}.files`), own.map(({ dest }) => `${dest.slice(1)}\n`).join(''));
      await configuration({ plain, host, report, binaries, signal });
    }),
  );
  return plain;
}

/** The options that Ansible's connections have (ansible.cfg, hosts.yml), as a file. */
function sshConfig(hosts, home, control) {
  const lines = [
    ...['User root', 'BatchMode yes', `IdentityFile "${path.join(home.root, 'ssh', 'id_ed25519')}"`],
    ...['IdentitiesOnly yes', 'StrictHostKeyChecking yes', 'GlobalKnownHostsFile /dev/null', 'LogLevel ERROR'],
    `UserKnownHostsFile "${path.join(home.root, 'ssh', 'known_hosts')}"`,
    ...['ControlMaster auto', 'ControlPersist 60s', `ControlPath ${control}/%C`],
    ...['ServerAliveInterval 10', 'ServerAliveCountMax 3', 'ConnectTimeout 20'],
  ];
  return [...hosts.map(({ name, address }) => `Host ${name}\n  HostName ${address}`), 'Host *']
    .concat(lines.map((line) => `  ${line}`))
    .join('\n')
    .concat('\n');
}

/** Writes HOST.tar: the files and folders of a host that the run made, with their owners and modes. */
async function configuration({ plain, host, report, binaries, signal }) {
  const paths = new Set(
    report.changes
      .filter((change) => change.host === host.name)
      .flatMap((change) => change.files)
      .filter((file) => file.startsWith('/')),
  );
  for (const { dest } of binaries) paths.delete(dest);
  // Deploy removes it again; the plain script writes its own.
  paths.delete('/etc/kubernetes/bootstrap.kubeconfig');
  const tar = openSync(path.join(plain.folder, `${host.name}.tar`), 'w', 0o600);
  try {
    await execa(
      'ssh',
      [
        ...['-F', path.join(plain.folder, 'ssh_config'), '-o', 'ControlMaster=no', '-o', 'ControlPath=none'],
        ...[host.name, 'tar -C / -cf - --no-recursion -T -'],
      ],
      {
        input: [...paths].map((file) => `${file.slice(1)}\n`).join(''),
        stdout: tar,
        timeout: 60_000,
        cancelSignal: signal,
      },
    );
  } finally {
    closeSync(tar);
  }
}

/** RBAC and add-ons as the API has them, without what the server adds: a List. */
async function objects({ kubectl, kubeconfig, report, signal }) {
  const names = new Set(report.changes.flatMap((change) => change.files).filter((file) => !file.startsWith('/')));
  const items = [];
  for (const words of [...names].map((name) => name.split('/'))) {
    // References of images have a colon and a dot before their first slash; nodes register themselves.
    if (!/^[a-z]+$/.test(words[0]) || words[0] === 'node') continue;
    const namespace = words.length === 3 ? ['--namespace', words[1]] : [];
    const args = ['--kubeconfig', kubeconfig, 'get', words[0], words.at(-1), ...namespace, '-o', 'json'];
    const { stdout } = await execa(kubectl, args, { timeout: 30_000, cancelSignal: signal });
    const { status: _status, metadata, ...rest } = JSON.parse(stdout);
    const { name, namespace: space, labels } = metadata;
    items.push({ ...rest, metadata: { name, namespace: space, labels } });
  }
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

/**
 * Runs plain.sh on the hosts, which must be new.
 *
 * @returns {Promise<{duration: number, stages: Array<{name: string, duration: number}>}>} milliseconds
 * @throws Error with the end of its output
 */
export async function runPlain(plain, signal) {
  const log = path.join(plain.folder, 'log');
  const output = openSync(log, 'w', 0o600);
  const { variables } = plain;
  const begin = performance.now();
  // A group of its own, so that its ssh processes end with it. The connection masters would hold a pipe open: a file.
  const child = execa('bash', [path.join(import.meta.dirname, 'plain.sh'), plain.folder], {
    detached: true,
    reject: false,
    stdio: ['ignore', output, output],
    env: {
      DNS_ADDRESS: variables.k8s_dns_address,
      DNS_DOMAIN: variables.k8s_dns_domain,
      API_ADDRESS: variables.k8s_api_service_address,
      API_ENDPOINT: variables.k8s_api_local_endpoint,
    },
  });
  const stop = () => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  };
  const timer = setTimeout(stop, limit);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const result = await child;
    const duration = performance.now() - begin;
    signal.throwIfAborted();
    if (result.exitCode !== 0) {
      const tail = (await readFile(log, 'utf8')).trim().split('\n').slice(-15).join('\n');
      throw new Error(`plain.sh ended with ${result.exitCode ?? result.signal}:\n${tail}`);
    }
    const times = (await readFile(path.join(plain.folder, 'times'), 'utf8')).trim().split('\n');
    const stages = times.map((line) => line.split(' ')).map(([name, time]) => ({ name, duration: Number(time) }));
    return { duration, stages };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    closeSync(output);
  }
}

/** Ends the connection masters. */
export async function closePlain(plain) {
  for (const socket of await readdir(plain.control).catch(() => [])) {
    const args = ['-O', 'exit', '-o', `ControlPath=${path.join(plain.control, socket)}`, 'none'];
    await execa('ssh', args, { reject: false, timeout: 3000, stdio: 'ignore' });
  }
  await rm(plain.control, { recursive: true, force: true });
}
