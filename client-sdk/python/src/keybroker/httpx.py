"""Transports for httpx that take a lease for each request to Gemini.

```python
import httpx
from keybroker.httpx import LeaseTransport

client = httpx.Client(transport=LeaseTransport("127.0.0.1:50051", consumer="nightly-report"))
url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
answer = client.post(url, json={"contents": [{"parts": [{"text": "Why is the sky blue?"}]}]}, timeout=60)
```

The caller sees Google's last answer, as if there were no broker; if no lease can be had, a `KeybrokerError`.
"""

from __future__ import annotations

from typing import Any, Unpack

import httpx

from ._gemini.options import CallSettings
from ._httpx import AsyncDirect, AsyncTransport, Direct, SyncTransport
from .broker import AsyncBroker, Broker

__all__ = ["AsyncLeaseTransport", "LeaseTransport"]


class LeaseTransport(SyncTransport, httpx.BaseTransport):
    """A transport for `httpx.Client`.

    Args:
        broker: The address of a broker, or a client of one.
        transport: What sends the requests. Default: httpx's own, without a limit on connections, through the
            proxies that the environment names.
        **options: See `keybroker.CallOptions`, such as `pool`, `consumer`, `deadline`, `attempts`, `hosts`.
    """

    _lib = httpx

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        *,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[CallSettings],
    ) -> None:
        super().__init__(broker, transport or _Direct(httpx, {}), options)


class AsyncLeaseTransport(AsyncTransport, httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient`; it may be used in any number of event loops.

    Args:
        broker: As for `LeaseTransport`, and all others.
        transport: What sends the requests.
        **options: See `keybroker.CallOptions`.
    """

    _lib = httpx

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[CallSettings],
    ) -> None:
        super().__init__(broker, transport or _AsyncDirect(httpx, {}), options)


class _Direct(Direct, httpx.BaseTransport):
    pass


class _AsyncDirect(AsyncDirect, httpx.AsyncBaseTransport):
    pass


def direct(arguments: dict[str, Any]) -> httpx.BaseTransport:
    """What sends requests, with arguments of `httpx.HTTPTransport`."""
    return _Direct(httpx, arguments)


def adirect(arguments: dict[str, Any]) -> httpx.AsyncBaseTransport:
    """The same for asyncio."""
    return _AsyncDirect(httpx, arguments)
