/** The connection to a broker. */

import { inspect } from "node:util";

import { reasonOf } from "./clock.js";
import { OtherError } from "./errors.js";
import { LeaseFetch, type FetchOptions } from "./gemini/fetch.js";
import type { AcquireResponse } from "./generated/keybroker/v1/keybroker.js";
import { Lease, LeaseState } from "./lease.js";
import { toRequest, type AcquireOptions, type BrokerOptions } from "./options.js";
import type { Cancellation, Sent } from "./rpc.js";
import { Shared } from "./shared.js";

/**
 * How long an Acquire goes on after its caller gave up, in milliseconds, so that a lease already on its way is
 * received and refunded rather than charged until it expires.
 */
const AFTER_CANCEL = 1_000;

/**
 * A client of one broker, or of several brokers of one fleet. It holds one connection for each address; make
 * one for the whole process.
 *
 * ```ts
 * import { Broker } from "keybroker";
 *
 * const broker = new Broker("127.0.0.1:50051");
 * await using lease = await broker.acquire({ model: "gemini-2.5-flash", wait: 5_000 });
 * const answer = await fetch(url, { method: "POST", headers: { "x-goog-api-key": lease.beginSend() }, body });
 * if (answer.ok) await lease.success();
 * else await lease.httpError(answer.status, await answer.text());
 * ```
 */
export class Broker {
  readonly #shared: Shared;
  readonly #asking = new Set<Asking>();

  /**
   * Connects at the first call.
   *
   * @param addresses `host:port`, several of them separated by commas, or a list: the next one is asked where
   * one is gone.
   * @throws InvalidArgumentError if an address or an option cannot be used.
   */
  constructor(addresses: string | readonly string[], options: BrokerOptions = {}) {
    this.#shared = new Shared(addresses, options);
  }

  /**
   * Takes a lease. It is never retried where an answer may have been lost, since that may have been a lease.
   *
   * @throws RefusedError with the exact time to wait, and the other types under {@link KeybrokerError}; or the
   * signal's reason.
   */
  async acquire(options: AcquireOptions): Promise<Lease> {
    return new Lease(await this.#take(options));
  }

  /**
   * Takes a lease for a block and reports it at the end, if the block did not: as not sent where `beginSend` was
   * not called, else as cancelled. An error of the block is passed on.
   */
  async withLease<T>(options: AcquireOptions, block: (lease: Lease) => Promise<T> | T): Promise<T> {
    const lease = await this.acquire(options);
    try {
      return await block(lease);
    } finally {
      await lease[Symbol.asyncDispose]();
    }
  }

  /**
   * A `fetch` that takes a lease for each request to Gemini, sends it with the leased key, reports what came of
   * it, and tries again as the broker advises. Give it to any client that takes a `fetch`.
   */
  fetch(options: FetchOptions = {}): typeof fetch {
    const leased = new LeaseFetch((acquire) => this.#take(acquire), options);
    return (input, init) => leased.fetch(input, init);
  }

  /**
   * Waits until every report is delivered, those in the background included.
   *
   * @throws UndeliveredError once `flushTimeout` has passed; delivery goes on.
   */
  flush(): Promise<void> {
    return this.#shared.reporter.flush(this.#shared.flushTimeout);
  }

  /**
   * Refuses new leases, calls off those that are being asked for, reports those that are out as left, and flushes.
   *
   * @throws UndeliveredError as {@link flush}.
   */
  async close(): Promise<void> {
    this.#shared.isClosed = true;
    for (const asked of this.#asking) {
      asked.giveUp(closed());
    }
    await Promise.all([...this.#asking].map(({ over }) => over));
    this.#shared.leaveAll("the client was closed without a report");
    try {
      await this.flush();
    } finally {
      if (this.#shared.reporter.outstanding === 0) {
        this.#shared.rpc.close();
      }
    }
  }

  /** Closes. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** How many leases are out: acquired and not reported. */
  get leasesOut(): number {
    return this.#shared.held;
  }

  /** How many reports are not delivered yet. */
  get unreported(): number {
    return this.#shared.reporter.outstanding;
  }

  /**
   * How many reports were given up since the start: the queue was full, or the broker was away for longer than
   * `reportPatience`. Their leases stay charged until they expire.
   */
  get reportsLost(): number {
    return this.#shared.reporter.lost;
  }

  /** For logs. */
  toJSON(): object {
    const { leasesOut, unreported, reportsLost } = this;
    return { addresses: this.#shared.rpc.addresses, leasesOut, unreported, reportsLost };
  }

  /** @internal */
  [inspect.custom](): string {
    return `Broker ${inspect(this.toJSON())}`;
  }

  async #take(options: AcquireOptions): Promise<LeaseState> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#shared.isClosed) {
      throw closed();
    }
    const asked = new Asking((cancellation) =>
      this.#shared.rpc.acquire(toRequest(options), cancellation).then((sent) => this.#received(sent)),
    );
    this.#asking.add(asked);
    const stop = () => {
      asked.giveUp(reasonOf(signal));
    };
    signal?.addEventListener("abort", stop, { once: true });
    try {
      return await asked.lease;
    } finally {
      signal?.removeEventListener("abort", stop);
      void asked.over.then(() => this.#asking.delete(asked));
    }
  }

  #received({ response, askedAt }: Sent<AcquireResponse>): LeaseState {
    if (response.lease === undefined) {
      throw new OtherError("AcquireResponse holds no lease: use a broker and a client of matching versions");
    }
    return new LeaseState(this.#shared, response.lease, askedAt);
  }
}

function closed(): OtherError {
  return new OtherError("this broker client is closed: make a new one");
}

/** An acquire under way. */
class Asking {
  /** What the caller gets. */
  readonly lease: Promise<LeaseState>;
  /** When nothing more can come. */
  readonly over: Promise<void>;
  readonly #taken: Promise<LeaseState>;
  readonly #cancellation: Cancellation = { cancelled: false };
  #reject: (reason: Error) => void = () => undefined;
  #isOver = false;

  constructor(take: (cancellation: Cancellation) => Promise<LeaseState>) {
    this.#taken = take(this.#cancellation);
    this.lease = new Promise((resolve, reject) => {
      this.#reject = reject;
      this.#taken
        .finally(() => {
          this.#isOver = true;
        })
        .then(resolve, reject);
    });
    this.over = this.#taken.then(
      () => undefined,
      () => undefined,
    );
  }

  /** The caller no longer waits. A lease that comes all the same is given back. */
  giveUp(reason: Error): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    this.#reject(reason);
    const timer = setTimeout(() => {
      this.#cancellation.cancelled = true;
      this.#cancellation.cancel?.();
    }, AFTER_CANCEL);
    this.#taken
      .then(
        (lease) => lease.report({ kind: "not_sent" }),
        () => undefined,
      )
      .catch(() => undefined)
      .finally(() => {
        clearTimeout(timer);
      });
  }
}
