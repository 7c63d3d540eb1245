/** The three calls of the contract, each with a deadline and a typed error, to one broker of several. */

import { readFileSync } from "node:fs";

import {
  ChannelCredentials,
  Metadata,
  connectivityState,
  credentials,
  type CallOptions,
  type ClientOptions,
  type ClientUnaryCall,
  type ServiceError,
} from "@grpc/grpc-js";

import { readAddresses, type Address } from "./address.js";
import { now } from "./clock.js";
import { DeadlineExceededError, InvalidArgumentError, UnavailableError, seconds, type KeybrokerError } from "./errors.js";
import {
  KeyBrokerClient,
  type AcquireRequest,
  type AcquireResponse,
  type LeaseReport,
  type RenewRequest,
  type RenewResponse,
  type ReportResponse,
} from "./generated/keybroker/v1/keybroker.js";
import { time, type BrokerOptions, type TlsOptions } from "./options.js";
import { readStatus, unreachable } from "./status.js";
import { traceHeaders } from "./trace.js";
import { fromDuration } from "./wire.js";

/** Pings find a peer that vanished without closing; a broker that is back is noticed within a second. */
const CHANNEL = {
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.min_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.use_local_subchannel_pool": 1,
  // A broker is no web site.
  "grpc.enable_http_proxy": 0,
} as const;

type Done<T> = (error: ServiceError | null, response: T) => void;
type Method<T> = (client: KeyBrokerClient, metadata: Metadata, options: CallOptions, done: Done<T>) => ClientUnaryCall;

/** An answer, and when its call was sent. */
export interface Sent<T> {
  readonly response: T;
  readonly askedAt: number;
}

/** Ends calls that are under way. */
export interface Cancellation {
  cancelled: boolean;
  cancel?: (() => void) | undefined;
}

/** The brokers of a fleet; one of them is asked until it is gone. */
export class Rpc {
  readonly #nodes: Node[];
  readonly #token: string | undefined;
  readonly #tracing: boolean;
  readonly callTimeout: number;
  #current = 0;

  constructor(addresses: string | readonly string[], options: BrokerOptions) {
    const read = readAddresses(addresses);
    this.callTimeout = time("callTimeout", options.callTimeout, 5_000);
    this.#tracing = options.tracing ?? true;
    this.#token = checkToken(read, options);
    const connectTimeout = time("connectTimeout", options.connectTimeout, 3_000);
    const tls = options.tls === true ? {} : options.tls === false ? undefined : options.tls;
    const channel = { ...CHANNEL, ...options.grpc, ...nameOverride(tls) };
    const secret = tls === undefined ? credentials.createInsecure() : secure(tls);
    this.#nodes = read.map((address) => new Node(address, secret, channel, connectTimeout));
  }

  /** What the brokers are called in texts. */
  get addresses(): string {
    return this.#nodes.map((node) => node.address).join(",");
  }

  /**
   * Asked of another broker only where nothing can have been handed out: an Acquire whose answer was lost may
   * have granted a lease.
   */
  acquire(request: AcquireRequest, cancellation: Cancellation): Promise<Sent<AcquireResponse>> {
    const within = (fromDuration(request.wait) ?? 0) + this.callTimeout;
    return this.#each<AcquireResponse>(within, isNothingHandedOut, cancellation, (client, metadata, options, done) =>
      client.acquire(request, metadata, options, done),
    );
  }

  report(reports: LeaseReport[]): Promise<Sent<ReportResponse>> {
    return this.#each<ReportResponse>(this.callTimeout, isBrokerGone, { cancelled: false }, (client, metadata, options, done) =>
      client.report({ reports }, metadata, options, done),
    );
  }

  renew(request: RenewRequest): Promise<Sent<RenewResponse>> {
    return this.#each<RenewResponse>(this.callTimeout, isBrokerGone, { cancelled: false }, (client, metadata, options, done) =>
      client.renew(request, metadata, options, done),
    );
  }

  /** Closes the connections; what is under way fails. */
  close(): void {
    for (const node of this.#nodes) {
      node.close();
    }
  }

  /** Asks the broker that answered last, and the others in turn if it is gone. */
  async #each<T>(
    within: number,
    goesOn: (error: KeybrokerError) => boolean,
    cancellation: Cancellation,
    method: Method<T>,
  ): Promise<Sent<T>> {
    for (let asked = 1; ; asked++) {
      const number = this.#current;
      const node = this.#nodes[number % this.#nodes.length];
      if (node === undefined) {
        throw new Error("there is always a broker to ask");
      }
      try {
        return await node.call(method, this.#metadata(), within, cancellation);
      } catch (error) {
        const failure = error as KeybrokerError;
        if (isBrokerGone(failure) && this.#current === number) {
          // Others may have seen it as well.
          this.#current = (number + 1) % this.#nodes.length;
        }
        if (asked >= this.#nodes.length || cancellation.cancelled || !goesOn(failure)) {
          throw error;
        }
      }
    }
  }

  /** Who asks, and in which trace. */
  #metadata(): Metadata {
    const metadata = new Metadata();
    if (this.#token !== undefined) {
      metadata.set("authorization", `Bearer ${this.#token}`);
    }
    if (this.#tracing) {
      for (const [name, value] of Object.entries(traceHeaders())) {
        metadata.set(name, value);
      }
    }
    return metadata;
  }
}

/** One broker, and the one connection to it. */
class Node {
  readonly #client: KeyBrokerClient;
  readonly #connectTimeout: number;
  readonly address: string;

  constructor(address: Address, secret: ChannelCredentials, channel: ClientOptions, connectTimeout: number) {
    this.address = address.text;
    this.#connectTimeout = connectTimeout;
    this.#client = new KeyBrokerClient(address.text, secret, channel);
  }

  async call<T>(method: Method<T>, metadata: Metadata, within: number, cancellation: Cancellation): Promise<Sent<T>> {
    const begun = now();
    if (!this.#isReady()) {
      await this.#connect(Math.min(this.#connectTimeout, within), within);
    }
    const left = within - (now() - begun);
    return new Promise((resolve, reject) => {
      if (cancellation.cancelled) {
        reject(unreachable(this.address, "the call was called off", false));
        return;
      }
      // Taken just before the call, so that `send_within` ends here no later than at the broker.
      const askedAt = now();
      const call = method(this.#client, metadata, { deadline: Date.now() + left }, (error, response) => {
        cancellation.cancel = undefined;
        if (error === null) {
          resolve({ response, askedAt });
        } else {
          reject(readStatus(error, this.address, within));
        }
      });
      cancellation.cancel = () => {
        call.cancel();
      };
    });
  }

  close(): void {
    this.#client.close();
  }

  #isReady(): boolean {
    return this.#client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  /** Waits for a connection. Where it fails, the call that follows says why, and is not sent. */
  async #connect(patience: number, within: number): Promise<void> {
    const channel = this.#client.getChannel();
    const until = Date.now() + patience;
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) {
        return;
      }
      const changed = await new Promise<boolean>((resolve) => {
        channel.watchConnectivityState(state, until, (error) => {
          resolve(error === undefined);
        });
      });
      if (!changed && within <= patience) {
        throw new DeadlineExceededError(
          `the broker at ${this.address} was not reached within ${seconds(within)}: allow more time with callTimeout`,
        );
      }
      if (!changed) {
        throw unreachable(this.address, `no connection within ${seconds(patience)}`, false);
      }
    }
  }
}

/** Whether another broker may serve where this one cannot. */
function isBrokerGone(error: KeybrokerError): boolean {
  if (error instanceof UnavailableError) {
    return error.reason === undefined || error.reason === "SHUTTING_DOWN";
  }
  return error instanceof DeadlineExceededError;
}

/** The same, where an Acquire cannot have granted anything. */
function isNothingHandedOut(error: KeybrokerError): boolean {
  return error instanceof UnavailableError && !error.answerLost && isBrokerGone(error);
}

function checkToken(addresses: readonly Address[], options: BrokerOptions): string | undefined {
  const { token } = options;
  if (token === undefined) {
    return undefined;
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw InvalidArgumentError.of("token", "it cannot be sent in a header: give printable ASCII without spaces");
  }
  const isPlain = options.tls === undefined || options.tls === false;
  const open = addresses.find(({ isLoopback }) => !isLoopback);
  if (isPlain && open !== undefined && options.allowTokenWithoutTls !== true) {
    throw InvalidArgumentError.of(
      "token",
      `without TLS anybody on the way to ${open.text} could read it: set the option tls, or allowTokenWithoutTls`,
    );
  }
  return token;
}

function nameOverride(tls: TlsOptions | undefined): Record<string, string> {
  const name = tls?.serverName;
  return name === undefined ? {} : { "grpc.ssl_target_name_override": name, "grpc.default_authority": name };
}

function secure(tls: TlsOptions): ChannelCredentials {
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    throw InvalidArgumentError.of("tls", "a client certificate needs both cert and key");
  }
  try {
    return credentials.createSsl(pem("tls.ca", tls.ca), pem("tls.key", tls.key), pem("tls.cert", tls.cert));
  } catch (error) {
    throw error instanceof InvalidArgumentError
      ? error
      : InvalidArgumentError.of("tls", `it cannot be used: ${(error as Error).message}`);
  }
}

function pem(name: string, given: string | Uint8Array | undefined): Buffer | null {
  if (given === undefined) {
    return null;
  }
  if (typeof given !== "string") {
    return Buffer.from(given);
  }
  try {
    return readFileSync(given);
  } catch (error) {
    throw InvalidArgumentError.of(name, `the file ${given} cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`);
  }
}
