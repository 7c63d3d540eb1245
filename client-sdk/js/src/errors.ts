/** What can go wrong, each kind a type of its own under {@link KeybrokerError}. */

/** The kinds of errors, by which a program tells them apart; the same in the SDKs of all languages. */
export type ErrorKind =
  | "refused"
  | "never_possible"
  | "no_usable_key"
  | "unknown_pool"
  | "unknown_lease"
  | "lease_ended"
  | "invalid_argument"
  | "unavailable"
  | "deadline_exceeded"
  | "unauthenticated"
  | "not_permitted"
  | "report_lost"
  | "send_window_passed"
  | "transport"
  | "other";

/** The base of all errors of this package. Every text says what to do. */
export abstract class KeybrokerError extends Error {
  /** What kind of error this is. */
  abstract readonly kind: ErrorKind;

  /** The wait that the broker named, in milliseconds: exact for a refusal. */
  readonly retryAfter: number | undefined = undefined;

  /** Whether the same call can succeed later, with nothing changed. */
  get isRetryable(): boolean {
    return RETRYABLE.has(this.kind);
  }

  override get name(): string {
    return this.constructor.name;
  }
}

const RETRYABLE: ReadonlySet<ErrorKind> = new Set([
  "refused",
  "unavailable",
  "deadline_exceeded",
  "send_window_passed",
  "transport",
]);

/** A limit that is spent. */
export interface QuotaViolation {
  /** Whose limit. */
  readonly subject: string;
  /** Which limit and how much of it is used. */
  readonly description: string;
}

/** A field of a request that must be corrected. */
export interface FieldViolation {
  /** The field, by its name in the contract. */
  readonly field: string;
  /** What is wrong and how to correct it. */
  readonly description: string;
}

/** No lease can be given now; after {@link retryAfter} milliseconds one can. */
export class RefusedError extends KeybrokerError {
  override readonly kind = "refused";
  /** Milliseconds after which a lease can be given, counted from the arrival of this answer. */
  override readonly retryAfter: number;

  /** @internal */
  constructor(
    words: string,
    retryAfter: number,
    /** What stands in the way: a name of the contract's `ErrorReason`, such as `QUOTA_EXHAUSTED`. */
    readonly reason: string,
    /** What is spent. */
    readonly quota: readonly QuotaViolation[],
  ) {
    const spent = quota.map(({ subject, description }) => `; ${subject}: ${description}`).join("");
    super(`no key is free, try again in ${seconds(retryAfter)}: ${words}${spent}`);
    this.retryAfter = retryAfter;
  }
}

/** The request is larger than a limit: no key can ever serve it as things are configured. */
export class NeverPossibleError extends KeybrokerError {
  override readonly kind = "never_possible";
  /** @internal */
  constructor(words: string) {
    super(
      `no key can ever serve this request as the limits are configured: make it smaller, or raise the limit (${words})`,
    );
  }
}

/** Every key that could serve is disabled, or the constraints leave none. */
export class NoUsableKeyError extends KeybrokerError {
  override readonly kind = "no_usable_key";
  /** @internal */
  constructor(words: string) {
    super(`no usable key: enable or add one, or loosen the request's constraints (${words})`);
  }
}

/** The pool is not configured. */
export class UnknownPoolError extends KeybrokerError {
  override readonly kind = "unknown_pool";
  /** @internal */
  constructor(words: string) {
    super(`unknown pool: use one that the broker's configuration names (${words})`);
  }
}

/** The lease was never granted by this broker, or was forgotten after its time. */
export class UnknownLeaseError extends KeybrokerError {
  override readonly kind = "unknown_lease";
  /** @internal */
  constructor(words: string) {
    super(`unknown lease: acquire a new one (${words})`);
  }
}

/** The lease was reported or has expired. */
export class LeaseEndedError extends KeybrokerError {
  override readonly kind = "lease_ended";
  /** @internal */
  constructor(words: string) {
    super(`the lease has ended: acquire a new one (${words})`);
  }
}

/** A field of a request, or an option, is missing or out of range. */
export class InvalidArgumentError extends KeybrokerError {
  override readonly kind = "invalid_argument";
  /** @internal */
  constructor(
    words: string,
    /** The fields at fault, each with the fix. */
    readonly violations: readonly FieldViolation[],
  ) {
    const named = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
    super(`invalid request, correct it: ${named === "" ? words : named}`);
  }

  /** @internal One field at fault. */
  static of(field: string, description: string): InvalidArgumentError {
    return new InvalidArgumentError(description, [{ field, description }]);
  }
}

/** The broker cannot be reached, or cannot serve at the moment. */
export class UnavailableError extends KeybrokerError {
  override readonly kind = "unavailable";
  override readonly retryAfter: number | undefined;

  /** @internal */
  constructor(
    text: string,
    /** The broker's reason, a name of the contract's `ErrorReason`; `undefined` where it could give none. */
    readonly reason: string | undefined,
    /**
     * Whether the answer may have been lost: an Acquire may then have granted a lease, which stays charged
     * until it expires.
     */
    readonly answerLost: boolean,
    retryAfter?: number,
  ) {
    super(text);
    this.retryAfter = retryAfter;
  }
}

/** No answer came within the time that was allowed. */
export class DeadlineExceededError extends KeybrokerError {
  override readonly kind = "deadline_exceeded";
}

/** {@link Broker.flush}: some reports are not delivered yet; delivery goes on. */
export class UndeliveredError extends DeadlineExceededError {
  /** @internal */
  constructor(
    /** How many reports. */
    readonly reports: number,
    ms: number,
  ) {
    super(
      `${reports} reports were not delivered within ${seconds(ms)}: check that the broker is reachable, or raise flushTimeout; leases without a report stay charged until they expire`,
    );
  }
}

/** The broker does not take the token, or wants one. */
export class UnauthenticatedError extends KeybrokerError {
  override readonly kind = "unauthenticated";
  /** @internal */
  constructor(address: string, words: string) {
    super(`the broker at ${address} does not take this client's token: give the right one as the option token, or a certificate in tls (${words})`);
  }
}

/** The broker knows this client, and does not let it do this. */
export class NotPermittedError extends KeybrokerError {
  override readonly kind = "not_permitted";
  /** @internal */
  constructor(address: string, words: string) {
    super(`the broker at ${address} does not permit this: ask for what the identity may use, or have it allowed more (${words})`);
  }
}

/** A report was given up: its lease stays charged until it expires. */
export class ReportLostError extends KeybrokerError {
  override readonly kind = "report_lost";
  /** @internal */
  constructor(words: string) {
    super(`a report was given up, and its lease stays charged until it expires: check that the broker is reachable (${words})`);
  }
}

/** The lease was held for too long before sending, and must not be used: report it as not sent, acquire another. */
export class SendWindowPassedError extends KeybrokerError {
  override readonly kind = "send_window_passed";
  /** @internal */
  constructor(
    /** By how many milliseconds the window was missed. */
    readonly lateBy: number,
  ) {
    super(
      `the lease should have been used ${seconds(lateBy)} ago: report it as not sent and acquire another, right before sending`,
    );
  }
}

/** Why no complete answer of Gemini's came. */
export type TransportKind = "CONNECT" | "TIMEOUT" | "RESET" | "CANCELLED";

/** Gemini gave no complete answer: the connection failed or was cut. */
export class TransportError extends KeybrokerError {
  override readonly kind = "transport";
  /** @internal */
  constructor(
    /** What happened. */
    readonly transport: TransportKind,
    words: string,
    cause?: unknown,
  ) {
    super(`Gemini gave no complete answer (${transport}): ${words}`, cause === undefined ? undefined : { cause });
  }
}

/** Anything else: a gRPC error outside of the contract, or a client that is closed. */
export class OtherError extends KeybrokerError {
  override readonly kind = "other";
}

/** A time for people. */
export function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(3))} s`;
}
