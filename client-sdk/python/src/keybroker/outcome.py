"""What came of a lease, and what the broker says to it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from ._proto.v1 import keybroker_pb2 as pb
from ._wire import seconds, to_duration

__all__ = ["Action", "Advice", "SettleState", "Tier", "TransportKind", "Usage"]

LARGEST_BODY = 64 * 1024
LONGEST_MESSAGE = 500


class Action(enum.IntEnum):
    """What the caller should do next."""

    DONE = pb.Advice.DONE
    RETRY_OTHER_KEY = pb.Advice.RETRY_OTHER_KEY
    RETRY_AFTER = pb.Advice.RETRY_AFTER
    DO_NOT_RETRY = pb.Advice.DO_NOT_RETRY


class SettleState(enum.IntEnum):
    """What a report did to its lease."""

    UNSPECIFIED = pb.SETTLE_STATE_UNSPECIFIED
    SETTLED = pb.SETTLED
    SETTLED_LATE = pb.SETTLED_LATE
    ALREADY_SETTLED = pb.ALREADY_SETTLED
    UNKNOWN_LEASE = pb.UNKNOWN_LEASE


class TransportKind(enum.IntEnum):
    """Why no complete answer came."""

    CONNECT = pb.TransportError.CONNECT
    """The connection could not be made; nothing was sent."""
    TIMEOUT = pb.TransportError.TIMEOUT
    """No answer in time."""
    RESET = pb.TransportError.RESET
    """The connection broke before the answer was complete."""
    CANCELLED = pb.TransportError.CANCELLED
    """The caller gave up while the request was on its way."""


class Tier(enum.IntEnum):
    """The tier of a billing account."""

    FREE = pb.TIER_FREE
    PAID = pb.TIER_PAID


@dataclass(frozen=True)
class Advice:
    """The broker's answer to a report.

    Attributes:
        action: What to do next. One of a newer contract is read as `DO_NOT_RETRY`.
        retry_after: The wait of `RETRY_AFTER` in seconds; None leaves the back-off to the caller.
        signal: What the broker read in the outcome: a name of the contract's enum `Signal`.
        once: One more try, and no third.
        message: One sentence for people; it holds no key text.
        settled: What the report did to its lease.
    """

    action: Action
    retry_after: float | None
    signal: str
    once: bool
    message: str
    settled: SettleState

    @property
    def retryable(self) -> bool:
        """Whether the request may be sent again, with a new lease."""
        return self.action in (Action.RETRY_OTHER_KEY, Action.RETRY_AFTER)

    @classmethod
    def from_proto(cls, result: pb.ReportResult) -> Advice:
        """Reads the contract's form."""
        advice = result.advice
        known = any(advice.action == action.value for action in Action)
        state = any(result.state == state.value for state in SettleState)
        signals: Mapping[int, str] = {value: name for name, value in pb.Signal.items()}
        return cls(
            action=Action(advice.action) if known else Action.DO_NOT_RETRY,
            retry_after=seconds(advice.retry_after) or None,
            signal=signals.get(advice.signal, f"SIGNAL_{int(advice.signal)}"),
            once=advice.once,
            message=advice.message,
            settled=SettleState(result.state) if state else SettleState.UNSPECIFIED,
        )


_NAMES = {
    "input_tokens": ("promptTokenCount", "prompt_token_count"),
    "output_tokens": ("candidatesTokenCount", "candidates_token_count"),
    "total_tokens": ("totalTokenCount", "total_token_count"),
    "thoughts_tokens": ("thoughtsTokenCount", "thoughts_token_count"),
    "cached_tokens": ("cachedContentTokenCount", "cached_content_token_count"),
}


@dataclass(frozen=True)
class Usage:
    """The `usageMetadata` of an answer, in tokens; None where it is not known."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    thoughts_tokens: int | None = None
    cached_tokens: int | None = None

    @classmethod
    def read(cls, metadata: object) -> Usage:
        """Reads a `usageMetadata` object of the REST API, or a `usage_metadata` of google-genai."""
        if isinstance(metadata, Usage):
            return metadata
        if metadata is None:
            return cls()

        def one(rest: str, attribute: str, own: str) -> int | None:
            if isinstance(metadata, Mapping):
                value = metadata.get(rest, metadata.get(attribute, metadata.get(own)))
            else:
                value = getattr(metadata, attribute, None)
            is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
            return value if is_count else None

        return cls(**{own: one(rest, attribute, own) for own, (rest, attribute) in _NAMES.items()})

    def to_proto(self) -> pb.Usage:
        """The contract's form."""
        known = {name: getattr(self, name) for name in _NAMES}
        return pb.Usage(**{name: value for name, value in known.items() if value is not None})


def success(usage: object) -> pb.LeaseReport:
    """Gemini answered 2xx, without an error."""
    return pb.LeaseReport(success=pb.Success(usage=Usage.read(usage).to_proto()))


def http_error(status: int, body: bytes, retry_after: float | None) -> pb.LeaseReport:
    """Gemini answered with an error."""
    error = pb.HttpError(status=status, body=body[:LARGEST_BODY])
    if retry_after is not None:
        error.retry_after.CopyFrom(to_duration(retry_after))
    return pb.LeaseReport(http_error=error)


def transport_error(kind: TransportKind, message: str, usage: object) -> pb.LeaseReport:
    """No complete answer came."""
    proto = Usage.read(usage).to_proto()
    name = pb.TransportError.Kind.Name(kind.value)
    error = pb.TransportError(kind=name, message=message[:LONGEST_MESSAGE], usage=proto)
    return pb.LeaseReport(transport_error=error)


def not_sent() -> pb.LeaseReport:
    """The request was never sent."""
    return pb.LeaseReport(not_sent=pb.NotSent())
