/** The bill of materials, and how a Go program's modules are read from it. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { binaryImageFiles, ociArchive } from '../../ts/artifacts/oci.js';
import { goBuildInfo, parseBuildInfo } from '../../ts/bundle/go-build-info.js';
import { programOf, programsInArchive } from '../../ts/bundle/programs.js';
import { type BilledFile, billOfMaterials, filePurl, modulePurl } from '../../ts/bundle/sbom.js';

vi.setConfig({ testTimeout: 60_000 });

const sha256 = 'a'.repeat(64);
const kubelet: BilledFile = {
  path: 'amd64/bin/kubelet',
  sha256,
  name: 'kubelet',
  version: '1.36.4',
  architecture: 'amd64',
  toolchain: 'go1.26.8',
  url: undefined,
  programs: [
    {
      go: 'go1.26.8',
      package: 'k8s.io/kubernetes/cmd/kubelet',
      main: { path: 'k8s.io/kubernetes', version: 'v1.36.4' },
      dependencies: [{ path: 'github.com/docker/docker', version: 'v28.0.0+incompatible' }],
    },
  ],
};
const pause: BilledFile = {
  path: 'amd64/images/pause.tar',
  sha256,
  name: 'pause',
  version: '3.10.2',
  architecture: 'amd64',
  image: 'registry.k8s.io/pause:3.10.2',
  programs: [],
};

describe('the bill of materials', () => {
  test('names every file with its digest, and the modules of each program', () => {
    const text = billOfMaterials('1.36.4', [pause, kubelet]);
    const bill = JSON.parse(text);
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6', version: 1 });
    expect(bill.serialNumber).toBeUndefined();
    expect(bill.metadata.timestamp).toBeUndefined();
    expect(bill.components.map((one: { type: string; purl: string }) => `${one.type} ${one.purl}`)).toEqual([
      'application pkg:generic/kubelet@1.36.4?arch=amd64',
      'container pkg:oci/pause?arch=amd64&repository_url=registry.k8s.io%2Fpause&tag=3.10.2',
      'library pkg:golang/github.com/docker/docker@v28.0.0%2Bincompatible',
      'library pkg:golang/k8s.io/kubernetes@v1.36.4',
      'library pkg:golang/std@1.26.8',
    ]);
    expect(bill.components[0]).toMatchObject({
      'bom-ref': 'amd64/bin/kubelet',
      hashes: [{ alg: 'SHA-256', content: sha256 }],
      properties: [
        { name: 'k8s-ans:build:toolchain', value: 'go1.26.8' },
        { name: 'k8s-ans:bundle:path', value: 'amd64/bin/kubelet' },
      ],
    });
    const edges = Object.fromEntries(
      bill.dependencies.map((one: { ref: string; dependsOn?: string[] }) => [one.ref, one.dependsOn]),
    );
    expect(edges['k8s-ans-bundle']).toEqual(['amd64/bin/kubelet', 'amd64/images/pause.tar']);
    expect(edges['amd64/bin/kubelet']).toEqual([
      'pkg:golang/github.com/docker/docker@v28.0.0%2Bincompatible',
      'pkg:golang/k8s.io/kubernetes@v1.36.4',
      'pkg:golang/std@1.26.8',
    ]);
  });

  test('is the same to the byte, in whatever order the files come', () => {
    expect(billOfMaterials('1.36.4', [kubelet, pause])).toBe(billOfMaterials('1.36.4', [pause, kubelet]));
  });

  test('writes package URLs as their specification says', () => {
    expect(modulePurl({ path: 'github.com/Masterminds/semver/v3', version: 'v3.4.0' })).toBe(
      'pkg:golang/github.com/masterminds/semver/v3@v3.4.0',
    );
    expect(filePurl({ ...kubelet, url: 'https://dl.k8s.io/x' })).toBe(
      'pkg:generic/kubelet@1.36.4?arch=amd64&download_url=https%3A%2F%2Fdl.k8s.io%2Fx',
    );
  });
});

describe('build information', () => {
  test('takes a replaced module for what replaced it, but for a folder', () => {
    const text = [
      'path\texample.org/cmd',
      'mod\texample.org\tv1.0.0\th1:x',
      'dep\ta.example/one\tv1.0.0',
      '=>\tb.example/two\tv2.0.0\th1:y',
      'dep\tc.example/three\tv3.0.0',
      '=>\t./three\t',
      'build\t-trimpath=true',
    ].join('\n');
    expect(parseBuildInfo('go1.26.8', text)).toEqual({
      go: 'go1.26.8',
      package: 'example.org/cmd',
      main: { path: 'example.org', version: 'v1.0.0' },
      dependencies: [
        { path: 'b.example/two', version: 'v2.0.0' },
        { path: 'c.example/three', version: 'v3.0.0' },
      ],
    });
  });

  test('is found in no file that is not a Go program', async () => {
    const of = (bytes: Buffer) => goBuildInfo(async (offset, length) => bytes.subarray(offset, offset + length));
    expect(await of(Buffer.from('#!/bin/sh\n'))).toBeUndefined();
    expect(await of(Buffer.alloc(0))).toBeUndefined();
    expect(await programOf('/bin/sh')).toEqual([]);
  });

  describe('of a program that Go built', () => {
    let folder: string;
    let program: string;
    beforeAll(async () => {
      folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-sbom-'));
      program = path.join(folder, 'hello');
      await writeFile(path.join(folder, 'go.mod'), 'module example.org/hello\n\ngo 1.26\n');
      await writeFile(path.join(folder, 'main.go'), 'package main\n\nfunc main() { println("hello") }\n');
      const flags = ['-trimpath', '-buildvcs=false', '-ldflags=-s -w'];
      await execa('go', ['build', ...flags, '-o', program, '.'], {
        cwd: folder,
        env: { CGO_ENABLED: '0', GOOS: 'linux', GOFLAGS: '', GOWORK: 'off' },
      });
    }, 300_000);
    afterAll(() => rm(folder, { recursive: true, force: true }));

    test('is what `go version -m` says', async () => {
      const { stdout } = await execa('go', ['version', '-m', program]);
      const [first = '', ...lines] = stdout.split('\n');
      const said = parseBuildInfo(
        first.slice(first.lastIndexOf(' ') + 1),
        lines.map((line) => line.slice(1)).join('\n'),
      );
      expect(said.main?.path).toBe('example.org/hello');
      expect(await programOf(program)).toEqual([said]);
    });

    test("is found in an image's layer", async () => {
      const archive = path.join(folder, 'image.tar');
      const files = binaryImageFiles(new Map([['/hello', readFileSync(program)]]), '65532:65532');
      const ref = 'example.org/hello:1';
      await writeFile(
        archive,
        ociArchive({ ref, architecture: 'amd64', entrypoint: ['/hello'], user: '65532:65532', files }),
      );
      expect(await programsInArchive(archive)).toEqual(await programOf(program));
    });
  });
});
