"""What can go wrong between this process and the broker: one class for each kind, with one base.

Every text says what to do. `kind` names the kind for programs and logs, `retryable` whether the same call can
succeed later with nothing changed, and `retry_after` the wait in seconds that the broker named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "Closed",
    "DeadlineExceeded",
    "FieldViolation",
    "InvalidArgument",
    "KeybrokerError",
    "LeaseEnded",
    "NeverPossible",
    "NoUsableKey",
    "NotPermitted",
    "Other",
    "QuotaViolation",
    "Refused",
    "ReportLost",
    "SendWindowPassed",
    "Unauthenticated",
    "Unavailable",
    "Undelivered",
    "UnknownLease",
    "UnknownPool",
]


@dataclass(frozen=True)
class QuotaViolation:
    """A limit that is spent: whose it is, and which one and how much of it is used."""

    subject: str
    description: str


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that must be corrected: its name in the contract, and the fix."""

    field: str
    description: str


class KeybrokerError(Exception):
    """The base of all errors of this package."""

    kind: ClassVar[str] = "other"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Refused(KeybrokerError):
    """No lease can be given now.

    Attributes:
        retry_after: The exact time in seconds after which one can, counted from the arrival of this answer.
        quota: What is spent.
        reason: The contract's `ErrorReason`, such as `QUOTA_EXHAUSTED` or `COOLING_DOWN`.
        metadata: What else the broker said, such as `estimated_wait_ms` and `queue_length`.
    """

    kind = "refused"
    retryable = True
    retry_after: float

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        reason: str = "",
        quota: tuple[QuotaViolation, ...] = (),
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after: float = retry_after
        self.reason = reason
        self.quota = quota
        self.metadata = metadata or {}


class NeverPossible(KeybrokerError):
    """The request is larger than a limit: as configured it can never be granted."""

    kind = "never_possible"


class NoUsableKey(KeybrokerError):
    """Every key that could serve is disabled, or the constraints leave none."""

    kind = "no_usable_key"


class UnknownPool(KeybrokerError):
    """The pool is not configured."""

    kind = "unknown_pool"


class UnknownLease(KeybrokerError):
    """The lease was never granted here, or was forgotten after its time."""

    kind = "unknown_lease"


class LeaseEnded(KeybrokerError):
    """The lease was reported or has expired."""

    kind = "lease_ended"


class InvalidArgument(KeybrokerError):
    """A field is missing or out of range; `violations` names each with its fix."""

    kind = "invalid_argument"

    def __init__(self, message: str, *, violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class Unavailable(KeybrokerError):
    """The broker cannot be reached, or cannot serve at the moment.

    Attributes:
        reason: The contract's `ErrorReason`; empty when the network failed before the broker could give one.
        answer_lost: Whether the broker may have got the call. An Acquire may then have granted a lease, which
            stays charged until it expires, so it is not asked again.
    """

    kind = "unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        answer_lost: bool = False,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason
        self.answer_lost = answer_lost


class DeadlineExceeded(KeybrokerError):
    """No answer in time. An Acquire may have granted a lease, which stays charged until it expires."""

    kind = "deadline_exceeded"
    retryable = True


class Unauthenticated(KeybrokerError):
    """The broker does not take the token or the certificate."""

    kind = "unauthenticated"


class NotPermitted(KeybrokerError):
    """The broker knows who asks, and does not let them do this: its words name the identity and what it may do."""

    kind = "not_permitted"


class ReportLost(KeybrokerError):
    """A report could not be delivered and was given up: its lease stays charged until it expires."""

    kind = "report_lost"


class SendWindowPassed(KeybrokerError):
    """The lease was held for too long before sending: report it as not sent and ask for another.

    Attributes:
        late_by: By how many seconds the window was missed.
    """

    kind = "send_window_passed"
    retryable = True

    def __init__(self, late_by: float) -> None:
        super().__init__(
            f"the lease should have been used {late_by:.3f} s ago: report it as not sent and acquire another"
        )
        self.late_by = late_by


class Other(KeybrokerError):
    """A gRPC error outside of the contract; `code` is its gRPC status."""

    def __init__(self, message: str, *, code: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.code = code


class Undelivered(KeybrokerError):
    """Reports were not delivered in time; they are still being tried.

    Attributes:
        reports: How many.
    """

    retryable = True

    def __init__(self, reports: int, within: float) -> None:
        super().__init__(
            f"{reports} reports were not delivered within {within:g} s: check that the broker is reachable; "
            "leases without a report stay charged until they expire"
        )
        self.reports = reports


class Closed(KeybrokerError):
    """This client was closed: make a new one."""
