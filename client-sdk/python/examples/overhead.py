"""How much longer a call takes with a leased key: calls without and with a broker in turns.

It prints one line of JSON with medians in milliseconds; `rpc_p50_ms` is the two round trips to the broker alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

from google import genai

import keybroker
import keybroker.genai


def took(work: Callable[[], object]) -> float:
    """How long something takes, in milliseconds."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:50051", help="host:port")
    parser.add_argument("--gemini", required=True, help="base URL of a fake Gemini")
    parser.add_argument("--calls", "-n", type=int, default=100)
    parser.add_argument("--model", default="gemini-2.5-flash")
    parser.add_argument("--key", default="fake-key-0000", help="what the direct calls send")
    args = parser.parse_args()
    broker = keybroker.Broker(args.broker)
    direct = genai.Client(api_key=args.key, http_options={"base_url": args.gemini})
    leased = keybroker.genai.Client(broker, http_options={"base_url": args.gemini})

    def call(client: genai.Client) -> Callable[[], object]:
        return lambda: client.models.generate_content(model=args.model, contents="Why is the sky blue?")

    def rpc() -> None:
        with broker.lease(args.model) as lease:
            lease.not_sent()

    kinds = {"direct_p50_ms": call(direct), "leased_p50_ms": call(leased), "rpc_p50_ms": rpc}
    for work in kinds.values():
        for _ in range(5):
            work()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.calls):
        for name, work in kinds.items():
            times[name].append(took(work))
    leased.close()
    broker.close()
    print(json.dumps({name: round(statistics.median(each), 3) for name, each in times.items()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
