/** How a cluster's status is read from events, judged and shown. */
import { createPrivateKey } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { generatePrivateKey, issueAuthority } from '../../ts/pki/x509.js';
import { driftOf } from '../../ts/status/drift.js';
import { type JudgeOptions, judgeCluster } from '../../ts/status/judge.js';
import { type HostFindings, type Observation, readObservations } from '../../ts/status/observe.js';
import { formatDrift, formatStatus } from '../../ts/status/text.js';
import type { RunEvent } from '../../ts/types/events.js';
import type { ClusterStatus } from '../../ts/types/status.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';

const NOW = new Date('2026-11-24T12:00:00Z');
const DAY = 24 * 60 * 60 * 1000;
const MASTERS = ['k8smaster01', 'k8smaster02', 'k8smaster03'];
const cluster = exampleCluster({
  hosts: [
    ...MASTERS.map((name, index) => exampleHost(name, `172.24.8.7${index + 1}`, ['masters', 'etcd'])),
    exampleHost('k8snode01', '172.24.8.74', ['nodes']),
  ],
});
const GIB = 1024 ** 3;

let pem: string;
/** A certificate of a year that ends in 100 days. */
beforeAll(async () => {
  const key = createPrivateKey(await generatePrivateKey(2048));
  const validity = { days: 365, now: new Date(NOW.getTime() - 265 * DAY) };
  pem = issueAuthority(key, { commonName: 'ca', unit: 'test' }, validity);
});

type Unit = HostFindings['units'][number];

function unit(name: string, more: Partial<Unit> = {}): Unit {
  return {
    name: `${name}.service`,
    load: 'loaded',
    active: 'active',
    sub: 'running',
    result: 'success',
    restarts: 0,
    since: NOW.getTime() / 1000 - 3600,
    answers: true,
    said: '',
    journal: [],
    ...more,
  };
}

const ETCD_IDS = ['a1', 'b2', 'c3'];

function etcd(index: number, more: Partial<NonNullable<HostFindings['etcd']>> = {}): HostFindings['etcd'] {
  return {
    health: true,
    said: '',
    error: '',
    member: {
      id: ETCD_IDS[index] as string,
      leader: 'a1',
      version: '3.6.14',
      db_bytes: 4 * 1024 ** 2,
      db_bytes_in_use: 3 * 1024 ** 2,
      quota_bytes: 8 * GIB,
      learner: false,
      errors: [],
    },
    members: MASTERS.map((name, at) => ({ id: ETCD_IDS[at] as string, name, learner: false, started: true })),
    ...more,
  };
}

function api(): NonNullable<HostFindings['api']> {
  return {
    error: '',
    nodes: [...MASTERS, 'k8snode01'].map((name) => ({
      name,
      ready: true,
      reason: '',
      version: 'v1.36.4',
      runtime: 'containerd://2.3.0',
      cordoned: false,
      conditions: [],
    })),
    leaders: [
      { name: 'kube-controller-manager', holder: 'k8smaster02', renewed: '2026-11-24T11:59:58.000000Z', seconds: 15 },
      { name: 'kube-scheduler', holder: 'k8smaster01', renewed: '2026-11-24T11:59:58.000000Z', seconds: 15 },
    ],
    workloads: [{ kind: 'Deployment', name: 'coredns', wanted: 2, available: 2, updated: 2 }],
  };
}

function master(index: number): HostFindings {
  return {
    units: ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-nginx', 'kubelet'].map(
      (name) => unit(name),
    ),
    probes: [{ name: 'proxy', answers: true, said: '' }],
    certificates: [{ file: '/etc/kubernetes/cert/apiserver.crt', pem }],
    etcd: etcd(index),
    api: api(),
  };
}

const node = (): HostFindings => ({
  units: [unit('kube-nginx'), unit('kubelet')],
  probes: [{ name: 'proxy', answers: true, said: '' }],
  certificates: [],
});

/** All four hosts; `changes` replaces parts of what some of them say. */
function observations(changes: Record<string, Partial<HostFindings> | 'down'> = {}): Observation[] {
  const found: Record<string, HostFindings> = {
    k8smaster01: master(0),
    k8smaster02: master(1),
    k8smaster03: master(2),
    k8snode01: node(),
  };
  return Object.entries(found).map(([host, findings]) => {
    const change = changes[host];
    return change === 'down'
      ? { host, reachable: false, error: 'No route to host' }
      : { host, reachable: true, findings: { ...findings, ...change } };
  });
}

function judge(changes: Parameters<typeof observations>[0] = {}, more: Partial<JudgeOptions> = {}): ClusterStatus {
  return judgeCluster({ cluster, observations: observations(changes), days: 14, now: NOW, ...more });
}

const said = (findings: ClusterStatus['problems']): string[] =>
  findings.map(({ host, message }) => `${host ?? '-'}: ${message}`);

describe('what the events say', () => {
  test('findings, an unreachable host, a module that failed, a host without a result', () => {
    const result = (host: string, more: object): RunEvent =>
      ({ event: 'result', time: 1, task: 't', status: 'ok', duration: 1, host, ...more }) as RunEvent;
    const events = [
      result('a', { host_status: JSON.parse(JSON.stringify(node())) }),
      result('b', {
        status: 'ignored',
        unreachable: true,
        msg: 'Data could not be sent to remote host "b". Make sure this host can be reached over ssh: ssh: connect to host b port 22: No route to host',
      }),
      result('c', { status: 'ignored', msg: 'systemctl show failed' }),
    ];
    expect(readObservations(['a', 'b', 'c', 'd'], events)).toEqual([
      { host: 'a', reachable: true, findings: node() },
      { host: 'b', reachable: false, error: 'ssh: connect to host b port 22: No route to host' },
      { host: 'c', reachable: true, error: 'systemctl show failed' },
      { host: 'd', reachable: true, error: 'it was not looked at' },
    ]);
  });
});

describe('the judgement', () => {
  test('all is well', () => {
    const status = judge();
    expect(status).toMatchObject({ healthy: true, problems: [], warnings: [] });
    expect(status.etcd).toMatchObject({ leader: 'k8smaster01', healthy: 3, quorum: 2 });
    expect(status.api?.from).toBe('k8smaster01');
    expect(status.certificates).toHaveLength(3);
    expect(status.certificates[0]).toMatchObject({ subject: 'CN=ca, OU=test', daysLeft: 100, state: 'ok' });
    expect(formatStatus(status, { color: false, verbose: false })).toBe(
      [
        'example: Kubernetes 1.36.4, 4 hosts: healthy',
        '',
        'Host         Address      Roles          Units  Proxy  First certificate to end',
        'k8smaster01  172.24.8.71  masters, etcd  6/6    ok     100 days: /etc/kubernetes/cert/apiserver.crt',
        'k8smaster02  172.24.8.72  masters, etcd  6/6    ok     100 days: /etc/kubernetes/cert/apiserver.crt',
        'k8smaster03  172.24.8.73  masters, etcd  6/6    ok     100 days: /etc/kubernetes/cert/apiserver.crt',
        'k8snode01    172.24.8.74  nodes          2/2    ok',
        '',
        'Master       API server  Controller manager  Scheduler',
        'k8smaster01  ready       running             leader',
        'k8smaster02  ready       leader              running',
        'k8smaster03  ready       running             running',
        '',
        'etcd member  State    Role      Version  Database  In use   Quota    Alarms',
        'k8smaster01  healthy  leader    3.6.14   4.0 MiB   3.0 MiB  8.0 GiB',
        'k8smaster02  healthy  follower  3.6.14   4.0 MiB   3.0 MiB  8.0 GiB',
        'k8smaster03  healthy  follower  3.6.14   4.0 MiB   3.0 MiB  8.0 GiB',
        '',
        'Node         Status  Version  Runtime',
        'k8smaster01  Ready   1.36.4   containerd://2.3.0',
        'k8smaster02  Ready   1.36.4   containerd://2.3.0',
        'k8smaster03  Ready   1.36.4   containerd://2.3.0',
        'k8snode01    Ready   1.36.4   containerd://2.3.0',
        '',
        'Add-ons:      coredns 2/2',
        'Certificates: 3 on the hosts, the first ends in 100 days',
      ].join('\n'),
    );
  });

  test('the first master is down: it is named, and the second one is asked', () => {
    const status = judge({ k8smaster01: 'down' });
    expect(said(status.problems)).toEqual(['k8smaster01: it does not answer over SSH: No route to host']);
    expect(status.problems[0]?.next).toContain('k8s-ans node remove k8smaster01');
    expect(status.api?.from).toBe('k8smaster02');
    expect(status.etcd).toMatchObject({ healthy: 2, quorum: 2 });
    expect(status.etcd.members[0]).toMatchObject({ name: 'k8smaster01', state: 'unknown', leader: false });
    const text = formatStatus(status, { color: false, verbose: false });
    expect(text).toContain('k8smaster01  172.24.8.71  masters, etcd  does not answer');
    expect(text).toContain('✖ k8smaster01: it does not answer over SSH: No route to host\n    next: See that it runs');
  });

  test('etcd is down on one member', () => {
    const dead = { health: false, said: 'Connection refused', error: 'context deadline exceeded', member: null };
    const units = [
      unit('etcd', { active: 'failed', sub: 'failed', result: 'exit-code', answers: false, journal: ['x: panic'] }),
    ];
    const status = judge({ k8smaster03: { units, etcd: etcd(2, { ...dead, members: [] }) } });
    expect(said(status.problems)).toEqual([
      'k8smaster03: etcd is failed (exit-code); its last words: x: panic',
      'k8smaster03: its etcd member is not healthy: context deadline exceeded',
    ]);
    expect(status.etcd).toMatchObject({ healthy: 2, quorum: 2, leader: 'k8smaster01' });
  });

  test('no quorum, and so no API', () => {
    const dead = { health: false, said: 'Connection refused', error: 'context deadline exceeded', member: null };
    const noApi = { ...api(), error: 'the server is currently unable to handle the request' };
    const lone = etcd(0, { health: false, said: '503 Service Unavailable' });
    const status = judge({
      k8smaster01: { etcd: lone, api: noApi },
      k8smaster02: { etcd: etcd(1, { ...dead, members: [] }), api: noApi },
      k8smaster03: 'down',
      k8snode01: { probes: [{ name: 'proxy', answers: false, said: 'Connection refused' }] },
    });
    expect(said(status.problems)).toEqual([
      'k8smaster03: it does not answer over SSH: No route to host',
      '-: only 0 of 3 etcd members are known to be healthy, and 2 have to be',
      '-: no API server answers: the server is currently unable to handle the request',
    ]);
    expect(status.problems[1]?.next).toContain('k8s-ans etcd restore');
    expect(status.api).toBeUndefined();
    expect(formatStatus(status, { color: false, verbose: false })).not.toContain('Add-ons');
  });

  test('no quorum with all hosts there; and no host at all', () => {
    const dead = etcd(0, { health: false, said: 'Connection refused', error: 'refused', member: null, members: [] });
    const status = judge({ k8smaster01: { etcd: dead }, k8smaster02: { etcd: dead } });
    expect(said(status.problems)).toEqual(['-: etcd has no quorum: 1 of 3 members are healthy, and 2 have to be']);
    const nothing = judge({ k8smaster01: 'down', k8smaster02: 'down', k8smaster03: 'down', k8snode01: 'down' });
    expect(said(nothing.problems).slice(4)).toEqual([
      '-: only 0 of 3 etcd members are known to be healthy, and 2 have to be',
      '-: no master answers, so that nothing is known of the API',
    ]);
  });

  test('alarms, a full database, members that the spec and etcd do not share', () => {
    const members = [
      ...(etcd(0)?.members ?? []).slice(0, 2),
      { id: 'd4', name: 'k8smaster04', learner: false, started: false },
    ];
    const member = { ...etcd(0)?.member, db_bytes: 7 * GIB, errors: ['memberID:161 alarm:NOSPACE'] };
    const status = judge({ k8smaster01: { etcd: etcd(0, { member: member as never, members }) } });
    expect(said(status.problems)).toEqual([
      '-: etcd has raised the alarm NOSPACE (seen by k8smaster01)',
      'k8smaster03: the spec has it as an etcd member, and etcd does not know it',
    ]);
    expect(said(status.warnings)).toEqual([
      'k8smaster01: its database has reached 87 % of its quota',
      '-: etcd has a member k8smaster04 that the spec does not have and that has never started',
    ]);
  });

  test('units, nodes, leaders, add-ons and the proxy', () => {
    const view = api();
    const nodes = [
      { ...view.nodes[0], ready: false, reason: 'container runtime is down' },
      { ...view.nodes[1], version: 'v1.36.3', cordoned: true },
      { ...view.nodes[3], conditions: ['DiskPressure'] },
      { ...view.nodes[3], name: 'k8snode09' },
    ] as typeof view.nodes;
    const leaders = [{ ...view.leaders[0], renewed: '2026-11-24T11:50:00Z' }] as typeof view.leaders;
    const workloads = [{ kind: 'Deployment', name: 'coredns', wanted: 2, available: 1, updated: 2 }];
    const status = judge({
      k8smaster01: { api: { ...view, nodes, leaders, workloads } },
      k8smaster02: {
        units: [unit('kubelet', { restarts: 3 }), unit('flanneld', { load: 'not-found', active: 'inactive' })],
      },
      k8snode01: {
        units: [unit('kubelet', { answers: false, said: 'timed out' })],
        probes: [{ name: 'proxy', answers: false, said: 'EOF' }],
      },
    });
    expect(said(status.problems)).toEqual([
      'k8smaster02: flanneld is not installed',
      'k8snode01: kubelet is active, but it does not answer: timed out',
      '-: kube-controller-manager has no leader: the last one (k8smaster02) was heard of 600 s ago',
      '-: kube-scheduler has no leader',
      'k8smaster01: its node is not ready: container runtime is down',
      'k8smaster03: the API has no node of this name',
      'k8snode01: its node reports DiskPressure',
      '-: coredns has 1 of 2 pods available',
      'k8snode01: the API does not answer through its kube-nginx: EOF',
    ]);
    expect(said(status.warnings)).toEqual([
      'k8smaster02: kubelet runs, but systemd had to restart it 3 times',
      'k8smaster02: its kubelet is 1.36.3, and the spec says 1.36.4',
      'k8smaster02: its node is cordoned: no pod is scheduled there',
      '-: the API has a node k8snode09 that the spec does not have',
    ]);
    for (const { next } of [...status.problems, ...status.warnings]) expect(next).toMatch(/\.$|\)$/);
  });

  test('a host that was never deployed to', () => {
    const bare = ['kubelet', 'kube-nginx'].map((name) =>
      unit(name, { load: 'not-found', active: 'inactive', answers: false }),
    );
    const status = judge({ k8snode01: { units: bare } });
    expect(said(status.problems)).toEqual(['k8snode01: nothing of the cluster is installed here']);
  });

  test.each([
    [new Date(NOW.getTime() + 95 * DAY), 14, 'soon', 'ends in 5 days'],
    [new Date(NOW.getTime() + 101 * DAY), 14, 'expired', 'has expired'],
    // Near is a fifth of the lifetime at most, whatever is asked for.
    [NOW, 3000, 'ok', ''],
  ] as const)('certificates at %s', (now, days, state, words) => {
    const status = judge({}, { now, days });
    expect(status.certificates[0]?.state).toBe(state);
    const own = status.problems.filter(({ area }) => area === 'certificate');
    expect(own.map(({ message }) => message)).toEqual(
      words === '' ? [] : MASTERS.map(() => `/etc/kubernetes/cert/apiserver.crt ${words}`),
    );
  });

  test('drift is a warning, alike on several hosts once', () => {
    const file = { path: '/etc/a', action: 'change', phase: 'masters', diff: '-x\n+y', added: 1, removed: 1 } as const;
    const host = { images: [], units: [], steps: [] };
    const plan = {
      changes: true,
      local: [],
      objects: [],
      hosts: [
        { host: 'k8smaster01', files: [file], ...host },
        { host: 'k8smaster02', files: [file, { path: '/etc/b', action: 'create', phase: 'etcd' } as const], ...host },
      ],
    };
    const drift = driftOf(plan, ['k8smaster01', 'k8smaster02']);
    expect(drift.files.map(({ path, hosts }) => [path, hosts])).toEqual([
      ['/etc/a', ['k8smaster01', 'k8smaster02']],
      ['/etc/b', ['k8smaster02']],
    ]);
    const status = judge({}, { drift });
    expect(status.healthy).toBe(true);
    expect(said(status.warnings)).toEqual([
      'k8smaster01, k8smaster02: /etc/a is not what the spec renders',
      'k8smaster02: /etc/b is not what the spec renders',
    ]);
    expect(formatDrift(drift, false)).toBe(
      [
        'Drift',
        '  k8smaster01, k8smaster02',
        '  ~ /etc/a  +1 -1',
        '      -x',
        '      +y',
        '  k8smaster02',
        '  + /etc/b',
        '    next: `k8s-ans deploy` puts them right; `k8s-ans plan` says what it would restart.',
      ].join('\n'),
    );
    expect(formatDrift(driftOf({ ...plan, hosts: [] }, ['k8smaster01']), false)).toBe(
      'Drift\nnone: the files on 1 host are what the spec renders',
    );
  });
});
