/** What little of Gemini's answers is read here: whether they are errors, and what was used. */

import type { Usage } from "../outcome.js";
import { fieldOf } from "./target.js";

/** The value of a JSON text; `undefined` if it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Whether this is an error of Google's: an object, or an array whose first element is one, with an object
 * `error` at the top.
 */
export function isError(value: unknown): boolean {
  const error = fieldOf(first(value), "error");
  return typeof error === "object" && error !== null;
}

/** The HTTP status that an error names; else the one that it came with. */
export function statusOf(value: unknown, status: number): number {
  const code = fieldOf(fieldOf(first(value), "error"), "code");
  return typeof code === "number" && Number.isInteger(code) && code >= 100 && code <= 599 ? code : status;
}

/** The tokens of an answer or an event; `undefined` if it names none. */
export function usageOf(value: unknown): Usage | undefined {
  const usage = fieldOf(value, "usageMetadata");
  if (typeof usage !== "object" || usage === null) {
    return undefined;
  }
  const tokens = (name: string) => {
    const count = fieldOf(usage, name);
    return typeof count === "number" ? count : undefined;
  };
  return {
    inputTokens: tokens("promptTokenCount"),
    outputTokens: tokens("candidatesTokenCount"),
    totalTokens: tokens("totalTokenCount"),
    thoughtsTokens: tokens("thoughtsTokenCount"),
    cachedTokens: tokens("cachedContentTokenCount"),
  };
}

/** Whether an event of a stream says that the answer is complete; one that blocks the prompt does too. */
export function isFinished(value: unknown): boolean {
  const candidates = fieldOf(value, "candidates");
  const isNamed = (reason: unknown) => typeof reason === "string" && reason !== "";
  return (
    (Array.isArray(candidates) && candidates.some((candidate) => isNamed(fieldOf(candidate, "finishReason")))) ||
    isNamed(fieldOf(fieldOf(value, "promptFeedback"), "blockReason"))
  );
}

/** A `Retry-After` of so many seconds, in milliseconds. The form with a date depends on two clocks, and is not read. */
export function retryAfterOf(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? "";
  return /^\d{1,9}$/.test(text) ? Number(text) * 1000 : undefined;
}

function first(value: unknown): unknown {
  return Array.isArray(value) ? value[0] : value;
}
