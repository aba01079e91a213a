/** What doctor makes of a machine. Nothing is installed. */
import { describe, expect, test } from 'vitest';
import { goDirective, neededGo, withPrivateGo } from '../../ts/artifacts/private-go.js';
import { type Finding, parseOsRelease, type Remedy, versionIn } from '../../ts/commands/doctor/checks.js';
import { planFix } from '../../ts/commands/doctor/fix.js';
import { describe as describeFindings } from '../../ts/commands/doctor.js';

const finding = (id: string, remedy: Remedy, ok = false): Finding => ({
  id,
  scope: 'lab',
  what: id,
  why: `for ${id}`,
  ok,
  remedy,
  manual: `Install ${id}.`,
});
const docker = finding('docker', { kind: 'apt', packages: ['docker.io', 'docker-cli'] });
const debootstrap = finding('debootstrap', { kind: 'apt', packages: ['debootstrap'] });
const go = finding('go', { kind: 'go', version: '1.26.8' });
const node = finding('node', { kind: 'manual' });
const debian = { apt: true };
const other = { apt: false };

describe('os-release', () => {
  test.each([
    ['Debian', 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n', 'debian', '12', true],
    ['Ubuntu', 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n', 'ubuntu', '24.04', true],
    ['Mint', 'ID=\'linuxmint\'\nID_LIKE="ubuntu debian"\nVERSION_ID=22\n', 'linuxmint', '22', true],
    ['Rocky', 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', 'rocky', '9.4', false],
    ['none', '', 'linux', '', false],
  ])('%s', (_, text, id, version, apt) => {
    expect(parseOsRelease(text)).toMatchObject({ id, version, apt });
  });
});

test.each([
  ['OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19', '9.2'],
  ['Docker version 28.2.2, build e6534b4', '28.2.2'],
  ['go version go1.26.8 linux/amd64', '1.26.8'],
  ['debootstrap 1.0.128+nmu2', '1.0.128'],
  ['12.2.0', '12.2.0'],
  ['no number', undefined],
])('the version in "%s"', (text, version) => {
  expect(versionIn(text)).toBe(version);
});

describe('what mends a machine', () => {
  test('packages together, after the lists; sudo for others than root', () => {
    const { commands } = planFix(
      [docker, debootstrap, finding('ssh', { kind: 'manual' }, true)],
      debian,
      undefined,
      1000,
    );
    expect(commands.map((words) => words.join(' '))).toEqual([
      'sudo apt-get update',
      'sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends debootstrap docker-cli docker.io',
    ]);
  });

  test('only packages that apt knows', () => {
    const { commands } = planFix([docker], debian, new Set(['docker.io']), 0);
    expect(commands[1]?.at(-1)).toBe('docker.io');
    expect(commands[1]).not.toContain('docker-cli');
    expect(commands[0]?.[0]).toBe('apt-get');
  });

  test('elsewhere it is said what to install', () => {
    expect(planFix([docker, debootstrap], other)).toMatchObject({
      commands: [],
      manual: ['Install docker.', 'Install debootstrap.'],
    });
    expect(planFix([node], debian).manual).toEqual(['Install node.']);
  });

  test('Go is fetched, not installed', () => {
    expect(planFix([go], other)).toEqual({ commands: [], go: '1.26.8', manual: [] });
  });

  test('nothing is done where nothing is missing', () => {
    expect(planFix([finding('docker', { kind: 'apt', packages: ['docker.io'] }, true)], debian)).toEqual({
      commands: [],
      go: undefined,
      manual: [],
    });
  });
});

test('findings are shown with their state and reason', () => {
  const lines = describeFindings(
    [{ ...docker, ok: true, found: 'docker 28.2.2' }, { ...go, found: 'Go 1.19' }, debootstrap],
    false,
  ).split('\n');
  expect(lines).toEqual([
    '✔ docker 28.2.2 (for docker)',
    '✘ go: Go 1.19 is too old (for go)',
    '✘ debootstrap: missing (for debootstrap)',
  ]);
});

describe('Go', () => {
  test.each([
    ['module x\n\ngo 1.26.8\n', '1.26.8'],
    ['module x\ngo 1.24\ntoolchain go1.25.0\n', '1.24'],
    ['module x\n// go 1.30\n', undefined],
  ])('the go line of %j', (text, expected) => {
    expect(goDirective(text)).toBe(expected);
  });

  test('the newest that a pinned module asks for', async () => {
    expect(await neededGo()).toMatch(/^1\.2[6-9]\.\d+$/);
  });

  test('without a private Go the environment is as it was', () => {
    const env = { K8S_ANS_CACHE: '/nonexistent', PATH: '/usr/bin' };
    expect(withPrivateGo(env)).toBe(env);
  });
});
