"""Answers many prompts with asyncio, and shows how far it is."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tqdm.asyncio import tqdm

import keybroker.genai


async def main() -> int:
    """Answers them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:50051", help="host:port, several separated by commas")
    parser.add_argument("--gemini", default="https://generativelanguage.googleapis.com", help="base URL")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=64)
    args = parser.parse_args()
    prompts = [f"Name a use of the number {number}." for number in range(args.prompts)]
    # A batch has time: a call waits for its turn for an hour rather than fail.
    client = keybroker.genai.Client(args.broker, http_options={"base_url": args.gemini}, deadline=3600)
    at_once = asyncio.Semaphore(args.tasks)

    async def ask(prompt: str) -> str:
        async with at_once:
            answer = await client.aio.models.generate_content(model="gemini-2.5-flash", contents=prompt)
        return answer.text or ""

    answers = await tqdm.gather(*map(ask, prompts))
    await client.aio.aclose()
    client.close()
    print(f"{sum(map(bool, answers))} of {len(prompts)} answered")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
