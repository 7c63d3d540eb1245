"""Google's own SDK with leased keys.

```python
import keybroker.genai

client = keybroker.genai.Client("127.0.0.1:50051")
print(client.models.generate_content(model="gemini-2.5-flash", contents="Why is the sky blue?").text)
```
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Unpack
from urllib.parse import urlsplit

from google import genai
from google.genai import types

from ._gemini.affinity import Affinity
from ._gemini.options import CallSettings
from .broker import AsyncBroker, Broker
from .errors import InvalidArgument

__all__ = ["Client"]

# It stands where a key is wanted, and never reaches Google: the transport puts the leased key in its place.
PLACEHOLDER = "a-key-is-leased-for-each-request"
# What is asked of a client's transport, and so is the transport's to know once there is one of our own.
_TRANSPORT = ("verify", "cert", "http1", "http2", "limits", "trust_env", "proxy")


class Client(genai.Client):
    """A `google.genai.Client` that takes a lease for each HTTP request, with `client.aio` too.

    It is used as Google's is. Its own retries are off: the broker says what is tried again, and with which key.
    The caller sees Google's last answer as Google's SDK shows it, an `APIError` or one of httpx; if no lease can
    be had, a `KeybrokerError`. Live sessions (`client.aio.live`, WebSockets) are not leased for, and fail.

    Args:
        broker: The address of a broker, several separated by commas, or a `Broker` or `AsyncBroker`.
        http_options: As for Google's client. `client_args` and `async_client_args` may hold a `transport`, which
            then sends the requests, and what a transport takes, such as `verify` or `proxy`.
        debug_config: As for Google's client.
        **options: See `keybroker.CallOptions`, such as `pool`, `consumer`, `deadline`, `attempts`, `fallback`.

    Raises:
        InvalidArgument: `http_options` holds a whole HTTP client.
    """

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        *,
        http_options: types.HttpOptions | types.HttpOptionsDict | None = None,
        debug_config: Any = None,
        **options: Unpack[CallSettings],
    ) -> None:
        self._owns_broker = isinstance(broker, str)
        self.broker = Broker(broker) if isinstance(broker, str) else broker
        given = (
            http_options
            if isinstance(http_options, types.HttpOptions)
            else types.HttpOptions.model_validate(http_options or {})
        )
        if given.httpx_client or given.httpx_async_client or given.aiohttp_client:
            raise InvalidArgument(
                "http_options holds a whole client, which cannot lease: give client_args and async_client_args "
                "with a transport of yours, or use keybroker.httpx with your client"
            )
        # One and the same for both, so that a file that one uploads is known to the other.
        options.setdefault("affinity", Affinity())
        transports = _transports()
        sync_args, sync_transport = _split(given.client_args, transports.direct)
        async_args, async_transport = _split(given.async_client_args, transports.adirect)
        self._sync = transports.LeaseTransport(self.broker, transport=sync_transport, **options)
        self._async = transports.AsyncLeaseTransport(self.broker, transport=async_transport, **options)
        leasing = given.model_copy(
            update={
                "client_args": {**sync_args, "transport": self._sync},
                # With a transport of its own the SDK uses it also where aiohttp is installed.
                "async_client_args": {**async_args, "transport": self._async},
                "retry_options": types.HttpRetryOptions(attempts=1),
            }
        )
        extra = {} if debug_config is None else {"debug_config": debug_config}
        super().__init__(api_key=PLACEHOLDER, vertexai=False, http_options=leasing, **extra)
        if "hosts" not in options:
            self._add_host(self._api_client._http_options.base_url)

    @property
    def affinity(self) -> Affinity:
        """Which project made which file, cache or batch: `affinity.remember("files/abc", "project-a")`."""
        affinity: Affinity = self._sync.options.affinity
        return affinity

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every report is delivered; see `Broker.flush`."""
        Broker._of(self.broker).flush(timeout)

    def close(self) -> None:
        """Closes the connections, and delivers what is still to be reported."""
        super().close()
        self._sync.close()
        if self._owns_broker:
            self.flush()

    def __del__(self) -> None:
        # As Google's, but without waiting for reports: they are delivered in the background and at the exit.
        with contextlib.suppress(Exception):
            super().close()
            self._sync.close()

    def _add_host(self, base_url: str | None) -> None:
        parts = urlsplit(base_url or "")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        for transport in (self._sync, self._async):
            hosts = (*transport.options.hosts, f"{parts.hostname}:{port}")
            transport.options = transport.options.with_({"hosts": hosts})


def _transports() -> Any:
    """The transports for the library that the SDK uses: httpx2, unless it is told otherwise or has it not."""
    from google.genai import _api_client

    backend = getattr(_api_client, "_get_http_client_backend", None)
    name = backend() if backend is not None else os.environ.get("GOOGLE_GENAI_HTTP_CLIENT", "httpx")
    if name == "httpx2":
        from . import httpx2

        return httpx2
    from . import httpx

    return httpx


def _split(args: dict[str, Any] | None, direct: Any) -> tuple[dict[str, Any], Any]:
    """The arguments of the client, and the transport that sends the requests."""
    args = dict(args or {})
    transport = args.pop("transport", None)
    own = {name: args.pop(name) for name in _TRANSPORT if name in args}
    return args, transport or direct(own)
