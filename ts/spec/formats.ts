/**
 * Checks of single values: each says what is wrong and how to mend it, or nothing.
 *
 * Names follow https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and labels
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/.
 */
import path from 'node:path';
import semver from 'semver';
import { addressText, isAddress, isIpv6, isNetwork, parseNetwork, unusableRange } from './networks.js';
import { defaultVersion } from './versions.js';

export interface Fault {
  readonly message: string;
  readonly hint: string;
}

export type Check = (value: string) => Fault | undefined;

const label = '[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?';
const dnsLabel = new RegExp(`^${label}$`);
const dnsName = new RegExp(`^${label}(\\.${label})*$`);
const quoted = (value: string): string => JSON.stringify(value);

/** What a name would be if written as DNS wants it; undefined where no such name is near. */
function nearestDnsName(value: string): string | undefined {
  const near = value
    .toLowerCase()
    .replace(/[\s_]+/g, '-')
    .replace(/\.+$/, '');
  return dnsName.test(near) ? near : undefined;
}

/** A cluster's name: a folder, and part of certificate names. */
export const clusterName: Check = (value) => {
  if (dnsLabel.test(value)) return undefined;
  const near = nearestDnsName(value)?.replaceAll('.', '-');
  return {
    message: `${quoted(value)} is not a DNS label (a-z, 0-9 and -, at most 63 characters)`,
    hint: near === undefined ? 'write a name such as demo' : `write ${near}`,
  };
};

/** A host's name: also its Kubernetes node name, so lower case; Linux takes at most 64 characters. */
export const hostName: Check = (value) => {
  if (value.length > 63) {
    return {
      message: `${quoted(value)} has ${value.length} characters, a host name has at most 63`,
      hint: 'shorten it',
    };
  }
  if (isAddress(value)) {
    return { message: `${quoted(value)} is an address, not a host name`, hint: 'write it as address: and give a name' };
  }
  if (dnsName.test(value)) return undefined;
  const near = nearestDnsName(value);
  return {
    message: `${quoted(value)} is not a host name of a Kubernetes node (lower case a-z, 0-9, - and .)`,
    hint: near === undefined ? 'write a name such as k8snode01' : `write ${near}, and set the host's name to the same`,
  };
};

/** A DNS domain without a dot at its end. */
export const domain: Check = (value) => {
  if (dnsName.test(value)) return undefined;
  const near = nearestDnsName(value);
  return {
    message: `${quoted(value)} is not a DNS domain (lower case, no dot at the end)`,
    hint: `write ${near ?? 'cluster.local'}`,
  };
};

/** An IPv4 address that something can have. */
export const address: Check = (value) => {
  if (isIpv6(value)) {
    return {
      message: `${quoted(value)} is an IPv6 address; this release deploys IPv4 only`,
      hint: 'give an IPv4 address',
    };
  }
  if (isNetwork(value)) {
    return { message: `${quoted(value)} is a network, not an address`, hint: `write ${value.split('/')[0]}` };
  }
  if (!isAddress(value)) {
    return {
      message: `${quoted(value)} is not an IPv4 address`,
      hint: 'write four numbers from 0 to 255, such as 172.24.8.71',
    };
  }
  const range = unusableRange(value);
  if (range === undefined) return undefined;
  return { message: `${quoted(value)} lies in ${range}`, hint: 'give the address that the other hosts reach it at' };
};

/** An IPv4 network in CIDR form, without host bits. */
export const network: Check = (value) => {
  if (value.includes(',')) {
    return {
      message: `${quoted(value)} names more than one network; this release has no dual stack yet`,
      hint: 'give one IPv4 network, such as 172.30.0.0/16',
    };
  }
  if (isIpv6(value)) {
    return {
      message: `${quoted(value)} is IPv6; this release deploys IPv4 only`,
      hint: 'give an IPv4 network, such as 172.30.0.0/16',
    };
  }
  if (isAddress(value)) {
    return { message: `${quoted(value)} has no prefix length`, hint: `write a network such as 172.30.0.0/16` };
  }
  const [base = '', length = ''] = value.split('/');
  if (isAddress(base) && /^\d+$/.test(length) && Number(length) > 32) {
    return {
      message: `${quoted(value)} is not an IPv4 network: its prefix length is ${length}, the largest is 32`,
      hint: `write ${base}/16, for example`,
    };
  }
  if (!isAddress(base) || !isNetwork(value)) {
    return {
      message: `${quoted(value)} is not an IPv4 network in CIDR form`,
      hint: 'write ADDRESS/PREFIX, such as 172.30.0.0/16',
    };
  }
  const parsed = parseNetwork(value);
  const first = addressText(parsed.first);
  if (first !== base) {
    return {
      message: `${quoted(value)} is not a network: the address has bits beyond the prefix`,
      hint: `write ${first}/${parsed.prefix}`,
    };
  }
  const range = unusableRange(first);
  if (range === undefined) return undefined;
  return { message: `${quoted(value)} lies in ${range}`, hint: 'choose a private network, such as 172.30.0.0/16' };
};

/** A Kubernetes version as X.Y.Z. */
export const version: Check = (value) => {
  const message = `${quoted(value)} is not a Kubernetes version of the form X.Y.Z`;
  if (value.startsWith('v') && semver.valid(value) !== null) {
    return { message, hint: `write ${value.slice(1)}, without the v` };
  }
  if (/^\d+\.\d+$/.test(value)) {
    const example = defaultVersion.startsWith(`${value}.`) ? defaultVersion : `${value}.0`;
    return { message, hint: `add the patch level, such as ${example}` };
  }
  if (semver.valid(value) !== value) return { message, hint: 'write a version such as 1.36.4' };
  if (semver.prerelease(value) === null) return undefined;
  return { message: `${quoted(value)} is a pre-release`, hint: 'write a released version such as 1.36.4' };
};

/** An absolute path on the hosts, below a folder of the root. */
export const hostPath: Check = (value) => {
  if (!value.startsWith('/')) {
    return { message: `${quoted(value)} is not an absolute path`, hint: `write it from the root, such as /${value}` };
  }
  // The paths stand in unit files, in shell scripts and in nginx's configuration: no character that one of them reads.
  if (!/^[A-Za-z0-9/._+-]+$/.test(value)) {
    return {
      message: `${quoted(value)} holds a character that unit files cannot take unquoted`,
      hint: 'use letters, digits and / . _ + - only',
    };
  }
  if (value === '/' || path.posix.normalize(value) !== value || value.endsWith('/')) {
    const clean = path.posix.normalize(value).replace(/\/+$/, '');
    return {
      message: `${quoted(value)} is not a plain folder below the root`,
      hint: clean === '' ? 'name a folder of its own, such as /data/k8s' : `write ${clean}`,
    };
  }
  return undefined;
};

const calendarWords = [
  'minutely',
  'hourly',
  'daily',
  'weekly',
  'monthly',
  'quarterly',
  'semiannually',
  'yearly',
  'annually',
];

/**
 * A time of systemd's OnCalendar, one line. What its numbers mean, only systemd knows in full: the role has it checked
 * on the host before it is used.
 * https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html#Calendar%20Events
 */
export const calendar: Check = (value) => {
  if (calendarWords.includes(value)) return undefined;
  if (/\d|\*/.test(value) && /^[A-Za-z0-9*:/.,~_+ -]+$/.test(value) && value.trim() === value) return undefined;
  return {
    message: `${quoted(value)} is not a time of systemd's OnCalendar`,
    hint: 'write daily, hourly, or such as Mon..Fri 03:00',
  };
};

/** An https URL, e.g. a mirror's. */
export const httpsUrl: Check = (value) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol === 'https:') return undefined;
  if (url?.protocol === 'http:') {
    return { message: `${quoted(value)} is not encrypted`, hint: `write https:${value.slice('http:'.length)}` };
  }
  return { message: `${quoted(value)} is not an https URL`, hint: 'write one such as https://mirror.example.com' };
};

/** The API's endpoint for people: https://HOST or https://HOST:PORT. */
export const endpoint: Check = (value) => {
  const fault = httpsUrl(value);
  if (fault !== undefined) return { ...fault, hint: 'write one such as https://k8s.example.com:6443' };
  const url = new URL(value);
  if (url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '') return undefined;
  return { message: `${quoted(value)} has more than a host and a port`, hint: `write ${url.origin}` };
};

/** The URL of a container registry's mirror. */
export const registryUrl: Check = (value) => {
  if (URL.canParse(value) && ['http:', 'https:'].includes(new URL(value).protocol)) return undefined;
  return {
    message: `${quoted(value)} is not an http or https URL`,
    hint: 'write one such as https://registry.example.com',
  };
};

/** An IPv4 address that no router passes on (RFC 3927). */
export const linkLocalAddress: Check = (value) => {
  if (isAddress(value) && value.startsWith('169.254.')) return undefined;
  return { message: `${quoted(value)} is not a link-local IPv4 address`, hint: 'write one such as 169.254.20.10' };
};

/** HOST[:PORT] of a container registry, as it stands in an image's name. */
export const registryName: Check = (value) => {
  const [, host, port] = /^(.*?)(?::(\d{1,5}))?$/.exec(value) ?? [];
  const named = host !== undefined && (isAddress(host) || (dnsName.test(host) && (host.includes('.') || port)));
  if (named && (port === undefined || (Number(port) >= 1 && Number(port) <= 65535))) return undefined;
  return {
    message: `${quoted(value)} is not the name of a registry`,
    hint: 'write a host name with a dot or a port, such as registry.example.com or registry.example.com:5000',
  };
};

/** HOST[:PORT][/PATH] that stands before the names of images. */
export const registryPrefix: Check = (value) => {
  const [host = '', ...parts] = value.replace(/\/+$/, '').split('/');
  // A path of an image's name: https://github.com/distribution/distribution/blob/main/docs/content/spec/api.md
  const sound = parts.every((part) => /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/.test(part));
  if (sound && registryName(host) === undefined) return undefined;
  return {
    message: `${quoted(value)} is not a registry with a path`,
    hint: 'write it without a scheme, such as registry.example.com/mirror',
  };
};

/** The name of an object of the Kubernetes API: a DNS subdomain. */
export const objectName: Check = (value) => {
  if (value.length <= 253 && dnsName.test(value)) return undefined;
  return { message: `${quoted(value)} is not the name of a Kubernetes object`, hint: 'write one such as local-path' };
};

/** An amount of storage: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ */
export const quantity: Check = (value) => {
  if (/^[1-9]\d*(?:Mi|Gi|Ti|M|G|T)$/.test(value)) return undefined;
  return {
    message: `${quoted(value)} is not an amount of storage`,
    hint: 'write a whole number with a unit, such as 20Gi',
  };
};

/** A name or address of a certificate. */
export const subjectAlternativeName: Check = (value) => {
  if (isAddress(value) || dnsName.test(value.replace(/^\*\./, ''))) return undefined;
  return {
    message: `${quoted(value)} is neither an IPv4 address nor a DNS name`,
    hint: 'write the bare name, such as k8s.example.com',
  };
};

/** A network interface's name: at most 15 characters (IFNAMSIZ), no blank and no slash. */
export const interfaceName: Check = (value) => {
  if (/^[A-Za-z0-9._-]{1,15}$/.test(value)) return undefined;
  return { message: `${quoted(value)} is not a name of a network interface`, hint: 'write one such as eth0' };
};

/** A user's name on the hosts. */
export const userName: Check = (value) => {
  if (/^[a-z_][a-z0-9_.-]{0,31}$/i.test(value)) return undefined;
  return { message: `${quoted(value)} is not a user's name`, hint: 'write one such as root' };
};

/** The key of a label or taint: [PREFIX/]NAME. */
export const labelKey: Check = (value) => {
  const parts = value.split('/');
  const name = parts.at(-1) ?? '';
  const prefix = parts.length === 2 ? (parts[0] ?? '') : undefined;
  const nameIsRight = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$/.test(name);
  if (parts.length <= 2 && nameIsRight && (prefix === undefined || (dnsName.test(prefix) && prefix.length <= 253))) {
    return undefined;
  }
  return {
    message: `${quoted(value)} is not a key of a label or taint ([DOMAIN/]NAME)`,
    hint: 'write one such as example.com/disk or zone: letters, digits, - _ . and at most 63 of them',
  };
};

/** The value of a label or taint. */
export const labelValue: Check = (value) => {
  if (value === '' || /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(value)) return undefined;
  return {
    message: `${quoted(value)} is not a value of a label or taint`,
    hint: 'use letters, digits, - _ . and at most 63 of them, a letter or digit first and last',
  };
};

/** The name of an Ansible variable. */
export const variableName: Check = (value) => {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(value)) return undefined;
  return { message: `${quoted(value)} is not a name of an Ansible variable`, hint: 'use letters, digits and _' };
};

/** A kernel parameter. */
export const sysctlKey: Check = (value) => {
  if (/^[a-z0-9_-]+([./][A-Za-z0-9_*-]+)+$/.test(value)) return undefined;
  return { message: `${quoted(value)} is not a kernel parameter`, hint: 'write one such as vm.max_map_count' };
};

/** A path in etcd. */
export const etcdPrefix: Check = (value) => {
  if (/^(\/[A-Za-z0-9._-]+)+$/.test(value)) return undefined;
  return { message: `${quoted(value)} is not an etcd prefix`, hint: 'write one such as /kubernetes/network' };
};

/** A text with something in it. */
export const filled: Check = (value) => {
  if (value.trim() !== '') return undefined;
  return { message: `${quoted(value)} is empty`, hint: 'give a value or delete the line' };
};
