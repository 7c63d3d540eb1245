/** A request of the caller's, read once so that it can be sent several times. */

import { fieldOf, readTarget, type Target } from "./target.js";
import { parseJson } from "./reading.js";

/**
 * Headers that are about one connection, or that are set anew; and credentials, of which the leased key is the
 * only one. An encoding that is not understood here would hide what was used.
 */
const NOT_PASSED_ON = [
  "x-goog-api-key",
  "authorization",
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "upgrade",
  "te",
  "expect",
  "accept-encoding",
];

/** What is sent, but for the key. */
export interface LeasedRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: Buffer | undefined;
  /** The body, if it is JSON. */
  readonly json: unknown;
  readonly target: Target;
  /** The caller's own signal. */
  readonly signal: AbortSignal | undefined;
  /** What Node.js is to send it with, where the caller says so. */
  readonly dispatcher: unknown;
}

type FetchInput = Parameters<typeof fetch>[0];
type FetchInit = NonNullable<Parameters<typeof fetch>[1]>;

/** The URL of what `fetch` is given. */
export function urlOf(input: FetchInput): URL {
  if (typeof input === "string") {
    return new URL(input);
  }
  return input instanceof URL ? new URL(input) : new URL(input.url);
}

/** Reads what `fetch` is given. A body that is a stream is read to its end, since it may have to be sent again. */
export async function readRequest(input: FetchInput, init: FetchInit = {}): Promise<LeasedRequest> {
  const request = typeof input === "string" || input instanceof URL ? undefined : input;
  const signal = init.signal ?? request?.signal ?? undefined;
  signal?.throwIfAborted();
  const headers = new Headers(init.headers ?? request?.headers);
  const body = await readBody(headers, init.body, request);
  for (const name of NOT_PASSED_ON) {
    headers.delete(name);
  }
  const url = withoutKey(urlOf(input));
  const isJson = headers.get("content-type")?.includes("json") === true;
  const json = isJson && body !== undefined ? parseJson(body.toString()) : undefined;
  return {
    method: (init.method ?? request?.method ?? "GET").toUpperCase(),
    url,
    headers,
    body,
    json,
    target: readTarget(url.pathname, json),
    signal,
    dispatcher: fieldOf(init, "dispatcher"),
  };
}

async function readBody(
  headers: Headers,
  given: FetchInit["body"],
  request: Request | undefined,
): Promise<Buffer | undefined> {
  if (typeof given === "string") {
    return Buffer.from(given);
  }
  if (given === undefined || given === null) {
    return request?.body == null ? undefined : Buffer.from(await request.arrayBuffer());
  }
  // Whatever it is, a Response knows how to read it, and which content type it has.
  const read = new Response(given);
  const type = read.headers.get("content-type");
  if (type !== null && !headers.has("content-type")) {
    headers.set("content-type", type);
  }
  return Buffer.from(await read.arrayBuffer());
}

/** A key has no place in a URL. */
function withoutKey(url: URL): URL {
  if (url.searchParams.has("key")) {
    url.searchParams.delete("key");
  }
  return url;
}
