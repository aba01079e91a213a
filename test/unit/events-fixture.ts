/** The events of a made-up deploy of five hosts, deterministic, with a failure if asked for. */
import type { ReportInput } from '../../ts/report/model.js';
import type { HostStatus, ResultEvent, RunEvent } from '../../ts/types/events.js';

export const START = Date.UTC(2026, 10, 24, 5, 0, 0);
const MASTERS = ['k8smaster01', 'k8smaster02', 'k8smaster03'];
const NODES = ['k8snode01', 'k8snode02'];
const ALL = [...MASTERS, ...NODES];

const PHASES: ReadonlyArray<readonly [string, string[], string[]]> = [
  ['hostprep', ALL, ['Install the packages', 'Write the kernel parameters', 'Switch swap off', 'Name all hosts']],
  ['artifacts', ALL, ['Send the binaries', 'Send the images']],
  ['etcd', MASTERS, ['Write the configuration', 'Start etcd', 'Wait for a healthy member']],
  ['runtime', ALL, ['Write the configuration of containerd', 'Start containerd and kube-nginx']],
  [
    'masters',
    MASTERS,
    ['Write the configuration', 'Send the certificates', 'Start the control plane', 'Wait for /readyz'],
  ],
  ['nodes', ALL, ['Write the configuration', 'Start the kubelet', 'Approve', 'Wait for the nodes']],
  ['addons', ['k8smaster01'], ['Apply CoreDNS', 'Wait for CoreDNS']],
  ['check', ALL, ['Ask the API server and DNS']],
];

export interface FixtureOptions {
  /** A task that fails on k8smaster02, with this result. */
  readonly failAt?: string;
  readonly failure?: Partial<ResultEvent>;
}

/** The events, in order. */
export function deployEvents(options: FixtureOptions = {}): RunEvent[] {
  let time = START;
  let seed = 7;
  const random = (from: number, to: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return Math.round(from + ((to - from) * seed) / 2147483648);
  };
  const events: RunEvent[] = [];
  events.push({ event: 'step_start', time, step: 'inventory' });
  events.push({ event: 'step_end', time: time + 40, step: 'inventory', status: 'ok', detail: 'unchanged' });
  events.push({ event: 'step_start', time: time + 50, step: 'certificates' });
  events.push({ event: 'step_start', time: time + 60, step: 'binaries' });
  events.push({
    event: 'run_start',
    time: time + 900,
    version: 1,
    ansible: '2.19.14',
    playbook: 'deploy.yml',
    plan: PHASES.map(([phase]) => ({ phase })),
  });
  events.push({ event: 'step_end', time: time + 2600, step: 'certificates', status: 'ok', detail: '61 files made' });
  events.push({
    event: 'step_end',
    time: time + 3100,
    step: 'binaries',
    status: 'ok',
    detail: '31 files from the cache',
  });
  time += 1200;
  for (const [phase, hosts, tasks] of PHASES) {
    events.push({ event: 'play_start', time, play: `play-${phase}`, phase, hosts });
    for (const [index, name] of tasks.entries()) {
      const task = `${phase}-${index}`;
      events.push({
        event: 'task_start',
        time,
        play: `play-${phase}`,
        task,
        name,
        action: 'k8s_ans.cluster.files',
        role: phase,
        path: `roles/${phase}/tasks/main.yml:${index * 9 + 2}`,
      });
      const long = /Send|Start|Wait|Install/.test(name) ? 4000 : 900;
      const ends = hosts.map((host) => {
        const duration = random(long / 3, long);
        const fails = options.failAt === name && host === 'k8smaster02';
        const status: HostStatus = fails ? 'failed' : /Wait|Ask|swap/.test(name) ? 'ok' : 'changed';
        events.push({ event: 'host_start', time, task, host });
        const result: ResultEvent = {
          event: 'result',
          time: time + duration,
          task,
          host,
          status,
          duration,
          ...(name.startsWith('Write')
            ? { changed_files: [`/etc/${phase}/config.yaml`, `/etc/systemd/system/${phase}.service`] }
            : {}),
          ...(name.startsWith('Start') ? { started: [`${phase}.service`] } : {}),
          ...(name.startsWith('Send') ? { bytes_sent: 61_000_000 } : {}),
          ...(fails ? { module: 'k8s_ans.cluster.units', ...options.failure } : {}),
        };
        return result;
      });
      events.push(...ends.sort((one, other) => one.time - other.time));
      time = Math.max(...ends.map((end) => end.time)) + 60;
      if (options.failAt === name) {
        events.push({ event: 'run_end', time, outcome: 'failed', exit_code: 2 });
        return events;
      }
    }
  }
  events.push({ event: 'stats', time, hosts: {} });
  events.push({ event: 'run_end', time, outcome: 'done', exit_code: 0 });
  return events;
}

/** What the report is built from. */
export function reportInput(events: RunEvent[], more: Partial<ReportInput> = {}): ReportInput {
  return {
    id: '20261124T050000Z-deploy',
    command: 'deploy',
    cluster: 'guide',
    versions: { tool: '0.1.0', kubernetes: '1.36.4' },
    outcome: 'done',
    check: false,
    start: START,
    end: (events.at(-1)?.time ?? START) + 20,
    log: '/home/someone/inventory/guide/runs/20261124T050000Z-deploy/ansible.log',
    events,
    ...more,
  };
}
