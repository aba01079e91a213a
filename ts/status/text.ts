/** A cluster's status as text for people. */
import pc from 'picocolors';
import { formatBytes, plural } from '../report/format.js';
import { fileLines } from '../report/plan-text.js';
import { plainTable } from '../report/table.js';
import type { ClusterStatus, DriftStatus, EtcdMemberStatus, HostState, StatusFinding } from '../types/status.js';

type Colors = ReturnType<typeof pc.createColors>;

export interface StatusTextOptions {
  readonly color: boolean;
  /** All units and certificates, not only what stands out. */
  readonly verbose: boolean;
}

/** Tables of hosts, masters, etcd, nodes and add-ons, and below them what is wrong. */
export function formatStatus(status: ClusterStatus, options: StatusTextOptions): string {
  const colors = pc.createColors(options.color);
  const parts = [
    headline(status, colors),
    hostTable(status, colors),
    masterTable(status, colors),
    etcdTable(status, colors),
    nodeTable(status, colors),
    summaryLines(status, colors),
    ...(options.verbose ? [unitTable(status, colors), certificateTable(status, colors)] : []),
    findingLines('Warnings', status.warnings, colors.yellow('!'), colors),
    findingLines('Problems', status.problems, colors.red('✖'), colors),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function headline({ cluster, kubernetes, hosts, problems, warnings }: ClusterStatus, colors: Colors): string {
  const verdict = problems.length === 0 ? colors.green('healthy') : colors.red(plural(problems.length, 'problem'));
  const also = warnings.length > 0 ? `, ${colors.yellow(plural(warnings.length, 'warning'))}` : '';
  return `${colors.bold(cluster)}: Kubernetes ${kubernetes}, ${plural(hosts.length, 'host')}: ${verdict}${also}`;
}

function hostTable({ hosts, certificates }: ClusterStatus, colors: Colors): string {
  return plainTable(
    ['Host', 'Address', 'Roles', 'Units', 'Proxy', 'First certificate to end'],
    hosts.map(({ name, address, roles, reachable, error, units, proxy }) => {
      const head = [name, address, roles.join(', ')];
      if (!reachable) return [...head, colors.red('does not answer'), '', ''];
      if (error !== undefined) return [...head, colors.red('unknown'), '', ''];
      const good = units.filter((unit) => unit.ok).length;
      const first = certificates
        .filter(({ host }) => host === name)
        .reduce<(typeof certificates)[number] | undefined>(
          (soonest, one) => (soonest === undefined || one.daysLeft < soonest.daysLeft ? one : soonest),
          undefined,
        );
      return [
        ...head,
        mark(`${good}/${units.length}`, good === units.length, colors),
        proxy === undefined ? '' : mark(proxy.ok ? 'ok' : 'no answer', proxy.ok, colors),
        first === undefined ? '' : mark(`${first.daysLeft} days: ${first.file}`, first.state === 'ok', colors),
      ];
    }),
  );
}

const COMPONENTS = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];

function masterTable({ hosts, api }: ClusterStatus, colors: Colors): string {
  const masters = hosts.filter(({ roles }) => roles.includes('masters'));
  if (masters.length === 0) return '';
  const cell = (host: HostState, component: string): string => {
    const unit = host.units.find(({ name }) => name === component);
    if (!unit) return colors.dim('unknown');
    const leads = api?.leaders.some((leader) => leader.component === component && leader.host === host.name);
    const word = component === 'kube-apiserver' ? 'ready' : leads ? 'leader' : 'running';
    return mark(unit.ok ? word : unit.state.startsWith('active') ? 'no answer' : unit.state, unit.ok, colors);
  };
  return plainTable(
    ['Master', 'API server', 'Controller manager', 'Scheduler'],
    masters.map((host) => [host.name, ...COMPONENTS.map((component) => cell(host, component))]),
  );
}

function etcdTable({ etcd }: ClusterStatus, colors: Colors): string {
  return plainTable(
    ['etcd member', 'State', 'Role', 'Version', 'Database', 'In use', 'Quota', 'Alarms'],
    etcd.members.map((member) => [
      member.name,
      member.state === 'unknown' ? colors.dim(member.detail) : mark(member.state, member.state === 'healthy', colors),
      roleOf(member),
      member.version ?? '',
      ...[member.dbBytes, member.dbBytesInUse, member.quotaBytes].map((bytes) =>
        bytes === undefined ? '' : formatBytes(bytes),
      ),
      member.alarms.length > 0 ? colors.red(member.alarms.join(', ')) : '',
    ]),
  );
}

function roleOf({ leader, learner, state }: EtcdMemberStatus): string {
  if (leader) return 'leader';
  if (learner) return 'learner';
  return state === 'unknown' ? '' : 'follower';
}

function nodeTable({ api, kubernetes }: ClusterStatus, colors: Colors): string {
  if (!api) return '';
  return plainTable(
    ['Node', 'Status', 'Version', 'Runtime'],
    api.nodes.map((node) => [
      node.name,
      mark(node.ready ? 'Ready' : 'NotReady', node.ready, colors) +
        (node.cordoned ? colors.yellow(', cordoned') : '') +
        (node.conditions.length > 0 ? colors.red(`, ${node.conditions.join(', ')}`) : ''),
      node.version === kubernetes ? node.version : colors.yellow(node.version),
      node.runtime,
    ]),
  );
}

function summaryLines(status: ClusterStatus, colors: Colors): string {
  const { api, certificates } = status;
  const lines: string[] = [];
  if (api) {
    const addons = api.workloads.map(({ name, available, wanted }) =>
      mark(`${name} ${available}/${wanted}`, available >= wanted, colors),
    );
    lines.push(`Add-ons:      ${addons.join(', ') || 'none'}`);
  }
  if (certificates.length > 0) {
    const days = Math.min(...certificates.map(({ daysLeft }) => daysLeft));
    lines.push(`Certificates: ${certificates.length} on the hosts, the first ends in ${days} days`);
  }
  return lines.join('\n');
}

/** What differs from the spec, with the differences. */
export function formatDrift({ hosts, files, error }: DriftStatus, color: boolean): string {
  const colors = pc.createColors(color);
  const parts = [colors.bold('Drift')];
  if (error !== undefined) parts.push(`${colors.yellow('!')} Not all is known: ${error}`);
  else if (files.length === 0)
    parts.push(`none: the files on ${plural(hosts.length, 'host')} are what the spec renders`);
  for (const names of new Set(files.map((file) => file.hosts.join(', ')))) {
    const own = files.filter((file) => file.hosts.join(', ') === names);
    parts.push(`  ${names}`, ...own.flatMap((file) => fileLines(file, { diffs: 'changed' }, colors)));
  }
  if (files.length > 0)
    parts.push(
      `    ${colors.dim('next:')} \`k8s-ans deploy\` puts them right; \`k8s-ans plan\` says what it would restart.`,
    );
  return parts.join('\n');
}

function unitTable({ hosts }: ClusterStatus, colors: Colors): string {
  return plainTable(
    ['Unit', 'Host', 'Since', 'State'],
    hosts.flatMap(({ name, units }) =>
      units.map((unit) => [
        unit.name,
        name,
        unit.since?.slice(0, 19).replace('T', ' ') ?? '',
        mark(unit.state, unit.ok, colors),
      ]),
    ),
  );
}

function certificateTable({ certificates }: ClusterStatus, colors: Colors): string {
  return plainTable(
    ['Certificate', 'Host', 'Subject', 'Expires', 'Days left'],
    [...certificates]
      .sort((one, other) => one.daysLeft - other.daysLeft)
      .map(({ file, host, subject, notAfter, daysLeft, state }) => [
        ...[file, host, subject, notAfter.slice(0, 10), mark(String(daysLeft), state === 'ok', colors)],
      ]),
  );
}

function findingLines(title: string, findings: ReadonlyArray<StatusFinding>, sign: string, colors: Colors): string {
  if (findings.length === 0) return '';
  const lines = findings.flatMap(({ host, message, next }) => [
    `${sign} ${host ? `${host}: ` : ''}${message}`,
    `    ${colors.dim('next:')} ${next}`,
  ]);
  return [colors.bold(title), ...lines].join('\n');
}

function mark(text: string, good: boolean, colors: Colors): string {
  return good ? text : colors.red(text);
}
