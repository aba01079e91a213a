/** `k8s-ans schema`: the JSON Schema of cluster.yaml, for editors. */
import type { Register } from '../cli/register.js';
import { jsonSchema } from '../spec/schema.js';

export const register: Register = (program, run) => {
  program
    .command('schema')
    .description('print the JSON Schema of cluster.yaml, for editors')
    .action(() =>
      run(async (context) => {
        const schema = jsonSchema();
        context.console.print(JSON.stringify(schema, undefined, 2));
        context.console.result('schema', schema);
      }),
    );
};
