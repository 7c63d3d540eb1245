/** A `fetch` whose requests to Gemini each take a lease. */

import { Backoff, spread } from "../backoff.js";
import { now, sleep, within } from "../clock.js";
import {
  DeadlineExceededError,
  InvalidArgumentError,
  KeybrokerError,
  OtherError,
  RefusedError,
  UnavailableError,
} from "../errors.js";
import type { LeaseState } from "../lease.js";
import { count, time, type AcquireOptions, type LeaseOptions } from "../options.js";
import { Affinity } from "./affinity.js";
import { AnswerCache, type CacheOptions } from "./cache.js";
import { estimateInputTokens } from "./estimate.js";
import { Sending, sendUnleased, type Exchange, type SendOptions } from "./exchange.js";
import { readRequest, urlOf, type LeasedRequest } from "./request.js";
import { fieldOf, isGemini, readTarget } from "./target.js";

/** Where Gemini is. */
export const GEMINI_URL = "https://generativelanguage.googleapis.com";
/** What a client that wants a key is given; it is never sent. */
export const PLACEHOLDER_KEY = "leased-by-keybroker";

/** By the contract, a call may wait in the broker for so many milliseconds. */
const LONGEST_WAIT = 600_000;
/** A refusal whose time has come already is not answered at once, or the two would spin; milliseconds. */
const SHORTEST_WAIT = 5;
/** Where the broker names no wait after a failed request. */
const BACKOFF = new Backoff(500, 30_000);
/** Where a broker cannot be reached. */
const UNREACHABLE = new Backoff(200, 2_000);
/** Reasons that say that nothing was handed out, and that may pass. */
const PASSING = new Set(["SHUTTING_DOWN", "OVERLOADED", "LEDGER_UNAVAILABLE"]);

/** A request for which no lease could be had. */
export interface FallbackRequest {
  /** The model that it names, or that it would have been leased for. */
  readonly model: string;
  /** Its URL, without a key. */
  readonly url: string;
}

/** Options of {@link Broker.fetch}; times are milliseconds. */
export interface FetchOptions extends LeaseOptions {
  /**
   * Where Gemini is: leased keys are sent to this origin and to no other. Default:
   * `https://generativelanguage.googleapis.com`.
   */
  readonly baseUrl?: string | undefined;
  /**
   * How long a call may go on asking for keys and trying again. A request that is on its way is not cut by it.
   * Default: 60,000.
   */
  readonly deadline?: number | undefined;
  /**
   * The most requests that are sent for one call, 1 to 256; with a {@link fallback} also how often brokers that are
   * away are asked, else until the deadline. Default: 8.
   */
  readonly attempts?: number | undefined;
  /** How long one request may take; of a stream up to its first event. Default: 600,000, as Google's own limit. */
  readonly requestTimeout?: number | undefined;
  /** How long a stream may be silent. Default: 120,000. */
  readonly streamIdleTimeout?: number | undefined;
  /** How long an acquire may queue in the broker. Default: as long as the deadline allows. */
  readonly wait?: number | undefined;
  /**
   * The input tokens of a request, an upper bound: a number; a function of its JSON body; `"count"` to ask
   * `countTokens` first, which costs a lease; or `"local"`, the default: {@link estimateInputTokens}. 0 leaves
   * tokens uncounted until the report.
   */
  readonly inputTokens?: number | "local" | "count" | ((body: unknown) => number) | undefined;
  /** The output tokens, an upper bound, likewise. Default: 0, not charged ahead. */
  readonly outputTokens?: number | ((body: unknown) => number) | undefined;
  /** The model to lease for where a request names none, such as an upload. Default: `gemini-2.5-flash`. */
  readonly filesModel?: string | undefined;
  /**
   * What to do when no lease can be had: answer with a key to use, which the broker knows nothing of, or with
   * nothing (or throw), and the caller gets an error.
   */
  readonly fallback?:
    | ((error: KeybrokerError, request: FallbackRequest) => string | undefined | Promise<string | undefined>)
    | undefined;
  /** Keep answers for identical requests. Default: not. */
  readonly cache?: CacheOptions | undefined;
  /** What to send with. Default: the `fetch` of Node.js. */
  readonly fetch?: typeof fetch | undefined;
  /** @internal Whether a reader that lets go of a stream has left it. */
  readonly releaseIsLeaving?: boolean | undefined;
}

type Take = (options: AcquireOptions) => Promise<LeaseState>;

/** What the options of a {@link LeaseFetch} say, checked. */
interface Settings extends SendOptions {
  readonly lease: LeaseOptions;
  readonly origin: string;
  readonly deadline: number;
  readonly attempts: number;
  readonly wait: number;
  readonly filesModel: string;
  readonly inputTokens: NonNullable<FetchOptions["inputTokens"]>;
  readonly outputTokens: NonNullable<FetchOptions["outputTokens"]>;
  readonly fallback: FetchOptions["fallback"];
  readonly cache: AnswerCache | undefined;
}

/** Takes leases for requests. */
export class LeaseFetch {
  readonly #take: Take;
  readonly #settings: Settings;

  constructor(take: Take, options: FetchOptions) {
    this.#take = take;
    this.#settings = check(options);
  }

  /** As the `fetch` of Node.js; a request that is none to Gemini is passed on to it. */
  async fetch(...[input, init]: Parameters<typeof fetch>): Promise<Response> {
    const url = urlOf(input);
    if (url.origin !== this.#settings.origin || !isGemini(url.pathname)) {
      return this.#elsewhere(url, input, init);
    }
    const request = await readRequest(input, init);
    const { cache } = this.#settings;
    const key = cache?.keyOf(request);
    if (cache === undefined || key === undefined) {
      return this.#call(request);
    }
    const kept = cache.get(key);
    if (kept !== undefined) {
      return kept;
    }
    const response = await this.#call(request);
    await cache.put(key, response);
    return response;
  }

  async #elsewhere(url: URL, ...[input, init]: Parameters<typeof fetch>): Promise<Response> {
    const given = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    if (given.get("x-goog-api-key") === PLACEHOLDER_KEY) {
      throw InvalidArgumentError.of(
        "baseUrl",
        `keys are leased for paths of Gemini at ${this.#settings.origin} only, and this request goes to ${url.origin}${url.pathname}: set the option baseUrl`,
      );
    }
    return (this.#settings.fetch ?? fetch)(input, init);
  }

  async #call(request: LeasedRequest): Promise<Response> {
    const inputTokens = await this.#inputTokens(request);
    return new Call(this.#take, this.#settings, request, inputTokens, this.#settings.fallback === undefined).run();
  }

  async #inputTokens(request: LeasedRequest): Promise<number> {
    const { inputTokens } = this.#settings;
    if (request.json === undefined) {
      return typeof inputTokens === "number" ? inputTokens : 0;
    }
    switch (inputTokens) {
      case "local":
        return estimateInputTokens(request.json);
      case "count":
        return (await this.#counted(request)) ?? estimateInputTokens(request.json);
      default:
        return typeof inputTokens === "number" ? inputTokens : Math.max(inputTokens(request.json), 0);
    }
  }

  /** What `countTokens` says of a request that generates; `undefined` where it cannot say. */
  async #counted(request: LeasedRequest): Promise<number | undefined> {
    const { model, method } = request.target;
    if (model === undefined || !/^(?:stream)?generateContent$/i.test(method)) {
      return undefined;
    }
    const url = new URL(request.url.href.replace(/:[A-Za-z]+(?:\?.*)?$/, ":countTokens"));
    const named = model.includes("/") ? model : `models/${model}`;
    const json = { generateContentRequest: { ...(request.json as object), model: named } };
    const body = Buffer.from(JSON.stringify(json));
    const asked: LeasedRequest = { ...request, url, body, json, target: readTarget(url.pathname, json) };
    try {
      const response = await new Call(this.#take, this.#settings, asked, 0, false).run();
      const tokens = response.ok ? fieldOf(await response.json(), "totalTokens") : undefined;
      return typeof tokens === "number" ? tokens : undefined;
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof KeybrokerError) {
        return undefined;
      }
      throw error;
    }
  }
}

/** One call of the caller's, which may take several requests. */
class Call {
  readonly #take: Take;
  readonly #settings: Settings;
  readonly #request: LeasedRequest;
  readonly #options: AcquireOptions;
  readonly #until: number;
  /** Whether brokers that are away are waited for until the deadline: not where something else would serve. */
  readonly #isPatient: boolean;
  /** Requests sent. */
  #sent = 0;
  /** Leases that came too late to be used. */
  #late = 0;
  /** Acquires that failed without a refusal. */
  #unreachable = 0;
  /** Keys that failed this request. */
  readonly #excluded: string[] = [];
  /** Whether the broker allowed only one more try. */
  #isLastTry = false;
  /** The last failure of a request, which says more than a refusal that follows it. */
  #last: Exchange | undefined;

  constructor(take: Take, settings: Settings, request: LeasedRequest, inputTokens: number, isPatient: boolean) {
    this.#take = take;
    this.#isPatient = isPatient;
    this.#settings = settings;
    this.#request = request;
    this.#until = now() + settings.deadline;
    const { outputTokens, lease, affinity } = settings;
    this.#options = {
      ...lease,
      model: request.target.model ?? settings.filesModel,
      permits: request.target.permits,
      inputTokens,
      outputTokens: typeof outputTokens === "number" ? outputTokens : Math.max(outputTokens(request.json), 0),
      project: affinity.projectOf(request.url, request.json) ?? lease.project,
      signal: request.signal,
    };
  }

  /** Sends it until it is answered or nothing is left to try. The answer may be an error of Google's. */
  async run(): Promise<Response> {
    for (;;) {
      let lease: LeaseState;
      try {
        lease = await this.#lease();
      } catch (error) {
        return await this.#without(error);
      }
      const key = this.#begin(lease);
      if (key === undefined) {
        continue;
      }
      this.#sent++;
      const exchange = await new Sending(this.#request, this.#settings, lease).send(key);
      if (exchange.kind === "answered") {
        return exchange.response;
      }
      if (exchange.kind === "missed") {
        this.#sent--;
        this.#giveBack(lease, exchange.error);
        continue;
      }
      if (!(await this.#obey(lease, exchange))) {
        return shown(exchange);
      }
      this.#last = exchange;
    }
  }

  /** The key, if there is still time to send it. */
  #begin(lease: LeaseState): string | undefined {
    let key: string;
    try {
      key = lease.beginSend();
    } catch (error) {
      this.#giveBack(lease, error);
      return undefined;
    }
    if (!/^[\x21-\x7e]+$/.test(key)) {
      void lease.report({ kind: "not_sent" });
      throw new OtherError("the leased key cannot be sent in a header: correct it in the broker's configuration");
    }
    return key;
  }

  /** A lease that came too late to be used is given back; too many of them are an error. */
  #giveBack(lease: LeaseState, error: unknown): void {
    void lease.report({ kind: "not_sent" });
    this.#late++;
    if (this.#late >= this.#settings.attempts) {
      throw error;
    }
  }

  /** Reports a failure and does what the broker advises; `true` to try again. */
  async #obey(lease: LeaseState, { outcome }: Exchange & { kind: "failed" }): Promise<boolean> {
    const { signal } = this.#request;
    const report = lease.report(outcome);
    if (signal?.aborted === true) {
      return false;
    }
    // Without advice there is nothing to obey, so the failure is final; it stays reported.
    const heard = report.catch(() => undefined);
    const advice = await within(this.#remaining, heard, signal);
    if (advice === undefined || this.#sent >= this.#settings.attempts || this.#isLastTry) {
      return false;
    }
    this.#isLastTry = advice.once;
    let wait = 0;
    if (advice.action === "RETRY_OTHER_KEY") {
      this.#excluded.push(lease.keyId);
    } else if (advice.action === "RETRY_AFTER") {
      wait = advice.retryAfter === undefined ? BACKOFF.wait(this.#sent - 1) : spread(advice.retryAfter);
    } else {
      // Done after a failure means that the broker sees nothing left to do about it.
      return false;
    }
    if (wait >= this.#remaining) {
      return false;
    }
    await sleep(wait, signal);
    return true;
  }

  /** Takes a lease, waiting after refusals for as long as the deadline allows. */
  async #lease(): Promise<LeaseState> {
    for (;;) {
      const wait = Math.floor(Math.min(this.#settings.wait, this.#remaining, LONGEST_WAIT));
      const excludeKeys = [...(this.#options.excludeKeys ?? []), ...this.#excluded];
      try {
        return await this.#take({ ...this.#options, excludeKeys, wait });
      } catch (error) {
        const pause = this.#pauseAfter(error);
        if (pause === undefined || pause >= this.#remaining) {
          throw error;
        }
        await sleep(pause, this.#request.signal);
      }
    }
  }

  /** How long to wait before asking again; `undefined`: asking again cannot help, or must not be tried. */
  #pauseAfter(error: unknown): number | undefined {
    if (error instanceof RefusedError) {
      // Exact: before it nothing is to be had, and after it somebody else is served first.
      return Math.max(error.retryAfter, SHORTEST_WAIT);
    }
    const isNothingHandedOut =
      error instanceof UnavailableError && (error.reason === undefined ? !error.answerLost : PASSING.has(error.reason));
    if (!isNothingHandedOut || (!this.#isPatient && this.#unreachable + 1 >= this.#settings.attempts)) {
      return undefined;
    }
    this.#unreachable++;
    return error.retryAfter ?? UNREACHABLE.wait(this.#unreachable - 1);
  }

  /** What the caller gets where no lease can be had: the last answer, that of the fallback's key, or the error. */
  async #without(error: unknown): Promise<Response> {
    this.#request.signal?.throwIfAborted();
    if (this.#last !== undefined) {
      return shown(this.#last);
    }
    const { fallback } = this.#settings;
    if (fallback === undefined || !(error instanceof KeybrokerError)) {
      throw error;
    }
    const key = await fallback(error, { model: this.#options.model, url: this.#request.url.href });
    if (key === undefined) {
      throw error;
    }
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw InvalidArgumentError.of("fallback", "its key cannot be sent in a header: give printable ASCII");
    }
    return await sendUnleased(this.#request, this.#settings, key);
  }

  get #remaining(): number {
    return Math.max(this.#until - now(), 0);
  }
}

/** What the caller sees of a failure: Google's own answer, or an error. */
function shown(exchange: Exchange): Response {
  if (exchange.kind === "failed" && exchange.response !== undefined) {
    return exchange.response;
  }
  throw exchange.kind === "failed" && exchange.error !== undefined
    ? exchange.error
    : new DeadlineExceededError("no answer");
}

function check(options: FetchOptions): Settings {
  const baseUrl = options.baseUrl ?? GEMINI_URL;
  if (!URL.canParse(baseUrl) || !/^https?:$/.test(new URL(baseUrl).protocol)) {
    throw InvalidArgumentError.of("baseUrl", `must be a URL with http or https, not "${baseUrl}"`);
  }
  const { pool, consumer, ttl, project, tier, excludeKeys, excludeProjects, keyLabels, labels } = options;
  return {
    lease: { pool, consumer, ttl, project, tier, excludeKeys, excludeProjects, keyLabels, labels },
    origin: new URL(baseUrl).origin,
    deadline: time("deadline", options.deadline, 60_000),
    attempts: count("attempts", options.attempts, 8, 256),
    requestTimeout: time("requestTimeout", options.requestTimeout, 600_000),
    streamIdleTimeout: time("streamIdleTimeout", options.streamIdleTimeout, 120_000),
    wait: time("wait", options.wait, LONGEST_WAIT),
    ttl,
    filesModel: options.filesModel ?? "gemini-2.5-flash",
    inputTokens: options.inputTokens ?? "local",
    outputTokens: options.outputTokens ?? 0,
    fallback: options.fallback,
    cache: options.cache === undefined ? undefined : new AnswerCache(options.cache),
    fetch: options.fetch,
    releaseIsLeaving: options.releaseIsLeaving ?? false,
    affinity: new Affinity(),
  };
}
