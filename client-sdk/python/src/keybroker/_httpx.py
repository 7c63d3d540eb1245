"""What the transports for httpx and for its fork httpx2 have in common. The two have the same names throughout."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from ._drive import arun, run
from ._gemini.answer import Watch, judge, parse, retry_after_of
from ._gemini.call import Attempt, Call, Request, concerns
from ._gemini.options import CallOptions
from ._proxies import proxy_for
from .broker import AsyncBroker, Broker
from .errors import SendWindowPassed
from .lease import BaseLease
from .outcome import TransportKind, transport_error

KEY_HEADER = "x-goog-api-key"
# An event of a trace of httpcore: the connection is there, and the first byte is about to be sent.
_DEPARTURES = ("http11.send_request_headers.started", "http2.send_request_headers.started")
# Leases must not wait for a free connection: they may be used for a moment only.
_POOL = {"max_connections": None, "max_keepalive_connections": 256, "keepalive_expiry": 60.0}
# Where the caller's client has no limit, a connection that cannot be made must not take its lease with it.
CONNECT_TIMEOUT = 10.0


class _Missed(Exception):
    """The lease is too old to be used."""

    def __init__(self, passed: SendWindowPassed) -> None:
        super().__init__(str(passed))
        self.passed = passed


def _departure(lease: BaseLease | None, given: Any) -> Any:
    """A trace that stops a request whose lease has become too old while the connection was made."""

    def trace(name: str, info: Any) -> Any:
        if lease is not None and name in _DEPARTURES:
            _check(lease)
        return given(name, info) if given is not None else None

    return trace


def _adeparture(lease: BaseLease | None, given: Any) -> Any:
    async def trace(name: str, info: Any) -> None:
        if lease is not None and name in _DEPARTURES:
            _check(lease)
        if given is not None:
            await given(name, info)

    return trace


def _check(lease: BaseLease) -> None:
    try:
        lease.begin_send()
    except SendWindowPassed as passed:
        raise _Missed(passed) from None


class _Sender:
    """What sending takes, with threads or with asyncio."""

    def __init__(self, lib: Any, given: Any, inner: Any) -> None:
        self.lib = lib
        self.given = given
        self.inner = inner

    def outgoing(self, request: Request, key: str, trace: Any) -> Any:
        """The request with the key."""
        headers = self.lib.Headers(self.given.headers)
        headers[KEY_HEADER] = key
        extensions = dict(self.given.extensions)
        timeouts = dict(extensions.get("timeout") or {})
        if timeouts.get("connect") is None:
            timeouts["connect"] = CONNECT_TIMEOUT
        extensions["timeout"] = timeouts
        extensions["trace"] = trace
        if request.url != str(self.given.url) or request.method != self.given.method:
            headers.pop("content-length", None)
        if request.method != self.given.method or request.body is not self.body:
            headers["content-type"] = "application/json"
        headers.pop("transfer-encoding", None)
        headers["content-length"] = str(len(request.body))
        if not request.body and request.method in ("GET", "HEAD", "DELETE"):
            headers.pop("content-length")
        return self.lib.Request(
            request.method, request.url, headers=headers, content=request.body, extensions=extensions
        )

    body: bytes = b""

    def failure(self, error: BaseException, lease: BaseLease | None) -> Attempt:
        """A request without an answer."""
        return Attempt(error=error, report=transport_error(self.kind(error), describe(error, lease), None))

    def kind(self, error: BaseException) -> TransportKind:
        """What an exception of the library means."""
        lib = self.lib
        if isinstance(error, lib.ConnectError | lib.ConnectTimeout | lib.PoolTimeout | lib.ProxyError):
            return TransportKind.CONNECT
        if isinstance(error, lib.TimeoutException):
            return TransportKind.TIMEOUT
        return TransportKind.RESET

    def whole(self, response: Any, body: bytes, lease: BaseLease | None) -> Attempt:
        """An answer that is all there."""
        value = parse(body)
        retry_after = retry_after_of(response.headers.get("retry-after"))
        ok, report = judge(lease, response.status_code, retry_after, body, value)
        if not ok and lease is not None:
            body = lease.mask(body)
        return Attempt(
            ok=ok,
            response=self.rebuilt(response, content=body),
            report=report,
            status=response.status_code,
            headers=dict(response.headers),
            body=body,
            value=value,
            upload_url=response.headers.get("x-goog-upload-url", ""),
        )

    def rebuilt(self, response: Any, **content: Any) -> Any:
        """The same response with a content that is decoded already."""
        dropped = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in dropped]
        kept = ("http_version", "reason_phrase")
        extensions = {name: value for name, value in response.extensions.items() if name in kept}
        return self.lib.Response(response.status_code, headers=headers, extensions=extensions, **content)

    def rebuild(self, status: int, headers: dict[str, str], body: bytes) -> Any:
        """A response out of the cache."""
        return self.lib.Response(status, headers=headers, content=body)

    def watch(self, request: Request, response: Any, lease: BaseLease | None) -> Watch | None:
        """What looks at a streamed answer; None for one that is read whole."""
        if not 200 <= response.status_code < 300:
            return None
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            needs = ":streamGenerateContent" in request.url
            return Watch(lease, response.status_code, events=True, needs_reason=needs)
        # JSON is read whole, and so is what has no type; anything else is a download, of any size.
        if kind in ("", "application/json", "text/plain", "text/html"):
            return None
        return Watch(lease, response.status_code, events=False, needs_reason=False)

    def cut(self) -> Exception:
        """What a stream raises that ended before the answer did."""
        error: Exception = self.lib.RemoteProtocolError("the stream ended before the answer did")
        return error


def describe(error: BaseException, lease: BaseLease | None) -> str:
    """An exception in a few words, without the key."""
    text = f"{type(error).__name__}: {error}"
    return text if lease is None else lease.mask(text.encode()).decode(errors="replace")


class _SyncSender(_Sender):
    def send(self, request: Request, key: str, lease: BaseLease | None) -> Attempt:
        """Sends a request, and reads the answer as far as it decides whether to try again."""
        trace = _departure(lease, self.given.extensions.get("trace"))
        try:
            response = self.inner.handle_request(self.outgoing(request, key, trace))
        except _Missed as missed:
            return Attempt(missed=missed.passed)
        except self.lib.TransportError as error:
            return self.failure(error, lease)
        watch = self.watch(request, response, lease)
        if watch is not None:
            return self.streamed(response, watch, lease)
        try:
            return self.whole(response, response.read(), lease)
        except self.lib.TransportError as error:
            return self.failure(error, lease)
        finally:
            response.close()

    def streamed(self, response: Any, watch: Watch, lease: BaseLease | None) -> Attempt:
        """Reads up to the first event: until it has come, a failure can still be failed over."""
        chunks = response.iter_bytes()
        first: list[bytes] = []
        try:
            while watch.seen == 0 and watch.failure is None:
                chunk = next(chunks, None)
                if chunk is None:
                    break
                first.append(chunk)
                watch.feed(chunk)
        except self.lib.TransportError as error:
            watch.release()
            response.close()
            return Attempt(error=error, report=watch.broken(self.kind(error), describe(error, lease)))
        except BaseException:
            watch.release()
            response.close()
            raise
        if watch.failure is not None:
            watch.release()
            response.close()
            body = b"".join(first)
            masked = body if lease is None else lease.mask(body)
            return Attempt(response=self.rebuilt(response, content=masked), report=watch.failure)
        stream = self.stream(response, watch, first, chunks)
        return Attempt(ok=True, response=self.rebuilt(response, stream=stream))

    def stream(self, response: Any, watch: Watch, first: list[bytes], chunks: Iterator[bytes]) -> Any:
        """The rest of a stream, as the library wants it."""
        sender = self

        class Stream(self.lib.SyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                yield from first
                try:
                    for chunk in chunks:
                        watch.feed(chunk)
                        watch.hand_over(True)
                        yield chunk
                        watch.hand_over(False)
                except sender.lib.TransportError as error:
                    watch.break_off(sender.kind(error), describe(error, None))
                    raise
                if not watch.end():
                    raise sender.cut()

            def close(self) -> None:
                watch.drop()
                response.close()

        return Stream()


class _AsyncSender(_Sender):
    async def send(self, request: Request, key: str, lease: BaseLease | None) -> Attempt:
        """As `_SyncSender.send`."""
        trace = _adeparture(lease, self.given.extensions.get("trace"))
        try:
            response = await self.inner.handle_async_request(self.outgoing(request, key, trace))
        except _Missed as missed:
            return Attempt(missed=missed.passed)
        except self.lib.TransportError as error:
            return self.failure(error, lease)
        watch = self.watch(request, response, lease)
        if watch is not None:
            return await self.streamed(response, watch, lease)
        try:
            return self.whole(response, await response.aread(), lease)
        except self.lib.TransportError as error:
            return self.failure(error, lease)
        finally:
            await response.aclose()

    async def streamed(self, response: Any, watch: Watch, lease: BaseLease | None) -> Attempt:
        """As `_SyncSender.streamed`."""
        chunks = response.aiter_bytes()
        first: list[bytes] = []
        try:
            while watch.seen == 0 and watch.failure is None:
                chunk = await anext(chunks, None)
                if chunk is None:
                    break
                first.append(chunk)
                watch.feed(chunk)
        except self.lib.TransportError as error:
            watch.release()
            await response.aclose()
            return Attempt(error=error, report=watch.broken(self.kind(error), describe(error, lease)))
        except BaseException:
            watch.release()
            await response.aclose()
            raise
        if watch.failure is not None:
            watch.release()
            await response.aclose()
            body = b"".join(first)
            masked = body if lease is None else lease.mask(body)
            return Attempt(response=self.rebuilt(response, content=masked), report=watch.failure)
        stream = self.stream(response, watch, first, chunks)
        return Attempt(ok=True, response=self.rebuilt(response, stream=stream))

    def stream(self, response: Any, watch: Watch, first: list[bytes], chunks: AsyncIterator[bytes]) -> Any:
        """As `_SyncSender.stream`."""
        sender = self

        class Stream(self.lib.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                for chunk in first:
                    yield chunk
                try:
                    async for chunk in chunks:
                        watch.feed(chunk)
                        watch.hand_over(True)
                        yield chunk
                        watch.hand_over(False)
                except sender.lib.TransportError as error:
                    watch.break_off(sender.kind(error), describe(error, None))
                    raise
                if not watch.end():
                    raise sender.cut()

            async def aclose(self) -> None:
                watch.drop()
                await response.aclose()

        return Stream()


class Base:
    """What both transports are made from."""

    _lib: Any

    def __init__(
        self,
        broker: str | Broker | AsyncBroker,
        transport: Any,
        options: Mapping[str, Any],
    ) -> None:
        self.broker = Broker(broker) if isinstance(broker, str) else broker
        self._inner = transport
        defaults = self.broker._defaults
        base = CallOptions().with_({"pool": defaults.pool, "consumer": defaults.consumer, "labels": defaults.labels})
        self.options = base.with_(options)

    def _is_ours(self, request: Any) -> bool:
        return concerns(self.options, request.url.host, request.url.port or _port(request.url.scheme))

    def _call(self, request: Any, body: bytes, sender: _Sender) -> Call:
        sender.body = body
        plain = Request(request.method, str(request.url), body)
        return Call(self.broker._core, self.options, plain, sender)  # type: ignore[arg-type]

    def _untouched(self, request: Any) -> Any:
        """A request to a host that is not Gemini's must carry no key, not even a placeholder."""
        request.headers.pop(KEY_HEADER, None)
        return request


def _port(scheme: str) -> int | None:
    return {"http": 80, "https": 443}.get(scheme)


class SyncTransport(Base):
    """For threads."""

    def handle_request(self, request: Any) -> Any:
        """Sends a request with a leased key, as often as the broker advises."""
        if not self._is_ours(request):
            return self._inner.handle_request(self._untouched(request))
        body = request.read()
        return run(self._call(request, body, _SyncSender(self._lib, request, self._inner)).steps())

    def close(self) -> None:
        """Closes the connections to Gemini; the broker's stay."""
        self._inner.close()


class AsyncTransport(Base):
    """For asyncio."""

    async def handle_async_request(self, request: Any) -> Any:
        """As `SyncTransport.handle_request`."""
        if not self._is_ours(request):
            return await self._inner.handle_async_request(self._untouched(request))
        body = await request.aread()
        return await arun(self._call(request, body, _AsyncSender(self._lib, request, self._inner)).steps())

    async def aclose(self) -> None:
        """As `SyncTransport.close`."""
        await self._inner.aclose()


class Direct:
    """Connections to hosts, directly or through the proxies of the environment."""

    def __init__(self, lib: Any, arguments: Mapping[str, Any]) -> None:
        self._lib = lib
        self._arguments = dict(arguments)
        self._arguments.setdefault("limits", lib.Limits(**_POOL))
        self._asks_environment = self._arguments.get("trust_env", True) and "proxy" not in self._arguments
        self._lock = threading.Lock()
        self._made: dict[str | None, Any] = {}
        self._proxies: dict[tuple[str, str], str | None] = {}

    def handle_request(self, request: Any) -> Any:
        """Sends a request."""
        return self._for(request, self._made, self._lib.HTTPTransport).handle_request(request)

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            made, self._made = self._made, {}
        for transport in made.values():
            transport.close()

    def _proxy_of(self, scheme: str, host: str) -> str | None:
        """Looked up once for each host, as HTTP clients do when they are made."""
        if (scheme, host) not in self._proxies:
            self._proxies[scheme, host] = proxy_for(scheme, host)
        return self._proxies[scheme, host]

    def _for(self, request: Any, made: dict[str | None, Any], kind: Any) -> Any:
        proxy = self._proxy_of(request.url.scheme, request.url.host) if self._asks_environment else None
        transport = made.get(proxy)
        if transport is None:
            with self._lock:
                transport = made.get(proxy)
                if transport is None:
                    arguments = self._arguments if proxy is None else {**self._arguments, "proxy": proxy}
                    transport = made[proxy] = kind(**arguments)
        return transport


class AsyncDirect(Direct):
    """The same for asyncio. A connection belongs to the event loop that made it, so each has its own."""

    def __init__(self, lib: Any, arguments: Mapping[str, Any]) -> None:
        super().__init__(lib, arguments)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, Any]]
        self._loops = weakref.WeakKeyDictionary()

    async def handle_async_request(self, request: Any) -> Any:
        """Sends a request."""
        made = self._loops.setdefault(asyncio.get_running_loop(), {})
        return await self._for(request, made, self._lib.AsyncHTTPTransport).handle_async_request(request)

    async def aclose(self) -> None:
        """Closes the connections of this event loop."""
        for transport in self._loops.pop(asyncio.get_running_loop(), {}).values():
            await transport.aclose()
