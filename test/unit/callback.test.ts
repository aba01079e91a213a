/** The Ansible callback and the runner, by real runs on localhost. */
import { expect, test } from 'vitest';
import { PLAYBOOKS, record, resultsOf } from './ansible.js';

const CANARY = 'canary-5f1c0e7a-value';

test('a run with every kind of outcome', { timeout: 300_000 }, async () => {
  const { events, result, log } = await record('outcomes.yml', {
    env: { ...process.env, TEST_CANARY: CANARY },
    verbosity: 3,
  });

  expect(result.outcome).toBe('failed');
  expect(events[0]).toMatchObject({
    event: 'run_start',
    version: 1,
    plan: [{ phase: 'etcd' }, { phase: 'masters' }],
    playbook: 'outcomes.yml',
  });
  expect(events.filter((event) => event.event === 'play_start')).toMatchObject([
    { phase: 'etcd', hosts: ['here', 'gone'] },
    { phase: 'masters', hosts: ['here'] },
  ]);
  expect(events.some((event) => event.event === 'host_start')).toBe(true);

  const status = (name: string) => resultsOf(events, name).map((event) => event.status);
  expect(resultsOf(events, 'Reach the host').map(({ host, status }) => [host, status])).toEqual(
    expect.arrayContaining([
      ['here', 'ok'],
      ['gone', 'unreachable'],
    ]),
  );
  expect(resultsOf(events, 'Loop')).toMatchObject([{ status: 'changed', items: 3, items_changed: 1 }]);
  expect(status('Skip')).toEqual(['skipped']);
  expect(resultsOf(events, 'Ignore')).toMatchObject([{ status: 'ignored', stderr: 'oops', rc: 3 }]);
  expect(resultsOf(events, 'Fail inside')).toMatchObject([{ status: 'rescued', msg: 'rescued cause' }]);
  expect(status('Rescue it')).toEqual(['ok']);
  expect(events.filter((event) => event.event === 'retry').length).toBeGreaterThan(0);
  expect(resultsOf(events, 'Retry')).toMatchObject([{ status: 'ignored', attempts: 2 }]);
  const [failure] = resultsOf(events, 'Fail with terminal escapes and a key');
  expect(failure).toMatchObject({ status: 'failed', module: 'ansible.builtin.fail' });
  expect(failure?.msg).toBe('red (hidden: private key) token (hidden)');

  // What was hidden stays hidden, in the events and in the log at -vvv.
  expect(resultsOf(events, 'Keep a secret')).toMatchObject([
    { status: 'ignored', msg: '(hidden: the task has no_log)' },
  ]);
  expect(resultsOf(events, 'Keep secrets in a loop')).toMatchObject([{ status: 'ignored', items: 1 }]);
  expect(JSON.stringify(events)).not.toContain(CANARY);
  expect(log).toContain('Keep a secret');
  expect(log).not.toContain(CANARY);

  const stats = events.find((event) => event.event === 'stats');
  expect(stats?.hosts.here).toMatchObject({ failures: 1, rescued: 1, skipped: 1, unreachable: 0, items: 4 });
  expect(stats?.hosts.gone).toMatchObject({ unreachable: 1 });
  expect(result.stats).toEqual(stats?.hosts);
  expect(events.at(-1)).toMatchObject({ event: 'run_end', outcome: 'failed', exit_code: result.exitCode });
});

test('what changed, and the journal of a unit that failed', { timeout: 120_000 }, async () => {
  const { events, result } = await record('results.yml');
  expect(result.outcome).toBe('failed');
  expect(resultsOf(events, 'Change files')).toMatchObject([
    {
      status: 'changed',
      changed_files: ['/etc/a', '/etc/b'],
      restarted: ['etcd.service'],
      bytes_sent: 1200,
      preflight: { architecture: 'amd64', problems: [] },
    },
  ]);
  expect(resultsOf(events, 'Change files in a loop')).toMatchObject([{ changed_files: ['/x', '/y'], bytes_sent: 2 }]);
  expect(resultsOf(events, 'Start a unit')).toMatchObject([
    { status: 'failed', msg: 'unit etcd.service failed', unit: 'etcd.service', journal: ['line one', 'line two'] },
  ]);
});

test('differences in diff mode, and what a module found on a host', { timeout: 120_000 }, async () => {
  const { events } = await record('diffs.yml', { diff: true, env: { ...process.env, TEST_CANARY: CANARY } });
  expect(resultsOf(events, 'Change a file')).toMatchObject([
    {
      changed_files: ['/etc/a', 'node/a'],
      changed_objects: ['node/a'],
      reloaded: ['kube-nginx.service'],
      diff: [{ file: '/etc/a', added: 1, removed: 1, text: '@@ -1 +1 @@\n-x\n+y' }],
    },
  ]);
  expect(resultsOf(events, 'Change a file without showing it')[0]).not.toHaveProperty('diff');
  expect(resultsOf(events, 'Keep a secret')[0]).not.toHaveProperty('diff');
  expect(JSON.stringify(events)).not.toContain(CANARY);
  expect(resultsOf(events, 'Look at a host')[0]?.host_status).toEqual({ units: [{ name: 'etcd.service' }] });

  const { events: plain } = await record('diffs.yml', { env: { ...process.env, TEST_CANARY: CANARY } });
  expect(resultsOf(plain, 'Change a file')[0]).not.toHaveProperty('diff');
});

test('an unreachable host alone', { timeout: 120_000 }, async () => {
  const { result } = await record('outcomes.yml', { limit: 'gone' });
  expect(result).toMatchObject({ outcome: 'unreachable', exitCode: 4 });
});

test(
  'a playbook that does not parse is an environment error with what Ansible said',
  {
    timeout: 120_000,
  },
  async () => {
    const run = record('broken.yml');
    await expect(run).rejects.toMatchObject({ code: 'ansible-refused', exitCode: 4 });
    await expect(run).rejects.toThrow(/nonsense/);
  },
);

test('arguments that ansible-playbook does not take are a usage error', { timeout: 120_000 }, async () => {
  await expect(record('slow.yml', { passThrough: ['--no-such-option'] })).rejects.toMatchObject({
    code: 'ansible-arguments',
    exitCode: 2,
  });
});

test('an events channel that cannot be written to does not fail the run', { timeout: 120_000 }, async () => {
  const { execa } = await import('execa');
  const { testAnsible } = await import('./ansible.js');
  const ansible = await testAnsible();
  const run = await execa(
    ansible.playbook,
    ['-i', `${PLAYBOOKS}/hosts.yml`, '-l', 'here', `${PLAYBOOKS}/results.yml`],
    {
      env: {
        ANSIBLE_CONFIG: ansible.config,
        ANSIBLE_COLLECTIONS_PATH: ansible.collections,
        K8S_ANS_EVENTS: '/nowhere/events',
      },
      reject: false,
      stdin: 'ignore',
    },
  );
  expect(run.exitCode).toBe(2);
  expect(run.stderr + run.stdout).toContain('goes on without events');
  expect(run.stdout).toContain('Start a unit');
});
