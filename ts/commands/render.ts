/** `k8s-ans render`: write the inventory, group_vars and environment.sh of a cluster. */
import path from 'node:path';
import type { Register } from '../cli/register.js';
import { renderCluster } from '../render/render.js';
import { writeRendered } from '../render/write.js';
import { displayPath, loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';

export const register: Register = (program, run) => {
  program
    .command('render')
    .description('write hosts.yml, group_vars and environment.sh from the spec')
    .option('--cluster <name|folder|file>', clusterOption)
    .action((options: { cluster?: string }) =>
      run(async (context) => {
        const home = await locateCluster(context, options.cluster);
        const files = renderCluster(await loadCluster(home));
        const changed = await writeRendered(home, files);
        for (const name of files.keys()) {
          const state = changed.includes(name) ? 'written  ' : 'unchanged';
          context.console.print(`${state} ${displayPath(path.join(home.root, name))}`);
        }
        context.console.result('render', { home: home.root, files: [...files.keys()], changed });
      }),
    );
};
