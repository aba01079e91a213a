import path from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { register } from '../../ts/commands/reset.js';
import { type HostReset, hostsToReset, type ResetOptions, readResets } from '../../ts/commands/run/reset.js';
import { formatResets, losses } from '../../ts/commands/run/reset-text.js';
import { K8sAnsError } from '../../ts/types/errors.js';
import type { RunEvent } from '../../ts/types/events.js';
import { clusterHome } from '../../ts/types/home.js';
import { packageRoot } from '../../ts/types/package.js';
import { exampleCluster } from '../fixtures/cluster.js';

const all = ['k8smaster01', 'k8smaster02', 'k8smaster03', 'k8snode01', 'k8snode02'];

function refusal(named: string[]): K8sAnsError {
  try {
    hostsToReset(exampleCluster(), named);
  } catch (error) {
    if (error instanceof K8sAnsError) return error;
  }
  throw new Error('not refused');
}

describe('the hosts to reset', () => {
  it('are all when none is named, and when all are', () => {
    expect(hostsToReset(exampleCluster(), [])).toEqual({ hosts: all, whole: true });
    expect(hostsToReset(exampleCluster(), all.toReversed())).toEqual({ hosts: all, whole: true });
  });

  it('may be workers', () => {
    expect(hostsToReset(exampleCluster(), ['k8snode02'])).toEqual({ hosts: ['k8snode02'], whole: false });
  });

  it('are no etcd member or master while others stay', () => {
    const error = refusal(['k8snode01', 'k8smaster02']);
    expect([error.code, error.exitCode]).toEqual(['host-in-use', 2]);
    expect(error.message).toBe(
      'k8smaster02 is a member of the etcd cluster of example: reset alone, it would leave the others without it.',
    );
    expect(error.next).toContain('`k8s-ans node remove k8smaster02` takes it out in order');
  });

  it('are in the spec', () => {
    const error = refusal(['k8snode03']);
    expect([error.code, error.exitCode, error.next]).toEqual([
      'unknown-host',
      2,
      'Its hosts are k8smaster01, k8smaster02, k8smaster03, k8snode01, k8snode02.',
    ]);
  });
});

const done: HostReset = {
  host: 'k8snode01',
  basis: 'ledger',
  stopped: ['pod kube-system/coredns', 'kubelet.service'],
  unmounted: [],
  removed: ['/opt/k8s'],
  restored: ['net.ipv4.ip_forward = 0'],
  left: [{ what: '/etc/kubernetes', why: 'it holds files that k8s-ans did not make: notes' }],
  failed: [],
  reboot: ['SELinux comes back at the next boot'],
};

describe('what came of the hosts', () => {
  it('is read from the events', () => {
    const result = { event: 'result', time: 0, task: 't', status: 'changed', duration: 1 } as const;
    const { host, ...reset } = done;
    const events = [
      { ...result, host, reset },
      { ...result, host: 'k8snode02' },
      { ...result, host: 'k8snode02', reset: { basis: 'nothing' } },
    ] as RunEvent[];
    expect(readResets(events)).toEqual([
      done,
      {
        host: 'k8snode02',
        basis: 'nothing',
        ...{ stopped: [], unmounted: [], removed: [], restored: [], left: [], failed: [], reboot: [] },
      },
    ]);
  });

  it('names what is left, with the reason', () => {
    expect(formatResets([done, { ...done, host: 'k8snode02', basis: 'nothing' }], false)).toBe(
      [
        'k8snode01: 2 stopped, 1 removed, 1 put back',
        '  left: /etc/kubernetes: it holds files that k8s-ans did not make: notes',
        '  SELinux comes back at the next boot',
        'k8snode02: carries nothing of k8s-ans; it was not touched.',
      ].join('\n'),
    );
    expect(formatResets([{ ...done, basis: 'known', left: [], reboot: [] }], true)).toBe(
      'k8snode01 (it has no ledger: by what k8s-ans is known to make): 2 stopped, 1 removed, 1 put back, if it were done',
    );
  });
});

describe('the question', () => {
  const options: ResetOptions = {
    cluster: exampleCluster(),
    home: clusterHome('/tmp/example'),
    ...hostsToReset(exampleCluster(), []),
    ...{ check: false, abandon: false, forget: false, again: 'k8s-ans reset' },
  };

  it('names the cluster, its hosts and what goes and stays', () => {
    const text = losses(options);
    expect(text).toContain('This destroys the cluster example on 5 hosts: k8smaster01,');
    expect(text).toContain('every object in etcd');
    expect(text).toContain('Staying on this machine: spec, keys and certificates');
    expect(losses({ ...options, forget: true })).toContain('Gone from this machine: the keys and certificates');
  });

  it('says of a single host that the cluster goes on with its Node object', () => {
    const text = losses({ ...options, ...hostsToReset(exampleCluster(), ['k8snode01']) });
    expect(text).toContain('This takes k8snode01 out of service.');
    expect(text).toContain('Its Node object stays in the cluster');
  });
});

describe('k8s-ans reset', () => {
  const spec = path.join(packageRoot(), 'inventory', 'sample', 'cluster.yaml');

  /** What a run without a terminal ends with. */
  async function failure(argv: string[], yes: boolean): Promise<unknown> {
    const say = (): void => {};
    const console = {
      interactive: false,
      json: false,
      color: false,
      verbosity: 0,
      info: say,
      warn: say,
      print: say,
      result: say,
    };
    const context = { console, signal: new AbortController().signal, env: {}, cwd: packageRoot(), yes };
    const program = new Command().exitOverride();
    register(program, async (action) => {
      await action(context);
    });
    return program.parseAsync(['reset', '--cluster', spec, ...argv], { from: 'user' }).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  it('does nothing where nobody can be asked', async () => {
    expect(await failure([], false)).toMatchObject({
      code: 'not-agreed',
      exitCode: 2,
      message: 'Nobody can be asked whether this may be destroyed; nothing was done.',
      next: 'Say so with --yes. With --check it only says what would be done.',
    });
  });

  it.each(['--forget', '--abandon'])('takes %s for the whole cluster alone', async (flag) => {
    expect(await failure(['k8snode01', flag], true)).toMatchObject({
      exitCode: 2,
      message: `${flag} goes with the whole cluster alone.`,
    });
  });
});
