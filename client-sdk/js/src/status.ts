/** From a gRPC status and its `google.rpc` details to a typed error. */

import { status as Code, type ServiceError } from "@grpc/grpc-js";

import {
  DeadlineExceededError,
  InvalidArgumentError,
  LeaseEndedError,
  NeverPossibleError,
  NoUsableKeyError,
  NotPermittedError,
  OtherError,
  RefusedError,
  UnauthenticatedError,
  UnavailableError,
  UnknownLeaseError,
  UnknownPoolError,
  seconds,
  type FieldViolation,
  type KeybrokerError,
  type QuotaViolation,
} from "./errors.js";
import { BadRequest, ErrorInfo, QuotaFailure, RetryInfo, Status } from "./generated/google/rpc/details.js";
import { fromDuration } from "./wire.js";

/** The domain of the contract's ErrorInfo. */
const DOMAIN = "keybroker.v1";
const DETAILS = "grpc-status-details-bin";

/** The details of a status, as far as the contract speaks of them. */
interface Details {
  reason: string | undefined;
  retryAfter: number | undefined;
  quota: QuotaViolation[];
  fields: FieldViolation[];
}

/**
 * Reads the status that a broker (or the network) answered a call with that had `within` milliseconds.
 *
 * The reason of the contract decides; the code only where no reason was given, as by a proxy or by the network.
 */
export function readStatus(error: ServiceError, address: string, within: number): KeybrokerError {
  const details = readDetails(error);
  const words = error.details === "" ? error.message : error.details;
  switch (details.reason) {
    case "QUOTA_EXHAUSTED":
    case "COOLING_DOWN":
      return refused(details.reason, words, details);
    case "REQUEST_EXCEEDS_LIMIT":
      return new NeverPossibleError(words);
    case "NO_USABLE_KEY":
      return new NoUsableKeyError(words);
    case "INVALID_FIELD":
      return new InvalidArgumentError(words, details.fields);
    case "UNKNOWN_POOL":
      return new UnknownPoolError(words);
    case "UNKNOWN_LEASE_ID":
      return new UnknownLeaseError(words);
    case "LEASE_ENDED":
      return new LeaseEndedError(words);
    case "NOT_AUTHENTICATED":
      return new UnauthenticatedError(address, words);
    case "NOT_PERMITTED":
      return new NotPermittedError(address, words);
    case "LEDGER_UNAVAILABLE":
    case "LEDGER_CHANGED":
    case "SHUTTING_DOWN":
    case "OVERLOADED":
    case "DEADLINE_PASSED":
      return new UnavailableError(
        `the broker at ${address} cannot serve now: try again, or look at its health (${words})`,
        details.reason,
        false,
        details.retryAfter,
      );
    default:
      return byCode(error.code, address, words, details, within);
  }
}

function byCode(code: Code, address: string, words: string, details: Details, within: number): KeybrokerError {
  switch (code) {
    case Code.RESOURCE_EXHAUSTED:
      // Without a RetryInfo this is no refusal of the contract but a server or a proxy that is too busy, so its
      // wait is not exact and must not be shown as one.
      return details.retryAfter === undefined
        ? new UnavailableError(`the broker at ${address} is too busy: try again (${words})`, undefined, false)
        : refused("ERROR_REASON_UNSPECIFIED", words, details);
    case Code.UNAVAILABLE:
      return unreachable(address, words, !neverConnected(words));
    case Code.DEADLINE_EXCEEDED:
      return new DeadlineExceededError(
        `the broker at ${address} did not answer within ${seconds(within)}: try again, or raise callTimeout`,
      );
    case Code.CANCELLED:
      return unreachable(address, words, true);
    case Code.INVALID_ARGUMENT:
      return new InvalidArgumentError(words, details.fields);
    case Code.UNAUTHENTICATED:
      return new UnauthenticatedError(address, words);
    case Code.PERMISSION_DENIED:
      return new NotPermittedError(address, words);
    case Code.INTERNAL:
    case Code.UNKNOWN:
      // A stream that the network or a dying server broke off.
      if (/RST_STREAM|HTTP\/2|[Cc]onnection|socket/.test(words)) {
        return unreachable(address, words, true);
      }
      return new OtherError(`the broker at ${address} answered ${Code[code]}: ${words}`);
    default:
      return new OtherError(`the broker at ${address} answered ${Code[code]}: ${words}`);
  }
}

/** The broker could not be reached. */
export function unreachable(address: string, words: string, answerLost: boolean): UnavailableError {
  return new UnavailableError(
    `the broker at ${address} cannot be reached: start it, or correct the address given to Broker, or its option tls (${words})`,
    undefined,
    answerLost,
  );
}

/** Whether the connection was never made, so that the server cannot have seen the call. */
function neverConnected(words: string): boolean {
  return /No connection established|Name resolution failed/.test(words);
}

function refused(reason: string, words: string, details: Details): RefusedError {
  // The contract promises a RetryInfo; without one a second is long enough not to hammer.
  return new RefusedError(words, details.retryAfter ?? 1000, reason, details.quota);
}

function readDetails(error: ServiceError): Details {
  const details: Details = { reason: undefined, retryAfter: undefined, quota: [], fields: [] };
  // An error of the library itself may come without metadata, whatever its type says.
  const metadata = error.metadata as ServiceError["metadata"] | undefined;
  const [bytes] = metadata?.get(DETAILS) ?? [];
  if (!Buffer.isBuffer(bytes)) {
    return details;
  }
  try {
    for (const { typeUrl, value } of Status.decode(bytes).details) {
      read(details, typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value);
    }
  } catch {
    // Details that cannot be read say nothing; the code of the status still does.
  }
  return details;
}

function read(details: Details, type: string, value: Uint8Array): void {
  switch (type) {
    case "google.rpc.ErrorInfo": {
      const info = ErrorInfo.decode(value);
      details.reason = info.domain === DOMAIN ? info.reason : details.reason;
      break;
    }
    case "google.rpc.RetryInfo":
      details.retryAfter = fromDuration(RetryInfo.decode(value).retryDelay);
      break;
    case "google.rpc.QuotaFailure":
      details.quota.push(...QuotaFailure.decode(value).violations);
      break;
    case "google.rpc.BadRequest":
      details.fields.push(...BadRequest.decode(value).fieldViolations);
      break;
    default:
  }
}
