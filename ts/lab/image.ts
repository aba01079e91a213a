/**
 * The image of a lab host: a Debian server as debootstrap makes it, with all OS packages that hosts need, so that hosts
 * need no network. Named by a hash of its recipe; made again whenever the recipe changes or the image is gone.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { CommandContext } from '../types/console.js';
import { environmentError } from '../types/errors.js';
import { cacheRoot } from '../types/package.js';
import { docker, type Engine, tryDocker } from './docker.js';
import { asRoot } from './root.js';

/** What the image is made of. */
export interface Recipe {
  readonly suite: string;
  readonly packages: ReadonlyArray<string>;
  /** Units that a package enables and a lab host does without. They can be started. */
  readonly disabled: ReadonlyArray<string>;
  /** Units that fail or wait in a container. */
  readonly masked: ReadonlyArray<string>;
  /** Files by path, with mode. */
  readonly files: Readonly<Record<string, { readonly mode: string; readonly text: string }>>;
}

/** The process that a lab host starts with; it hands over to systemd. */
export const hostInit = '/usr/local/sbin/k8s-lab-init';

const packages = [
  // A server that systemd boots and Ansible manages.
  ...['systemd', 'systemd-sysv', 'dbus', 'openssh-server', 'sudo', 'python3', 'python3-apt'],
  // debootstrap does not see that the second provides what the first depends on.
  ...['python3-cryptography', 'python3-cffi-backend'],
  ...['ca-certificates', 'curl', 'openssl', 'procps', 'kmod', 'less', 'iproute2', 'iputils-ping', 'netcat-openbsd'],
  ...['tar', 'gzip', 'xz-utils', 'zstd', 'logrotate'],
  // What Kubernetes, its runtime and its network call.
  ...['conntrack', 'ethtool', 'ipset', 'ipvsadm', 'iptables', 'nftables', 'socat', 'libseccomp2'],
  // What the guide asks for on every host, and kube-nginx's nginx.
  ...['chrony', 'jq', 'sysstat', 'nginx', 'libnginx-mod-stream'],
];

/** The recipe of the base image. */
export async function baseRecipe(): Promise<Recipe> {
  const init = await readFile(fileURLToPath(new URL('./init.sh', import.meta.url)), 'utf8');
  return {
    suite: 'bookworm',
    packages,
    disabled: [
      ...['chrony.service', 'cron.service', 'e2scrub_reap.service', 'ipvsadm.service', 'nginx.service'],
      ...['sysstat.service', 'sysstat-collect.timer', 'sysstat-summary.timer', 'systemd-pstore.service'],
      ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'fstrim.timer'],
      'logrotate.timer',
    ],
    masked: [
      ...['getty.target', 'getty-static.service', 'console-getty.service', 'systemd-logind.service'],
      ...['systemd-ask-password-console.path', 'systemd-ask-password-wall.path', 'systemd-binfmt.service'],
      ...['systemd-firstboot.service', 'systemd-journald-audit.socket', 'systemd-machine-id-commit.service'],
      ...['systemd-random-seed.service', 'systemd-remount-fs.service', 'systemd-tmpfiles-setup-dev.service'],
      ...['kmod-static-nodes.service', 'dev-hugepages.mount', 'proc-sys-fs-binfmt_misc.automount'],
      ...['sys-fs-fuse-connections.mount', 'sys-kernel-config.mount', 'sys-kernel-debug.mount'],
      'sys-kernel-tracing.mount',
    ],
    files: {
      [hostInit]: { mode: '0755', text: init },
      '/etc/ssh/sshd_config.d/k8s-lab.conf': {
        mode: '0644',
        text: 'HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\nMaxStartups 100\n',
      },
      '/etc/hosts': { mode: '0644', text: '127.0.0.1\tlocalhost\n' },
      '/etc/hostname': { mode: '0644', text: 'k8s-lab\n' },
      '/etc/resolv.conf': { mode: '0644', text: '' },
      '/etc/machine-id': { mode: '0444', text: '' },
      '/etc/default/locale': { mode: '0644', text: 'LANG=C.UTF-8\n' },
    },
  };
}

/** The image's name: a hash of everything that goes into it. */
export function imageName(recipe: Recipe, architecture: string): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([recipe, architecture]))
    .digest('hex')
    .slice(0, 12);
  return `k8s-ans-lab:${recipe.suite}-${hash}`;
}

/**
 * The Debian mirror this machine is configured for, from the text of sources.list or of a .sources file
 * (sources.list(5)). Only a repository that holds Debian itself counts, not security updates or other software.
 */
export function mirrorIn(text: string): string | undefined {
  const oneLine = text.matchAll(/^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+\S+\s+main\b/gm);
  const deb822 = text
    .split(/\n\s*\n/)
    .filter((stanza) => /^Types:(.*\s)?deb(\s|$)/m.test(stanza) && /^Components:.*\bmain\b/m.test(stanza))
    .flatMap((stanza) => /^URIs:\s*(.+)$/m.exec(stanza)?.[1]?.trim().split(/\s+/) ?? []);
  const uris = [...[...oneLine].map((match) => match[1] as string), ...deb822];
  return uris.find((uri) => /^(https?|file):/.test(uri) && /\/debian\/?$/.test(uri));
}

async function machineMirror(): Promise<string | undefined> {
  const folder = '/etc/apt/sources.list.d';
  const names = (await readdir(folder).catch(() => [])).filter((name) => /\.(list|sources)$/.test(name)).sort();
  for (const file of ['/etc/apt/sources.list', ...names.map((name) => path.join(folder, name))]) {
    const mirror = mirrorIn(await readFile(file, 'utf8').catch(() => ''));
    if (mirror !== undefined) return mirror;
  }
  return undefined;
}

/** The commands, as a shell script, that turn a debootstrap root at $1 into the base system. */
export function finishScript(recipe: Recipe): string {
  const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
  const lines = [
    'set -eu',
    'root="$1"',
    `chroot "$root" systemctl -q disable --${recipe.disabled.map((unit) => ` ${quote(unit)}`).join('')}`,
    `chroot "$root" systemctl -q mask --${recipe.masked.map((unit) => ` ${quote(unit)}`).join('')}`,
    'rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/debootstrap "$root"/etc/ssh/ssh_host_*',
    'find "$root"/var/log -type f -delete',
    'mkdir -p "$root"/var/log/journal "$root"/data',
  ];
  for (const [file, { mode, text }] of Object.entries(recipe.files)) {
    lines.push(
      `mkdir -p "$root"${quote(path.posix.dirname(file))}`,
      `rm -f "$root"${quote(file)}`,
      `printf %s ${quote(text)} > "$root"${quote(file)}`,
      `chmod ${mode} "$root"${quote(file)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/**
 * Makes sure that `engine` has the base image; returns its name.
 *
 * The root file system is kept as a tar file in the cache, so that another engine, or the same one made anew, only
 * imports it.
 *
 * @throws K8sAnsError `lab-image` if debootstrap is missing or fails.
 */
export async function ensureImage(context: CommandContext, engine: Engine): Promise<string> {
  const recipe = await baseRecipe();
  const name = imageName(recipe, process.arch);
  const present = await tryDocker(engine, ['image', 'inspect', '--format', '{{.Id}}', name], context);
  if (present.exitCode === 0) return name;

  const folder = path.join(cacheRoot(context.env), 'lab');
  await mkdir(folder, { recursive: true });
  const archive = path.join(folder, `${name.replace(':', '-')}.tar`);
  if (!(await exists(archive))) await makeArchive(context, recipe, archive);
  context.console.info(`Importing the lab image ${name}`);
  await docker(engine, ['import', '--message', 'k8s-ans lab host', archive, name], context);
  return name;
}

async function makeArchive(context: CommandContext, recipe: Recipe, archive: string): Promise<void> {
  // Without one here, as on Ubuntu, debootstrap takes the mirror it knows itself.
  const mirror = context.env.K8S_ANS_LAB_MIRROR || (await machineMirror());
  context.console.info(
    `Making the lab image from ${mirror ?? "debootstrap's own mirror"} (${recipe.suite}); this takes a minute or two, once`,
  );
  const work = await mkdtemp(path.join(path.dirname(archive), 'make-'));
  const root = path.join(work, 'root');
  const log = `${archive}.log`;
  await rm(log, { force: true });
  try {
    await step(context, log, [
      'debootstrap',
      '--variant=minbase',
      `--include=${recipe.packages.join(',')}`,
      recipe.suite,
      root,
      ...(mirror === undefined ? [] : [mirror]),
    ]);
    await step(context, log, ['sh', '-c', finishScript(recipe), 'sh', root]);
    const partial = path.join(work, 'root.tar');
    await step(context, log, ['tar', '--numeric-owner', '-C', root, '-cf', partial, '.']);
    await rename(partial, archive);
  } finally {
    await execa(...split(asRoot(['rm', '-rf', '--one-file-system', work])), { reject: false });
  }
}

async function step(context: CommandContext, log: string, words: ReadonlyArray<string>): Promise<void> {
  const result = await execa(...split(asRoot(words)), {
    reject: false,
    stdin: 'ignore',
    stdout: { file: log, append: true },
    stderr: { file: log, append: true },
    env: { ...context.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    extendEnv: false,
    cancelSignal: context.signal,
    forceKillAfterDelay: 10_000,
  });
  if (context.signal.aborted) throw context.signal.reason;
  if (result.exitCode === 0) return;
  const missing = result.code === 'ENOENT';
  throw environmentError(
    `the lab image was not made: ${missing ? `${words[0]} is not installed` : `${words[0]} failed`}`,
    {
      code: 'lab-image',
      where: log,
      next: missing
        ? 'Run `k8s-ans doctor --fix`.'
        : 'Its last lines say why (no network? K8S_ANS_LAB_MIRROR names another Debian mirror); then run the command again.',
    },
  );
}

function split(words: ReadonlyArray<string>): [string, string[]] {
  return [words[0] as string, words.slice(1)];
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
