/**
 * Leases Gemini API keys from a keybroker: {@link Broker} takes leases by hand or for each request of a `fetch`;
 * `keybroker/genai` makes a client of the official SDK that does so.
 *
 * All times are milliseconds.
 *
 * @packageDocumentation
 */

export type { Action, Advice } from "./advice.js";
export { Broker } from "./broker.js";
export * from "./errors.js";
export type { CacheOptions } from "./gemini/cache.js";
export { estimateInputTokens } from "./gemini/estimate.js";
export { PLACEHOLDER_KEY, type FallbackRequest, type FetchOptions } from "./gemini/fetch.js";
export { Lease } from "./lease.js";
export type { AcquireOptions, BrokerOptions, LeaseOptions, TlsOptions } from "./options.js";
export type { Outcome, Usage } from "./outcome.js";
export type { AutoRenew } from "./renew.js";
