/** How long to wait before the next try, in milliseconds. */

/** Exponential backoff with full jitter: a fleet that failed together must not return together. */
export class Backoff {
  constructor(
    readonly first: number,
    readonly longest: number,
  ) {}

  /** The ceiling of the wait before retry number `retry` (0 is the first). */
  ceiling(retry: number): number {
    return Math.min(this.first * 2 ** Math.min(retry, 30), this.longest);
  }

  /** A random wait below the ceiling. */
  wait(retry: number): number {
    return this.ceiling(retry) * Math.random();
  }
}

/**
 * A wait that the broker named, made longer by up to a tenth (at most a second): never shorter, since an
 * earlier try is known to be refused.
 */
export function spread(named: number): number {
  return named + Math.min(named / 10, 1000) * Math.random();
}
