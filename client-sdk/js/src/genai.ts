/** The official SDK of Google's, `@google/genai`, with leased keys: `keybroker/genai`. */

import { GoogleGenAI, type GoogleGenAIOptions, type HttpOptions } from "@google/genai";

import { Broker } from "./broker.js";
import { GEMINI_URL, PLACEHOLDER_KEY, type FetchOptions } from "./gemini/fetch.js";

/** Options of {@link createGenAI}: those of {@link Broker.fetch}, and those of the official client. */
export interface GenAIOptions extends Omit<FetchOptions, "releaseIsLeaving"> {
  /** What `new GoogleGenAI` is given, but for what says whose key is used. */
  readonly genai?: Omit<GoogleGenAIOptions, "apiKey" | "enterprise" | "vertexai" | "project" | "location" | "googleAuthOptions">;
}

/** Where the options of a request are among the arguments of the methods of `interactions`. */
const INTERACTIONS: Readonly<Record<string, number>> = { create: 1, get: 2, delete: 2, cancel: 2 };

/**
 * A client of the official SDK that takes a lease for each HTTP request: use it as one that was made with a key.
 *
 * ```ts
 * import { Broker } from "keybroker";
 * import { createGenAI } from "keybroker/genai";
 *
 * const ai = createGenAI(new Broker("127.0.0.1:50051"));
 * const answer = await ai.models.generateContent({ model: "gemini-2.5-flash", contents: "Why is the sky blue?" });
 * ```
 *
 * Retries of its own are off, since this package retries as the broker advises: `httpOptions.retryOptions` is
 * ignored, and `interactions` sends once unless a call says otherwise. `live` opens web sockets, which no `fetch`
 * can serve: it is not leased.
 *
 * @param broker A client, or the address of one, for which a client is made.
 */
export function createGenAI(broker: Broker | string, options: GenAIOptions = {}): GoogleGenAI {
  const { genai = {}, ...rest } = options;
  const baseUrl = rest.baseUrl ?? genai.httpOptions?.baseUrl ?? process.env["GOOGLE_GEMINI_BASE_URL"] ?? GEMINI_URL;
  const leased = (typeof broker === "string" ? new Broker(broker) : broker).fetch({
    ...rest,
    baseUrl,
    releaseIsLeaving: true,
  });
  const httpOptions: HttpOptions = { ...genai.httpOptions, baseUrl, fetch: leased };
  delete httpOptions.retryOptions;
  const ai = new GoogleGenAI({ ...genai, vertexai: false, enterprise: false, apiKey: PLACEHOLDER_KEY, httpOptions });
  sendInteractionsOnce(ai);
  return ai;
}

/** Has `interactions` send each request once, unless the caller gives retries of his own. */
function sendInteractionsOnce(ai: GoogleGenAI): void {
  let once: object | undefined;
  // Old versions have none.
  if (!("interactions" in ai)) {
    return;
  }
  const prototype = Object.getPrototypeOf(ai) as object;
  Object.defineProperty(ai, "interactions", {
    configurable: true,
    get: () => (once ??= withoutRetries(Reflect.get(prototype, "interactions", ai) as object)),
  });
}

function withoutRetries(interactions: object): object {
  return new Proxy(interactions, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      const place = INTERACTIONS[String(name)];
      if (typeof member !== "function") {
        return member;
      }
      return (...given: unknown[]): unknown => {
        if (place !== undefined) {
          while (given.length <= place) {
            given.push(undefined);
          }
          given[place] = { maxRetries: 0, ...(given[place] as object | undefined) };
        }
        return member.apply(target, given) as unknown;
      };
    },
  });
}
