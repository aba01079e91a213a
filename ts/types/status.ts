/** How a running cluster does: the result of `k8s-ans status` (docs/status.md). */
import type { PlannedFile } from './plan.js';

/** Something that is wrong, and what to do about it. */
export interface StatusFinding {
  readonly area: 'host' | 'unit' | 'etcd' | 'api' | 'node' | 'addon' | 'proxy' | 'certificate' | 'drift';
  readonly host?: string | undefined;
  readonly message: string;
  readonly next: string;
}

export interface UnitStatus {
  readonly name: string;
  /** Runs, and its endpoint (if it has one) answers. */
  readonly ok: boolean;
  /** In words, e.g. `active`, `failed (exit-code)`, `active, but …`. */
  readonly state: string;
  /** Automatic restarts since it was started. */
  readonly restarts: number;
  /** ISO 8601. */
  readonly since?: string | undefined;
}

export interface CertificateStatus {
  readonly host: string;
  readonly file: string;
  readonly subject: string;
  /** ISO 8601. */
  readonly notAfter: string;
  /** Whole days, rounded down; negative once it has expired. */
  readonly daysLeft: number;
  readonly state: 'ok' | 'soon' | 'expired';
}

export interface HostState {
  readonly name: string;
  readonly address: string;
  readonly roles: ReadonlyArray<string>;
  readonly reachable: boolean;
  /** Why nothing is known of it. */
  readonly error?: string | undefined;
  readonly units: ReadonlyArray<UnitStatus>;
  /** Whether the API is reached through this host's kube-nginx; absent: unknown. */
  readonly proxy?: { readonly ok: boolean; readonly detail: string } | undefined;
}

export interface EtcdMemberStatus {
  readonly name: string;
  readonly state: 'healthy' | 'unhealthy' | 'unknown';
  readonly detail: string;
  readonly id?: string | undefined;
  readonly leader: boolean;
  readonly learner: boolean;
  readonly version?: string | undefined;
  readonly dbBytes?: number | undefined;
  readonly dbBytesInUse?: number | undefined;
  readonly quotaBytes?: number | undefined;
  readonly alarms: ReadonlyArray<string>;
}

export interface EtcdStatus {
  readonly members: ReadonlyArray<EtcdMemberStatus>;
  readonly leader?: string | undefined;
  readonly healthy: number;
  /** How many members have to be healthy. */
  readonly quorum: number;
}

export interface LeaderStatus {
  readonly component: string;
  readonly host: string;
  /** ISO 8601. */
  readonly renewed: string;
}

export interface NodeStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly reason: string;
  /** Without the leading v. */
  readonly version: string;
  readonly runtime: string;
  readonly cordoned: boolean;
  /** Conditions it should not have, e.g. DiskPressure. */
  readonly conditions: ReadonlyArray<string>;
}

export interface WorkloadStatus {
  readonly kind: string;
  readonly name: string;
  readonly wanted: number;
  readonly available: number;
  readonly updated: number;
}

/** What the API server says, as one master has it. */
export interface ApiView {
  readonly from: string;
  readonly nodes: ReadonlyArray<NodeStatus>;
  readonly leaders: ReadonlyArray<LeaderStatus>;
  readonly workloads: ReadonlyArray<WorkloadStatus>;
}

export interface DriftedFile extends PlannedFile {
  readonly hosts: ReadonlyArray<string>;
}

export interface DriftStatus {
  /** The hosts that were compared. */
  readonly hosts: ReadonlyArray<string>;
  readonly files: ReadonlyArray<DriftedFile>;
  /** Why it is not known. */
  readonly error?: string | undefined;
}

export interface ClusterStatus {
  readonly cluster: string;
  readonly kubernetes: string;
  /** ISO 8601. */
  readonly time: string;
  /** No problem was found; warnings may be there. */
  readonly healthy: boolean;
  readonly problems: ReadonlyArray<StatusFinding>;
  readonly warnings: ReadonlyArray<StatusFinding>;
  readonly hosts: ReadonlyArray<HostState>;
  readonly etcd: EtcdStatus;
  /** Absent: no API server answers. */
  readonly api?: ApiView | undefined;
  readonly certificates: ReadonlyArray<CertificateStatus>;
  /** Absent: it was not asked for. */
  readonly drift?: DriftStatus | undefined;
}
