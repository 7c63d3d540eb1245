"""Calls the REST API with requests, with httpx, and by hand with a lease."""

from __future__ import annotations

import argparse
import sys

import httpx
import requests

import keybroker
import keybroker.httpx
import keybroker.requests

BODY = {"contents": [{"parts": [{"text": "Why is the sky blue?"}]}]}


def main() -> int:
    """Asks three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:50051", help="host:port, several separated by commas")
    parser.add_argument("--gemini", default="https://generativelanguage.googleapis.com", help="base URL")
    args = parser.parse_args()
    url = f"{args.gemini}/v1beta/models/gemini-2.5-flash:generateContent"
    with keybroker.Broker(args.broker) as broker:
        session = requests.Session()
        session.mount(args.gemini, keybroker.requests.LeaseAdapter(broker))
        print("requests:", session.post(url, json=BODY, timeout=60).status_code)

        host = httpx.URL(args.gemini).netloc.decode()
        with httpx.Client(transport=keybroker.httpx.LeaseTransport(broker, hosts=[host])) as client:
            print("httpx:", client.post(url, json=BODY, timeout=60).status_code)

        @broker.leased("gemini-2.5-flash", wait=60)
        def ask(lease: keybroker.Lease) -> int:
            headers = {"x-goog-api-key": lease.begin_send()}
            try:
                answer = requests.post(url, json=BODY, headers=headers, timeout=60)
            except requests.RequestException as error:
                lease.transport_error(keybroker.TransportKind.RESET, type(error).__name__)
                raise
            if answer.ok:
                lease.success(answer.json().get("usageMetadata"))
            else:
                print("advice:", lease.http_error(answer.status_code, answer.content).message)
            return answer.status_code

        print("by hand:", ask())
    return 0


if __name__ == "__main__":
    sys.exit(main())
