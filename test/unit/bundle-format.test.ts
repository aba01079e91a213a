/** What a bundle's text files say, and what contradicts itself in them. */
import { describe, expect, test } from 'vitest';
import { ArtifactLock } from '../../ts/artifacts/index.js';
import {
  artifactPath,
  contradictions,
  type Description,
  formatDescription,
  formatSums,
  inOrder,
  parseDescription,
  parseSums,
} from '../../ts/bundle/format.js';

const a = 'a'.repeat(64);
const b = 'b'.repeat(64);

describe('SHA256SUMS', () => {
  test('names what describes the bundle first, then the artifacts by path', () => {
    const digests = new Map([
      ['amd64/images/pause.tar', a],
      ['sbom.cdx.json', a],
      ['amd64/bin/kubelet', b],
      ['artifacts.lock', a],
      ['bundle.json', b],
    ]);
    const text = formatSums(digests);
    expect(text).toBe(
      [
        `${b}  bundle.json`,
        `${a}  artifacts.lock`,
        `${a}  sbom.cdx.json`,
        `${b}  amd64/bin/kubelet`,
        `${a}  amd64/images/pause.tar`,
        '',
      ].join('\n'),
    );
    expect(parseSums(text)).toEqual(new Map(inOrder(digests.keys()).map((path) => [path, digests.get(path)])));
  });

  test.each([
    [`${a}  kubelet\nx`, 'its lines are not in order, or a path is there twice'],
    [`${a} *kubelet\n`, 'its line 1 is no digest and path'],
    [`${a}  kubelet\n\n`, 'its line 2 is no digest and path'],
    [`${a.toUpperCase()}  kubelet\n`, 'its line 1 is no digest and path'],
    [`${a}  /etc/passwd\n`, 'its line 1 is no digest and path'],
    [`${a}  b\n${a}  a\n`, 'its lines are not in order, or a path is there twice'],
    [`${a}  a\n${b}  a\n`, 'its lines are not in order, or a path is there twice'],
  ])('is refused: %j', (text, why) => expect(parseSums(text)).toBe(why));
});

describe('bundle.json', () => {
  const description: Description = {
    kind: 'k8s-ans-bundle',
    version: 1,
    kubernetes: '1.36.4',
    architectures: ['amd64'],
    builds: { amd64: { runc: { version: '1.5.1', toolchain: 'go1.26.8' } } },
  };

  test('is read as it was written', () => {
    expect(parseDescription(formatDescription(description))).toEqual(description);
  });

  test('is refused when it is of a later form, of another kind, or no JSON', () => {
    expect(parseDescription('{"version": 2}')).toBe(
      'it is of version 2 of the format, and this k8s-ans knows version 1',
    );
    expect(parseDescription('{"version": 1}')).toContain('→ at kind');
    expect(parseDescription('{')).toBe('it is no JSON');
  });
});

test('every artifact has one path', () => {
  expect(artifactPath('arm64', 'binary', 'kubelet')).toBe('arm64/bin/kubelet');
  expect(artifactPath('amd64', 'image', 'pause')).toBe('amd64/images/pause.tar');
});

test('what the lock names and the bundle lacks, has otherwise or has besides is told', () => {
  const lock = ArtifactLock.parse(
    'artifacts.lock',
    [
      'schema: 1',
      'kubernetes: 1.36.4',
      'amd64:',
      '  binaries:',
      `    kubelet: { version: 1.36.4, origin: upstream, sha256: ${a} }`,
      `    runc: { version: 1.5.1, origin: upstream, sha256: ${a} }`,
      '  images:',
      '    pause: { ref: registry.k8s.io/pause:3.10.2, origin: registry }',
    ].join('\n'),
  );
  const description: Description = {
    kind: 'k8s-ans-bundle',
    version: 1,
    kubernetes: '1.36.4',
    architectures: ['amd64'],
    builds: {},
  };
  const whole = new Map([
    ...['bundle.json', 'artifacts.lock', 'sbom.cdx.json'].map((name) => [name, b] as const),
    ['amd64/bin/kubelet', a],
    ['amd64/bin/runc', a],
    ['amd64/images/pause.tar', b],
  ]);
  expect(contradictions(whole, description, lock)).toEqual([]);
  const other = new Map(whole).set('amd64/bin/runc', b).set('amd64/bin/extra', b);
  other.delete('amd64/images/pause.tar');
  other.delete('sbom.cdx.json');
  expect(contradictions(other, { ...description, kubernetes: '1.35.4', architectures: ['arm64'] }, lock)).toEqual([
    'bundle.json says Kubernetes 1.35.4, artifacts.lock 1.36.4',
    'bundle.json says arm64, artifacts.lock amd64',
    `amd64/bin/runc has the sha256 ${b}, but artifacts.lock says ${a}`,
    'amd64/images/pause.tar is missing, and artifacts.lock names it',
    'amd64/bin/extra is unexpected: artifacts.lock does not name it',
    'sbom.cdx.json is missing',
  ]);
});
