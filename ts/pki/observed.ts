/** Certificates as hosts hold and serve them: read with OpenSSL, since a kubelet's are not RSA. Pure. */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';

const der = z.array(z.string());

/** What `k8s_ans.cluster.certificates` says of a host (ansible/plugins/modules/certificates.py). */
const collected = z.object({
  files: z.array(z.object({ path: z.string(), der, error: z.string().optional() })),
  ports: z.array(
    z.object({ name: z.string(), port: z.number(), file: z.string().nullish(), der, error: z.string().optional() }),
  ),
});

/** A certificate in a file of a host, or behind one of its ports. */
export interface ObservedCertificate {
  readonly host: string;
  /** e.g. `kube-apiserver, port 6443` or a path on the host. */
  readonly place: string;
  readonly served: boolean;
  readonly x509: X509Certificate;
  /** The port serves another certificate than the file holds that it should serve. */
  readonly differsFrom: string | undefined;
}

/** What hosts said: their certificates, and what could not be looked at, with the reason. */
export interface Observation {
  readonly certificates: ReadonlyArray<ObservedCertificate>;
  readonly silent: ReadonlyArray<{ readonly host: string; readonly place: string; readonly reason: string }>;
}

/** Reads what the module said of one host. */
export function readObservation(host: string, value: unknown): Observation {
  const { files, ports } = collected.parse(value);
  const certificates: ObservedCertificate[] = [];
  const silent: Array<{ host: string; place: string; reason: string }> = [];
  const inFiles = new Map(files.map(({ path, der: [first] }) => [path, first]));
  for (const {
    name,
    port,
    file,
    der: [first],
    error,
  } of ports) {
    const place = `${name}, port ${port}`;
    if (first === undefined) {
      silent.push({ host, place, reason: error ?? 'it served no certificate' });
      continue;
    }
    const held = file ? inFiles.get(file) : undefined;
    const differsFrom = file && held !== undefined && held !== first ? file : undefined;
    certificates.push({ host, place, served: true, x509: read(first), differsFrom });
  }
  for (const { path, der: found, error } of files) {
    if (error !== undefined) silent.push({ host, place: path, reason: error });
    for (const one of found) {
      certificates.push({ host, place: path, served: false, x509: read(one), differsFrom: undefined });
    }
  }
  return { certificates, silent };
}

/** The certificates in use that one of the authorities (PEM) signed. Copies of a CA itself are in no use. */
export function signedBy(
  certificates: ReadonlyArray<ObservedCertificate>,
  authorities: ReadonlyArray<string>,
): ObservedCertificate[] {
  const issuers = authorities.map((pem) => new X509Certificate(pem));
  return certificates.filter(
    ({ x509 }) => !x509.ca && issuers.some((issuer) => x509.checkIssued(issuer) && x509.verify(issuer.publicKey)),
  );
}

/** The common name in a distinguished name as node:crypto writes it, a part a line. */
export function commonName(distinguishedName: string): string {
  const line = distinguishedName.split('\n').find((part) => part.startsWith('CN='));
  return line?.slice('CN='.length) ?? '';
}

function read(base64: string): X509Certificate {
  return new X509Certificate(Buffer.from(base64, 'base64'));
}
