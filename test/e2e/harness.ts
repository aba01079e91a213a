/** What the end-to-end tests share: the built program, one lab, and ways to look at its hosts from outside. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { execa, type Options, type Result } from 'execa';
import { type Lab, openLab } from '../../ts/lab/index.js';
import { sshArgs } from '../../ts/lab/ssh.js';
import type { CommandContext } from '../../ts/types/console.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { cacheRoot, packageRoot } from '../../ts/types/package.js';

const bin = path.join(packageRoot(), 'dist', 'bin.js');

/** The lab's name and network: not those of a lab that a person may have on this machine (vitest.config.ts). */
export const labName = process.env.K8S_ANS_TEST_LAB ?? 'e2e';
export const labSubnet = process.env.K8S_ANS_TEST_SUBNET ?? '172.24.9.0/24';
export const masters = ['k8smaster01', 'k8smaster02', 'k8smaster03'];
export const nodes = ['k8snode01', 'k8snode02'];
export const hosts = [...masters, ...nodes];

/** Our units by group, as a user lists them with systemctl. */
export const nodeUnits = ['kube-nginx', 'containerd', 'kubelet', 'kube-proxy', 'flanneld'];
export const masterUnits = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-csr-approver',
  ...nodeUnits,
];

/** The folder the tests work in, as a user would in one of his own. */
export const workspace = path.join(cacheRoot(), 'e2e');
export const home: ClusterHome = clusterHome(path.join(workspace, 'inventory', labName));

export type Finished = Result<{ reject: false; all: true }>;

/** Starts `k8s-ans` in the workspace. */
export function start(args: ReadonlyArray<string>, options: Options = {}) {
  return execa(process.execPath, [bin, ...args], {
    cwd: workspace,
    env: { CI: 'true', NO_COLOR: '1' },
    reject: false,
    all: true,
    stdin: 'ignore',
    ...options,
  });
}

/** Runs `k8s-ans` and expects exit code 0. */
export async function succeed(args: ReadonlyArray<string>): Promise<string> {
  const result = await start(args);
  if (result.exitCode !== 0) throw new Error(`k8s-ans ${args.join(' ')} ended with ${result.exitCode}:\n${result.all}`);
  return result.stdout as unknown as string;
}

/** What `k8s-ans ARGS --json` says. */
export async function json<T>(args: ReadonlyArray<string>): Promise<T> {
  return (JSON.parse(await succeed(['--json', ...args])) as { result: T }).result;
}

/** A context for the lab's own functions. */
export const context: CommandContext = {
  console: {
    interactive: false,
    json: false,
    color: false,
    verbosity: 0,
    info: () => {},
    warn: () => {},
    print: () => {},
    result: () => {},
  },
  signal: new AbortController().signal,
  env: process.env,
  cwd: workspace,
};

export const lab = (): Promise<Lab> => openLab(context, labName);

export async function prepareWorkspace(): Promise<void> {
  await mkdir(workspace, { recursive: true, mode: 0o700 });
}

export const labArgs = ['--name', labName, '--subnet', labSubnet];

/** Runs a command line on a host, as root over SSH. */
export async function on(host: string, line: string, input?: Uint8Array): Promise<string> {
  const result = await tryOn(host, line, input);
  if (result.exitCode !== 0) throw new Error(`${host}: ${line}\nended with ${result.exitCode}: ${result.all}`);
  return result.stdout as unknown as string;
}

export async function tryOn(host: string, line: string, input?: Uint8Array): Promise<Finished> {
  const found = await lab();
  const address = found.plan.hosts.find((candidate) => candidate.name === host)?.address ?? host;
  return (await execa('ssh', [...sshArgs(found.home, address), '--', line], {
    reject: false,
    all: true,
    ...(input === undefined ? { stdin: 'ignore' } : { input }),
  })) as unknown as Finished;
}

interface Artifacts {
  readonly k8s_artifacts: Record<string, { binaries: Array<{ name: string; path: string }> }>;
}

/** A binary of the cluster's own version on this machine. */
function binary(name: string): string {
  // A run that was refused has none.
  const file = readdirSync(home.runs)
    .sort()
    .reverse()
    .map((run) => path.join(home.runs, run, 'artifacts.json'))
    .find(existsSync);
  if (file === undefined) throw new Error(`no run in ${home.runs} has prepared artifacts`);
  const { k8s_artifacts } = JSON.parse(readFileSync(file, 'utf8')) as Artifacts;
  const found = Object.values(k8s_artifacts)
    .flatMap((architecture) => architecture.binaries)
    .find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`${file} names no ${name}`);
  return found.path;
}

/** Runs kubectl on this machine with the cluster home's kubeconfig: the cluster as seen from outside. */
export async function kubectl(args: ReadonlyArray<string>, input?: string): Promise<string> {
  const result = await execa(binary('kubectl'), ['--kubeconfig', home.kubeconfig, ...args], {
    ...(input === undefined ? {} : { input }),
  });
  return result.stdout;
}

/** kubectl, for what goes on while a test looks at it; to be killed by the caller. */
export function startKubectl(args: ReadonlyArray<string>) {
  return execa(binary('kubectl'), ['--kubeconfig', home.kubeconfig, ...args], { reject: false, all: true });
}

/** Asks until it is so; the error is the last one seen. */
export async function eventually<T>(seconds: number, look: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** When each of our units started, by host: unchanged where nothing was restarted. */
export async function unitStarts(): Promise<Record<string, string>> {
  const entries = await Promise.all(
    hosts.map(async (host) => {
      const units = masters.includes(host) ? masterUnits : nodeUnits;
      const properties = 'Id,ActiveState,ExecMainStartTimestampMonotonic,NRestarts';
      return [host, await on(host, `systemctl show --property=${properties} ${units.join(' ')}`)] as const;
    }),
  );
  return Object.fromEntries(entries);
}

/** Makes another cluster home of the same hosts, with its spec changed, and returns its spec file. */
export async function variant(name: string, change: (spec: string) => string): Promise<string> {
  const folder = path.join(workspace, 'variants', name);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const spec = (await readFile(home.spec, 'utf8'))
    .replaceAll('ssh/id_ed25519', path.join(home.root, 'ssh', 'id_ed25519'))
    .replaceAll('ssh/known_hosts', path.join(home.root, 'ssh', 'known_hosts'));
  const file = path.join(folder, 'cluster.yaml');
  await writeFile(file, change(spec), { mode: 0o600 });
  return file;
}
