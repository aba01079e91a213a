/** Single hosts from the lab's image that a test makes, breaks and throws away, with testcontainers. */
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { ensureEngine, stopEngine } from '../../ts/lab/engine.js';
import { ensureNetwork, removeLab } from '../../ts/lab/hosts.js';
import { ensureImage, hostInit } from '../../ts/lab/image.js';
import { type MachineFacts, probeMachine } from '../../ts/lab/machine.js';
import { type LabPlan, planLab } from '../../ts/lab/plan.js';
import { labSpec } from '../../ts/lab/spec.js';
import { ensureKey, knownHosts } from '../../ts/lab/ssh.js';
import { type LabHome, labHome } from '../../ts/lab/state.js';
import { context as shared } from './harness.js';

const name = 'throwaway';
const subnet = '172.24.10.0/24';

/** What is odd about a host. */
export interface HostOptions {
  readonly name: string;
  /** Text of /etc/os-release, in place of Debian 12's. */
  readonly osRelease?: string;
  readonly productUuid?: string;
  readonly machineId?: string;
  /** Ports that something listens on already. */
  readonly portsTaken?: ReadonlyArray<number>;
  /** A line of authorized_keys other than the ground's: nobody gets in with its key. */
  readonly authorizedKey?: string;
  /** A public host key that known_hosts has in place of the host's own. */
  readonly pinnedKey?: string;
  /** Group of the host in the spec that `writeSpec` writes. */
  readonly role?: 'masters' | 'nodes';
}

export interface ThrowawayHost {
  readonly name: string;
  readonly address: string;
  readonly role: 'masters' | 'nodes';
  readonly container: StartedTestContainer;
  /** Its line of known_hosts. */
  readonly knownHost: string;
  /** Runs a shell line in it, past SSH. */
  exec(line: string): Promise<{ exitCode: number; output: string }>;
}

/** Where throwaway hosts stand: an engine, a network, a folder with an SSH key. */
export interface Ground {
  readonly home: LabHome;
  startHost(options: HostOptions): Promise<ThrowawayHost>;
  /** Writes cluster.yaml and known_hosts for these hosts, and further ones that do not exist; returns the home. */
  writeSpec(
    hosts: ReadonlyArray<ThrowawayHost>,
    absent?: ReadonlyArray<{ name: string; address: string }>,
  ): Promise<LabHome>;
  /** Removes all hosts and the network, and stops the engine if nothing else is on it. */
  close(): Promise<void>;
}

/** GenericContainer with what a lab host needs and testcontainers has no words for. */
class HostContainer extends GenericContainer {
  asHost(facts: MachineFacts, network: string, address: string): this {
    this.withNetworkMode(network);
    this.createOpts.NetworkingConfig = { EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: address } } } };
    this.createOpts.StopSignal = 'SIGRTMIN+3';
    this.createOpts.Volumes = { '/var': {}, '/data': {} };
    Object.assign(this.hostConfig, { CgroupnsMode: 'private' });
    this.withTmpFs({ '/run': 'exec,mode=755', '/tmp': 'exec,mode=1777' });
    if (facts.privilege.kind === 'privileged') return this.withPrivilegedMode();
    // The API's form of systempaths=unconfined, which only the docker command knows.
    Object.assign(this.hostConfig, {
      MaskedPaths: [],
      ReadonlyPaths: [],
      Devices: [{ PathOnHost: '/dev/kmsg', PathInContainer: '/dev/kmsg', CgroupPermissions: 'rwm' }],
    });
    return this.withAddedCapabilities(...facts.privilege.names).withSecurityOpt(
      'seccomp=unconfined',
      'apparmor=unconfined',
    );
  }
}

/** Prepares the ground in `folder`; hosts start in two or three seconds each. */
export async function throwawayGround(folder: string): Promise<Ground> {
  const context = { ...shared, cwd: folder };
  const engine = await ensureEngine(context);
  // The removal of what a test made is its own matter: see close().
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
  // No port is published; without it the engine's default bridge is asked, which the lab's engine does not have.
  process.env.TESTCONTAINERS_HOST_OVERRIDE = '127.0.0.1';
  if (engine.host !== undefined) process.env.DOCKER_HOST = engine.host;
  const image = await ensureImage(context, engine);
  const facts = await probeMachine(context, engine, image);
  const plan = planLab({ name, masters: 1, nodes: 0, subnet });
  await removeLab(context, engine, name);
  await ensureNetwork(context, engine, plan);
  const home = labHome(folder, name);
  const publicKey = await ensureKey(home, 'k8s-ans-throwaway');
  const started: ThrowawayHost[] = [];
  let last = 70;

  const startHost = async (options: HostOptions): Promise<ThrowawayHost> => {
    last += 1;
    const address = subnet.replace(/\.0\/\d+$/, `.${last}`);
    const container = await new HostContainer(image)
      .asHost(facts, plan.network.name, address)
      .withHostname(options.name)
      .withLabels({ 'k8s-ans.lab': name })
      .withEnvironment({
        K8S_LAB_NAME: options.name,
        K8S_LAB_ADDRESS: address,
        K8S_LAB_GATEWAY: plan.network.nowhere,
        K8S_LAB_RESOLVER: plan.network.gateway,
        K8S_LAB_MACHINE_ID: options.machineId ?? randomUUID().replaceAll('-', ''),
        K8S_LAB_PRODUCT_UUID: options.productUuid ?? randomUUID(),
        K8S_LAB_AUTHORIZED_KEY: options.authorizedKey ?? publicKey,
      })
      .withCommand([hostInit])
      .withWaitStrategy(Wait.forSuccessfulCommand('systemctl is-active ssh.service'))
      .start();
    const exec = async (line: string): Promise<{ exitCode: number; output: string }> => {
      const { exitCode, output } = await container.exec(['sh', '-c', line]);
      return { exitCode, output };
    };
    if (options.osRelease !== undefined) {
      await container.copyContentToContainer([{ content: options.osRelease, target: '/etc/os-release' }]);
    }
    for (const port of options.portsTaken ?? []) {
      await exec(`systemd-run --unit=taken-${port} nc -lk ${port}`);
    }
    const { output: key } = await exec('cat /etc/ssh/ssh_host_ed25519_key.pub');
    const host: ThrowawayHost = {
      name: options.name,
      address,
      role: options.role ?? 'masters',
      container,
      knownHost: knownHosts([{ name: options.name, address, key: options.pinnedKey ?? key }]),
      exec,
    };
    started.push(host);
    return host;
  };

  return {
    home,
    startHost,
    writeSpec: async (hosts, absent = []) => {
      const planned: LabPlan = {
        ...plan,
        hosts: [...hosts, ...absent.map((host) => ({ ...host, role: 'nodes' as const }))].map((host) => ({
          name: host.name,
          address: host.address,
          role: host.role,
          container: host.name,
        })),
      };
      await mkdir(path.dirname(home.spec), { recursive: true, mode: 0o700 });
      await writeFile(home.spec, labSpec(planned, facts), { mode: 0o600 });
      await writeFile(home.knownHosts, hosts.map(({ knownHost }) => knownHost).join(''), { mode: 0o600 });
      return home;
    },
    close: async () => {
      await Promise.allSettled(
        started.map(({ container }) => container.stop({ timeout: 0, remove: true, removeVolumes: true })),
      );
      await removeLab(context, engine, name);
      await stopEngine(context, engine);
    },
  };
}
