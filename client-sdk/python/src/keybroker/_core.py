"""What all leases and all forms of a client share: its connections, its reports, and how it asks for leases."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from . import _background, _status, outcome
from ._drive import Answer, Sleep, Steps
from ._proto.v1 import keybroker_pb2 as pb
from ._reporter import Reporter
from ._rpc import Call, Endpoints
from ._wire import backoff, seconds, spread, to_duration
from .errors import Closed, DeadlineExceeded, KeybrokerError, Other, Unavailable, Undelivered
from .settings import LONGEST_WAIT, AcquireOptions, Settings

if TYPE_CHECKING:
    from .lease import BaseLease

log = logging.getLogger("keybroker")

# How long an Acquire goes on after its caller gave up, so that a lease already on its way is received and
# refunded rather than charged until it expires.
AFTER_CANCEL = 1.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

_SAFE_REASONS = ("SHUTTING_DOWN", "OVERLOADED", "LEDGER_UNAVAILABLE")


class Core:
    """One client."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.endpoints = Endpoints(settings)
        self.reporter = Reporter(self.endpoints, settings)
        self.closed = False
        self.generation = 0
        self.live: weakref.WeakSet[BaseLease] = weakref.WeakSet()
        _cores.add(self)

    def acquire(
        self, options: AcquireOptions, patience: float | None = None, tries: int | None = None
    ) -> Steps[Granted]:
        """Takes a lease.

        It is asked again only where nothing can have been handed out: no connection was made, or the broker
        said so. Other addresses are asked at once, the same ones while `patience` lasts, by default `wait`, and
        `tries` times at most, by default without end.
        """
        if self.closed:
            raise Closed("this broker client is closed: make a new one")
        # A finalizer cannot start it, and the lease may have one.
        _background.start()
        until = time.monotonic() + (min(options.wait, LONGEST_WAIT) if patience is None else patience)
        retry = 0
        while True:
            result = yield from self._ask_each(options, until)
            if isinstance(result, Granted):
                return result
            remaining = until - time.monotonic()
            if not may_ask_again(result) or remaining <= 0 or retry + 1 == tries:
                raise result from None
            pause = result.retry_after and spread(result.retry_after)
            pause = pause or backoff(retry, FIRST_PAUSE, LONGEST_PAUSE)
            if pause >= remaining:
                raise result from None
            yield Sleep(pause)
            retry += 1

    def _ask_each(self, options: AcquireOptions, until: float) -> Steps[Granted | KeybrokerError]:
        failures: list[KeybrokerError] = []
        for endpoint in self.endpoints.in_turn():
            wait = options.wait
            if 0 < wait <= LONGEST_WAIT:
                wait = max(0.0, min(wait, until - time.monotonic()))
            within = max(0.0, min(wait, LONGEST_WAIT)) + self.settings.call_timeout
            request = replace(options, wait=wait).to_proto()
            # Taken before the call, so that `send_within` ends here no later than at the broker.
            asked_at = time.monotonic()
            call = endpoint.acquire(request, within)
            try:
                response = yield Answer(call)
            except grpc.RpcError as error:
                failure = _status.read(error, endpoint.address, within)
            except grpc.FutureCancelledError as error:
                raise Closed("this broker client was closed during the call: make a new one") from error
            except BaseException:
                self._give_back(call)
                raise
            else:
                if not response.HasField("lease"):
                    return Other("the broker's answer breaks the contract, use matching versions: no lease")
                return Granted(response.lease, asked_at)
            failures.append(failure)
            if isinstance(failure, Unavailable):
                self.endpoints.failed(endpoint)
            if not _status.never_left(failure) and getattr(failure, "reason", "") != "SHUTTING_DOWN":
                return failure
        if len(failures) > 1 and all(map(_status.never_left, failures)):
            return Unavailable(
                f"no broker can be reached at {self.endpoints}: check that one runs there, and the addresses "
                f"({failures[-1]})"
            )
        return failures[-1]

    def _give_back(self, call: Call) -> None:
        """Nobody waits for this lease any more: if it comes all the same, its charge is refunded."""
        generation = self.generation
        self.reporter.expect()

        def came(call: Call) -> None:
            try:
                response: pb.AcquireResponse = call.result(0)
            except Exception:  # noqa: BLE001 (no lease came, as it was to be)
                log.debug("an acquire that was called off brought nothing")
            else:
                report = outcome.not_sent()
                report.lease_id = response.lease.lease_id
                if generation == self.generation:
                    self.reporter.submit(report)
            finally:
                self.reporter.no_longer_expect()

        call.add_done_callback(came)
        _background.later(AFTER_CANCEL, lambda: (call.cancel(), None)[1])

    def renew(self, lease_id: str, ttl: float) -> Steps[tuple[float, float]]:
        """Renews a lease; answers until when it lasts by the monotonic clock, and for how long."""
        failure: KeybrokerError = Unavailable(f"no broker can be reached at {self.endpoints}")
        for endpoint in self.endpoints.in_turn():
            asked_at = time.monotonic()
            request = pb.RenewRequest(lease_id=lease_id, ttl=to_duration(ttl))
            call = endpoint.renew(request, self.settings.call_timeout)
            try:
                response = yield Answer(call)
            except grpc.RpcError as error:
                failure = _status.read(error, endpoint.address, self.settings.call_timeout)
                if isinstance(failure, Unavailable):
                    self.endpoints.failed(endpoint)
                    continue
                raise failure from None
            lasts = seconds(response.expires_in)
            return asked_at + lasts, lasts
        raise failure

    def advice(self, answer: Call) -> Steps[outcome.Advice]:
        """Waits for the advice on a report."""
        within = self.settings.call_timeout
        try:
            advice: outcome.Advice = yield Answer(answer, within)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no advice within {within:g} s from {self.endpoints}: delivery goes on in the background; check "
                "that the broker is reachable"
            ) from error
        return advice

    def close(self, timeout: float | None) -> None:
        """Refuses new leases, waits for reports, and closes the connections once all are delivered."""
        self.closed = True
        self.reporter.flush(self.settings.flush_timeout if timeout is None else timeout)
        if not len(self.live):
            for endpoint in self.endpoints.all:
                endpoint.close()

    def at_exit(self) -> None:
        """Reports what is still held, and waits for all reports."""
        for lease in list(self.live):
            lease.abandon("the program ended")
        try:
            self.reporter.flush(self.settings.flush_timeout)
        except Undelivered as error:
            log.warning("%s", error)

    def after_fork(self) -> None:
        """A child process begins with nothing of the parent's."""
        self.generation += 1
        self.live = weakref.WeakSet()
        for endpoint in self.endpoints.all:
            endpoint.after_fork()
        self.reporter.after_fork()


class Granted:
    """A lease as it came, and when it was asked for. Its text shows no key."""

    __slots__ = ("asked_at", "proto")

    def __init__(self, proto: pb.Lease, asked_at: float) -> None:
        self.proto = proto
        self.asked_at = asked_at


def may_ask_again(error: KeybrokerError) -> bool:
    """Whether it is certain that an Acquire that failed so granted nothing, and can go better later."""
    is_safe = isinstance(error, Unavailable) and error.reason in _SAFE_REASONS
    return is_safe or _status.never_left(error)


_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for core in list(_cores):
        core.after_fork()


def _at_exit() -> None:
    for core in list(_cores):
        core.at_exit()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
