/** Keeps a lease alive while a long request or stream runs. */

import { bounded, now } from "./clock.js";
import { KeybrokerError, OtherError } from "./errors.js";
import type { Rpc } from "./rpc.js";
import { fromDuration, toDuration } from "./wire.js";

/** No renewal is closer than this to the one before, also when little time remains; milliseconds. */
const SHORTEST_PAUSE = 50;

/** When a lease expires, by the local monotonic clock. */
export class Expiry {
  #at: number;

  constructor(at: number) {
    this.#at = at;
  }

  /** How many milliseconds are left; 0 once it is over. */
  get remaining(): number {
    return Math.max(this.#at - now(), 0);
  }

  /** Extends the lease; answers how many milliseconds it now lasts. */
  async renew(rpc: Rpc, leaseId: string, ttl: number): Promise<number> {
    const { response, askedAt } = await rpc.renew({ leaseId, ttl: toDuration("ttl", ttl) });
    const expiresIn = fromDuration(response.expiresIn);
    if (expiresIn === undefined) {
      throw new OtherError("RenewResponse holds no expires_in: use a broker and a client of matching versions");
    }
    // Counted from before the call, as for a lease: the local end is never later than the real one.
    this.#at = Math.max(this.#at, askedAt + expiresIn);
    return this.remaining;
  }
}

/** Renews a lease each time half of its remaining time has passed, until it is stopped. */
export class AutoRenew {
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @internal */
  constructor(
    private readonly rpc: Rpc,
    private readonly expiry: Expiry,
    private readonly leaseId: string,
    private readonly ttl: number,
  ) {
    this.#arm();
  }

  /** Whether the lease is still being renewed; false once the broker refused to. */
  get isActive(): boolean {
    return !this.#stopped;
  }

  /** Ends the renewing; the lease lasts until it is reported or expires. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #arm(): void {
    const remaining = this.expiry.remaining;
    const pause = Math.max(remaining / 2, SHORTEST_PAUSE);
    // A renewal alone is no reason for a process to live on.
    this.#timer = setTimeout(() => void this.#renew(remaining), bounded(pause)).unref();
  }

  /**
   * After a failure the pauses halve with what remains; once it is over, only the broker knows whether the
   * lease still lives, so the last word is its answer.
   */
  async #renew(remaining: number): Promise<void> {
    try {
      await this.expiry.renew(this.rpc, this.leaseId, this.ttl);
    } catch (error) {
      const isTriedAgain = error instanceof KeybrokerError && error.isRetryable && remaining > 0;
      if (!isTriedAgain) {
        this.#stopped = true;
      }
    }
    if (!this.#stopped) {
      this.#arm();
    }
  }
}
