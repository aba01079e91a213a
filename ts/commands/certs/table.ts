/** The tables of `certs show`. */
import Table from 'cli-table3';
import type { InspectedCertificate } from '../../pki/inspect.js';
import { commonName, type Observation } from '../../pki/observed.js';

const DAY_MS = 24 * 60 * 60 * 1000;

/** A certificate in use on a host. */
export interface HostRow {
  readonly host: string;
  /** A port with what listens there, or a file. */
  readonly place: string;
  readonly commonName: string;
  readonly issuerCommonName: string;
  readonly notAfter: Date;
  readonly daysLeft: number;
  /** What is wrong with it; empty if nothing is. */
  readonly remark: string;
}

/**
 * What is worth showing of the hosts: what ports serve, and files that are no copy of one on this machine, as the
 * kubelets' own, or one that was not replaced yet.
 */
export function hostRows(
  { certificates }: Observation,
  local: ReadonlyArray<InspectedCertificate>,
  now: Date = new Date(),
): HostRow[] {
  const known = new Set(local.map(({ serial, issuerCommonName }) => key(serial, issuerCommonName)));
  return certificates
    .map(({ host, place, served, x509, differsFrom }) => {
      const issuerCommonName = commonName(x509.issuer);
      const copied = known.has(key(x509.serialNumber, issuerCommonName));
      const notAfter = new Date(x509.validTo);
      const remarks = [
        ...(differsFrom === undefined ? [] : [`not the one in ${differsFrom}`]),
        ...(served || copied || place.endsWith('.pem') ? [] : ['not the one on this machine']),
      ];
      return {
        row: {
          host,
          place,
          commonName: commonName(x509.subject),
          issuerCommonName,
          notAfter,
          daysLeft: Math.floor((notAfter.getTime() - now.getTime()) / DAY_MS),
          remark: remarks.join('; '),
        },
        shown: served || !copied,
      };
    })
    .filter(({ shown }) => shown)
    .map(({ row }) => row)
    .sort((a, b) => (a.host < b.host ? -1 : a.host > b.host ? 1 : 0));
}

function key(serial: string, issuer: string): string {
  return `${serial.toLowerCase().replace(/^0+/, '')} ${issuer}`;
}

/** The certificates in the PKI folder. */
export function localTable(certificates: ReadonlyArray<InspectedCertificate>, names: boolean, color: boolean): string {
  const head = ['certificate', 'subject', 'issuer', 'expires', 'days left'];
  const rows = table(names ? [...head, 'alternative names'] : head, color);
  for (const certificate of certificates) {
    const { path, organizations, issuerCommonName, notAfter, daysLeft } = certificate;
    const subject =
      organizations.length > 0 ? `${certificate.commonName} (${organizations.join(', ')})` : certificate.commonName;
    const row = [path, subject, issuerCommonName, notAfter.toISOString().slice(0, 10), String(daysLeft)];
    rows.push(names ? [...row, [...certificate.dnsNames, ...certificate.addresses].join('\n')] : row);
  }
  return rows.toString();
}

/** The certificates on the hosts. */
export function hostTable(hosts: ReadonlyArray<HostRow>, color: boolean): string {
  const rows = table(['host', 'port or file', 'subject', 'issuer', 'expires', 'days left', ''], color);
  for (const row of hosts) {
    const { host, place, issuerCommonName, notAfter, daysLeft, remark } = row;
    rows.push([
      host,
      place,
      row.commonName,
      issuerCommonName,
      notAfter.toISOString().slice(0, 10),
      String(daysLeft),
      remark,
    ]);
  }
  return rows.toString();
}

function table(head: string[], color: boolean): Table.Table {
  return new Table({
    head,
    style: { compact: true, ...(color ? {} : { head: [], border: [] }) },
    colAligns: head.map((title) => (title === 'days left' ? 'right' : 'left')),
  });
}
