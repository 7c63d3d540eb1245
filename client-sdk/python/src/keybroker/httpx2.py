"""Transports for httpx2 that take a lease for each request to Gemini.

```python
import httpx2
from keybroker.httpx2 import LeaseTransport

client = httpx2.Client(transport=LeaseTransport("127.0.0.1:50051", consumer="nightly-report"))
url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
answer = client.post(url, json={"contents": [{"parts": [{"text": "Why is the sky blue?"}]}]}, timeout=60)
```

The caller sees Google's last answer, as if there were no broker; if no lease can be had, a `KeybrokerError`.
"""

from __future__ import annotations

from typing import Any, Unpack

import httpx2

from ._gemini.options import CallSettings
from ._httpx import AsyncDirect, AsyncTransport, Direct, SyncTransport
from .broker import AsyncBroker, Broker

__all__ = ["AsyncLeaseTransport", "LeaseTransport"]


class LeaseTransport(SyncTransport, httpx2.BaseTransport):
    """A transport for `httpx2.Client`.

    Args:
        broker: The address of a broker, or a client of one.
        transport: What sends the requests. Default: httpx2's own, without a limit on connections, through the
            proxies that the environment names.
        **options: See `keybroker.CallOptions`, such as `pool`, `consumer`, `deadline`, `attempts`, `hosts`.
    """

    _lib = httpx2

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        *,
        transport: httpx2.BaseTransport | None = None,
        **options: Unpack[CallSettings],
    ) -> None:
        super().__init__(broker, transport or _Direct(httpx2, {}), options)


class AsyncLeaseTransport(AsyncTransport, httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient`; it may be used in any number of event loops.

    Args:
        broker: As for `LeaseTransport`, and all others.
        transport: What sends the requests.
        **options: See `keybroker.CallOptions`.
    """

    _lib = httpx2

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        **options: Unpack[CallSettings],
    ) -> None:
        super().__init__(broker, transport or _AsyncDirect(httpx2, {}), options)


class _Direct(Direct, httpx2.BaseTransport):
    pass


class _AsyncDirect(AsyncDirect, httpx2.AsyncBaseTransport):
    pass


def direct(arguments: dict[str, Any]) -> httpx2.BaseTransport:
    """What sends requests, with arguments of `httpx2.HTTPTransport`."""
    return _Direct(httpx2, arguments)


def adirect(arguments: dict[str, Any]) -> httpx2.AsyncBaseTransport:
    """The same for asyncio."""
    return _AsyncDirect(httpx2, arguments)
