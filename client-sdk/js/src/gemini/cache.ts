/** Answers to identical requests, kept for a while; off unless asked for. */

import { createHash } from "node:crypto";

import { LRUCache } from "lru-cache";

import { InvalidArgumentError } from "../errors.js";
import type { LeasedRequest } from "./request.js";

/** What is kept. */
export interface CacheOptions {
  /** How many answers at most. */
  readonly max: number;
  /** How long an answer may be used again, in milliseconds. */
  readonly ttl: number;
  /** How many bytes of answers at most. Default: 64 MiB. */
  readonly maxBytes?: number;
}

interface Kept {
  readonly status: number;
  readonly headers: [string, string][];
  readonly body: Uint8Array;
}

/** Only answers in one piece, of methods that change nothing. */
const METHODS = new Set(["generateContent", "countTokens", "embedContent", "batchEmbedContents"]);

/** Answers by request. An answer from it costs no lease, and has the header `x-keybroker-cache: hit`. */
export class AnswerCache {
  readonly #kept: LRUCache<string, Kept>;

  constructor({ max, ttl, maxBytes = 64 * 1024 * 1024 }: CacheOptions) {
    for (const [name, value] of Object.entries({ max, ttl, maxBytes })) {
      if (!Number.isSafeInteger(value) || value < 1) {
        throw InvalidArgumentError.of(`cache.${name}`, `must be a whole number above 0, not ${value}`);
      }
    }
    this.#kept = new LRUCache({ max, ttl, maxSize: maxBytes, sizeCalculation: ({ body }) => body.length + 1 });
  }

  /** The name of a request's answer; `undefined` where answers are not kept. */
  keyOf({ method, url, body, target }: LeasedRequest): string | undefined {
    if (method !== "POST" || body === undefined || !METHODS.has(target.method)) {
      return undefined;
    }
    return createHash("sha256").update(`${url.href}\n`).update(body).digest("hex");
  }

  get(key: string): Response | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) {
      return undefined;
    }
    const headers = new Headers(kept.headers);
    headers.set("x-keybroker-cache", "hit");
    return new Response(kept.body, { status: kept.status, headers });
  }

  async put(key: string, response: Response): Promise<void> {
    if (response.ok) {
      const body = new Uint8Array(await response.clone().arrayBuffer());
      this.#kept.set(key, { status: response.status, headers: [...response.headers], body });
    }
  }
}
