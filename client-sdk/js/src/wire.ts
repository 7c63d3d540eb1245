/** Between the numbers of this package, in milliseconds, and the contract's messages. */

import { InvalidArgumentError } from "./errors.js";
import type { Duration } from "./generated/google/protobuf/duration.js";

/** Milliseconds of a `google.protobuf.Duration`. */
export function fromDuration(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : duration.seconds * 1000 + duration.nanos / 1e6;
}

/** A `google.protobuf.Duration` of so many milliseconds. */
export function toDuration(field: string, ms: number): Duration {
  if (!Number.isFinite(ms)) {
    throw InvalidArgumentError.of(field, `must be a number of milliseconds, not ${ms}`);
  }
  const seconds = Math.trunc(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** A whole number for a field of the contract. */
export function toInteger(field: string, value: number): number {
  const whole = Math.ceil(value);
  if (!Number.isSafeInteger(whole)) {
    throw InvalidArgumentError.of(field, `must be a whole number, not ${value}`);
  }
  return whole;
}
