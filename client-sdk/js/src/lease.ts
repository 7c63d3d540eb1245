/** The right to send one request with one key, which always reports. */

import { inspect } from "node:util";

import type { Advice } from "./advice.js";
import { now, within } from "./clock.js";
import { DeadlineExceededError, LeaseEndedError, SendWindowPassedError, seconds, type TransportKind } from "./errors.js";
import type { Lease as WireLease } from "./generated/keybroker/v1/keybroker.js";
import { toReport, type Outcome, type Usage } from "./outcome.js";
import { AutoRenew, Expiry } from "./renew.js";
import type { Shared } from "./shared.js";
import { fromDuration } from "./wire.js";

/** How long the end of an `await using` block waits for its report to arrive, in milliseconds. */
const REPORT_GRACE = 1_000;

/** What a lease is, apart from the object in the caller's hands: it outlives that object, to report. */
export class LeaseState {
  readonly leaseId: string;
  readonly keyId: string;
  readonly project: string;
  readonly quotaModel: string;
  readonly permits: number;
  readonly overPlan: boolean;
  readonly sendBy: number;
  readonly expiry: Expiry;
  readonly shared: Shared;
  readonly #apiKey: string;
  #sentAt: number | undefined;
  #answer: Promise<Advice> | undefined;
  /** What to report where nobody says what came of the lease. */
  whenLeft: (() => Outcome) | undefined;

  constructor(shared: Shared, lease: WireLease, askedAt: number) {
    this.shared = shared;
    this.leaseId = lease.leaseId;
    this.keyId = lease.keyId;
    this.#apiKey = lease.apiKey;
    this.project = lease.project;
    this.quotaModel = lease.quotaModel;
    this.permits = lease.permits;
    this.overPlan = lease.overPlan;
    // A lease that does not say until when it may be used must not be used.
    this.sendBy = askedAt + (fromDuration(lease.sendWithin) ?? 0);
    this.expiry = new Expiry(askedAt + (fromDuration(lease.expiresIn) ?? 0));
    shared.hold(this);
  }

  get isReported(): boolean {
    return this.#answer !== undefined;
  }

  get isSent(): boolean {
    return this.#sentAt !== undefined;
  }

  /** For masking it in what comes back; only `beginSend` hands it out. */
  get key(): string {
    return this.#apiKey;
  }

  beginSend(): string {
    if (this.isReported) {
      throw new LeaseEndedError("it was reported");
    }
    const at = now();
    if (at > this.sendBy) {
      throw new SendWindowPassedError(at - this.sendBy);
    }
    this.#sentAt ??= at;
    return this.#apiKey;
  }

  /** Reports what came of it; a second report changes nothing and gets the first one's advice. */
  report(outcome: Outcome): Promise<Advice> {
    if (this.#answer === undefined) {
      const latency = this.#sentAt === undefined ? undefined : now() - this.#sentAt;
      this.#answer = this.shared.reporter.submit(toReport(this.leaseId, outcome, latency));
      this.whenLeft = undefined;
      this.shared.release(this);
    }
    return this.#answer;
  }

  /** Reports what nobody else will. */
  leave(message: string): Promise<Advice> {
    const unsaid: Outcome = this.isSent
      ? { kind: "transport_error", transport: "CANCELLED", message }
      : { kind: "not_sent" };
    return this.report(this.whenLeft?.() ?? unsaid);
  }
}

const collected = new FinalizationRegistry<LeaseState>((state) => {
  if (!state.isReported) {
    void state.leave("the lease was dropped without a report");
  }
});

/**
 * The right to send one request (or `permits` of them) with one key.
 *
 * Ask for the key with {@link beginSend}, send, and report with one of {@link success}, {@link httpError},
 * {@link transportError} and {@link notSent}. A lease that is let go without a report reports by itself, as
 * not sent if `beginSend` was never granted, else as cancelled: at the end of an `await using` block, when it
 * is garbage-collected, or when the process ends.
 */
export class Lease {
  readonly #state: LeaseState;

  /** @internal */
  constructor(state: LeaseState) {
    this.#state = state;
    collected.register(this, state, state);
  }

  /** The id of the lease. */
  get leaseId(): string {
    return this.#state.leaseId;
  }

  /** The id of the key, fit for logs. */
  get keyId(): string {
    return this.#state.keyId;
  }

  /** The project that owns the key. */
  get project(): string {
    return this.#state.project;
  }

  /** The family name under which Google counts the model. */
  get quotaModel(): string {
    return this.#state.quotaModel;
  }

  /** How many requests may be sent. */
  get permits(): number {
    return this.#state.permits;
  }

  /** Whether the request is over the soft plan of its consumer; it may be sent all the same. */
  get overPlan(): boolean {
    return this.#state.overPlan;
  }

  /** How many milliseconds there are still to send; 0 once it is too late. */
  get sendWithin(): number {
    return Math.max(this.#state.sendBy - now(), 0);
  }

  /** How many milliseconds until the lease expires; 0 once it has. */
  get expiresIn(): number {
    return this.#state.expiry.remaining;
  }

  /**
   * Marks the request as sent and hands out its key, if there is still time to send it.
   *
   * This is the only way to the key. Call it right before sending, once for each request of the lease, and put
   * the key in the header `x-goog-api-key`, never in a URL.
   *
   * @throws SendWindowPassedError if the time for sending, counted from the sending of Acquire, has passed: the
   * request must not be sent with this lease.
   */
  beginSend(): string {
    return this.#state.beginSend();
  }

  /**
   * Reports that Gemini answered 2xx without an error. The report is on its way when this returns, whether or
   * not the promise is awaited; so with the other reports.
   *
   * @throws DeadlineExceededError if no advice came in time, while delivery goes on in the background.
   * @throws ReportLostError if it was given up.
   */
  success(usage: Usage = {}): Promise<Advice> {
    return this.report({ kind: "success", usage });
  }

  /** Reports an error answer: its HTTP status, its body as it came, and a `Retry-After` header in milliseconds. */
  httpError(status: number, body: string | Uint8Array = "", retryAfter?: number): Promise<Advice> {
    return this.report({ kind: "http_error", status, body, retryAfter });
  }

  /** Reports that no complete answer came; the message must hold no key and no prompt. */
  transportError(transport: TransportKind, message = "", usage: Usage = {}): Promise<Advice> {
    return this.report({ kind: "transport_error", transport, message, usage });
  }

  /** Reports that the request was never sent: all of its charge is refunded. */
  notSent(): Promise<Advice> {
    return this.report({ kind: "not_sent" });
  }

  /** Reports any outcome. Reporting a lease again changes nothing and returns the first advice. */
  report(outcome: Outcome): Promise<Advice> {
    collected.unregister(this.#state);
    const answer = this.#advice(this.#state.report(outcome));
    answer.catch(() => undefined);
    return answer;
  }

  /**
   * Extends the lease to expire `ttl` milliseconds from now, 1,000 to 3,600,000; a lease is never shortened.
   * Answers how many milliseconds it now lasts.
   *
   * @throws LeaseEndedError or UnknownLeaseError if it is too late.
   */
  renew(ttl: number): Promise<number> {
    const { expiry, leaseId, shared } = this.#state;
    return expiry.renew(shared.rpc, leaseId, ttl);
  }

  /** Renews the lease to `ttl` milliseconds each time half of its time has passed, until the answer is stopped. */
  autoRenew(ttl: number): AutoRenew {
    const { expiry, leaseId, shared } = this.#state;
    return new AutoRenew(shared.rpc, expiry, leaseId, ttl);
  }

  /** Reports what was not reported, and waits a moment for that to arrive. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#state.isReported) {
      collected.unregister(this.#state);
      const left = this.#state.leave("the block of the lease ended without a report");
      await within(
        REPORT_GRACE,
        left.then(
          () => undefined,
          () => undefined,
        ),
      );
    }
  }

  /** For logs: everything but the key. */
  toJSON(): object {
    const { leaseId, keyId, project, quotaModel, permits, overPlan, sendWithin, expiresIn } = this;
    const { isSent, isReported } = this.#state;
    return { leaseId, keyId, project, quotaModel, permits, overPlan, sendWithin, expiresIn, isSent, isReported };
  }

  /** @internal */
  [inspect.custom](): string {
    return `Lease ${inspect(this.toJSON())}`;
  }

  async #advice(answer: Promise<Advice>): Promise<Advice> {
    const { callTimeout } = this.#state.shared.rpc;
    const advice = await within(callTimeout, answer);
    if (advice === undefined) {
      throw new DeadlineExceededError(
        `no advice came within ${seconds(callTimeout)}: the report is still being delivered; look whether the broker is up`,
      );
    }
    return advice;
  }
}
