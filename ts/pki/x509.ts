/**
 * Keys and X.509 certificates: keys and signatures by node:crypto (OpenSSL), the certificate's structure by node-forge.
 *
 * RSA only, SHA-256 always. Nothing here touches a file.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { promisify } from 'node:util';
import ipaddr from 'ipaddr.js';
import forge from 'node-forge';
import type { Usage } from './plan.js';

/** A certificate as this project reads it. */
export interface CertificateFacts {
  readonly commonName: string;
  readonly organizations: ReadonlyArray<string>;
  readonly issuerCommonName: string;
  /** Hexadecimal. */
  readonly serial: string;
  readonly dnsNames: ReadonlyArray<string>;
  readonly addresses: ReadonlyArray<string>;
  readonly usages: ReadonlyArray<Usage>;
  readonly isAuthority: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** A certificate authority ready to sign. */
export interface Authority {
  /** PEM. */
  readonly certificate: string;
  readonly x509: X509Certificate;
  readonly key: KeyObject;
}

export interface LeafSubject {
  readonly commonName: string;
  readonly organizations: ReadonlyArray<string>;
  readonly usages: ReadonlyArray<Usage>;
  readonly dnsNames: ReadonlyArray<string>;
  readonly addresses: ReadonlyArray<string>;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** Certificates begin a little in the past, so that a host whose clock is behind accepts them at once. */
const BACKDATE_MS = 5 * 60 * 1000;

const generate = promisify(generateKeyPair);

/** A new RSA private key as PKCS #8 PEM. Runs in libuv's pool: call it many times at once. */
export async function generatePrivateKey(bits: number): Promise<string> {
  const pair = await generate('rsa', {
    modulusLength: bits,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return pair.privateKey;
}

/**
 * A self-signed CA certificate (PEM) for the key.
 *
 * No path length constraint: rotating a CA cross-signs the new one with the old, which needs one more step.
 */
export function issueAuthority(
  key: KeyObject,
  subject: { readonly commonName: string; readonly unit: string },
  validity: { readonly now: Date; readonly days: number },
): string {
  const certificate = newCertificate(key, validity.now, days(validity.now, validity.days));
  const attributes = [attribute('organizationalUnitName', subject.unit), attribute('commonName', subject.commonName)];
  certificate.setSubject(attributes);
  certificate.setIssuer(attributes);
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: true },
    { name: 'keyUsage', critical: true, keyCertSign: true, cRLSign: true },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier: true },
  ]);
  return signed(certificate, key);
}

/** The key and subject of one authority certified by another (PEM): for whoever trusts that other one alone. */
export function issueCross(by: Authority, subject: Authority, now: Date): string {
  const issuer = forge.pki.certificateFromPem(by.certificate);
  const own = forge.pki.certificateFromPem(subject.certificate);
  const end = Math.min(issuer.validity.notAfter.getTime(), own.validity.notAfter.getTime());
  const certificate = newCertificate(subject.key, now, new Date(end));
  certificate.setSubject(own.subject.attributes);
  certificate.setIssuer(issuer.subject.attributes);
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: true },
    { name: 'keyUsage', critical: true, keyCertSign: true, cRLSign: true },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier: keyIdentifier(issuer) },
  ]);
  return signed(certificate, by.key);
}

/** A leaf certificate (PEM) for the key, signed by the authority. It never outlives the authority. */
export function issueLeaf(
  authority: Authority,
  key: KeyObject,
  subject: LeafSubject,
  validity: { readonly now: Date; readonly days: number },
): string {
  const issuer = forge.pki.certificateFromPem(authority.certificate);
  const end = new Date(Math.min(days(validity.now, validity.days).getTime(), issuer.validity.notAfter.getTime()));
  const certificate = newCertificate(key, validity.now, end);
  certificate.setSubject([
    ...subject.organizations.map((name) => attribute('organizationName', name)),
    attribute('commonName', subject.commonName),
  ]);
  certificate.setIssuer(issuer.subject.attributes);
  const altNames = [
    ...subject.dnsNames.map((value) => ({ type: 2, value })),
    ...subject.addresses.map((ip) => ({ type: 7, ip })),
  ];
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: false },
    { name: 'keyUsage', critical: true, digitalSignature: true, keyEncipherment: true },
    {
      name: 'extKeyUsage',
      ...(subject.usages.includes('server') && { serverAuth: true }),
      ...(subject.usages.includes('client') && { clientAuth: true }),
    },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier: keyIdentifier(issuer) },
    ...(altNames.length > 0 ? [{ name: 'subjectAltName', altNames }] : []),
  ]);
  return signed(certificate, authority.key);
}

/** Reads a certificate (PEM). Throws node's or forge's error if it is none. */
export function readCertificate(pem: string): CertificateFacts {
  const certificate = forge.pki.certificateFromPem(pem);
  const extension = (name: string): Record<string, unknown> =>
    (certificate.getExtension(name) as Record<string, unknown> | null | undefined) ?? {};
  const altNames = (extension('subjectAltName').altNames ?? []) as Array<{ type: number; value: string; ip?: string }>;
  const usages = extension('extKeyUsage');
  const values = (attributes: forge.pki.CertificateField[], name: string): string[] =>
    attributes.filter((field) => field.name === name).map((field) => String(field.value));
  return {
    commonName: values(certificate.subject.attributes, 'commonName')[0] ?? '',
    organizations: values(certificate.subject.attributes, 'organizationName').sort(),
    issuerCommonName: values(certificate.issuer.attributes, 'commonName')[0] ?? '',
    serial: certificate.serialNumber,
    dnsNames: altNames
      .filter((name) => name.type === 2)
      .map((name) => name.value)
      .sort(),
    addresses: altNames.flatMap((name) => (name.ip ? [ipaddr.parse(name.ip).toNormalizedString()] : [])).sort(),
    usages: [...(usages.serverAuth ? ['server' as const] : []), ...(usages.clientAuth ? ['client' as const] : [])],
    isAuthority: extension('basicConstraints').cA === true,
    notBefore: certificate.validity.notBefore,
    notAfter: certificate.validity.notAfter,
  };
}

/** The authority of a certificate and its key (both PEM). Throws if either cannot be read. */
export function authorityFrom(certificate: string, key: string): Authority {
  return { certificate, x509: new X509Certificate(certificate), key: createPrivateKey(key) };
}

function newCertificate(key: KeyObject, now: Date, notAfter: Date): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate();
  const spki = createPublicKey(key).export({ type: 'spki', format: 'pem' });
  certificate.publicKey = forge.pki.publicKeyFromPem(String(spki));
  certificate.serialNumber = serialNumber();
  certificate.validity.notBefore = new Date(now.getTime() - BACKDATE_MS);
  certificate.validity.notAfter = notAfter;
  return certificate;
}

/** 128 bits, positive, and never shorter: the first byte is 0x40 to 0x7f (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function days(from: Date, count: number): Date {
  return new Date(from.getTime() + count * DAY_MS);
}

function attribute(name: string, value: string): forge.pki.CertificateField {
  // UTF8String, as RFC 5280 asks; forge's default is PrintableString, which cannot hold every name.
  return { name, value, valueTagClass: forge.asn1.Type.UTF8 as unknown as forge.asn1.Class };
}

function keyIdentifier(issuer: forge.pki.Certificate): string {
  const extension = issuer.getExtension('subjectKeyIdentifier') as { subjectKeyIdentifier?: string } | null | undefined;
  return extension?.subjectKeyIdentifier
    ? forge.util.hexToBytes(extension.subjectKeyIdentifier)
    : issuer.generateSubjectKeyIdentifier().getBytes();
}

/**
 * Lets forge lay out the certificate and OpenSSL sign it: forge's own RSA in JavaScript takes 20 ms a signature
 * and is not constant in time.
 */
function signed(certificate: forge.pki.Certificate, key: KeyObject): string {
  const signer = {
    sign: (): string => {
      const tbs = Buffer.from(forge.asn1.toDer(certificate.tbsCertificate).getBytes(), 'binary');
      return sign('sha256', tbs, key).toString('binary');
    },
  };
  certificate.sign(signer as unknown as forge.pki.rsa.PrivateKey, forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate).replaceAll('\r\n', '\n');
}
