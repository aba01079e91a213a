/** What the parts of the judgement collect. */
import type { StatusFinding } from '../types/status.js';

export interface Findings {
  /** Something does not work, or will not before long. */
  readonly problems: StatusFinding[];
  /** Worth knowing; the cluster does its work. */
  readonly warnings: StatusFinding[];
}
