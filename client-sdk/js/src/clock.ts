/** The monotonic clock, and what the SDK waits with. */

/** Milliseconds of a clock that nobody sets. */
export function now(): number {
  return performance.now();
}

/** The longest that a timer of this platform can take, in milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Waits `ms` milliseconds, or until the signal aborts; then it throws the signal's reason. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, bounded(ms));
    const stop = () => {
      clearTimeout(timer);
      reject(reasonOf(signal));
    };
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Waits for a promise, but not longer, and not once the signal aborts; `undefined` then. */
export async function within<T>(ms: number, promise: Promise<T>, signal?: AbortSignal): Promise<T | undefined> {
  let stop: (() => void) | undefined;
  const late = new Promise<undefined>((resolve) => {
    const end = () => {
      resolve(undefined);
    };
    const timer = setTimeout(end, bounded(ms));
    signal?.addEventListener("abort", end, { once: true });
    stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    };
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop?.();
  }
}

/** A time that a timer can take. */
export function bounded(ms: number): number {
  return Math.min(Math.max(ms, 0), LONGEST_TIMER);
}

/** What a caller who calls off gets: his own reason, as `fetch` gives it. */
export function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new DOMException("This operation was aborted", "AbortError");
}
