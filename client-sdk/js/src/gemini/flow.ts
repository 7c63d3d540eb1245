/** An answer that is passed on as it comes, and reports itself however it ends. */

import { bounded, reasonOf } from "../clock.js";
import { TransportError, type TransportKind } from "../errors.js";
import type { LeaseState } from "../lease.js";
import type { Outcome, Usage } from "../outcome.js";
import { redactBytes, redactText } from "../redact.js";
import { isError, isFinished, parseJson, statusOf, usageOf } from "./reading.js";
import { SseDecoder } from "./sse.js";
import { describe } from "./transport.js";

/** Of an answer in one piece of JSON so many bytes are read for what it says. */
const MOST_JSON = 16 * 1024 * 1024;

/** Why a stream that its reader left ended. */
const LEFT = "its reader left it";

/** What an answer consists of: events, one JSON array whose members come one by one, or anything else. */
export type Form = "events" | "array" | "opaque";

/** How an answer is passed on. */
export interface FlowOptions {
  readonly form: Form;
  /** Whether an answer without a finish reason is cut. */
  readonly mustFinish: boolean;
  /** How long the upstream may be silent, in milliseconds. */
  readonly idleTimeout: number;
  /** How long the caller may let the answer lie unread, in milliseconds. */
  readonly unreadTimeout: number;
  /** Whether a reader that lets go of the stream has left it. */
  readonly releaseIsLeaving: boolean;
  /** Ends the request. */
  readonly abort: AbortController;
  /** The caller's own signal. */
  readonly signal: AbortSignal | undefined;
  /** Lets go of what the request held. */
  readonly end: () => void;
}

/** What came before the first event, where that is all there is. */
export interface Unopened {
  readonly outcome: Outcome;
  readonly body: Uint8Array | undefined;
  readonly error: Error | undefined;
}

type Chunk = { readonly done: true } | { readonly done: false; readonly value: Uint8Array };

/** An answer under way, with the lease that it will report. */
export class Flow {
  readonly #lease: LeaseState;
  readonly #status: number;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #options: FlowOptions;
  readonly #sse = new SseDecoder();
  readonly #array: Uint8Array[] = [];
  #arrayBytes = 0;
  #ready: Uint8Array[] = [];
  #events = 0;
  #usage: Usage = {};
  #finished = false;
  #error: { status: number; body: string } | undefined;
  #ended = false;
  /** What ended it before its time. */
  #failure: Error | undefined;
  #unlisten: () => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    lease: LeaseState,
    status: number,
    body: ReadableStream<Uint8Array>,
    options: FlowOptions,
  ) {
    this.#lease = lease;
    this.#status = status;
    this.#reader = body.getReader();
    this.#options = options;
    lease.whenLeft = () => this.#whenLeft();
  }

  /** Waits for the first event, so that an answer that begins with an error can be tried again. */
  async open(): Promise<Unopened | undefined> {
    while (this.#options.form === "events" && this.#isUnopened()) {
      let chunk: Chunk;
      try {
        chunk = await this.#read();
      } catch (error) {
        return this.#unopened(error);
      }
      if (chunk.done) {
        this.#lookAtEnd();
        if (this.#isUnopened()) {
          return this.#unopened(new Error("the stream held no event"));
        }
        break;
      }
      this.#look(chunk.value);
      this.#ready.push(this.#masked(chunk.value));
    }
    if (this.#events === 0 && this.#error !== undefined) {
      const { status, body } = this.#error;
      this.#stop();
      this.#options.abort.abort();
      return { outcome: { kind: "http_error", status, body }, body: Buffer.concat(this.#ready), error: undefined };
    }
    return undefined;
  }

  #isUnopened(): boolean {
    return this.#events === 0 && this.#error === undefined;
  }

  /** What the caller reads. If he drops it unread, the answer is reported as left. */
  stream(): ReadableStream<Uint8Array> {
    const stream = new ReadableStream<Uint8Array>(
      {
        pull: (controller) => this.#pull(controller),
        cancel: () => {
          this.#leave(LEFT);
        },
      },
      { highWaterMark: 0 },
    );
    if (this.#options.releaseIsLeaving) {
      leaveOnRelease(stream, () => {
        this.#leave(LEFT);
      });
    }
    dropped.register(stream, () => {
      this.#leave(LEFT);
    });
    const { signal } = this.#options;
    // A caller who calls off may well not read on.
    const stop = () => {
      this.#leave(reasonOf(signal));
    };
    signal?.addEventListener("abort", stop, { once: true });
    this.#unlisten = () => signal?.removeEventListener("abort", stop);
    this.#wait();
    return stream;
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#failure !== undefined) {
      controller.error(this.#failure);
      return;
    }
    const ready = this.#ready.shift();
    if (ready !== undefined) {
      controller.enqueue(ready);
      this.#wait();
      return;
    }
    try {
      const chunk = await this.#read();
      if (!chunk.done) {
        this.#look(chunk.value);
        controller.enqueue(this.#masked(chunk.value));
        this.#wait();
        return;
      }
      this.#lookAtEnd();
      if (this.#error === undefined && this.#options.mustFinish && !this.#finished) {
        throw new Error("the stream ended before the answer did");
      }
      this.#report({ kind: "success", usage: this.#usage });
      controller.close();
    } catch (error) {
      this.#broken(error, controller);
    }
  }

  #broken(error: unknown, controller: ReadableStreamDefaultController<Uint8Array>): void {
    const { outcome, error: shown } = this.#transport(error);
    this.#report(outcome);
    controller.error(shown);
  }

  /** The next piece of the upstream's answer, in time. */
  async #read(): Promise<Chunk> {
    let timer: NodeJS.Timeout | undefined;
    const { idleTimeout, abort } = this.#options;
    try {
      timer = setTimeout(() => {
        abort.abort(new DOMException(`nothing came for ${idleTimeout} ms`, "TimeoutError"));
      }, bounded(idleTimeout));
      return await this.#reader.read();
    } finally {
      clearTimeout(timer);
    }
  }

  /** While the caller does not read, his lease does not live for ever. */
  #wait(): void {
    const { unreadTimeout } = this.#options;
    if (!this.#ended) {
      this.#timer = setTimeout(() => {
        this.#leave(`nobody read it for ${unreadTimeout} ms`);
      }, bounded(unreadTimeout)).unref();
    }
  }

  /** Ends it for this reason, which whoever reads on is told. */
  #leave(reason: Error | string): void {
    if (!this.#ended) {
      this.#failure = typeof reason === "string" ? new TransportError("CANCELLED", reason) : reason;
      void this.#lease.report(this.#whenLeft());
      this.#stop();
      this.#options.abort.abort();
    }
  }

  /** A caller may well stop at the finish reason, without asking for the end of the stream. */
  #whenLeft(): Outcome {
    if (this.#error !== undefined) {
      return { kind: "http_error", ...this.#error };
    }
    return this.#finished
      ? { kind: "success", usage: this.#usage }
      : {
          kind: "transport_error",
          transport: "CANCELLED",
          message: "the answer was not read to its end",
          usage: this.#usage,
        };
  }

  /** The advice on the end of a stream says nothing to act on, so nobody waits for it. */
  #report(outcome: Outcome): void {
    this.#stop();
    void this.#lease.report(this.#error === undefined ? outcome : this.#whenLeft());
  }

  #stop(): void {
    this.#ended = true;
    this.#options.end();
    this.#unlisten();
    clearTimeout(this.#timer);
  }

  #unopened(error: unknown): Unopened {
    this.#stop();
    return { body: undefined, ...this.#transport(error) };
  }

  #transport(error: unknown): { outcome: Outcome; error: Error } {
    const { signal, abort } = this.#options;
    const outcome = (transport: TransportKind, message: string): Outcome => ({
      kind: "transport_error",
      transport,
      message,
      usage: this.#usage,
    });
    if (signal?.aborted === true) {
      return { outcome: outcome("CANCELLED", "the caller gave up"), error: reasonOf(signal) };
    }
    const message = redactText(describe(error), this.#lease.key);
    const transport = abort.signal.aborted ? "TIMEOUT" : "RESET";
    return { outcome: outcome(transport, message), error: new TransportError(transport, message, error) };
  }

  #look(bytes: Uint8Array): void {
    if (this.#options.form === "events") {
      for (const event of this.#sse.push(bytes)) {
        this.#lookAt(event);
      }
    } else if (this.#options.form === "array" && this.#arrayBytes + bytes.length <= MOST_JSON) {
      this.#array.push(bytes);
      this.#arrayBytes += bytes.length;
    }
  }

  #lookAtEnd(): void {
    if (this.#options.form === "events") {
      const { event, stray } = this.#sse.finish();
      if (event !== undefined) {
        this.#lookAt(event);
      }
      this.#lookForError(stray, parseJson(stray));
    } else if (this.#options.form === "array") {
      const text = Buffer.concat(this.#array).toString();
      const value = parseJson(text);
      this.#lookForError(text, value);
      for (const member of Array.isArray(value) ? (value as unknown[]) : []) {
        this.#lookForError(JSON.stringify(member), member);
        this.#takeIn(member);
      }
    }
  }

  #lookAt(event: string): void {
    const value = parseJson(event);
    if (!this.#lookForError(event, value)) {
      this.#events++;
      this.#takeIn(value);
    }
  }

  #lookForError(text: string, value: unknown): boolean {
    if (!isError(value)) {
      return false;
    }
    this.#error ??= { status: statusOf(value, this.#status), body: redactText(text, this.#lease.key) };
    return true;
  }

  #takeIn(value: unknown): void {
    this.#usage = usageOf(value) ?? this.#usage;
    this.#finished ||= isFinished(value);
  }

  #masked(bytes: Uint8Array): Uint8Array {
    return redactBytes(bytes, this.#lease.key);
  }
}

const dropped = new FinalizationRegistry<() => void>((leave) => {
  leave();
});

/** Calls `leave` when a reader lets go of the stream: the official SDK does so where its caller leaves a loop. */
function leaveOnRelease(stream: ReadableStream<Uint8Array>, leave: () => void): void {
  const getReader = stream.getReader.bind(stream) as () => ReadableStreamDefaultReader<Uint8Array>;
  Object.defineProperty(stream, "getReader", {
    value: (...given: []) => {
      const reader = getReader(...given);
      const releaseLock = reader.releaseLock.bind(reader);
      Object.defineProperty(reader, "releaseLock", {
        value: () => {
          releaseLock();
          leave();
        },
      });
      return reader;
    },
  });
}
