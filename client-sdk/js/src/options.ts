/** What callers may choose. All times are milliseconds. */

import { InvalidArgumentError } from "./errors.js";
import { Tier, type AcquireRequest, type LeaseReport } from "./generated/keybroker/v1/keybroker.js";
import { toDuration, toInteger } from "./wire.js";

/** TLS towards the brokers. A text is the path of a PEM file; bytes are the PEM itself. */
export interface TlsOptions {
  /** Who signed the brokers' certificates. Default: the authorities that Node.js trusts. */
  readonly ca?: string | Uint8Array;
  /** The certificate of this client, where brokers want one; with {@link key}. */
  readonly cert?: string | Uint8Array;
  /** The private key of that certificate. */
  readonly key?: string | Uint8Array;
  /** The name that the brokers' certificates are made out to. Default: the host of the address. */
  readonly serverName?: string;
}

/** Options of a {@link Broker}. */
export interface BrokerOptions {
  /** `true`, or how: speak TLS. Default: plaintext. */
  readonly tls?: boolean | TlsOptions;
  /** A token that brokers want with each call; sent as `authorization: Bearer ...`. */
  readonly token?: string;
  /** Without TLS a token is sent to this host only, unless this is `true`. Default: `false`. */
  readonly allowTokenWithoutTls?: boolean;
  /** How long a call may take, beside the `wait` of an acquire. Default: 5,000. */
  readonly callTimeout?: number;
  /** How long a connection may take to be made. Default: 3,000. */
  readonly connectTimeout?: number;
  /** How long {@link Broker.flush} and {@link Broker.close} wait for reports. Default: 10,000. */
  readonly flushTimeout?: number;
  /** How many reports may wait to be delivered; more are given up. Default: 10,000. */
  readonly reportQueue?: number;
  /** How long the delivery of a report is tried while the broker is away. Default: 60,000. */
  readonly reportPatience?: number;
  /**
   * Whether reports that are not delivered when the process is ended (`process.exit()`, an error that nobody caught)
   * are delivered by a helper process, for up to 4 seconds; it is started only if there are any. Default: `true`.
   */
  readonly reportAtExit?: boolean;
  /** Whether a trace of OpenTelemetry, where `@opentelemetry/api` is installed, goes on into brokers. Default: `true`. */
  readonly tracing?: boolean;
  /** Channel options of `@grpc/grpc-js`, beside those that this package sets. */
  readonly grpc?: Readonly<Record<string, string | number>>;
}

/** What leases are asked with, beside the model and what a single request costs. */
export interface LeaseOptions {
  /** The pool to lease from. Default: the pool `default`. */
  readonly pool?: string | undefined;
  /** Who asks: 1 to 128 visible ASCII characters. Default: nobody, under no consumer's limit. */
  readonly consumer?: string | undefined;
  /** How long a lease may be held without a report, 1,000 to 3,600,000. Default: the pool's. */
  readonly ttl?: number | undefined;
  /** Only keys of this project. */
  readonly project?: string | undefined;
  /** Only keys of this tier. A paid request is never given a free key. */
  readonly tier?: "free" | "paid" | undefined;
  /** Never these keys; at most 256. */
  readonly excludeKeys?: readonly string[] | undefined;
  /** Never keys of these projects; at most 256. */
  readonly excludeProjects?: readonly string[] | undefined;
  /** Only keys with all of these labels; at most 16. */
  readonly keyLabels?: Readonly<Record<string, string>> | undefined;
  /** Free labels for logs and traces; at most 16. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** What to ask a lease for; only the model is required. */
export interface AcquireOptions extends LeaseOptions {
  /** The Gemini model that will be called, such as `gemini-2.5-flash`. */
  readonly model: string;
  /** How long the call may queue in the broker for a key, 0 to 600,000. Default: not at all. */
  readonly wait?: number | undefined;
  /** How many requests will be sent with the lease, 1 to 1,000. Default: 1. */
  readonly permits?: number | undefined;
  /** An upper bound on the input tokens; the report's usage corrects it. Default 0: not counted. */
  readonly inputTokens?: number | undefined;
  /** An upper bound on the output tokens, thinking included. Default 0: not charged ahead. */
  readonly outputTokens?: number | undefined;
  /** Calls off. A lease that is on its way already is given back. */
  readonly signal?: AbortSignal | undefined;
}

const TIERS = { free: Tier.TIER_FREE, paid: Tier.TIER_PAID } as const;

/** The contract's request. */
export function toRequest(options: AcquireOptions, settle?: LeaseReport): AcquireRequest {
  return {
    pool: options.pool ?? "",
    model: options.model,
    inputTokens: toInteger("input_tokens", options.inputTokens ?? 0),
    outputTokens: toInteger("output_tokens", options.outputTokens ?? 0),
    consumer: options.consumer ?? "",
    ttl: options.ttl === undefined ? undefined : toDuration("ttl", options.ttl),
    wait: options.wait === undefined ? undefined : toDuration("wait", options.wait),
    permits: options.permits === undefined ? undefined : toInteger("permits", options.permits),
    constraints: {
      project: options.project ?? "",
      tier: tierOf(options.tier),
      excludeKeyIds: [...(options.excludeKeys ?? [])],
      excludeProjects: [...(options.excludeProjects ?? [])],
      labels: { ...options.keyLabels },
    },
    labels: { ...options.labels },
    settle,
  };
}

function tierOf(tier: "free" | "paid" | undefined): Tier {
  if (tier === undefined) {
    return Tier.TIER_UNSPECIFIED;
  }
  if (!Object.hasOwn(TIERS, tier)) {
    throw InvalidArgumentError.of("constraints.tier", `must be "free" or "paid", not "${tier}"`);
  }
  return TIERS[tier];
}

/** A time that an option gives, or its default. */
export function time(name: string, given: number | undefined, fallback: number): number {
  const ms = given ?? fallback;
  if (!Number.isFinite(ms) || ms < 0) {
    throw InvalidArgumentError.of(name, `must be a number of milliseconds, 0 or more, not ${ms}`);
  }
  return ms;
}

/** A count that an option gives, or its default. */
export function count(name: string, given: number | undefined, fallback: number, most: number): number {
  const value = given ?? fallback;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw InvalidArgumentError.of(name, `must be a whole number, 1 to ${most}, not ${value}`);
  }
  return value;
}
