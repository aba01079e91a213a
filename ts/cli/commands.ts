/** All commands, in the order of the help. */
import { register as artifacts } from '../commands/artifacts.js';
import { register as certs } from '../commands/certs.js';
import { register as completion } from '../commands/completion.js';
import { register as deploy } from '../commands/deploy.js';
import { register as doctor } from '../commands/doctor.js';
import { register as etcd } from '../commands/etcd.js';
import { register as init } from '../commands/init.js';
import { register as kubeconfig } from '../commands/kubeconfig.js';
import { register as lab } from '../commands/lab.js';
import { register as node } from '../commands/node.js';
import { register as plan } from '../commands/plan.js';
import { register as preflight } from '../commands/preflight.js';
import { register as render } from '../commands/render.js';
import { register as report } from '../commands/report.js';
import { register as reset } from '../commands/reset.js';
import { register as schema } from '../commands/schema.js';
import { register as state } from '../commands/state.js';
import { register as status } from '../commands/status.js';
import { register as upgrade } from '../commands/upgrade.js';
import { register as validate } from '../commands/validate.js';
import type { Register } from './register.js';

export interface CommandGroup {
  readonly heading: string;
  readonly commands: ReadonlyArray<Register>;
}

export const commandGroups: ReadonlyArray<CommandGroup> = [
  { heading: 'The spec:', commands: [init, validate, render, schema] },
  {
    heading: 'The cluster:',
    commands: [
      preflight,
      plan,
      deploy,
      upgrade,
      status,
      node,
      etcd,
      certs,
      reset,
      state,
      report,
      kubeconfig,
      artifacts,
    ],
  },
  { heading: 'This machine:', commands: [lab, doctor, completion] },
];
