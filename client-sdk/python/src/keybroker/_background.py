"""One thread of the process for what nobody waits for: timers, renewals, and the work of finalizers.

Nothing here takes a lock that a finalizer could find taken by its own thread: work comes in through a
`SimpleQueue`, whose `put` may interrupt itself.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("keybroker")

# How often leases in use are looked at. The shortest lease is 1 s, and renewed at half of it.
TICK = 0.25
# The thread goes on looking for so long after the last lease, so that a program that sends one request after
# another does not wake it for each.
LINGER = 5.0

_Work = Callable[[], None]


class Watched(Protocol):
    """A lease in use."""

    def look(self, now: float) -> None:
        """Renews the lease if it is time to."""


class _Background:
    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[tuple[float, _Work] | None] = queue.SimpleQueue()
        self.watched: dict[int, Watched] = {}
        self.looking = False
        self.thread: threading.Thread | None = None
        self.starting = threading.Lock()

    def start(self) -> None:
        if self.thread is not None:
            return
        with self.starting:
            if self.thread is None:
                thread = threading.Thread(target=self.run, name="keybroker-background", daemon=True)
                thread.start()
                self.thread = thread

    def run(self) -> None:
        numbers = itertools.count()
        timers: list[tuple[float, int, _Work]] = []
        idle_since = time.monotonic()
        while True:
            now = time.monotonic()
            if self.watched:
                idle_since = now
            self.looking = now - idle_since < LINGER
            if not self.looking and self.watched:
                # One came between the two lines above and saw the flag of before.
                self.looking = True
            until = timers[0][0] - now if timers else None
            if self.looking:
                until = TICK if until is None else min(until, TICK)
            try:
                item = self.inbox.get(timeout=None if until is None else max(until, 0.0))
                if item is not None:
                    heapq.heappush(timers, (item[0], next(numbers), item[1]))
            except queue.Empty:
                pass
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                attempt(heapq.heappop(timers)[2])
            attempt(self.look)

    def look(self) -> None:
        """Renews what is due."""
        now = time.monotonic()
        for lease in list(self.watched.values()):
            lease.look(now)


def attempt(work: _Work) -> None:
    """Does a piece of work; a fault of it must not end the thread."""
    try:
        work()
    except Exception:
        log.exception("background work failed")


_background = _Background()


def start() -> None:
    """Starts the thread, if it does not run."""
    _background.start()


def soon(work: _Work) -> None:
    """Has a piece of work done by the thread; may be called by a finalizer."""
    _background.inbox.put((0.0, work))


def later(delay: float, work: _Work) -> None:
    """Has a piece of work done by the thread after so many seconds."""
    _background.start()
    _background.inbox.put((time.monotonic() + delay, work))


def watch(lease: Watched) -> None:
    """Keeps a lease renewed from now on."""
    _background.watched[id(lease)] = lease
    if not _background.looking:
        _background.start()
        _background.inbox.put(None)


def unwatch(lease: Watched) -> None:
    """No longer keeps it renewed."""
    _background.watched.pop(id(lease), None)


def settle(timeout: float) -> bool:
    """Waits until all that was asked of the thread so far is done, timers aside."""
    if _background.thread is None or sys.is_finalizing():
        return True
    done = threading.Event()
    soon(done.set)
    return done.wait(timeout)


def _after_fork_in_child() -> None:
    global _background
    _background = _Background()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
