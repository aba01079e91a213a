/** The option `--days`. */
import { InvalidArgumentError } from 'commander';

export function parseDays(value: string): number {
  if (!/^\d{1,5}$/.test(value)) throw new InvalidArgumentError('Give a whole number of days, e.g. 30.');
  return Number(value);
}
