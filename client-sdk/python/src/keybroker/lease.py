"""The right to send one request with one key, which always reports."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

from . import _background, _drive, _status, outcome
from ._proto.v1 import keybroker_pb2 as pb
from ._wire import seconds, to_duration
from .errors import InvalidArgument, LeaseEnded, SendWindowPassed, Unavailable
from .outcome import Advice, TransportKind

if TYPE_CHECKING:
    from ._core import Core, Granted
    from ._drive import Steps
    from ._rpc import Call, Endpoint

__all__ = ["AsyncLease", "BaseLease", "Lease"]

log = logging.getLogger("keybroker")

MASK = b"[redacted]"
LONGEST_TTL = 3600.0
# No renewal is closer than this to the one before, also when little time remains.
SHORTEST_PAUSE = 0.05
# A stream whose caller asks for nothing more for so many seconds is no longer renewed: it may be lost to a
# reference that is never collected, and must not hold its place for ever.
LONGEST_IDLE = 120.0


class _Renewal:
    """Keeps a lease alive while its request runs. It does not hold the lease itself, which may be dropped."""

    def __init__(self, core: Core, lease_id: str, ttl: float, expires_at: float) -> None:
        self.core = core
        self.lease_id = lease_id
        self.ttl = ttl
        self.expires_at = expires_at
        self.next_at = time.monotonic() + (expires_at - time.monotonic()) / 2
        self.busy = False
        self.idle_since: float | None = None

    def look(self, now: float) -> None:
        """Renews the lease at half of its remaining time."""
        if self.busy or now < self.next_at:
            return
        if self.idle_since is not None and now - self.idle_since > LONGEST_IDLE:
            return
        self.busy = True
        endpoint = self.core.endpoints.first
        request = pb.RenewRequest(lease_id=self.lease_id, ttl=to_duration(self.ttl))
        call = endpoint.renew(request, self.core.settings.call_timeout)
        call.add_done_callback(lambda call: self.renewed(call, now, endpoint))

    def renewed(self, call: Call, asked_at: float, endpoint: Endpoint) -> None:
        """Goes on, or gives up once it is too late."""
        try:
            response: pb.RenewResponse = call.result(0)
        except grpc.RpcError as error:
            failure = _status.read(error, endpoint.address, self.core.settings.call_timeout)
            if isinstance(failure, Unavailable):
                self.core.endpoints.failed(endpoint)
            if not failure.retryable or time.monotonic() > self.expires_at:
                log.warning("lease %s is no longer renewed: %s", self.lease_id, failure)
                _background.unwatch(self)
                return
        except Exception:  # noqa: BLE001 (the call was called off with its connection)
            _background.unwatch(self)
            return
        else:
            self.expires_at = max(self.expires_at, asked_at + seconds(response.expires_in))
        now = time.monotonic()
        self.next_at = now + max((self.expires_at - now) / 2, SHORTEST_PAUSE)
        self.busy = False


class BaseLease:
    """What leases are with threads and with asyncio."""

    def __init__(self, core: Core, granted: Granted, ttl: float | None) -> None:
        proto = granted.proto
        self._core = core
        self._generation = core.generation
        # Taken by whoever reports: popping a list is atomic.
        self._unreported = [True]
        self._lease_id = proto.lease_id
        self._key_id = proto.key_id
        self._api_key = proto.api_key
        self._project = proto.project
        self._quota_model = proto.quota_model
        self._permits = proto.permits
        self._over_plan = proto.over_plan
        # An absent window is an empty one: a lease that does not say until when it may be used must not be.
        self._send_by = granted.asked_at + seconds(proto.send_within)
        self._sent_at: float | None = None
        lasts = seconds(proto.expires_in)
        ttl = min(max(lasts if ttl is None else ttl, 1.0), LONGEST_TTL)
        self._renewal = _Renewal(core, proto.lease_id, ttl, granted.asked_at + lasts)
        core.live.add(self)

    @property
    def lease_id(self) -> str:
        """The id of the lease."""
        return self._lease_id

    @property
    def key_id(self) -> str:
        """The id of the key, fit for logs."""
        return self._key_id

    @property
    def project(self) -> str:
        """The project that owns the key."""
        return self._project

    @property
    def quota_model(self) -> str:
        """The name under which Google counts the model."""
        return self._quota_model

    @property
    def permits(self) -> int:
        """How many requests may be sent."""
        return self._permits

    @property
    def over_plan(self) -> bool:
        """Whether the request is over the soft plan of its consumer; it may be sent all the same."""
        return self._over_plan

    @property
    def sent(self) -> bool:
        """Whether `begin_send` gave out the key."""
        return self._sent_at is not None

    @property
    def reported(self) -> bool:
        """Whether the lease was reported, or is being reported."""
        return not self._unreported

    @property
    def send_within(self) -> float:
        """How many seconds there still are to send; 0 once it is too late."""
        return max(0.0, self._send_by - time.monotonic())

    @property
    def expires_in(self) -> float:
        """How many seconds until the lease expires; 0 once it has."""
        return max(0.0, self._renewal.expires_at - time.monotonic())

    def begin_send(self) -> str:
        """Marks the request as sent and hands out the key.

        This is the only way to the key. Call it right before sending, once for each request of the lease, and
        put the key in the header `x-goog-api-key`, never in a URL or a log.

        Raises:
            SendWindowPassed: It is too late: report `not_sent` and ask for another lease.
            LeaseEnded: The lease was reported.
        """
        if self.reported:
            self._ended()
        now = time.monotonic()
        if now > self._send_by:
            raise SendWindowPassed(now - self._send_by)
        if self._sent_at is None:
            self._sent_at = now
        return self._api_key

    def mask(self, body: bytes) -> bytes:
        """The same bytes without the key: some of Google's errors repeat it."""
        return body.replace(self._api_key.encode(), MASK) if self._api_key else body

    def keep_renewed(self) -> None:
        """Renews the lease in the background, at half of its remaining time, until it is reported."""
        _background.watch(self._renewal)

    def caller_is_busy(self, is_busy: bool) -> None:
        """Notes whether a stream waits for its caller."""
        self._renewal.idle_since = time.monotonic() if is_busy else None

    def report_in_background(self, report: pb.LeaseReport) -> bool:
        """Reports without waiting for the advice; False if the lease was reported before."""
        if not self._take():
            return False
        self._core.live.discard(self)
        self._core.reporter.submit(self._complete(report))
        return True

    def abandon(self, why: str) -> None:
        """Lets go of a lease: it is reported as not sent, or as cancelled if `begin_send` gave out the key."""
        self.report_in_background(self._abandoned(why))

    def _abandoned(self, why: str) -> pb.LeaseReport:
        if self._sent_at is None:
            return outcome.not_sent()
        return outcome.transport_error(TransportKind.CANCELLED, why, None)

    def _take(self) -> bool:
        """Whether this caller is the one to report."""
        try:
            self._unreported.pop()
        except IndexError:
            return False
        _background.unwatch(self._renewal)
        # A child process does not report the leases of its parent, which does.
        return self._generation == self._core.generation

    def _complete(self, report: pb.LeaseReport) -> pb.LeaseReport:
        report.lease_id = self._lease_id
        if self._sent_at is not None:
            report.latency.CopyFrom(to_duration(time.monotonic() - self._sent_at))
        return report

    def submit(self, report: pb.LeaseReport) -> Future[Advice]:
        """Reports; the advice comes in the future."""
        if not self._take():
            self._ended()
        self._core.live.discard(self)
        return self._core.reporter.submit(self._complete(report))

    def _ended(self) -> NoReturn:
        if self._generation != self._core.generation:
            raise LeaseEnded("the lease belongs to the parent process, which reports it: acquire a new one")
        raise LeaseEnded("the lease was reported already: acquire a new one")

    def _renew(self, ttl: float) -> Steps[float]:
        if self.reported:
            self._ended()
        if not 1 <= ttl <= LONGEST_TTL:
            raise InvalidArgument(f"invalid request, correct it: ttl: must be 1 to 3600 seconds, not {ttl:g}")
        expires_at, _ = yield from self._core.renew(self._lease_id, ttl)
        self._renewal.expires_at = max(self._renewal.expires_at, expires_at)
        return self.expires_in

    def __repr__(self) -> str:
        state = "reported" if self.reported else "sent" if self.sent else "held"
        return (
            f"<{type(self).__name__} {self._lease_id} key_id={self._key_id!r} project={self._project!r} "
            f"quota_model={self._quota_model!r} permits={self._permits} {state} expires_in={self.expires_in:.1f}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease cannot be pickled or copied: it belongs to the process that acquired it")

    def __del__(self) -> None:
        unreported = getattr(self, "_unreported", None)
        if unreported and self._take():
            reporter = self._core.reporter
            report = self._complete(self._abandoned("the lease was dropped without a report"))
            _background.soon(lambda: (reporter.submit(report), None)[1])


class Lease(BaseLease):
    """The right to send one request (or `permits` of them) with one key.

    Ask for the key with `begin_send`, send, and report with one of `success`, `http_error`, `transport_error`
    and `not_sent`. Left without a report, as a `with` block by an exception, it is reported in the background.
    """

    def success(self, usage: object = None) -> Advice:
        """Reports that Gemini answered 2xx without an error.

        Args:
            usage: A `Usage`, the `usageMetadata` of the answer's JSON, or google-genai's `usage_metadata`.

        Raises:
            DeadlineExceeded: No advice came in time; delivery goes on in the background.
            ReportLost: The report was given up.
            LeaseEnded: The lease was reported before.
        """
        return self._report(outcome.success(usage))

    def http_error(self, status: int, body: bytes | str = b"", retry_after: float | None = None) -> Advice:
        """Reports an error answer; raises as `success` does.

        Args:
            status: The HTTP status, 100 to 599.
            body: The body as it came; 64 KiB of it are sent, without the key.
            retry_after: A `Retry-After` header, in seconds.
        """
        return self._report(outcome.http_error(status, self.mask(as_bytes(body)), retry_after))

    def transport_error(self, kind: TransportKind, message: str = "", usage: object = None) -> Advice:
        """Reports that no complete answer came; raises as `success` does.

        Args:
            kind: What happened.
            message: A short text for logs.
            usage: What is known to have been used, as from the events of a stream that broke.
        """
        return self._report(outcome.transport_error(kind, self._masked(message), usage))

    def not_sent(self) -> Advice:
        """Reports that the request was never sent: its charge is refunded. Raises as `success` does."""
        return self._report(outcome.not_sent())

    def renew(self, ttl: float) -> float:
        """Extends the lease to expire so many seconds from now, 1 to 3600; it is never shortened.

        Returns:
            How many seconds it lasts.

        Raises:
            LeaseEnded: It is too late.
            UnknownLease: The lease is forgotten.
        """
        return _drive.run(self._renew(ttl))

    def _report(self, report: pb.LeaseReport) -> Advice:
        return _drive.run(self._core.advice(self.submit(report)))

    def _masked(self, text: str) -> str:
        return self.mask(text.encode()).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abandon(left_by(kind))


class AsyncLease(BaseLease):
    """The same as `Lease` for asyncio: what waits is awaited."""

    async def success(self, usage: object = None) -> Advice:
        """As `Lease.success`."""
        return await self._report(outcome.success(usage))

    async def http_error(self, status: int, body: bytes | str = b"", retry_after: float | None = None) -> Advice:
        """As `Lease.http_error`."""
        return await self._report(outcome.http_error(status, self.mask(as_bytes(body)), retry_after))

    async def transport_error(self, kind: TransportKind, message: str = "", usage: object = None) -> Advice:
        """As `Lease.transport_error`."""
        masked = self.mask(message.encode()).decode(errors="replace")
        return await self._report(outcome.transport_error(kind, masked, usage))

    async def not_sent(self) -> Advice:
        """As `Lease.not_sent`."""
        return await self._report(outcome.not_sent())

    async def renew(self, ttl: float) -> float:
        """As `Lease.renew`."""
        return await _drive.arun(self._renew(ttl))

    async def _report(self, report: pb.LeaseReport) -> Advice:
        return await _drive.arun(self._core.advice(self.submit(report)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abandon(left_by(kind))


def left_by(kind: type[BaseException] | None) -> str:
    """Why a block was left; the text of the exception may hold a prompt."""
    return "the block was left without a report" if kind is None else f"the block was left by {kind.__name__}"


def as_bytes(body: Any) -> bytes:
    """A body as bytes."""
    return body.encode(errors="replace") if isinstance(body, str) else bytes(body)
