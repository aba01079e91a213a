/** What a preflight run's events say about the hosts, and the error people see. */
import { expect, test } from 'vitest';
import { architecturesOf, PreflightError, readVerdicts } from '../../ts/commands/run/preflight.js';
import type { ResultEvent, RunEvent } from '../../ts/types/events.js';

const hosts = ['m1', 'm2', 'w1'];
const play: RunEvent = { event: 'play_start', time: 0, play: 'p', phase: 'preflight', hosts };
const look = (host: string, more: Partial<ResultEvent> = {}): ResultEvent => ({
  event: 'result',
  time: 1,
  task: 'look',
  host,
  status: 'ok',
  duration: 1,
  module: 'k8s_ans.cluster.host_checks',
  ...more,
});
const judge = (preflight: Record<string, unknown>, more: Partial<ResultEvent> = {}): ResultEvent =>
  look('m1', { task: 'judge', module: 'k8s_ans.cluster.preflight', preflight, ...more });

test('all is well: architectures and remarks by host', () => {
  const notice = { host: 'w1', code: 'clock', message: 'has no time service', next: 'switch hostprep.timeSync on' };
  const events = [
    play,
    ...hosts.map((host) => look(host)),
    judge({
      architecture: { m1: 'amd64', m2: 'amd64', w1: 'arm64' },
      problems: [],
      notices: [notice],
    }),
  ];
  const verdicts = readVerdicts(events, { stats: undefined });
  expect(verdicts.map(({ host, architecture, problems }) => [host, architecture, problems])).toEqual([
    ['m1', 'amd64', []],
    ['m2', 'amd64', []],
    ['w1', 'arm64', []],
  ]);
  expect(verdicts[2]?.warnings).toEqual(['has no time service\nSwitch hostprep.timeSync on.']);
  expect(architecturesOf(verdicts)).toEqual(['amd64', 'arm64']);
});

test('problems of several hosts are one refusal, each with its reasons', () => {
  const problem = (host: string, code: string) => ({ host, code, message: `${code} on it`, next: 'mend it' });
  const events = [
    play,
    look('m1'),
    look('m2', { status: 'ignored', unreachable: true, msg: 'Task failed: ssh: Host key verification failed.' }),
    look('w1'),
    judge(
      {
        architecture: { m1: 'amd64', w1: 'riscv64' },
        problems: [
          problem('m1', 'port-taken'),
          problem('m1', 'swap'),
          problem('m2', 'unreachable'),
          problem('w1', 'arch'),
        ],
        notices: [],
      },
      { status: 'failed', msg: 'preflight refused 3 hosts' },
    ),
  ];
  const verdicts = readVerdicts(events, { stats: undefined });
  expect(verdicts.map(({ problems }) => problems.length)).toEqual([2, 1, 1]);
  expect(verdicts[1]?.problems[0]).toMatch(
    /^it cannot be reached: ssh: Host key verification failed.\nCompare the host key/,
  );
  expect(architecturesOf(verdicts)).toEqual(['amd64']);
  const error = new PreflightError(verdicts, '/runs/x/ansible.log');
  expect(error.exitCode).toBe(3);
  expect(error.message).toContain('refused 3 of 3 hosts; nothing was changed');
  expect(error.message).toContain('  m1:\n    - port-taken on it\n      Mend it.\n    - swap on it');
});

test.each([
  ['root@10.0.0.1: Permission denied (publickey).', 'ssh.privateKey'],
  ['ssh: connect to host 10.0.0.1 port 22: No route to host', 'address and port'],
])('unreachable for "%s" says what to look at', (msg, advice) => {
  const events = [play, look('m1', { status: 'unreachable', unreachable: true, msg })];
  expect(readVerdicts(events, { stats: undefined })[0]?.problems[0]).toContain(advice);
});

test('a host on which the check cannot run is refused, a broken judgement is no host’s fault', () => {
  const looked = readVerdicts([play, look('m1', { status: 'failed', msg: 'python3: not found' })], {
    stats: undefined,
  });
  expect(looked[0]?.problems).toEqual(['python3: not found']);
  const broken = { ...judge({}), preflight: undefined, status: 'failed' as const, msg: 'unknown argument' };
  expect(readVerdicts([play, look('m1'), broken], { stats: undefined }).flatMap(({ problems }) => problems)).toEqual(
    [],
  );
});
