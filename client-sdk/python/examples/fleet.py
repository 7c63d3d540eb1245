"""A fleet of workers in one process, each calling Gemini through Google's SDK for so many seconds.

It prints one line of JSON: calls, answers, failures by kind, and how long calls took in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import google.genai.errors

import keybroker
import keybroker.genai

# How long a worker waits that got no key, in seconds.
PAUSE = 0.5


class Tally:
    """What all workers together saw."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.failed: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def ok(self, took: float) -> None:
        """A call was answered."""
        self.took.append(took)

    def fail(self, error: Exception) -> None:
        """A call failed."""
        kind = error.kind if isinstance(error, keybroker.KeybrokerError) else type(error).__name__
        if isinstance(error, google.genai.errors.APIError):
            kind = f"upstream_{error.code}"
        with self._lock:
            self.failed[kind] += 1

    def line(self) -> str:
        """The summary."""
        cuts = statistics.quantiles(self.took, n=100) if len(self.took) > 1 else [0.0] * 99
        summary = {
            "calls": len(self.took) + self.failed.total(),
            "ok": len(self.took),
            "failed": dict(self.failed),
            "p50_ms": round(cuts[49] * 1000, 2),
            "p99_ms": round(cuts[98] * 1000, 2),
        }
        return json.dumps(summary)


def is_over(error: Exception, until: float) -> bool:
    """Whether no key comes free before the end of the run as things stand, which is no failure."""
    if isinstance(error, keybroker.Refused):
        return time.monotonic() + error.retry_after >= until
    return isinstance(error, keybroker.DeadlineExceeded) and time.monotonic() >= until


def work(client: keybroker.genai.Client, model: str, until: float, tally: Tally, number: int) -> None:
    """One worker in a thread."""
    while (started := time.monotonic()) < until:
        try:
            with keybroker.call_options(deadline=until - started):
                client.models.generate_content(model=model, contents=f"worker {number}")
        except Exception as error:  # noqa: BLE001 (each kind is counted)
            if not is_over(error, until):
                tally.fail(error)
            time.sleep(PAUSE)
        else:
            tally.ok(time.monotonic() - started)


async def awork(client: keybroker.genai.Client, model: str, until: float, tally: Tally, number: int) -> None:
    """One worker in a task."""
    while (started := time.monotonic()) < until:
        try:
            with keybroker.call_options(deadline=until - started):
                await client.aio.models.generate_content(model=model, contents=f"worker {number}")
        except Exception as error:  # noqa: BLE001 (each kind is counted)
            if not is_over(error, until):
                tally.fail(error)
            await asyncio.sleep(PAUSE)
        else:
            tally.ok(time.monotonic() - started)


def main() -> int:
    """Runs the fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:50051", help="host:port, several separated by commas")
    parser.add_argument("--gemini", default="https://generativelanguage.googleapis.com", help="base URL")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--model", default="gemini-2.5-flash")
    parser.add_argument("--mode", choices=["asyncio", "threads"], default="asyncio")
    args = parser.parse_args()
    broker = keybroker.Broker(args.broker)
    client = keybroker.genai.Client(broker, http_options={"base_url": args.gemini})
    tally = Tally()
    until = time.monotonic() + args.seconds
    if args.mode == "threads":
        with ThreadPoolExecutor(args.workers) as pool:
            for number in range(args.workers):
                pool.submit(work, client, args.model, until, tally, number)
    else:
        asyncio.run(run(client, args.model, until, tally, args.workers))
    client.close()
    broker.close()
    print(tally.line(), flush=True)
    return 0


async def run(client: keybroker.genai.Client, model: str, until: float, tally: Tally, workers: int) -> None:
    """Runs all workers as tasks."""
    await asyncio.gather(*(awork(client, model, until, tally, number) for number in range(workers)))
    await client.aio.aclose()


if __name__ == "__main__":
    sys.exit(main())
