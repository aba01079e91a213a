/** The JSON file beside a snapshot: what is known of it. `roles/etcd/files/etcd-backup.py` writes the same. */
import { z } from 'zod';

const sidecarSchema = z.object({
  version: z.literal(1),
  /** The cluster's name. */
  cluster: z.string(),
  /** The member it was taken from. */
  member: z.string(),
  /** When, in ISO 8601. */
  time: z.iso.datetime(),
  revision: z.number(),
  /** etcdutl's hash over all keys and values, in hex. */
  hash: z.string(),
  keys: z.number(),
  /** In bytes. */
  size: z.number(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Version of the member. */
  etcd: z.string(),
  /** Version of the storage format, which etcdutl has to know. */
  storage: z.string(),
  /** Version of Kubernetes that the spec named. */
  kubernetes: z.string(),
});

/** What is known of a snapshot. */
export type Sidecar = z.infer<typeof sidecarSchema>;

/** The sidecar in a text, or undefined where it is none. */
export function parseSidecar(text: string): Sidecar | undefined {
  try {
    return sidecarSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The sidecar of a snapshot: the same name with .json. */
export function sidecarPath(snapshot: string): string {
  return `${snapshot.replace(/\.db$/, '')}.json`;
}
