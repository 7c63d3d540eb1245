/** What failed between here and Gemini. */

import type { TransportKind } from "../errors.js";

/** Errors of Node.js and of its `fetch` before a connection was there. */
const CONNECT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
]);
const TIMEOUT = new Set(["ETIMEDOUT", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"]);

/** The error with its causes, in one line. */
export function describe(error: unknown): string {
  const texts = causes(error).map((cause) => {
    const code = codeOf(cause);
    return code === undefined || cause.message.includes(code) ? cause.message : `${cause.message} (${code})`;
  });
  return texts.filter((text) => text !== "").join(": ");
}

/** What kind of failure an error of `fetch` is. */
export function kindOf(error: unknown): TransportKind {
  const codes = causes(error).map(codeOf);
  if (codes.some((code) => code !== undefined && CONNECT.has(code))) {
    return "CONNECT";
  }
  return codes.some((code) => code !== undefined && TIMEOUT.has(code)) ? "TIMEOUT" : "RESET";
}

function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let cause = error; cause instanceof Error && found.length < 5; cause = cause.cause) {
    found.push(cause);
    // A connection that was tried by several addresses.
    if (cause instanceof AggregateError && cause.errors[0] instanceof Error) {
      found.push(cause.errors[0]);
    }
  }
  return found;
}

function codeOf(error: Error): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" ? code : undefined;
}
