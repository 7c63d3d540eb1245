"""Answers many prompts with a pool of threads, and shows how far it is."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

import keybroker.genai


def main() -> int:
    """Answers them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:50051", help="host:port, several separated by commas")
    parser.add_argument("--gemini", default="https://generativelanguage.googleapis.com", help="base URL")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args()
    prompts = [f"Name a use of the number {number}." for number in range(args.prompts)]
    # A batch has time: a call waits for its turn for an hour rather than fail.
    client = keybroker.genai.Client(args.broker, http_options={"base_url": args.gemini}, deadline=3600)

    def ask(prompt: str) -> str:
        return client.models.generate_content(model="gemini-2.5-flash", contents=prompt).text or ""

    with ThreadPoolExecutor(args.threads) as pool:
        answers = list(tqdm(pool.map(ask, prompts), total=len(prompts)))
    client.close()
    print(f"{sum(map(bool, answers))} of {len(prompts)} answered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
