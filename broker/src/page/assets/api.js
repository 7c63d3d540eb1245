// The broker's REST: calls, and streams of server-sent events. Streams are read by fetch, because an EventSource can send
// no token.

import { token } from "./settings.js";

/** How long a stream may be silent. The broker says something much more often. */
const SILENCE = 60_000;
const WITHIN = 30_000;
const LONGEST_PAUSE = 10_000;
/** A stream that ends by itself sooner was not meant to. */
const LIVED = 5_000;

/** An answer that is an error, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, message, reason = "", fields = []) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.fields = fields;
  }

  /** Whether the broker cannot be reached, or not now. */
  get isAway() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }

  /** What to tell a person. */
  get words() {
    if (this.status === 0) return "The broker cannot be reached.";
    if (this.status === 401) return `The broker does not know you: ${this.message}`;
    if (this.status === 403) return `You may not do this: ${this.message}`;
    const fields = this.fields.map((one) => `${one.field} ${one.description}`);
    return fields.length > 0 ? fields.join("; ") : this.message;
  }
}

/** The answer to GET. */
function get(path, query) {
  return ask("GET", path, query);
}

/** The answer to POST. */
export function post(path, body, query) {
  return ask("POST", path, query, body);
}

/** All pages of a list, as far as `most` entries of `field`. */
export async function getAll(path, field, query = {}, most = 20_000) {
  const all = [];
  let pageToken;
  do {
    const page = await get(path, { ...query, pageToken });
    all.push(...(page[field] ?? []));
    pageToken = page.nextPageToken;
  } while (pageToken && all.length < most);
  return all;
}

async function ask(method, path, query, body) {
  const init = { method, signal: AbortSignal.timeout(WITHIN), headers: headers() };
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const answer = await send(path, query, init);
  try {
    return await answer.json();
  } catch {
    throw new ApiError(0, "the answer broke off");
  }
}

function headers() {
  const known = token();
  return known === null ? {} : { authorization: `Bearer ${known}` };
}

async function send(path, query = {}, init) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== "") url.searchParams.append(name, one);
    }
  }
  let answer;
  try {
    answer = await fetch(url, { ...init, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch {
    throw new ApiError(0, "no answer");
  }
  if (!answer.ok) {
    throw await errorOf(answer);
  }
  return answer;
}

async function errorOf(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // Something else than the broker answered, such as a proxy in between.
  }
  return fromStatus(answer.status, error);
}

function fromStatus(status, error) {
  const details = error.details ?? [];
  const reason = details.find((one) => one.reason)?.reason;
  const fields = details.flatMap((one) => one.fieldViolations ?? []);
  return new ApiError(status, error.message || `the answer is ${status}`, reason, fields);
}

/**
 * Follows a stream until `stop` of what it returns is called, or until the broker refuses it: with 401, 403 or 404 it will
 * not go on. Anything else is tried again, after longer and longer pauses.
 *
 * `on` has `message(value)`, `state("live" or "away", why)`, and `refused(error)`.
 */
export function follow(path, query, on) {
  let stopped = false;
  let current = null;
  let pause = null;

  const run = async () => {
    for (let failures = 0; !stopped;) {
      current = new AbortController();
      const since = Date.now();
      let error;
      try {
        await read(path, query, current, {
          open: () => {
            failures = 0;
            on.state("live");
          },
          message: (value) => stopped || on.message(value),
        });
        // A stream that had its time ends by itself, so that its reader is known anew.
        if (Date.now() - since > LIVED) continue;
        error = new ApiError(0, "the stream ended");
      } catch (thrown) {
        error = thrown;
      }
      if (stopped) return;
      if ([401, 403, 404].includes(error.status)) {
        on.refused(error);
        return;
      }
      if (!(error instanceof ApiError)) {
        console.error(error);
      }
      const after = Math.min(LONGEST_PAUSE, 500 * 2 ** failures++);
      on.state("away", error);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, after);
        pause = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  run();
  return {
    stop() {
      stopped = true;
      current?.abort();
      pause?.();
    },
    /** Tries again now rather than after the pause. */
    hurry() {
      pause?.();
    },
  };
}

async function read(path, query, control, on) {
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => control.abort(), SILENCE);
  };
  heard();
  try {
    const init = { signal: control.signal, headers: { ...headers(), accept: "text/event-stream" } };
    const answer = await send(path, query, init);
    on.open();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read().catch(() => {
        throw new ApiError(0, "the stream broke off");
      });
      if (done) return;
      heard();
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => deliver(block, on.message));
    }
  } finally {
    clearTimeout(silence);
    control.abort();
  }
}

function deliver(block, message) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (data.length === 0) return;
  let value;
  try {
    value = JSON.parse(data.join("\n"));
  } catch {
    throw new ApiError(0, "the stream cannot be read");
  }
  if (event === "error" || value.error?.status) {
    const error = value.error ?? value;
    throw fromStatus(error.code ?? 0, error);
  }
  message(value);
}
