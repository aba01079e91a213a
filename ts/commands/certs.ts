/** `k8s-ans certs show`: the cluster's certificates and when they expire. */
import Table from 'cli-table3';
import { InvalidArgumentError } from 'commander';
import type { Register } from '../cli/register.js';
import { type InspectedCertificate, inspectPki } from '../pki/inspect.js';
import { clusterOption, locateCluster } from '../spec/locate.js';
import type { CommandContext } from '../types/console.js';
import { runError } from '../types/errors.js';

/** Days before its end from which a certificate counts as expiring. */
const DEFAULT_DAYS = 30;

export const register: Register = (program, run) => {
  const certs = program.command('certs').description('the certificates of a cluster');
  certs
    .command('show')
    .description('list every certificate on this machine with its expiry; exit code 1 when one expires soon')
    .option('--cluster <name|dir|file>', clusterOption)
    .option('--days <n>', 'what counts as soon, in days', parseDays, DEFAULT_DAYS)
    .action((options: { cluster?: string; days: number }) => run((context) => show(context, options)));
};

async function show(context: CommandContext, options: { cluster?: string; days: number }): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const certificates = await inspectPki(home);
  const expiring = certificates.filter((certificate) => certificate.daysLeft < options.days);

  console.print(table(certificates, console.verbosity > 0, console.color));
  console.result('certificates', {
    days: options.days,
    expiring: expiring.map((certificate) => certificate.path),
    certificates: certificates.map((certificate) => ({
      ...certificate,
      notBefore: certificate.notBefore.toISOString(),
      notAfter: certificate.notAfter.toISOString(),
    })),
  });

  const first = expiring[0];
  if (first === undefined) return;
  const count = expiring.length === 1 ? `${first.path} has` : `${expiring.length} certificates have`;
  const authority = expiring.some((certificate) => certificate.isAuthority);
  throw runError(`${count} expired, or will within ${options.days} days.`, {
    code: 'certificates-expiring',
    where: home.pki,
    next: authority
      ? 'A CA is among them: all that it signed ends with it. Plan its rotation before that day.'
      : 'Move the named .crt files away and run k8s-ans deploy: it issues them again and restarts what uses them.',
  });
}

function table(certificates: ReadonlyArray<InspectedCertificate>, names: boolean, color: boolean): string {
  const head = ['certificate', 'subject', 'issuer', 'expires', 'days left'];
  const rows = new Table({
    head: names ? [...head, 'alternative names'] : head,
    style: { compact: true, ...(color ? {} : { head: [], border: [] }) },
    colAligns: ['left', 'left', 'left', 'left', 'right', 'left'],
  });
  for (const certificate of certificates) {
    const { path, commonName, organizations, issuerCommonName, notAfter, daysLeft } = certificate;
    const subject = organizations.length > 0 ? `${commonName} (${organizations.join(', ')})` : commonName;
    const row = [path, subject, issuerCommonName, notAfter.toISOString().slice(0, 10), String(daysLeft)];
    rows.push(names ? [...row, [...certificate.dnsNames, ...certificate.addresses].join('\n')] : row);
  }
  return rows.toString();
}

function parseDays(value: string): number {
  if (!/^\d{1,5}$/.test(value)) throw new InvalidArgumentError('Give a whole number of days, e.g. 30.');
  return Number(value);
}
