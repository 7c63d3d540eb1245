/** What a broker client and all of its leases share. */

import { watchTheEnd, type Leftover } from "./exit.js";
import { LeaseReport } from "./generated/keybroker/v1/keybroker.js";
import type { LeaseState } from "./lease.js";
import { count, time, type BrokerOptions } from "./options.js";
import { Reporter } from "./reporter.js";
import { Rpc } from "./rpc.js";

/** The queue's upper bound. */
const LARGEST_QUEUE = 2 ** 24;

export class Shared {
  readonly rpc: Rpc;
  readonly reporter: Reporter;
  readonly flushTimeout: number;
  readonly #addresses: string | readonly string[];
  readonly #options: BrokerOptions;
  readonly #held = new Set<LeaseState>();
  isClosed = false;

  constructor(addresses: string | readonly string[], options: BrokerOptions) {
    this.#addresses = addresses;
    this.#options = options;
    this.rpc = new Rpc(addresses, options);
    this.flushTimeout = time("flushTimeout", options.flushTimeout, 10_000);
    this.reporter = new Reporter(
      this.rpc,
      count("reportQueue", options.reportQueue, 10_000, LARGEST_QUEUE),
      time("reportPatience", options.reportPatience, 60_000),
      () => {
        this.#rest();
      },
    );
  }

  /** A lease is out, and not reported. */
  hold(lease: LeaseState): void {
    this.#held.add(lease);
    inUse.add(this);
    watchTheEnd(inUse);
  }

  /** It is reported. */
  release(lease: LeaseState): void {
    this.#held.delete(lease);
    this.#rest();
  }

  /** How many leases are out. */
  get held(): number {
    return this.#held.size;
  }

  /** Reports every lease that is out: nobody else will. */
  leaveAll(why: string): void {
    for (const lease of this.#held) {
      void lease.leave(why);
    }
  }

  /** What is not delivered when the process ends; `undefined` if that is nothing, or is to be let go. */
  leftover(): Leftover | undefined {
    this.leaveAll("the process ended without a report");
    const reports = this.reporter.pending.map((report) => Buffer.from(LeaseReport.encode(report).finish()));
    const isWanted = this.#options.reportAtExit ?? true;
    return reports.length === 0 || !isWanted
      ? undefined
      : { addresses: this.#addresses, options: this.#options, reports: reports.map((report) => report.toString("base64")) };
  }

  #rest(): void {
    if (this.#held.size === 0 && this.reporter.outstanding === 0) {
      inUse.delete(this);
    }
  }
}

/** Those with leases that are out, or with reports that are not delivered. */
const inUse = new Set<Shared>();
