/** `k8s-ans certs`: the certificates of a cluster: seen, renewed, and their CAs replaced. */
import type { Register } from '../cli/register.js';
import { addRenew } from './certs/renew.js';
import { addRotate } from './certs/rotate.js';
import { addShow } from './certs/show.js';

export const register: Register = (program, run) => {
  const certs = program.command('certs').description('the certificates of a cluster: show, renew, replace their CAs');
  addShow(certs, run);
  addRenew(certs, run);
  addRotate(certs, run);
};
