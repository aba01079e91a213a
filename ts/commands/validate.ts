/** `k8s-ans validate`: is the spec sound? */
import type { Register } from '../cli/register.js';
import { displayPath, loadCluster } from '../spec/load.js';
import { clusterOption, locateCluster } from '../spec/locate.js';

export const register: Register = (program, run) => {
  program
    .command('validate')
    .description('check the cluster spec; shows all problems at once')
    .option('--cluster <name|folder|file>', clusterOption)
    .argument('[file]', 'a spec file, in place of --cluster')
    .action((file: string | undefined, options: { cluster?: string }) =>
      run(async (context) => {
        const home = await locateCluster(context, file ?? options.cluster);
        const cluster = await loadCluster(home);
        const counts = {
          hosts: cluster.hosts.length,
          masters: cluster.masters.length,
          nodes: cluster.nodes.length,
          etcd: cluster.etcdHosts.length,
        };
        context.console.print(
          `${displayPath(home.spec)} is valid: cluster ${cluster.name}, Kubernetes ${cluster.kubernetes.version}, ` +
            `${counts.masters} masters, ${counts.nodes} nodes, ${counts.etcd} etcd members.`,
        );
        context.console.result('validate', {
          spec: home.spec,
          name: cluster.name,
          version: cluster.kubernetes.version,
          ...counts,
        });
      }),
    );
};
