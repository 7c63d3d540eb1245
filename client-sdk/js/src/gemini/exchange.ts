/** One request with one lease: what is sent, and what its answer is reported as. */

import { bounded, now, reasonOf } from "../clock.js";
import { SendWindowPassedError, TransportError } from "../errors.js";
import type { LeaseState } from "../lease.js";
import type { Outcome } from "../outcome.js";
import { redactBytes, redactText } from "../redact.js";
import { AutoRenew } from "../renew.js";
import type { Affinity } from "./affinity.js";
import { Flow, type Form } from "./flow.js";
import { isError, parseJson, retryAfterOf, statusOf, usageOf } from "./reading.js";
import type { LeasedRequest } from "./request.js";
import { describe, kindOf } from "./transport.js";
import { untimed } from "./untimed.js";

/** A lease can be renewed to a second at least. */
const SHORTEST_TTL = 1_000;
const MOST_REDIRECTS = 5;
const HAS_NO_BODY = new Set([101, 204, 205, 304]);

/** How requests are sent. */
export interface SendOptions {
  /** What sends; `undefined` is the `fetch` of Node.js. */
  readonly fetch: typeof fetch | undefined;
  readonly requestTimeout: number;
  readonly streamIdleTimeout: number;
  readonly ttl: number | undefined;
  readonly releaseIsLeaving: boolean;
  readonly affinity: Affinity;
}

/** What came of sending. */
export type Exchange =
  /** An answer for the caller, whose lease reports or has reported. */
  | { readonly kind: "answered"; readonly response: Response }
  /** It took so long to connect that the lease must not be used any more; nothing was sent. */
  | { readonly kind: "missed"; readonly error: SendWindowPassedError }
  /** A failure to report, and what to show the caller if it is the last one: Google's answer, or an error. */
  | {
      readonly kind: "failed";
      readonly outcome: Outcome;
      readonly response: Response | undefined;
      readonly error: Error | undefined;
    };

/** One request under way. */
export class Sending {
  readonly #request: LeasedRequest;
  readonly #options: SendOptions;
  readonly #lease: LeaseState;
  readonly #renewal: AutoRenew;
  readonly #abort = new AbortController();
  #departed = false;
  #missed: SendWindowPassedError | undefined;
  #isStreaming = false;
  /** Lets go of what the request held. */
  #end: () => void = () => undefined;

  constructor(request: LeasedRequest, options: SendOptions, lease: LeaseState) {
    this.#request = request;
    this.#options = options;
    this.#lease = lease;
    // A slow answer must not outlive its lease.
    const ttl = Math.max(options.ttl ?? lease.expiry.remaining, SHORTEST_TTL);
    this.#renewal = new AutoRenew(lease.shared.rpc, lease.expiry, lease.leaseId, ttl);
  }

  /** Sends it with this key. A success is reported here. */
  async send(key: string): Promise<Exchange> {
    const { signal } = this.#request;
    const { requestTimeout } = this.#options;
    const stop = () => {
      this.#abort.abort(reasonOf(signal));
    };
    signal?.addEventListener("abort", stop, { once: true });
    this.#end = () => {
      signal?.removeEventListener("abort", stop);
      this.#renewal.stop();
    };
    const timer = setTimeout(() => {
      this.#abort.abort(new DOMException(`no answer within ${requestTimeout} ms`, "TimeoutError"));
    }, bounded(requestTimeout));
    try {
      const response = await this.#go(key);
      return await this.#answer(response);
    } catch (error) {
      return this.#failure(error);
    } finally {
      clearTimeout(timer);
      if (!this.#isStreaming) {
        this.#end();
      }
    }
  }

  async #go(key: string): Promise<Response> {
    const request = this.#request;
    const headers = new Headers(request.headers);
    headers.set("x-goog-api-key", key);
    let url = request.url;
    for (let hop = 0; ; hop++) {
      const response = await this.#fetch(url, headers);
      const next = hop < MOST_REDIRECTS ? redirectOf(request, response, url) : undefined;
      if (next === undefined) {
        return response;
      }
      await response.body?.cancel();
      if (next.origin !== url.origin) {
        // Another host is none of Gemini's, and gets no key.
        headers.delete("x-goog-api-key");
      }
      url = next;
    }
  }

  #fetch(url: URL, headers: Headers): Promise<Response> {
    const { method, body, dispatcher } = this.#request;
    const own = this.#options.fetch;
    const init: RequestInit = { method, headers, signal: this.#abort.signal, redirect: "manual" };
    if (own !== undefined || body === undefined) {
      this.#departed = own !== undefined;
      return (own ?? fetch)(url, body === undefined ? init : { ...init, body });
    }
    headers.set("content-length", String(body.length));
    const sent = dispatcher ?? untimed();
    return fetch(url, {
      ...init,
      body: this.#timely(body),
      duplex: "half",
      ...(sent === undefined ? {} : { dispatcher: sent }),
    } as RequestInit);
  }

  /**
   * A body that is asked for once there is a connection to send it on, and refuses when that is too late: Google
   * counts a request when it arrives, and a new connection can take seconds.
   */
  #timely(body: Buffer): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          const late = now() - this.#lease.sendBy;
          if (late > 0) {
            this.#missed = new SendWindowPassedError(late);
            controller.error(this.#missed);
            return;
          }
          this.#departed = true;
          if (body.length > 0) {
            controller.enqueue(body);
          }
          controller.close();
        },
      },
      { highWaterMark: 0 },
    );
  }

  async #answer(response: Response): Promise<Exchange> {
    const form = response.ok && response.body !== null ? this.#formOf(response) : undefined;
    return form === undefined ? this.#whole(response) : this.#flowing(response, form);
  }

  /** How an answer is passed on while it comes; `undefined`: it is read whole. */
  #formOf(response: Response): Form | undefined {
    const type = response.headers.get("content-type") ?? "";
    if (type.startsWith("text/event-stream")) {
      return "events";
    }
    if (this.#request.target.generatesStream) {
      return "array";
    }
    return type === "" || type.includes("json") ? undefined : "opaque";
  }

  async #flowing(response: Response, form: Form): Promise<Exchange> {
    const flow = new Flow(this.#lease, response.status, response.body as ReadableStream<Uint8Array>, {
      form,
      mustFinish: this.#request.target.generatesStream,
      idleTimeout: this.#options.streamIdleTimeout,
      unreadTimeout: this.#options.requestTimeout,
      releaseIsLeaving: this.#options.releaseIsLeaving,
      abort: this.#abort,
      signal: this.#request.signal,
      end: this.#end,
    });
    const unopened = await flow.open();
    if (unopened === undefined) {
      this.#isStreaming = true;
      return { kind: "answered", response: answer(response, flow.stream()) };
    }
    const { outcome, body, error } = unopened;
    return { kind: "failed", outcome, response: body && answer(response, body), error };
  }

  async #whole(response: Response): Promise<Exchange> {
    const bytes = new Uint8Array(await response.arrayBuffer());
    const masked = redactBytes(bytes, this.#lease.key);
    const value = isJson(response) || !response.ok ? parseJson(Buffer.from(masked).toString()) : undefined;
    const given = answer(response, masked);
    if (!response.ok || isError(value)) {
      const status = response.ok ? statusOf(value, response.status) : response.status;
      const retryAfter = retryAfterOf(response.headers);
      const outcome: Outcome = { kind: "http_error", status, body: masked, retryAfter };
      return { kind: "failed", outcome, response: given, error: undefined };
    }
    this.#options.affinity.learn(this.#lease.project, response.headers, value);
    // The advice on a success says nothing to act on, so nobody waits for it.
    void this.#lease.report({ kind: "success", usage: usageOf(value) ?? {} });
    return { kind: "answered", response: given };
  }

  #failure(error: unknown): Exchange {
    if (this.#missed !== undefined) {
      return { kind: "missed", error: this.#missed };
    }
    const { signal, body } = this.#request;
    if (signal?.aborted === true) {
      const outcome: Outcome = { kind: "transport_error", transport: "CANCELLED", message: "the caller gave up" };
      return { kind: "failed", outcome, response: undefined, error: reasonOf(signal) };
    }
    const message = redactText(describe(error), this.#lease.key);
    const isUnsent = body !== undefined && !this.#departed;
    const unanswered = this.#abort.signal.aborted ? "TIMEOUT" : kindOf(error);
    const transport = isUnsent ? "CONNECT" : unanswered;
    return {
      kind: "failed",
      outcome: { kind: "transport_error", transport, message },
      response: undefined,
      error: new TransportError(transport, message, error),
    };
  }
}

/** Sends a request with a key that was not leased; nothing is reported. */
export async function sendUnleased(request: LeasedRequest, options: SendOptions, key: string): Promise<Response> {
  const { method, url, body, signal } = request;
  const headers = new Headers(request.headers);
  headers.set("x-goog-api-key", key);
  const init: RequestInit = { method, headers, redirect: "manual", signal: signal ?? null };
  const response = await (options.fetch ?? fetch)(url, body === undefined ? init : { ...init, body });
  return response.ok ? response : answer(response, redactBytes(new Uint8Array(await response.arrayBuffer()), key));
}

/** An answer with this body, framed anew: it is decoded already, and may be shorter where a key was masked. */
function answer(response: Response, body: ReadableStream<Uint8Array> | Uint8Array): Response {
  const headers = new Headers(response.headers);
  for (const name of ["content-length", "content-encoding", "transfer-encoding", "connection"]) {
    headers.delete(name);
  }
  const { status, statusText, url } = response;
  const given = new Response(HAS_NO_BODY.has(status) ? null : body, { status, statusText, headers });
  Object.defineProperty(given, "url", { value: url });
  return given;
}

/** Where an answer sends a request that can be sent elsewhere. */
function redirectOf({ method }: LeasedRequest, response: Response, url: URL): URL | undefined {
  const location = response.headers.get("location");
  const isSent = [301, 302, 303, 307, 308].includes(response.status) && (method === "GET" || method === "HEAD");
  return isSent && location !== null && URL.canParse(location, url.href) ? new URL(location, url) : undefined;
}

function isJson(response: Response): boolean {
  const type = response.headers.get("content-type") ?? "";
  return type === "" || type.includes("json");
}
