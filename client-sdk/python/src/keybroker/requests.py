"""An adapter for requests that takes a lease for each request to Gemini.

```python
import requests
import keybroker.requests

session = requests.Session()
session.mount("https://generativelanguage.googleapis.com", keybroker.requests.LeaseAdapter("127.0.0.1:50051"))
url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
answer = session.post(url, json={"contents": [{"parts": [{"text": "Why is the sky blue?"}]}]}, timeout=60)
```

The caller sees Google's last answer, as if there were no broker; if no lease can be had, a `KeybrokerError`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ._drive import run
from ._gemini.answer import Watch, judge, parse, retry_after_of
from ._gemini.call import Attempt, Call, Request
from ._gemini.options import CallOptions, CallSettings
from ._httpx import KEY_HEADER, describe
from .broker import AsyncBroker, Broker
from .errors import SendWindowPassed
from .lease import BaseLease
from .outcome import TransportKind, transport_error

__all__ = ["LeaseAdapter"]

CHUNK = 16 * 1024
# Leases must not wait for a free connection.
POOL = 256
CONNECT_TIMEOUT = 10.0

_now = threading.local()


class _Missed(Exception):
    def __init__(self, passed: SendWindowPassed) -> None:
        super().__init__(str(passed))
        self.passed = passed


def _check() -> None:
    """Stops a request whose lease has become too old while the connection was made."""
    lease: BaseLease | None = getattr(_now, "lease", None)
    if lease is None:
        return
    try:
        lease.begin_send()
    except SendWindowPassed as passed:
        raise _Missed(passed) from None


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check()


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check()


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class LeaseAdapter(HTTPAdapter):
    """An adapter for `requests.Session.mount`; every request that comes to it is leased for.

    Args:
        broker: The address of a broker, or a client of one.
        **options: See `keybroker.CallOptions`, such as `pool`, `consumer`, `deadline`, `attempts`. `hosts` does not
            matter here, since the session says which requests come; `fallback` must be a plain function.
    """

    def __init__(self, broker: str | Broker | AsyncBroker, **options: Unpack[CallSettings]) -> None:
        self.broker = Broker(broker) if isinstance(broker, str) else broker
        defaults = self.broker._defaults
        base = CallOptions().with_({"pool": defaults.pool, "consumer": defaults.consumer, "labels": defaults.labels})
        self.options = base.with_(options)
        super().__init__(pool_connections=8, pool_maxsize=POOL)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Has connections made that know the lease they are made for."""
        super().init_poolmanager(*args, **kwargs)
        _use_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """The same through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _use_pools(manager)
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 (the answer decides)
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends a request with a leased key, as often as the broker advises."""
        sending = {"timeout": _timeout(timeout), "verify": verify, "cert": cert, "proxies": proxies}
        sender = _Sender(super().send, request, sending)
        plain = Request(request.method or "GET", request.url or "", _body_of(request))
        sender.body = plain.body
        response: requests.Response = run(Call(self.broker._core, self.options, plain, sender).steps())
        if response.request is None:
            response.request = request
        return response


def _use_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _timeout(timeout: Any) -> Any:
    """Where the caller has no limit, a connection that cannot be made must not take its lease with it."""
    if timeout is None:
        return (CONNECT_TIMEOUT, None)
    if isinstance(timeout, tuple) and len(timeout) == 2 and timeout[0] is None:
        return (CONNECT_TIMEOUT, timeout[1])
    return timeout


def _body_of(request: Any) -> bytes:
    """The whole body: a request that may be sent twice cannot be a stream."""
    body = request.body
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    read = body.read() if hasattr(body, "read") else b"".join(body)
    return read.encode() if isinstance(read, str) else bytes(read)


class _Sender:
    """Sends requests with requests' own adapter."""

    body = b""

    def __init__(self, send: Any, given: requests.PreparedRequest, sending: dict[str, Any]) -> None:
        self._send = send
        self._given = given
        self._sending = sending

    def send(self, request: Request, key: str, lease: BaseLease | None) -> Attempt:
        """Sends a request, and reads the answer as far as it decides whether to try again."""
        _now.lease = lease
        try:
            response = self._send(self._outgoing(request, key), stream=True, **self._sending)
        except _Missed as missed:
            return Attempt(missed=missed.passed)
        except requests.RequestException as error:
            return _failure(error, lease)
        finally:
            _now.lease = None
        response.request = self._given
        status = response.status_code
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind in ("", "application/json", "text/plain", "text/html")
        if 200 <= status < 300 and not is_json:
            events = kind == "text/event-stream"
            needs = events and ":streamGenerateContent" in request.url
            return self._streamed(response, Watch(lease, status, events=events, needs_reason=needs), lease)
        try:
            body = response.content
        except requests.RequestException as error:
            return _failure(error, lease)
        value = parse(body)
        ok, report = judge(lease, status, retry_after_of(response.headers.get("retry-after")), body, value)
        if not ok and lease is not None:
            response._content = body = lease.mask(body)
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Attempt(
            ok=ok,
            response=response,
            report=report,
            status=status,
            headers=headers,
            body=body,
            value=value,
            upload_url=headers.get("x-goog-upload-url", ""),
        )

    def _outgoing(self, request: Request, key: str) -> requests.PreparedRequest:
        outgoing = self._given.copy()
        outgoing.method = request.method
        outgoing.url = request.url
        outgoing.body = request.body or None
        outgoing.headers[KEY_HEADER] = key
        outgoing.headers.pop("Transfer-Encoding", None)
        if request.body is not self.body:
            outgoing.headers["Content-Type"] = "application/json"
        if request.body or request.method not in ("GET", "HEAD", "DELETE"):
            outgoing.headers["Content-Length"] = str(len(request.body))
        return outgoing

    def _streamed(self, response: requests.Response, watch: Watch, lease: BaseLease | None) -> Attempt:
        chunks = _pieces(response.raw)
        first: list[bytes] = []
        try:
            while watch.seen == 0 and watch.failure is None:
                chunk = next(chunks, None)
                if chunk is None:
                    break
                first.append(chunk)
                watch.feed(chunk)
        except urllib3.exceptions.HTTPError as error:
            watch.release()
            response.close()
            report = watch.broken(_kind(error), describe(error, lease))
            return Attempt(error=requests.exceptions.ChunkedEncodingError(error), report=report)
        except BaseException:
            watch.release()
            response.close()
            raise
        if watch.failure is not None:
            watch.release()
            response.close()
            body = b"".join(first)
            response._content = body if lease is None else lease.mask(body)
            response._content_consumed = True  # type: ignore[attr-defined]
            return Attempt(response=response, report=watch.failure)
        response.raw = _Raw(response.raw, watch, first, chunks)
        return Attempt(ok=True, response=response)

    def rebuild(self, status: int, headers: dict[str, str], body: bytes) -> requests.Response:
        """A response out of the cache."""
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response._content = body
        response.url = self._given.url or ""
        response.request = self._given
        return response


def _pieces(raw: Any) -> Iterator[bytes]:
    """The decoded bytes as they come, without waiting for more."""
    if raw.chunked or not hasattr(raw, "read1"):
        yield from raw.stream(CHUNK, decode_content=True)
        return
    while piece := raw.read1(CHUNK, decode_content=True):
        yield piece


class _Raw:
    """A raw response that is looked at as it passes."""

    def __init__(self, raw: Any, watch: Watch, first: list[bytes], chunks: Iterator[bytes]) -> None:
        self._raw = raw
        self._watch = watch
        self._chunks = self._pass(first, chunks)
        self._rest = b""

    def _pass(self, first: list[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from first
        try:
            for chunk in chunks:
                self._watch.feed(chunk)
                self._watch.hand_over(True)
                yield chunk
                self._watch.hand_over(False)
        except urllib3.exceptions.HTTPError as error:
            self._watch.break_off(_kind(error), describe(error, None))
            raise
        if not self._watch.end():
            raise urllib3.exceptions.ProtocolError("the stream ended before the answer did")

    def stream(self, _size: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:
        """The decoded bytes in pieces, as they come."""
        del decode_content
        return self._chunks

    def read(self, size: int | None = None, decode_content: bool | None = None) -> bytes:
        """So many decoded bytes."""
        del decode_content
        while size is None or len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        size = len(self._rest) if size is None else size
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def close(self) -> None:
        """The caller wants no more of it."""
        self._watch.drop()
        self._raw.close()

    def release_conn(self) -> None:
        """The same: the connection can be used again only after the whole answer."""
        self._watch.drop()
        self._raw.release_conn()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _failure(error: requests.RequestException, lease: BaseLease | None) -> Attempt:
    return Attempt(error=error, report=transport_error(_kind(error), describe(error, lease), None))


def _kind(error: BaseException) -> TransportKind:
    causes = [error]
    for one in causes:
        inner = [*one.args, getattr(one, "reason", None)]
        causes.extend(cause for cause in inner if isinstance(cause, BaseException) and cause not in causes)
    if any(
        isinstance(one, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
        for one in causes
    ):
        return TransportKind.CONNECT
    if any(isinstance(one, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError) for one in causes):
        return TransportKind.CONNECT
    if any(isinstance(one, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError) for one in causes):
        return TransportKind.TIMEOUT
    return TransportKind.RESET
