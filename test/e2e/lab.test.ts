/** The lab itself: what its hosts are like, that faults are faults, and that throwaway hosts are what they were asked for. */
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { faults, type Lab, labDown, labHost, labUp } from '../../ts/lab/index.js';
import { sshArgs } from '../../ts/lab/ssh.js';
import { context as shared } from './harness.js';
import { type Ground, throwawayGround } from './throwaway.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-lab-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a small lab', () => {
  const options = { name: 'small', masters: 1, nodes: 1, subnet: '172.24.11.0/24' };
  const context = () => ({ ...shared, cwd: folder });
  let lab: Lab;
  beforeAll(async () => {
    lab = await labUp(context(), options);
  });
  afterAll(async () => {
    await labDown(context(), { name: options.name });
  });

  async function onHost(host: string, line: string): Promise<{ exitCode: number | undefined; stdout: string }> {
    const args = [...sshArgs(lab.home, labHost(lab, host).address), '--', line];
    const { exitCode, stdout } = await execa('ssh', args, { reject: false, stdin: 'ignore' });
    return { exitCode, stdout };
  }

  test('every host is a server of its own', async () => {
    const seen = await Promise.all(
      lab.plan.hosts.map(async ({ name }) => {
        const line = 'hostname; cat /etc/machine-id /sys/class/dmi/id/product_uuid /sys/class/net/eth0/address';
        const { exitCode, stdout } = await onHost(name, line);
        expect(exitCode).toBe(0);
        const values = stdout.split('\n');
        expect(values[0]).toBe(name);
        return values;
      }),
    );
    for (const part of [0, 1, 2, 3]) expect(new Set(seen.map((values) => values[part])).size).toBe(2);
  });

  test('the files that the engine mounts elsewhere are plain ones, and nothing leads out', async () => {
    const line = [
      'cp /etc/hosts /etc/hosts.new && mv /etc/hosts.new /etc/hosts',
      'grep -c 127.0.0.11 /etc/resolv.conf',
      'ip route get 192.0.2.1 | grep -o "via [0-9.]*"',
    ].join('; ');
    const { stdout } = await onHost('k8snode01', line);
    expect(stdout.split('\n')).toEqual(['0', `via ${lab.plan.network.nowhere}`]);
  });

  test('keys are private', async () => {
    expect((await stat(lab.home.privateKey)).mode & 0o777).toBe(0o600);
    expect((await stat(lab.home.root)).mode & 0o777).toBe(0o700);
  });

  test('up again keeps everything', async () => {
    const again = await labUp(context(), { name: options.name });
    expect(again).toMatchObject({ made: [], started: [], removed: [] });
    expect(again.kept).toHaveLength(2);
  });

  test('a host that is stopped does not answer, and comes back as itself', async () => {
    const before = await onHost('k8snode01', 'cat /etc/machine-id /sys/class/dmi/id/product_uuid');
    await faults.stop(context(), lab, 'k8snode01');
    expect((await onHost('k8snode01', 'true')).exitCode).toBe(255);
    await faults.start(context(), lab, 'k8snode01');
    const after = await onHost('k8snode01', 'cat /etc/machine-id /sys/class/dmi/id/product_uuid');
    expect(after).toEqual(before);
    expect(
      (await onHost('k8snode01', 'systemd-run --quiet --wait true && sysctl -qw net.ipv4.ip_forward=1')).exitCode,
    ).toBe(0);
  });
});

test('nothing of it is left', async () => {
  const name = 'brief';
  const context = { ...shared, cwd: folder };
  const networks = async () =>
    JSON.parse((await execa('ip', ['-j', '-4', 'route'])).stdout).map((one: { dst: string }) => one.dst);
  const lab = await labUp(context, { name, masters: 1, nodes: 0, subnet: '172.24.12.0/24' });
  expect(await networks()).toContain('172.24.12.0/24');
  expect(await labDown(context, { name, purge: true })).toMatchObject({ hosts: ['brief-k8smaster01'] });
  expect(await networks()).not.toContain('172.24.12.0/24');
  await expect(readFile(lab.home.spec)).rejects.toThrow('ENOENT');
});

describe('throwaway hosts', () => {
  let ground: Ground;
  beforeAll(async () => {
    ground = await throwawayGround(folder);
  });
  afterAll(async () => {
    await ground.close();
  });

  test('are odd as asked, and reached over SSH with a checked key', async () => {
    const uuid = '11111111-2222-3333-4444-555555555555';
    const host = await ground.startHost({
      name: 'odd',
      osRelease: 'ID=plan9\nVERSION_ID="4"\n',
      productUuid: uuid,
      portsTaken: [6443],
    });
    const home = await ground.writeSpec([host]);
    const line = '. /etc/os-release; echo $ID; cat /sys/class/dmi/id/product_uuid; ss -Hltn sport = :6443 | wc -l';
    const { stdout } = await execa('ssh', [...sshArgs(home, host.address), '--', line]);
    expect(stdout.split('\n')).toEqual(['plan9', uuid, '1']);
  });
});
