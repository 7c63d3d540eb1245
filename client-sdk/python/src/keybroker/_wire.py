"""Between Python's numbers and the contract's messages."""

from __future__ import annotations

import random

from google.protobuf.duration_pb2 import Duration

NANOS = 1_000_000_000


def to_duration(value: float) -> Duration:
    """Seconds as a message."""
    nanos = round(value * NANOS)
    return Duration(seconds=nanos // NANOS, nanos=nanos % NANOS)


def seconds(duration: Duration) -> float:
    """A message as seconds, never negative."""
    return max(0.0, duration.seconds + duration.nanos / NANOS)


def backoff(retry: int, first: float, longest: float) -> float:
    """A random wait below a ceiling that doubles: a fleet that failed together must not return together."""
    return random.random() * min(longest, first * 2.0 ** min(retry, 30))


def spread(named: float) -> float:
    """A wait that the broker named, up to a tenth longer (a second at most), never shorter."""
    return named + random.random() * min(named / 10, 1.0)
