/** Delivers reports: in batches, in the background, again while the broker is away. */

import { toAdvice, type Advice } from "./advice.js";
import { Backoff } from "./backoff.js";
import { now, sleep, within } from "./clock.js";
import { KeybrokerError, OtherError, ReportLostError, UndeliveredError } from "./errors.js";
import type { LeaseReport } from "./generated/keybroker/v1/keybroker.js";
import type { Rpc } from "./rpc.js";

/** The most reports of one call, by the contract. */
const BATCH = 256;
/** A call closes at this many bytes of error bodies, well below the 4 MiB that a gRPC server takes. */
const BATCH_BYTES = 1024 * 1024;
/** Calls under way at once; a report that finds them all busy joins the next batch. */
const CALLS = 8;
const BACKOFF = new Backoff(100, 2_000);

interface Item {
  readonly report: LeaseReport;
  readonly giveUpAt: number;
  readonly succeed: (advice: Advice) => void;
  readonly fail: (error: KeybrokerError) => void;
}

export class Reporter {
  readonly #rpc: Rpc;
  readonly #capacity: number;
  readonly #patience: number;
  readonly #queue: Item[] = [];
  readonly #items = new Set<Item>();
  readonly #whenIdle: () => void;
  #calls = 0;
  #lost = 0;
  #idle: (() => void)[] = [];

  constructor(rpc: Rpc, capacity: number, patience: number, whenIdle: () => void) {
    this.#rpc = rpc;
    this.#capacity = capacity;
    this.#patience = patience;
    this.#whenIdle = whenIdle;
  }

  /** How many reports are not delivered yet. */
  get outstanding(): number {
    return this.#items.size;
  }

  /** Those reports. */
  get pending(): LeaseReport[] {
    return [...this.#items].map(({ report }) => report);
  }

  /** How many were given up. */
  get lost(): number {
    return this.#lost;
  }

  /** Queues a report; it never waits. The promise may be ignored. */
  submit(report: LeaseReport): Promise<Advice> {
    const answer = new Promise<Advice>((resolve, reject) => {
      const item: Item = {
        report,
        giveUpAt: now() + this.#patience,
        succeed: (advice) => {
          this.#settled(item);
          resolve(advice);
        },
        fail: (error) => {
          this.#lost++;
          this.#settled(item);
          reject(error);
        },
      };
      this.#items.add(item);
      if (this.#queue.length >= this.#capacity) {
        item.fail(new ReportLostError("the report queue is full, raise reportQueue"));
        return;
      }
      this.#queue.push(item);
      // What else is reported in this turn of the event loop goes along.
      queueMicrotask(() => {
        this.#start();
      });
    });
    // Whoever does not wait for the advice need not hear of a failure.
    answer.catch(() => undefined);
    return answer;
  }

  /** Waits until nothing is outstanding. */
  async flush(ms: number): Promise<void> {
    if (this.outstanding === 0) {
      return;
    }
    const idle = new Promise<true>((resolve) => {
      this.#idle.push(() => {
        resolve(true);
      });
    });
    if ((await within(ms, idle)) === undefined) {
      throw new UndeliveredError(this.outstanding, ms);
    }
  }

  #settled(item: Item): void {
    this.#items.delete(item);
    if (this.outstanding === 0) {
      this.#whenIdle();
      const idle = this.#idle;
      this.#idle = [];
      for (const wake of idle) {
        wake();
      }
    }
  }

  #start(): void {
    while (this.#calls < CALLS && this.#queue.length > 0) {
      this.#calls++;
      void this.#deliver(this.#gather()).finally(() => {
        this.#calls--;
        this.#start();
      });
    }
  }

  /** Takes what is queued already; it waits for nothing, so that an idle client adds no latency. */
  #gather(): Item[] {
    let bytes = 0;
    let count = 0;
    while (count < BATCH && bytes < BATCH_BYTES && count < this.#queue.length) {
      bytes += bodyBytes(this.#queue[count]);
      count++;
    }
    return this.#queue.splice(0, count);
  }

  /** Delivers a batch. Report is idempotent, so that a lost answer is simply asked for again. */
  async #deliver(given: Item[]): Promise<void> {
    let batch = given;
    for (let retry = 0; batch.length > 0; retry++) {
      const error = await this.#attempt(batch);
      if (error === undefined) {
        return;
      }
      if (!error.isRetryable) {
        await this.#giveUpOrSplit(batch, error);
        return;
      }
      const wait = Math.min(error.retryAfter ?? BACKOFF.wait(retry), BACKOFF.longest);
      batch = keepPatient(batch, now() + wait, error);
      if (batch.length > 0) {
        await sleep(wait);
      }
    }
  }

  async #attempt(batch: Item[]): Promise<KeybrokerError | undefined> {
    try {
      const { response } = await this.#rpc.report(batch.map(({ report }) => report));
      if (response.results.length !== batch.length) {
        return new OtherError("Report answered another number of results: use a broker and a client of matching versions");
      }
      response.results.forEach((result, index) => batch[index]?.succeed(toAdvice(result)));
      return undefined;
    } catch (error) {
      return error instanceof KeybrokerError ? error : new OtherError(`a report could not be sent: ${String(error)}`);
    }
  }

  /** One bad report must not take the others of its batch with it: each is sent alone. */
  async #giveUpOrSplit(batch: Item[], error: KeybrokerError): Promise<void> {
    if (batch.length === 1) {
      batch[0]?.fail(error);
      return;
    }
    for (const item of batch) {
      await this.#deliver([item]);
    }
  }
}

function keepPatient(batch: Item[], nextTry: number, error: KeybrokerError): Item[] {
  return batch.filter((item) => {
    const isPatient = item.giveUpAt > nextTry;
    if (!isPatient) {
      item.fail(new ReportLostError(error.message));
    }
    return isPatient;
  });
}

function bodyBytes(item: Item | undefined): number {
  const outcome = item?.report.outcome;
  return outcome?.$case === "httpError" ? outcome.value.body.length : 0;
}
