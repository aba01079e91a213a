/** What `certs show` makes of the hosts' certificates, and what the last stage of a rotation goes by. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { leavesToRenew } from '../../ts/commands/certs/renew.js';
import { hostRows } from '../../ts/commands/certs/table.js';
import { ensurePki } from '../../ts/pki/ensure.js';
import { type InspectedCertificate, inspectPki } from '../../ts/pki/inspect.js';
import { readObservation, signedBy } from '../../ts/pki/observed.js';
import { prepareNext, promoteNext } from '../../ts/pki/rotation.js';
import { type ClusterHome, clusterHome } from '../../ts/types/home.js';
import { exampleCluster, exampleHost } from '../fixtures/cluster.js';
import { temporaryFolder } from '../fixtures/folders.js';

const cluster = exampleCluster({
  name: 'small',
  hosts: [exampleHost('m1', '10.0.0.1', ['masters', 'etcd'])],
  pki: { caDays: 3650, certificateDays: 365, keyBits: 1024 },
});
const NOW = new Date('2026-11-24T08:00:00Z');
let home: ClusterHome;
let local: InspectedCertificate[];
/** As base64 of DER. */
let oldServer: string;
let newServer: string;
let authority: string;
let oldAuthority: string;

const der = async (name: string): Promise<string> =>
  new X509Certificate(await readFile(path.join(home.pki, name))).raw.toString('base64');

beforeAll(async () => {
  home = clusterHome(path.join(await temporaryFolder(), 'small'));
  await ensurePki(cluster, home, { now: NOW });
  oldServer = await der('hosts/m1/apiserver.crt');
  oldAuthority = await readFile(path.join(home.pki, 'ca.crt'), 'utf8');
  await prepareNext(cluster, home, 'kubernetes', NOW);
  await promoteNext(home, 'kubernetes');
  await ensurePki(cluster, home, { now: NOW });
  newServer = await der('hosts/m1/apiserver.crt');
  authority = await der('ca.crt');
  local = await inspectPki(home, NOW);
}, 60_000);

const FILE = '/etc/kubernetes/cert/apiserver.crt';
const port = { name: 'kube-apiserver', port: 6443, file: FILE };

describe('the hosts', () => {
  test('a port that serves what its file holds, and copies, which are not shown', () => {
    const observation = readObservation('m1', {
      files: [
        { path: '/etc/kubernetes/cert/ca.crt', der: [authority] },
        { path: FILE, der: [newServer] },
      ],
      ports: [{ ...port, der: [newServer] }],
    });
    expect(hostRows(observation, local, NOW)).toEqual([
      {
        host: 'm1',
        place: 'kube-apiserver, port 6443',
        commonName: 'kube-apiserver',
        issuerCommonName: 'kubernetes-ca-2',
        notAfter: new Date('2027-11-24T08:00:00Z'),
        daysLeft: 365,
        remark: '',
      },
    ]);
    expect(observation.silent).toEqual([]);
  });

  test('a port that serves an older one than its file, and a file that was not replaced', () => {
    const observation = readObservation('m1', {
      files: [
        { path: FILE, der: [newServer] },
        { path: '/etc/kubernetes/cert/old.crt', der: [oldServer] },
      ],
      ports: [{ ...port, der: [oldServer] }],
    });
    expect(hostRows(observation, local, NOW).map(({ place, remark }) => [place, remark])).toEqual([
      ['kube-apiserver, port 6443', `not the one in ${FILE}`],
      ['/etc/kubernetes/cert/old.crt', 'not the one on this machine'],
    ]);
  });

  test('a port that does not answer is said, and no failure', () => {
    const observation = readObservation('m1', {
      files: [],
      ports: [{ ...port, der: [], error: 'Connection refused' }],
    });
    expect(observation).toEqual({
      certificates: [],
      silent: [{ host: 'm1', place: 'kube-apiserver, port 6443', reason: 'Connection refused' }],
    });
  });
});

test('what a CA signed is found wherever it is in use, the CA itself is not', () => {
  const { certificates } = readObservation('m1', {
    files: [
      { path: FILE, der: [newServer] },
      {
        path: '/etc/kubernetes/cert/ca.crt',
        der: [authority, new X509Certificate(oldAuthority).raw.toString('base64')],
      },
    ],
    ports: [{ ...port, der: [oldServer] }],
  });
  expect(signedBy(certificates, [oldAuthority]).map(({ place }) => place)).toEqual(['kube-apiserver, port 6443']);
  expect(signedBy(certificates, [])).toEqual([]);
});

test('what is renewed: leaves only, and with --days those that end within them', () => {
  const all = leavesToRenew(local, undefined);
  expect(Object.keys(all)).toContain('hosts/m1/apiserver');
  expect(Object.keys(all).filter((name) => /ca$/.test(name))).toEqual([]);
  expect(all.admin).toBe(local.find(({ path: name }) => name === 'pki/admin.crt')?.serial);
  expect(leavesToRenew(local, 365)).toEqual({});
  expect(Object.keys(leavesToRenew(local, 366))).toEqual(Object.keys(all));
});
