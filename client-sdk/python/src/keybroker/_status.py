"""From a gRPC status and its `google.rpc` details to an error of this package.

The reason of the contract decides; the code only where no reason was given, as by a proxy or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from ._proto.v1 import keybroker_pb2 as pb
from ._wire import seconds
from .errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    KeybrokerError,
    LeaseEnded,
    NeverPossible,
    NotPermitted,
    NoUsableKey,
    Other,
    QuotaViolation,
    Refused,
    Unauthenticated,
    Unavailable,
    UnknownLease,
    UnknownPool,
)

DOMAIN = "keybroker.v1"
_DETAILS = "grpc-status-details-bin"
# How gRPC itself words a call that never left, because no connection could be made. Anything else may have
# reached the broker, and is never taken for this.
_NEVER_LEFT = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving")
_UNREACHED = "check that it runs there, the address (several are separated by commas), and whether it wants tls="


@dataclass(frozen=True)
class _Details:
    reason: str
    metadata: dict[str, str]
    retry_after: float | None
    quota: tuple[QuotaViolation, ...]
    fields: tuple[FieldViolation, ...]


def read(error: grpc.RpcError, address: str, within: float) -> KeybrokerError:
    """Reads the status of a call to an address that had the deadline `within`, in seconds."""
    call: Any = error
    code: grpc.StatusCode = call.code()
    text: str = call.details() or code.name
    details = _details(error)
    match details.reason:
        case "QUOTA_EXHAUSTED" | "COOLING_DOWN":
            return _refused(details, text)
        case "REQUEST_EXCEEDS_LIMIT":
            fix = "make it smaller, or raise the limit"
            return NeverPossible(f"no key can ever serve this request as configured: {fix} ({text})")
        case "NO_USABLE_KEY":
            fix = "enable or add one, or loosen the request's constraints"
            return NoUsableKey(f"no usable key: {fix} ({text})")
        case "INVALID_FIELD":
            return _invalid(details, text)
        case "UNKNOWN_POOL":
            return UnknownPool(f"unknown pool: set pool= to one that the broker is configured with ({text})")
        case "UNKNOWN_LEASE_ID":
            return UnknownLease(f"unknown lease: acquire a new one ({text})")
        case "DEADLINE_PASSED":
            fix = "allow more time with call_timeout="
            return DeadlineExceeded(f"the call's {within:.3g} s passed before {address} could serve: {fix} ({text})")
        case "LEASE_ENDED":
            return LeaseEnded(f"the lease has ended: acquire a new one ({text})")
        case "NOT_AUTHENTICATED":
            return _unauthenticated(address, text)
        case "NOT_PERMITTED":
            return _not_permitted(address, text)
        case "":
            return _by_code(code, text, details, address, within)
        case reason:
            # All others say that nothing was handed out; one of a newer contract is read as such only with
            # a code that says the same.
            known = reason in pb.ErrorReason.keys()  # noqa: SIM118 (not a dict)
            if known or code is grpc.StatusCode.UNAVAILABLE:
                return Unavailable(
                    f"the broker at {address} cannot serve now ({reason}): {text}",
                    reason=reason,
                    retry_after=details.retry_after,
                    answer_lost=not known,
                )
            return _by_code(code, text, details, address, within)


def never_left(error: KeybrokerError) -> bool:
    """Whether no broker saw the call, because no connection was made."""
    return isinstance(error, Unavailable) and not error.reason and not error.answer_lost


def _by_code(code: grpc.StatusCode, text: str, details: _Details, address: str, within: float) -> KeybrokerError:
    match code:
        # Without a RetryInfo this is no refusal of the contract but a server or a proxy that is too busy,
        # so its wait must not be shown as an exact one.
        case grpc.StatusCode.RESOURCE_EXHAUSTED if details.retry_after is not None:
            return _refused(details, text)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            message = f"what answers at {address} is too busy: try again later ({text})"
            return Unavailable(message, answer_lost=True)
        case grpc.StatusCode.UNAVAILABLE if any(words in text for words in _NEVER_LEFT):
            return Unavailable(f"no broker can be reached at {address}: {_UNREACHED} ({text})")
        case grpc.StatusCode.UNAVAILABLE:
            message = f"the connection to the broker at {address} was lost: {_UNREACHED} ({text})"
            return Unavailable(message, answer_lost=True)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            fix = "check the address, or allow more time with call_timeout="
            return DeadlineExceeded(f"the broker at {address} did not answer within {within:.3g} s: {fix}")
        case grpc.StatusCode.UNAUTHENTICATED:
            return _unauthenticated(address, text)
        case grpc.StatusCode.PERMISSION_DENIED:
            return _not_permitted(address, text)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return _invalid(details, text)
        case grpc.StatusCode.UNIMPLEMENTED:
            fix = "check that the address is a keybroker's gRPC address, and that the versions match"
            return Other(f"{address} does not know this call: {fix} ({text})", code=code.name)
        case _:
            return Other(f"the broker at {address} failed: {code.name} ({text})", code=code.name)


def _unauthenticated(address: str, text: str) -> Unauthenticated:
    fix = "check token= and the certificate in tls="
    return Unauthenticated(f"the broker at {address} does not let this client in: {fix} ({text})")


def _not_permitted(address: str, text: str) -> NotPermitted:
    fix = "ask for what the identity may use, or have it allowed more"
    return NotPermitted(f"the broker at {address} does not permit this: {fix} ({text})")


def _refused(details: _Details, text: str) -> Refused:
    # The contract promises a RetryInfo; without one a second is long enough not to hammer.
    retry_after = 1.0 if details.retry_after is None else details.retry_after
    spent = "".join(f"; {one.subject}: {one.description}" for one in details.quota)
    return Refused(
        f"no key is free, try again in {retry_after:.3f} s or give wait=: {text}{spent}",
        retry_after=retry_after,
        reason=details.reason,
        quota=details.quota,
        metadata=details.metadata,
    )


def _invalid(details: _Details, text: str) -> InvalidArgument:
    fields = "; ".join(f"{one.field}: {one.description}" for one in details.fields)
    return InvalidArgument(f"invalid request, correct it: {fields or text}", violations=details.fields)


def _details(error: grpc.RpcError) -> _Details:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    quota = error_details_pb2.QuotaFailure()
    bad = error_details_pb2.BadRequest()
    has_retry = False
    for detail in _status(error).details:
        has_retry = detail.Unpack(retry) or has_retry
        for message in (info, quota, bad):
            detail.Unpack(message)
    ours = info.domain == DOMAIN
    return _Details(
        reason=info.reason if ours else "",
        metadata=dict(info.metadata) if ours else {},
        retry_after=seconds(retry.retry_delay) if has_retry else None,
        quota=tuple(QuotaViolation(one.subject, one.description) for one in quota.violations),
        fields=tuple(FieldViolation(one.field, one.description) for one in bad.field_violations),
    )


def _status(error: grpc.RpcError) -> status_pb2.Status:
    status = status_pb2.Status()
    call: Any = error
    for name, value in call.trailing_metadata() or ():
        if name == _DETAILS:
            try:
                status.ParseFromString(value)
            except DecodeError:
                return status_pb2.Status()
    return status
