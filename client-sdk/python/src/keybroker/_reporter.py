"""Delivers reports: in batches, in the background, again while the broker is away."""

from __future__ import annotations

import collections
import logging
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import grpc

from . import _background, _status
from ._proto.v1 import keybroker_pb2 as pb
from ._rpc import Call, Endpoint, Endpoints
from ._wire import backoff
from .errors import KeybrokerError, Other, ReportLost, Unavailable, Undelivered
from .outcome import Advice
from .settings import Settings

log = logging.getLogger("keybroker")

BATCH = 256
BATCH_BYTES = 1024 * 1024
# Calls under way at once; a report that finds them all busy joins the next batch.
CALLS = 8
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


@dataclass(eq=False)
class _Item:
    report: pb.LeaseReport
    give_up_at: float
    answer: Future[Advice] = field(default_factory=Future)
    # Sent in a call of its own, since the call it was in failed for good and the fault may be another's.
    alone: bool = False


class Reporter:
    """The queue of reports of a client."""

    def __init__(self, endpoints: Endpoints, settings: Settings) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self.lost = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Forgets what is the parent process's to report."""
        self._idle = threading.Condition(threading.Lock())
        self._queue: collections.deque[_Item] = collections.deque()
        self._calls = 0
        self._outstanding = 0

    @property
    def outstanding(self) -> int:
        """How many reports are not delivered yet."""
        return self._outstanding

    def submit(self, report: pb.LeaseReport) -> Future[Advice]:
        """Sends a report, or queues it; never waits. A finalizer must not call it, see `_background`."""
        item = _Item(report, time.monotonic() + self._settings.report_patience)
        with self._idle:
            is_full = len(self._queue) >= self._settings.report_queue
            if not is_full:
                self._outstanding += 1
                self._queue.append(item)
        if is_full:
            self.lost += 1
            error = ReportLost(
                f"the report was given up, since {self._settings.report_queue} wait already: the lease stays "
                "charged until it expires; check that the broker is reachable, or raise report_queue="
            )
            log.warning("the report of lease %s: %s", report.lease_id, error)
            item.answer.set_exception(error)
        else:
            self._pump()
        return item.answer

    def expect(self) -> None:
        """Counts a report that may have to be made, so that `flush` waits for it."""
        with self._idle:
            self._outstanding += 1

    def no_longer_expect(self) -> None:
        """The report was submitted, or need not be."""
        self._done(1)

    def flush(self, timeout: float) -> None:
        """Waits until nothing is outstanding.

        Raises:
            Undelivered: After so many seconds; delivery goes on.
        """
        if sys.is_finalizing():
            return  # The threads that deliver have stopped; all was delivered at the exit.
        until = time.monotonic() + timeout
        _background.settle(timeout)
        with self._idle:
            if not self._idle.wait_for(lambda: self._outstanding <= 0, max(0.0, until - time.monotonic())):
                raise Undelivered(self._outstanding, timeout)

    def _done(self, count: int) -> None:
        with self._idle:
            self._outstanding -= count
            if self._outstanding <= 0:
                self._idle.notify_all()

    def _pump(self) -> None:
        while True:
            with self._idle:
                if self._calls >= CALLS or not self._queue:
                    return
                self._calls += 1
                batch = self._gather()
            self._deliver(batch, 0)

    def _gather(self) -> list[_Item]:
        """Takes what is queued already; it waits for nothing, so an idle client adds no latency."""
        batch = [self._queue.popleft()]
        size = batch[0].report.ByteSize()
        while self._queue and len(batch) < BATCH and not batch[0].alone and not self._queue[0].alone:
            size += self._queue[0].report.ByteSize()
            if size > BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    def _deliver(self, batch: list[_Item], retry: int) -> None:
        endpoint = self._endpoints.first
        try:
            call = endpoint.report([item.report for item in batch], self._settings.call_timeout)
        except Exception as error:  # noqa: BLE001 (whatever it is, nobody else could be told)
            self._failed(batch, retry, endpoint, Other(f"the report could not be sent: {error}"))
            return
        call.add_done_callback(lambda call: self._answered(call, batch, retry, endpoint))

    def _answered(self, call: Call, batch: list[_Item], retry: int, endpoint: Endpoint) -> None:
        try:
            response: pb.ReportResponse = call.result(0)
        except grpc.RpcError as error:
            failure = _status.read(error, endpoint.address, self._settings.call_timeout)
            self._failed(batch, retry, endpoint, failure)
            return
        except Exception as error:  # noqa: BLE001 (a call that was cancelled, as by a channel that was closed)
            self._failed(batch, retry, endpoint, Unavailable(f"the report was called off: {error!r}"))
            return
        if len(response.results) != len(batch):
            breach = Other("the broker's answer breaks the contract, use matching versions: results are missing")
            self._failed(batch, retry, endpoint, breach)
            return
        for item, result in zip(batch, response.results, strict=True):
            item.answer.set_result(Advice.from_proto(result))
        self._done(len(batch))
        self._free_call()

    def _free_call(self) -> None:
        with self._idle:
            self._calls -= 1
        self._pump()

    def _failed(self, batch: list[_Item], retry: int, endpoint: Endpoint, error: KeybrokerError) -> None:
        if not error.retryable:
            if len(batch) > 1:
                # One bad report must not take the others of its batch with it.
                for item in batch:
                    item.alone = True
                with self._idle:
                    self._queue.extendleft(reversed(batch))
            else:
                self._give_up(batch, error)
            self._free_call()
            return
        self._endpoints.failed(endpoint)
        untried = retry < len(self._endpoints.all) - 1
        pause = 0.0 if untried else error.retry_after or backoff(retry, FIRST_PAUSE, LONGEST_PAUSE)
        pause = min(pause, LONGEST_PAUSE)
        next_try = time.monotonic() + pause
        expired = [item for item in batch if item.give_up_at <= next_try]
        patient = [item for item in batch if item.give_up_at > next_try]
        self._give_up(
            expired,
            ReportLost(f"the report was given up: the lease stays charged until it expires ({error})"),
        )
        if patient:
            _background.later(pause, lambda: self._deliver(patient, retry + 1))
        else:
            self._free_call()

    def _give_up(self, items: list[_Item], error: KeybrokerError) -> None:
        for item in items:
            log.warning("the report of lease %s: %s", item.report.lease_id, error)
            self.lost += 1
            item.answer.set_exception(error)
        if items:
            self._done(len(items))
