import { describe, expect, test } from 'vitest';
import { loadCatalog } from '../../ts/artifacts/index.js';
import { type Look, readLook, refusal } from '../../ts/commands/upgrade/look.js';
import { upgradeSteps, versionsByHost } from '../../ts/commands/upgrade/steps.js';
import { checkTarget, lanesOf, mayTurn } from '../../ts/commands/upgrade/target.js';
import { K8sAnsError } from '../../ts/types/errors.js';
import type { RunEvent } from '../../ts/types/events.js';

const catalog = loadCatalog();

function failureOf(work: () => unknown): { code: string; message: string; next: string | undefined } {
  try {
    work();
  } catch (error) {
    if (error instanceof K8sAnsError) return { code: error.code, message: error.message, next: error.next };
    throw error;
  }
  throw new Error('it was not refused');
}

describe('the target', () => {
  test('a patch of a known minor is taken, with or without a v', () => {
    expect(checkTarget('1.36.4', '1.35.4', catalog)).toBe('1.36.4');
    expect(checkTarget('v1.36.3', '1.36.4', catalog)).toBe('1.36.3');
  });

  test('a minor alone is no version, and the patch to write is named', () => {
    expect(failureOf(() => checkTarget('1.36', '1.35.4', catalog))).toEqual({
      code: 'upgrade-version',
      message: '1.36 is not a Kubernetes release',
      next: 'Write all three numbers, such as --to 1.36.4.',
    });
    expect(failureOf(() => checkTarget('1.36.4-rc.1', '1.35.4', catalog)).code).toBe('upgrade-version');
  });

  test('two minors on: the step that comes first', () => {
    expect(failureOf(() => checkTarget('1.37.0', '1.35.4', catalog))).toEqual({
      code: 'upgrade-step',
      message: 'Kubernetes goes up one minor at a time, and 1.37.0 is more than one on from 1.35.4',
      next: 'First run `k8s-ans upgrade --to 1.36.4`.',
    });
  });

  test('a version without artifacts is refused before anything', () => {
    expect(failureOf(() => checkTarget('1.34.2', '1.35.4', catalog))).toEqual({
      code: 'upgrade-no-artifacts',
      message: '"1.34.2" is too old: Kubernetes 1.34 reached its end of life on 2026-10-27, supported are 1.35 to 1.37',
      next: 'This release can go to 1.35.4, 1.36.4, 1.37.2 and other patch versions of these minors.',
    });
  });

  test('the lanes are the catalog’s', () => {
    expect(lanesOf(catalog)).toEqual({ '1.35': '1.35.4', '1.36': '1.36.4', '1.37': '1.37.2' });
  });

  test('a pending upgrade may be turned within its minor, or back to where it began', () => {
    const pending = { subject: '1.36.4', from: '1.35.4' };
    expect(mayTurn(pending, '1.36.3')).toBe(true);
    expect(mayTurn(pending, '1.35.4')).toBe(true);
    expect(mayTurn(pending, '1.35.5')).toBe(false);
    expect(mayTurn(pending, '1.37.0')).toBe(false);
  });
});

const masters = ['m1', 'm2', 'm3'].map((name) => ({ name }));
const cluster = { masters, hosts: [...masters, { name: 'n1' }, { name: 'n2' }] } as never;

function look(changes: Partial<Look> = {}): Look {
  const node = (name: string, version: string) => ({ name, version, ready: true, closed: false, ours: false });
  return {
    target: '1.36.4',
    from: '1.35.4',
    reached: false,
    api_servers: masters.map(({ name }) => ({ host: name, version: '1.35.4', problem: null })),
    etcd: masters.map(({ name }) => ({ host: name, version: '3.6.14', problem: null })),
    nodes: [...masters.map(({ name }) => name), 'n1', 'n2'].map((name) => node(name, '1.35.4')),
    problems: [],
    notices: [],
    removed_apis: [],
    later_removed_apis: [],
    ...changes,
  };
}

describe('the steps', () => {
  test('of a whole cluster', () => {
    expect(upgradeSteps({ cluster, look: look(), etcd: '3.6.15', batch: '20%' })).toEqual([
      'a snapshot of etcd is taken',
      'binaries and images of 1.36.4 are brought to all 5 hosts, and nothing is installed yet',
      'etcd goes to 3.6.15, one member after another: m1 (3.6.14), m2 (3.6.14), m3 (3.6.14)',
      'the API servers go to 1.36.4, one after another: m1, m2, m3',
      'controller manager and scheduler follow, one master after another',
      'each master is emptied, upgraded and opened again, one after another: m1, m2, m3',
      'the nodes likewise, 20% at a time: n1, n2',
      'the add-ons are applied, and the cluster is checked',
    ]);
  });

  test('of one that was stopped on the way', () => {
    const before = look();
    const nodes = before.nodes.map((node) =>
      node.name === 'n2' ? node : { ...node, version: '1.36.4', ours: node.name === 'n1' },
    );
    const api_servers = before.api_servers.map((server) => ({ ...server, version: '1.36.4' }));
    const steps = upgradeSteps({ cluster, look: look({ nodes, api_servers }), etcd: '3.6.14', batch: '1' });
    expect(steps.slice(2)).toEqual([
      'etcd is at 3.6.14 already',
      'the API servers are at 1.36.4 already',
      'controller manager and scheduler follow, one master after another',
      'the nodes likewise, one after another: n1, n2',
      '3 of 5 nodes are at 1.36.4 already and keep their pods',
      'the add-ons are applied, and the cluster is checked',
    ]);
  });

  test('from and to by host', () => {
    const versions = versionsByHost(cluster, look());
    const way = { from: '1.35.4', to: '1.36.4' };
    expect(versions[0]).toEqual({ host: 'm1', apiServer: way, kubelet: way });
    expect(versions[4]).toEqual({ host: 'n2', apiServer: undefined, kubelet: way });
  });
});

describe('the look', () => {
  test('is read from the events, the last one', () => {
    const event = (upgrade: unknown) => ({ event: 'result', upgrade }) as RunEvent;
    expect(readLook([event(look()), event(look({ reached: true }))])?.reached).toBe(true);
    expect(readLook([event({ target: 1 })])).toBeUndefined();
    expect(readLook([])).toBeUndefined();
  });

  test('all reasons are in the refusal, and the skew names the code', () => {
    const problems = [
      {
        code: 'skew-step',
        host: null,
        message: 'Kubernetes goes up one minor at a time',
        next: 'first upgrade to 1.36.4',
      },
      { code: 'node-not-ready', host: 'n1', message: 'the node is not ready: x', next: 'kubectl describe node n1' },
    ];
    const error = refusal(look({ target: '1.37.1', problems }), 'ansible.log');
    expect({ code: error.code, exitCode: error.exitCode, message: error.message.split('\n') }).toEqual({
      code: 'skew-step',
      exitCode: 3,
      message: [
        'the upgrade to 1.37.1 is refused; nothing was changed',
        '    - Kubernetes goes up one minor at a time',
        '      next: first upgrade to 1.36.4',
        '    - n1: the node is not ready: x',
        '      next: kubectl describe node n1',
      ],
    });
  });
});
