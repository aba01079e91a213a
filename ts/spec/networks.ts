/** Arithmetic on IPv4 addresses and networks, over ipaddr.js. */
import ipaddr from 'ipaddr.js';

/** An IPv4 network as two ends and a prefix length. */
export interface Network {
  readonly cidr: string;
  readonly prefix: number;
  /** First and last address as unsigned 32-bit numbers. */
  readonly first: number;
  readonly last: number;
}

/** An address in dotted decimal as an unsigned 32-bit number. */
export function addressNumber(address: string): number {
  return ipaddr.IPv4.parse(address)
    .toByteArray()
    .reduce((sum, byte) => sum * 256 + byte, 0);
}

/** The dotted decimal form of an unsigned 32-bit number. */
export function addressText(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

/** Parses a CIDR that `isNetwork` accepts. */
export function parseNetwork(cidr: string): Network {
  const first = addressNumber(ipaddr.IPv4.networkAddressFromCIDR(cidr).toString());
  const last = addressNumber(ipaddr.IPv4.broadcastAddressFromCIDR(cidr).toString());
  return { cidr, prefix: ipaddr.IPv4.parseCIDR(cidr)[1], first, last };
}

/** Whether the text is an IPv4 network in CIDR form, with or without host bits. */
export function isNetwork(text: string): boolean {
  return ipaddr.IPv4.isValidCIDRFourPartDecimal(text);
}

/** Whether the text is an IPv4 address in dotted decimal, without leading zeros. */
export function isAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) && !/(^|\.)0\d/.test(text);
}

/** Whether the text is an IPv6 address or network. */
export function isIpv6(text: string): boolean {
  return ipaddr.IPv6.isValid(text) || ipaddr.IPv6.isValidCIDR(text);
}

/** The special range an address lies in that no host or pod can use; undefined for a usable address. */
export function unusableRange(address: string): string | undefined {
  const range = ipaddr.IPv4.parse(address).range();
  const names: Partial<Record<string, string>> = {
    unspecified: 'the unspecified range 0.0.0.0/8',
    broadcast: 'the broadcast address',
    multicast: 'the multicast range 224.0.0.0/4',
    loopback: 'the loopback range 127.0.0.0/8',
    linkLocal: 'the link-local range 169.254.0.0/16',
  };
  return names[range];
}

export function contains(network: Network, address: string): boolean {
  const value = addressNumber(address);
  return network.first <= value && value <= network.last;
}

export function overlap(one: Network, other: Network): boolean {
  return one.first <= other.last && other.first <= one.last;
}

/** The network's first address after its own: the `kubernetes` Service of a service network. */
export function firstAddress(cidr: string): string {
  return addressText(parseNetwork(cidr).first + 1);
}
