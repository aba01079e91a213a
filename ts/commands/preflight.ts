/** `k8s-ans preflight`: looks at all hosts and changes nothing. */
import type { Register } from '../cli/register.js';
import { plural } from '../report/format.js';
import { loadCluster } from '../spec/load.js';
import { locateCluster } from '../spec/locate.js';
import { writeInventory } from './run/deploy.js';
import { finishRun, runResult } from './run/finish.js';
import { addPlaybookOptions, type ClusterPlaybookOptions, refuseOperands } from './run/playbook-options.js';
import { type HostVerdict, runPreflight } from './run/preflight.js';
import { runSession } from './run/session.js';

export const register: Register = (program, run) => {
  addPlaybookOptions(program.command('preflight'))
    .description('check all hosts and change nothing on them; exit code 3 and the reasons when one is refused')
    .action((operands: string[], options: ClusterPlaybookOptions) =>
      run(async (context) => {
        refuseOperands(context, operands, 'preflight');
        const home = await locateCluster(context, options.cluster);
        const cluster = await loadCluster(home);
        let verdicts: HostVerdict[] = [];
        const session = { command: 'preflight', cluster, home, lock: true, check: true };
        const done = await runSession(context, session, async (current) => {
          await writeInventory(current);
          verdicts = await runPreflight(current, options);
        });
        finishRun(context, done, `k8s-ans preflight${options.cluster ? ` --cluster ${options.cluster}` : ''}`);
        context.console.info(`${plural(verdicts.length, 'host')} can be deployed to.`);
        context.console.result('preflight', { ...runResult(done), hosts: verdicts });
      }),
    );
};
