/**
 * The collection without the command line: the hand-written inventory and playbook of docs/ansible, certificates of a
 * corporate CA, first with the oldest ansible-core, then through ansible-runner.
 *
 * It makes the suite's lab anew with two hosts. What is not a team's own is the lab, and the list of its binaries.
 */
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { machineArchitecture, prepareArtifacts } from '../../ts/artifacts/index.js';
import { renderCluster } from '../../ts/render/render.js';
import { loadCluster } from '../../ts/spec/load.js';
import { packageRoot } from '../../ts/types/package.js';
import { context, home, lab, labArgs, labName, on, prepareWorkspace, start, succeed } from '../e2e/harness.js';
import { ansible, installCollection, type Workbench, workbenchEnv } from '../fixtures/collection.js';
import { makeOwnPki } from '../fixtures/own-pki.js';
import { testVenv } from '../unit/ansible.js';

const master = 'k8smaster01';
const node = 'k8snode01';
const docs = path.join(packageRoot(), 'docs', 'ansible');
const get = 'KUBECONFIG=/etc/kubernetes/admin.kubeconfig /opt/k8s/bin/kubectl get';

/** What this machine's lab asks for beyond the defaults, whoever deploys to it. */
const LAB_VARIABLES =
  /^(hostprep_(packages_manage|firewall|swap_off|time_sync)|runtime_(cgroup_driver|restrict)|nodes_(kubelet|kube_proxy)_config|preflight_)/;

let folder: string;
let oldest: Workbench;
let runner: Workbench;
/** The project: inventory, certificates, playbook, as a team keeps them; and where ansible-runner looks for them. */
let inventory: string;
let playbook: string;

beforeAll(async () => {
  await prepareWorkspace();
  await start(['lab', 'down', '--name', labName, '--purge']);
  await succeed(['lab', 'up', ...labArgs, '--masters', '1', '--nodes', '1']);
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-team-'));
  const collections = path.join(folder, 'collections');
  await mkdir(collections);
  oldest = { bin: path.join(await testVenv('requirements-oldest.txt'), 'bin'), folder: collections };
  runner = { bin: path.join(await testVenv('requirements-runner.txt'), 'bin'), folder: collections };
  await installCollection(oldest);

  inventory = path.join(folder, 'inventory');
  playbook = path.join(folder, 'project', 'site.yml');
  for (const name of ['inventory/group_vars', 'project']) await mkdir(path.join(folder, name), { recursive: true });
  await writeFile(playbook, await readFile(path.join(docs, 'site.yml'), 'utf8'));

  const { plan, home: labHome } = await lab();
  const addresses = new Map(plan.hosts.map(({ name, address }) => [name, address]));
  const hosts = (await readFile(path.join(docs, 'hosts'), 'utf8'))
    .split('\n')
    // Of the documented inventory, the hosts that this lab has.
    .filter((line) => !/^k8s(master0[23]|node02) /.test(line))
    .map((line) => line.replace(/^(\S+) ansible_host=.*/, (_, name) => `${name} ansible_host=${addresses.get(name)}`));
  await writeFile(path.join(inventory, 'hosts'), hosts.join('\n'));

  const cluster = await loadCluster(home);
  const rendered = parse(renderCluster(cluster).get('group_vars/all.yml') as string) as Record<string, unknown>;
  const { variables } = await prepareArtifacts({
    cluster,
    home,
    architectures: [machineArchitecture() ?? 'amd64'],
    signal: context.signal,
    onProgress: () => {},
  });
  const groupVariables = {
    ansible_ssh_private_key_file: labHome.privateKey,
    ansible_ssh_common_args: `-o UserKnownHostsFile=${labHome.knownHosts} -o StrictHostKeyChecking=yes`,
    k8s_pki_dir: path.join(folder, 'pki'),
    ...Object.fromEntries(Object.entries(rendered).filter(([name]) => LAB_VARIABLES.test(name))),
    ...variables,
  };
  await writeFile(path.join(inventory, 'group_vars', 'all.yml'), stringify(groupVariables), { mode: 0o600 });
  await makeOwnPki(path.join(folder, 'pki'), [{ name: master, address: addresses.get(master) as string }]);
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** The numbers of the recap, by host. */
function recap(text: string): Record<string, Record<string, number>> {
  return Object.fromEntries(
    [...text.matchAll(/^(\S+)\s+: (ok=.*)$/gm)].map(([, host, counts]) => [
      host as string,
      Object.fromEntries(
        [...(counts as string).matchAll(/(\w+)=(\d+)/g)].map(([, name, n]) => [name as string, Number(n)]),
      ),
    ]),
  );
}

const play = (workbench: Workbench, name: string, ...args: string[]): Promise<string> =>
  ansible(workbench, 'ansible-playbook', ['-i', inventory, name, ...args]);

async function expectCluster(): Promise<void> {
  const ready = await on(master, `${get} nodes -o jsonpath='{.items[*].status.conditions[?(@.type=="Ready")].status}'`);
  expect(ready).toBe('True True');
  const replicas = await on(master, `${get} -n kube-system deploy coredns -o jsonpath='{.status.readyReplicas}'`);
  expect(replicas).toBe('2');
  const issuer = await on(
    node,
    'openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 -noout -issuer',
  );
  expect(issuer).toContain('Example ca');
}

describe('a team with its own inventory, playbook and CA', () => {
  test('a playbook of at most 30 lines is all it writes', async () => {
    expect((await readFile(playbook, 'utf8')).trimEnd().split('\n').length).toBeLessThanOrEqual(30);
  });

  test('ansible-builder takes the execution environment, with the collection in it', async () => {
    const [archive] = (await readdir(runner.folder)).filter((name) => name.endsWith('.tar.gz'));
    const definition = path.join(folder, 'ee', 'execution-environment.yml');
    await mkdir(path.dirname(definition));
    await copyFile(path.join(packageRoot(), 'execution-environment.yml'), definition);
    await copyFile(path.join(runner.folder, archive as string), path.join(path.dirname(definition), archive as string));
    const build = path.join(folder, 'ee', 'context');
    await ansible(runner, 'ansible-builder', ['create', '--file', definition, '--context', build]);
    expect(await readdir(path.join(build, '_build', 'collection'))).toEqual([archive]);
    const requirements = parse(await readFile(path.join(build, '_build', 'requirements.yml'), 'utf8')) as object;
    expect(requirements).toEqual({
      collections: [{ name: `/build/collection/${archive}`, type: 'file' }],
    });
  });

  test('a certificate that is wrong is refused before anything is changed', async () => {
    const file = path.join(folder, 'pki', 'kubeconfigs', 'scheduler.crt');
    const right = await readFile(file);
    await writeFile(file, await readFile(path.join(folder, 'pki', 'kubeconfigs', 'flanneld.crt')));
    const refused = await play(oldest, 'k8s_ans.cluster.deploy').then(
      () => '',
      (error: { all?: string }) => error.all ?? '',
    );
    await writeFile(file, right);
    expect(refused).toContain(`${file} must have the subject CN=system:kube-scheduler, and has CN=flanneld`);
    expect(recap(refused)[node]?.changed).toBe(0);
    expect(recap(refused)[master]?.changed).toBe(0);
  });

  test('the oldest ansible-core deploys, foretells nothing more and changes nothing more', async () => {
    expect(await ansible(oldest, 'ansible-playbook', ['--version'])).toContain('[core 2.17.0]');
    const first = recap(await play(oldest, playbook));
    expect(first[master]?.failed).toBe(0);
    expect(first[node]?.changed).toBeGreaterThan(0);
    await expectCluster();
    for (const workbench of [oldest, runner]) {
      const again = recap(await play(workbench, playbook, '--check', '--diff'));
      expect([again[master]?.changed, again[node]?.changed]).toEqual([0, 0]);
    }
    const second = recap(await play(runner, playbook));
    expect([second[master]?.changed, second[node]?.changed]).toEqual([0, 0]);
  });

  test('--limit and --tags do a part', async () => {
    const part = recap(await play(runner, 'k8s_ans.cluster.deploy', '--limit', node, '--tags', 'proxy'));
    expect(Object.keys(part)).toEqual([node]);
    expect(part[node]).toMatchObject({ changed: 0, failed: 0 });
  });

  test('ansible-runner deploys, after a reset', async () => {
    await play(runner, 'k8s_ans.cluster.reset');
    const script = [
      'import ansible_runner, json, sys',
      "run = ansible_runner.run(private_data_dir=sys.argv[1], playbook='site.yml', quiet=True)",
      "print(json.dumps({'status': run.status, 'stats': run.stats}))",
    ].join('\n');
    const { stdout } = await execa(path.join(runner.bin, 'python'), ['-c', script, folder], {
      env: workbenchEnv(runner),
      extendEnv: false,
      stdin: 'ignore',
    });
    const result = JSON.parse(stdout.trim().split('\n').at(-1) as string) as { status: string; stats: object };
    expect(result.status, stdout).toBe('successful');
    expect(result.stats).toMatchObject({ failures: {}, dark: {} });
    await expectCluster();
  });
});
