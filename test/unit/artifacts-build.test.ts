import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { type BuildOptions, buildComponent } from '../../ts/artifacts/build.js';
import { type Component, componentsFor, everyChoice, loadCatalog } from '../../ts/artifacts/catalog.js';
import { exclusively, makeFolder, readFolder } from '../../ts/artifacts/files.js';
import { prepareArtifacts } from '../../ts/artifacts/prepare.js';
import { packageRoot } from '../../ts/types/package.js';
import { exampleCluster } from '../fixtures/cluster.js';
import { sha256 } from '../fixtures/upstream.js';

vi.setConfig({ testTimeout: 60_000 });

/** A `go` that writes what it was asked for, after the seconds in $GO_SLOW, and logs how it was called. */
const fakeGo = `#!/bin/sh
case "$1" in
  env) [ -z "$GO_OLD" ] || { echo "go: go.mod requires go >= 1.26.8 (running go 1.22.0; GOTOOLCHAIN=local)" >&2; exit 1; }
    echo "\${GO_VERSION:-go1.26.8}"; exit 0 ;;
  version) echo go version; exit 0 ;;
  mod) echo "{\\"Dir\\": \\"$FAKE_MODULES\\"}"; exit 0 ;;
esac
{ echo "cgo=$CGO_ENABLED cc=$CC os=$GOOS arch=$GOARCH flags=[$GOFLAGS] in=$(basename "$PWD")"; for word in "$@"; do echo "  $word"; done; } >> "$FAKE_LOG"
[ -z "$GO_FAILS" ] || { echo "$GO_FAILS" >&2; exit 1; }
[ -z "$GO_SLOW" ] || sleep "$GO_SLOW"
packages=
out=
while [ $# -gt 0 ]; do
  case "$1" in
    -o) out="$2"; shift ;;
    -*|build) ;;
    *) packages="$packages $1" ;;
  esac
  shift
done
for package in $packages; do
  name=$(basename "$package")
  case "$name" in v[0-9]*) name=$(basename "$(dirname "$package")") ;; esac
  echo "$package for $GOARCH" > "$out$name"
  chmod 755 "$out$name"
done
`;
const fakeGcc = `#!/bin/sh
[ "$1" = -dumpfullversion ] && { echo 12.2.0; exit 0; }
echo "gcc $*" >> "$FAKE_LOG"
while [ $# -gt 0 ]; do [ "$1" = -o ] && echo pause > "$2"; shift; done
`;
const fakePkgConfig = '#!/bin/sh\n[ "$2" = libseccomp ] && echo 2.5.4\n';

let folder: string;
let bin: string;
let log: string;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-build-'));
  bin = path.join(folder, 'bin');
  log = path.join(folder, 'log');
  await mkdir(bin);
  for (const [name, script] of [
    ['go', fakeGo],
    ['gcc', fakeGcc],
    ['pkg-config', fakePkgConfig],
  ] as const) {
    await writeFile(path.join(bin, name), script, { mode: 0o755 });
  }
  env = { PATH: `${bin}:/usr/bin:/bin`, FAKE_LOG: log, FAKE_MODULES: folder, GOFLAGS: '-race' };
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const component = (name: string): Component =>
  componentsFor(loadCatalog(), '1.36.4', everyChoice(loadCatalog())).find((one) => one.name === name) as Component;

function options(overrides: Partial<BuildOptions> = {}): BuildOptions {
  return {
    cache: path.join(folder, 'cache'),
    env,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...overrides,
  };
}

const logged = async () => (await readFile(log, 'utf8')).replaceAll(folder, 'FOLDER').replace(/\.new-\d+/g, '.new');
const calls = async () =>
  (await readFile(log, 'utf8').catch(() => '')).split('\n').filter((line) => line.startsWith('cgo=')).length;

// The recipes' C compilers depend on this machine's architecture.
const onAmd64 = process.arch === 'x64' && process.platform === 'linux';

describe('buildComponent', () => {
  it('calls go with the pinned module, the version and nothing of the caller', async () => {
    const built = await buildComponent(component('etcd'), 'arm64', options());
    expect(built).toMatchObject({ component: 'etcd', version: '3.6.14', compiled: true });
    expect([...built.files.keys()]).toEqual(['etcd', 'etcdctl', 'etcdutl']);
    expect(built.folder).toBe(path.join(folder, 'cache', 'build', `etcd-3.6.14-arm64-${built.key}`));
    expect(await readFile(path.join(built.folder, 'etcd'), 'utf8')).toBe('go.etcd.io/etcd/server/v3 for arm64\n');
    expect(built.files.get('etcd')?.sha256).toBe(sha256('go.etcd.io/etcd/server/v3 for arm64\n'));
    expect(await logged()).toBe(
      [
        'cgo=0 cc= os=linux arch=arm64 flags=[] in=etcd-3.6',
        '  build',
        '  -mod=readonly',
        '  -buildvcs=false',
        '  -trimpath',
        '  -ldflags=-s -w -X go.etcd.io/etcd/api/v3/version.GitSHA=unknown',
        '  -o',
        `  FOLDER/cache/build/etcd-3.6.14-arm64-${built.key}.new/`,
        '  go.etcd.io/etcd/server/v3',
        '  go.etcd.io/etcd/etcdctl/v3',
        '  go.etcd.io/etcd/etcdutl/v3',
        '',
      ].join('\n'),
    );
  });

  it('builds packages with tags of their own apart', async () => {
    await buildComponent(component('containerd'), 'amd64', options());
    const tags = (await logged()).match(/-tags=.*/g);
    expect(tags).toEqual([
      '-tags=urfave_cli_no_docs,osusergo,netgo,static_build',
      '-tags=urfave_cli_no_docs,osusergo,netgo,static_build,no_grpc',
    ]);
  });

  it('puts all binaries of an image to their places in it', async () => {
    const built = await buildComponent(component('local-path-provisioner'), 'arm64', options());
    expect([...built.files.keys()]).toEqual(['local-path-provisioner.tar']);
    const archive = await readFile(path.join(built.folder, 'local-path-provisioner.tar'), 'latin1');
    const uroot = 'github.com/u-root/u-root/cmds/core';
    for (const [place, goPackage] of [
      ['bin/mkdir', `${uroot}/mkdir`],
      ['bin/rm', `${uroot}/rm`],
      ['bin/sh', `${uroot}/gosh`],
      ['usr/bin/local-path-provisioner', 'github.com/rancher/local-path-provisioner'],
    ] as const) {
      // A tar entry: its name at the start of a block, its content from the next one on.
      const header = archive.indexOf(`${place}\0`);
      expect(archive.slice(header + 512).startsWith(`${goPackage} for arm64\n`), place).toBe(true);
    }
  });

  it('stamps the version into Kubernetes', async () => {
    await buildComponent(component('kubernetes'), 'amd64', options());
    const flags = /-ldflags=(.*)/.exec(await logged())?.[1];
    for (const name of ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']) {
      expect(flags).toContain(
        `-X ${name}.gitVersion=v1.36.4 -X ${name}.gitMajor=1 -X ${name}.gitMinor=36 -X ${name}.gitCommit=unknown -X ${name}.gitTreeState=clean -X ${name}.buildDate=2026-08-20T11:51:43Z`,
      );
    }
  });

  it.runIf(onAmd64)('links C statically where a component has some', async () => {
    const built = await buildComponent(component('runc'), 'amd64', options());
    expect(await logged()).toContain('cgo=1 cc=gcc os=linux arch=amd64 flags=[] in=runc-1.5');
    expect(await logged()).toContain(
      '  -tags=seccomp,urfave_cli_no_docs,netgo,osusergo\n  -buildmode=pie\n  -ldflags=-s -w -linkmode external -extldflags -static-pie\n',
    );
    await writeFile(path.join(bin, 'pkg-config'), fakePkgConfig.replace('2.5.4', '2.6.0'), { mode: 0o755 });
    expect((await buildComponent(component('runc'), 'amd64', options())).key).not.toBe(built.key);
  });

  it.runIf(onAmd64)('says which C compiler or library is missing', async () => {
    const only = { ...env, PATH: bin };
    await writeFile(path.join(bin, 'pkg-config'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    await expect(buildComponent(component('runc'), 'amd64', options({ env: { ...env } }))).rejects.toMatchObject({
      message: "building for amd64 needs libseccomp's development files: not found on this machine",
      code: 'build-no-library',
      exitCode: 4,
      next: expect.stringContaining('k8s-ans doctor --fix'),
    });
    await expect(buildComponent(component('runc'), 'arm64', options({ env: only }))).rejects.toMatchObject({
      message: 'building for arm64 needs the C compiler aarch64-linux-gnu-gcc, and it is missing',
      code: 'build-no-gcc',
    });
  });

  it.runIf(onAmd64)('makes the image archive of pause from the C program in the module', async () => {
    const built = await buildComponent(component('pause'), 'amd64', options());
    expect([...built.files.keys()]).toEqual(['pause.tar']);
    expect(built.files.get('pause.tar')?.ref).toBe('registry.k8s.io/pause:3.10.2');
    expect((await readdir(built.folder)).sort()).toEqual(['complete.json', 'pause.tar']);
    expect(await logged()).toBe(
      `gcc -Os -Wall -Werror -static -DVERSION=v3.10.2 -s -o FOLDER/cache/build/pause-3.10.2-amd64-${built.key}.new/pause build/pause/linux/pause.c\n`,
    );
  });

  it('takes from the cache what it built, until something that shapes it changes', async () => {
    const first = await buildComponent(component('etcd'), 'amd64', options());
    const second = await buildComponent(component('etcd'), 'amd64', options());
    expect([first.compiled, second.compiled, await calls()]).toEqual([true, false, 1]);
    expect(second.files).toEqual(first.files);
    const modules = path.join(folder, 'modules');
    await cp(path.join(packageRoot(), 'artifacts', 'go'), modules, { recursive: true });
    expect((await buildComponent(component('etcd'), 'amd64', options({ modules }))).compiled).toBe(false);
    await writeFile(path.join(modules, 'etcd-3.6', 'go.sum'), 'changed');
    const keys = [
      first.key,
      (await buildComponent(component('etcd'), 'amd64', options({ modules }))).key,
      (await buildComponent(component('etcd'), 'amd64', options({ env: { ...env, GO_VERSION: 'go1.26.9' } }))).key,
      (await buildComponent(component('etcd'), 'arm64', options())).key,
    ];
    expect(new Set(keys).size).toBe(4);
  });

  it('builds again what was altered or left in part', async () => {
    const built = await buildComponent(component('etcd'), 'amd64', options());
    await writeFile(path.join(built.folder, 'etcdctl'), 'altered');
    expect((await buildComponent(component('etcd'), 'amd64', options())).compiled).toBe(true);
    await rm(path.join(built.folder, 'complete.json'));
    expect((await buildComponent(component('etcd'), 'amd64', options())).compiled).toBe(true);
    expect(await readFile(path.join(built.folder, 'etcdctl'), 'utf8')).toBe('go.etcd.io/etcd/etcdctl/v3 for amd64\n');
  });

  it('builds once when two want the same', async () => {
    const slow = options({ env: { ...env, GO_SLOW: '0.3' } });
    const both = await Promise.all([0, 1].map(() => buildComponent(component('etcd'), 'amd64', slow)));
    expect(await calls()).toBe(1);
    expect(both[0]?.files).toEqual(both[1]?.files);
  });

  it('ends the compiler and leaves nothing when it is interrupted', async () => {
    const controller = new AbortController();
    const run = buildComponent(
      component('etcd'),
      'amd64',
      options({ signal: controller.signal, env: { ...env, GO_SLOW: '60' } }),
    );
    await vi.waitFor(async () => expect(await calls()).toBe(1), { timeout: 20_000 });
    const begun = Date.now();
    controller.abort(new Error('interrupted'));
    await expect(run).rejects.toThrow('interrupted');
    expect(Date.now() - begun).toBeLessThan(20_000);
    expect(await readdir(path.join(folder, 'cache', 'build'))).toEqual([]);
  });

  it('says when Go is missing or too old, and what a compiler said', async () => {
    await expect(
      buildComponent(component('etcd'), 'amd64', options({ env: { ...env, GO_OLD: '1' } })),
    ).rejects.toMatchObject({
      message:
        "this machine's Go cannot build here: go: go.mod requires go >= 1.26.8 (running go 1.22.0; GOTOOLCHAIN=local)",
      code: 'build-old-go',
      exitCode: 4,
      next: expect.stringContaining('k8s-ans doctor --fix'),
    });
    const fails = (text: string) =>
      buildComponent(component('etcd'), 'amd64', options({ env: { ...env, GO_FAILS: text } }));
    await expect(fails('main.go:1: undefined: x')).rejects.toMatchObject({
      message: 'building etcd 3.6.14 (amd64) failed: main.go:1: undefined: x',
      code: 'build-failed',
    });
    await expect(fails('dial tcp: lookup proxy: no such host')).rejects.toMatchObject({ code: 'build-no-modules' });
    await expect(
      buildComponent(component('etcd'), 'amd64', options({ env: { PATH: '/nowhere' } })),
    ).rejects.toMatchObject({
      message: 'building the artifacts needs Go, and there is no `go` on PATH',
      code: 'build-no-go',
    });
  });

  it('refuses a version without pinned modules', async () => {
    const kubernetes = componentsFor(loadCatalog(), '1.36.1')[0] as Component;
    await expect(buildComponent(kubernetes, 'amd64', options())).rejects.toMatchObject({
      message: 'source build has no Go modules pinned for kubernetes 1.36.1',
      code: 'build-not-pinned',
      exitCode: 2,
    });
  });
});

describe.runIf(onAmd64)('prepareArtifacts with source build', () => {
  const prepare = () =>
    prepareArtifacts({
      cluster: {
        kubernetes: { version: '1.36.4', minor: '1.36', featureGates: {} },
        artifacts: { source: { kind: 'build' } },
        addons: exampleCluster().addons,
        runtime: exampleCluster().runtime,
      },
      home: { lock: path.join(folder, 'artifacts.lock') },
      architectures: ['amd64'],
      ...options(),
    });

  it('gives binaries and image archives, and freezes them', async () => {
    const prepared = await prepare();
    const list = prepared.variables.k8s_artifacts.amd64;
    expect(list?.binaries.length).toBe(21);
    expect(list?.binaries.find(({ name }) => name === 'flannel')).toMatchObject({
      component: 'flannel-cni',
      version: '0.9.1',
      dest: 'cni',
    });
    expect(list?.images.map(({ name, ref, digest }) => [name, ref, digest])).toEqual([
      ['coredns', 'registry.k8s.io/coredns/coredns:v1.14.2', null],
      ['pause', 'registry.k8s.io/pause:3.10.2', null],
    ]);
    for (const { path: file, sha256: digest } of list?.images ?? []) {
      expect(sha256(await readFile(file ?? ''))).toBe(digest);
    }
    const lock = parse(await readFile(path.join(folder, 'artifacts.lock'), 'utf8'));
    expect(lock.source).toBe('build');
    expect(lock.amd64.binaries.etcd.origin).toBe(
      `build:${prepared.builds.find(({ component }) => component === 'etcd')?.key}`,
    );
    expect(lock.amd64.images.pause.sha256).toBe(list?.images[1]?.sha256);
  });

  it('needs no compiler for what the lock names and the cache holds', async () => {
    const first = await prepare();
    await rm(bin, { recursive: true });
    const second = await prepare();
    expect(second.variables).toEqual(first.variables);
    expect(second.lockWritten).toBe(false);
  });

  it('refuses a build whose bytes differ from the frozen ones', async () => {
    const first = await prepare();
    await rm(path.join(folder, 'cache'), { recursive: true });
    await writeFile(path.join(bin, 'go'), fakeGo.replace('for $GOARCH', 'altered'), { mode: 0o755 });
    await expect(prepare()).rejects.toMatchObject({ code: 'lock-differs', exitCode: 4 });
    expect(first.lockWritten).toBe(true);
  });
});

describe('makeFolder', () => {
  const fill = async (temporary: string) => {
    await writeFile(path.join(temporary, 'kept'), 'content');
    await writeFile(path.join(temporary, 'dropped'), 'content');
    return { files: [{ name: 'kept' }], remarks: { how: 'test' } };
  };
  const { signal } = new AbortController();

  it('survives SIGKILL: what was left is removed, the folder is made anew', async () => {
    const target = path.join(folder, 'made');
    const dead = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']);
    await mkdir(`${target}.new-${dead.pid}`);
    await writeFile(`${target}.lock`, String(dead.pid));
    const past = new Date(Date.now() - 60_000);
    await utimes(`${target}.lock`, past, past);
    const ended = new Promise((resolve) => dead.once('exit', resolve));
    dead.kill('SIGKILL');
    await ended;
    const made = await makeFolder(target, signal, fill);
    expect([...made.files.keys()]).toEqual(['kept']);
    expect(await readdir(folder)).toEqual(['bin', 'made']);
    expect((await readdir(target)).sort()).toEqual(['complete.json', 'kept']);
  });

  it('waits for a live owner of the lock', async () => {
    const order: string[] = [];
    const held = exclusively(path.join(folder, 'l'), signal, async () => {
      await new Promise((resolve) => setTimeout(resolve, 2500));
      order.push('first');
    });
    await vi.waitFor(() => expect(existsSync(path.join(folder, 'l'))).toBe(true));
    await exclusively(path.join(folder, 'l'), signal, async () => void order.push('second'));
    await held;
    expect(order).toEqual(['first', 'second']);
  });

  it('leaves no trace of a failure', async () => {
    const fails = makeFolder(path.join(folder, 'made'), signal, async () => {
      throw new Error('no');
    });
    await expect(fails).rejects.toThrow('no');
    expect(await readdir(folder)).toEqual(['bin']);
  });

  it('trusts an unchanged file, and computes again when asked', async () => {
    const target = path.join(folder, 'made');
    await makeFolder(target, signal, fill);
    const file = path.join(target, 'kept');
    const { atime, mtime } = await stat(file);
    await writeFile(file, 'CONTENT');
    await utimes(file, atime, mtime);
    expect(await readFolder(target)).toBeDefined();
    expect(await readFolder(target, true)).toBeUndefined();
  });
});
