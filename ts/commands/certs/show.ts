/** `k8s-ans certs show`: the cluster's certificates, on this machine and in use on the hosts, and when they expire. */
import type { Command } from 'commander';
import type { Run } from '../../cli/register.js';
import { type InspectedCertificate, inspectPki } from '../../pki/inspect.js';
import type { Observation } from '../../pki/observed.js';
import { loadCluster } from '../../spec/load.js';
import { clusterOption, locateCluster } from '../../spec/locate.js';
import type { CommandContext } from '../../types/console.js';
import { runError } from '../../types/errors.js';
import type { ClusterHome } from '../../types/home.js';
import { observeCertificates } from '../run/certificates.js';
import { runSession } from '../run/session.js';
import { parseDays } from './days.js';
import { type HostRow, hostRows, hostTable, localTable } from './table.js';

/** Days before its end from which a certificate counts as expiring. */
const DEFAULT_DAYS = 30;

interface ShowOptions {
  readonly cluster?: string;
  readonly days: number;
  readonly limit?: string;
  readonly local?: boolean;
}

export function addShow(certs: Command, run: Run): void {
  certs
    .command('show')
    .description(
      'list the certificates on this machine and those in use on the hosts; exit code 1 when one expires soon',
    )
    .option('--cluster <name|folder|file>', clusterOption)
    .option('--days <n>', 'what counts as soon, in days', parseDays, DEFAULT_DAYS)
    .option('--local', 'only the files on this machine: the hosts are not asked')
    .option('--limit <hosts>', "ask only these hosts or groups, as ansible-playbook's --limit")
    .action((options: ShowOptions) => run((context) => show(context, options)));
}

async function show(context: CommandContext, options: ShowOptions): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const certificates = await inspectPki(home);
  console.print(localTable(certificates, console.verbosity > 0, console.color));

  const observation = options.local ? undefined : await observe(context, home, options.limit);
  const rows = observation === undefined ? [] : hostRows(observation, certificates);
  if (rows.length > 0) console.print(`\nIn use on the hosts:\n${hostTable(rows, console.color)}`);
  for (const { host, place, reason } of observation?.silent ?? []) {
    console.warn(`${host}: ${place ? `${place}: ` : ''}${reason}`);
  }

  const expiring = [
    ...certificates.filter(({ daysLeft }) => daysLeft < options.days).map(({ path }) => path),
    ...rows.filter(({ daysLeft }) => daysLeft < options.days).map(({ host, place }) => `${host}: ${place}`),
  ];
  console.result('certificates', {
    days: options.days,
    expiring,
    certificates: certificates.map((certificate) => ({
      ...certificate,
      notBefore: certificate.notBefore.toISOString(),
      notAfter: certificate.notAfter.toISOString(),
    })),
    ...(observation === undefined ? {} : { hosts: rows.map(rowResult), silent: observation.silent }),
  });
  if (expiring.length > 0) throw expiringError(home, options, expiring, certificates);
}

function rowResult(row: HostRow): Record<string, unknown> {
  return { ...row, notAfter: row.notAfter.toISOString() };
}

async function observe(context: CommandContext, home: ClusterHome, limit: string | undefined): Promise<Observation> {
  const cluster = await loadCluster(home);
  let found: Observation = { certificates: [], silent: [] };
  const settings = { command: 'certs show', cluster, home, lock: false, check: true };
  const { error } = await runSession(context, settings, async (session) => {
    found = await observeCertificates(session, limit);
  });
  if (error !== undefined) throw error;
  return found;
}

function expiringError(
  home: ClusterHome,
  { days }: ShowOptions,
  expiring: ReadonlyArray<string>,
  certificates: ReadonlyArray<InspectedCertificate>,
): Error {
  const authority = certificates.some(({ isAuthority, daysLeft }) => isAuthority && daysLeft < days);
  const count = expiring.length === 1 ? `${expiring[0]} has` : `${expiring.length} certificates have`;
  return runError(`${count} expired, or will within ${days} days.`, {
    code: 'certificates-expiring',
    where: home.pki,
    next: authority
      ? 'A CA is among them, and what it signed ends with it: replace it with `k8s-ans certs rotate-ca`.'
      : `Run \`k8s-ans certs renew --days ${days}\`. Kubelets renew their own certificates, and are given new ones by it when those have expired.`,
  });
}
