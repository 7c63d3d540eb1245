/** What came of a lease, as it is reported. */

import type { TransportKind } from "./errors.js";
import {
  TransportError_Kind,
  type LeaseReport,
  type Usage as WireUsage,
} from "./generated/keybroker/v1/keybroker.js";
import { toDuration } from "./wire.js";

/** The most of an error body that is reported, in bytes; the broker reads no more. */
const MOST_BODY = 64 * 1024;
/** A text for logs needs no more characters. */
const MOST_MESSAGE = 500;

/** The tokens of an answer, from its `usageMetadata`; what is not known is left out. */
export interface Usage {
  /** `promptTokenCount`: input tokens, cached ones included. */
  inputTokens?: number | undefined;
  /** `candidatesTokenCount`. */
  outputTokens?: number | undefined;
  /** `totalTokenCount`. */
  totalTokens?: number | undefined;
  /** `thoughtsTokenCount`. */
  thoughtsTokens?: number | undefined;
  /** `cachedContentTokenCount`. */
  cachedTokens?: number | undefined;
}

/** What came of a lease: the broker learns from it, refunds by it and advises on it. */
export type Outcome =
  /** Gemini answered 2xx, and the answer holds no error. */
  | { readonly kind: "success"; readonly usage?: Usage }
  /**
   * Gemini answered with an error, or an error object came in a stream that began with 200: the HTTP status,
   * 100 to 599; the body as it came; a `Retry-After` header in milliseconds.
   */
  | {
      readonly kind: "http_error";
      readonly status: number;
      readonly body: string | Uint8Array;
      readonly retryAfter?: number | undefined;
    }
  /** No complete answer came; the message must hold no key and no prompt. */
  | {
      readonly kind: "transport_error";
      readonly transport: TransportKind;
      readonly message?: string;
      readonly usage?: Usage;
    }
  /** The request was never sent: all of its charge is refunded. */
  | { readonly kind: "not_sent" };

/** The report of an outcome; `latency` in milliseconds, from the sending on. */
export function toReport(leaseId: string, outcome: Outcome, latency: number | undefined): LeaseReport {
  return {
    leaseId,
    outcome: toWire(outcome),
    latency: latency === undefined ? undefined : toDuration("latency", latency),
  };
}

function toWire(outcome: Outcome): NonNullable<LeaseReport["outcome"]> {
  switch (outcome.kind) {
    case "success":
      return { $case: "success", value: { usage: toWireUsage(outcome.usage) } };
    case "http_error":
      return {
        $case: "httpError",
        value: {
          status: Number.isInteger(outcome.status) ? outcome.status : 0,
          body: toBytes(outcome.body),
          retryAfter: outcome.retryAfter === undefined ? undefined : toDuration("retry_after", outcome.retryAfter),
        },
      };
    case "transport_error":
      return {
        $case: "transportError",
        value: {
          kind: TransportError_Kind[outcome.transport],
          message: (outcome.message ?? "").slice(0, MOST_MESSAGE),
          usage: toWireUsage(outcome.usage),
        },
      };
    case "not_sent":
      return { $case: "notSent", value: {} };
  }
}

function toBytes(body: string | Uint8Array): Buffer {
  const bytes = typeof body === "string" ? Buffer.from(body) : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return bytes.subarray(0, MOST_BODY);
}

function toWireUsage(usage: Usage = {}): WireUsage {
  return {
    inputTokens: count(usage.inputTokens),
    outputTokens: count(usage.outputTokens),
    totalTokens: count(usage.totalTokens),
    thoughtsTokens: count(usage.thoughtsTokens),
    cachedTokens: count(usage.cachedTokens),
  };
}

/** A count that cannot be sent is not known: a report must not fail for it. */
function count(tokens: number | undefined): number | undefined {
  return tokens !== undefined && Number.isSafeInteger(tokens) && tokens >= 0 ? tokens : undefined;
}
