/** A trace of OpenTelemetry that the caller is in goes on into the broker, if its API is installed. */

import { createRequire } from "node:module";

type Api = typeof import("@opentelemetry/api");

let api: Api | undefined;
let looked = false;

/** The headers `traceparent` and `tracestate` of the caller's span; none outside of one. */
export function traceHeaders(): Record<string, string> {
  const otel = load();
  if (otel === undefined) {
    return {};
  }
  const context = otel.context.active();
  const headers: Record<string, string> = {};
  otel.propagation.inject(context, headers);
  const span = otel.trace.getSpanContext(context);
  // Without a propagator of the caller's choice, as the W3C has it.
  if (headers["traceparent"] === undefined && span !== undefined && otel.isSpanContextValid(span)) {
    const flags = span.traceFlags.toString(16).padStart(2, "0");
    headers["traceparent"] = `00-${span.traceId}-${span.spanId}-${flags}`;
    const state = span.traceState?.serialize();
    if (state !== undefined && state !== "") {
      headers["tracestate"] = state;
    }
  }
  return headers;
}

function load(): Api | undefined {
  if (!looked) {
    looked = true;
    try {
      api = createRequire(import.meta.url)("@opentelemetry/api") as Api;
    } catch {
      // It is not installed, and nothing is traced.
    }
  }
  return api;
}
