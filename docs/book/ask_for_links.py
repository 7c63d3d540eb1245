"""Asks for each external link of the book whether it is there. No build depends on it: others' servers come and go."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

# Addresses of examples.
MADE_UP = ("http://127.0.0.1", "http://localhost", "https://broker.internal", "https://example.com")


def wrong_with(url: str) -> str | None:
    headers = {"user-agent": "Mozilla/5.0 (link check)"}
    try:
        with requests.get(url, headers=headers, timeout=20, stream=True) as answer:
            return None if answer.status_code < 400 else f"HTTP {answer.status_code}"
    except requests.RequestException as error:
        return type(error).__name__


def main(listed: str) -> int:
    links = [line.rsplit(" ", 1) for line in Path(listed).read_text().splitlines()]
    links = [(url, page) for url, page in links if not url.startswith(MADE_UP)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(zip(links, pool.map(wrong_with, (url for url, _ in links)), strict=True))
    wrong = [(url, page, why) for (url, page), why in answers if why]
    for url, page, why in wrong:
        print(f"{page}: {url}: {why}")
    print(f"{len(links) - len(wrong)} of {len(links)} external links are there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
