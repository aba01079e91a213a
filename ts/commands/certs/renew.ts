/** `k8s-ans certs renew`: new leaf certificates from the same CAs, brought to the hosts. */
import type { Command } from 'commander';
import { z } from 'zod';
import type { Run } from '../../cli/register.js';
import { type InspectedCertificate, inspectPki } from '../../pki/inspect.js';
import { plural } from '../../report/format.js';
import { refuseForbiddenChanges } from '../../spec/changes.js';
import { loadCluster } from '../../spec/load.js';
import { locateCluster } from '../../spec/locate.js';
import type { CommandContext } from '../../types/console.js';
import { rollOutCertificates } from '../run/certificates.js';
import { finishRun, runResult } from '../run/finish.js';
import { beginOperation, endOperation } from '../run/operation.js';
import { addPlaybookOptions, type ClusterPlaybookOptions, refuseOperands } from '../run/playbook-options.js';
import { runPreflight } from '../run/preflight.js';
import { runSession } from '../run/session.js';
import { parseDays } from './days.js';

interface RenewOptions extends ClusterPlaybookOptions {
  readonly days?: number;
}

/** What the journal remembers: the certificates to go, by base path and serial number. */
const journal = z.object({ serials: z.record(z.string(), z.string()) });

export function addRenew(certs: Command, run: Run): void {
  addPlaybookOptions(certs.command('renew'))
    .description(
      'issue the leaf certificates again from the same CAs, and bring them to the hosts, one master at a time',
    )
    .option('--days <n>', 'only those that expire within so many days (default: all)', parseDays)
    .action((operands: string[], options: RenewOptions) =>
      run((context) => {
        refuseOperands(context, operands, 'certs renew');
        return renew(context, options);
      }),
    );
}

async function renew(context: CommandContext, options: RenewOptions): Promise<void> {
  const { console } = context;
  const home = await locateCluster(context, options.cluster);
  const cluster = await loadCluster(home);
  const again = againCommand(options);
  const session = { command: 'certs renew', cluster, home, lock: true, check: false };
  let serials: Record<string, string> = {};
  const done = await runSession(context, session, async (current) => {
    await refuseForbiddenChanges(home, cluster);
    await runPreflight(current, options);
    const subject = options.days === undefined ? 'all' : `within ${options.days} days`;
    const chosen = leavesToRenew(await inspectPki(home), options.days);
    const begun = await beginOperation(home, { command: 'certs renew', subject, again, data: { serials: chosen } });
    if (begun.resumed) console.info('Going on with the renewal that was interrupted.');
    ({ serials } = journal.parse(begun.operation.data));
    const renewed = new Map(Object.entries(serials));
    // Also with nothing to renew: a kubelet whose own certificate has expired is given a new one by this.
    await rollOutCertificates(current, 'certificates', { limit: options.limit, again, renew: renewed });
    await endOperation(home);
  });
  finishRun(context, done, again);
  const count = Object.keys(serials).length;
  console.info(
    `${plural(count, 'certificate')} renewed. The kubeconfig has a new one too; copies of it work until theirs expires.`,
  );
  console.result('certs-renew', { ...runResult(done), renewed: Object.keys(serials) });
}

/** Leaves by base path in the PKI folder, with their serial numbers. */
export function leavesToRenew(
  certificates: ReadonlyArray<InspectedCertificate>,
  days: number | undefined,
): Record<string, string> {
  const leaves = certificates.filter(
    ({ isAuthority, daysLeft }) => !isAuthority && (days === undefined || daysLeft < days),
  );
  return Object.fromEntries(leaves.map(({ path, serial }) => [path.replace(/^pki\/|\.crt$/g, ''), serial]));
}

function againCommand({ cluster, days, limit }: RenewOptions): string {
  return [
    'k8s-ans certs renew',
    ...(cluster === undefined ? [] : [`--cluster ${cluster}`]),
    ...(days === undefined ? [] : [`--days ${days}`]),
    ...(limit === undefined ? [] : [`--limit '${limit}'`]),
  ].join(' ');
}
