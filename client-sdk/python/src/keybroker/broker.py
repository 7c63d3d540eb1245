"""The client of a broker, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, Unpack

from . import _drive
from ._core import Core
from .lease import AsyncLease, Lease
from .settings import AcquireOptions, AcquireSettings, Settings, Tls, from_keywords, read_addresses

__all__ = ["AsyncBroker", "Broker"]

TURNS = 32

P = ParamSpec("P")
R = TypeVar("R")


class _Client:
    """What both forms have in common."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        pool: str = "",
        consumer: str = "",
        labels: Mapping[str, str] | None = None,
        tls: Tls | bool | None = None,
        token: str | None = None,
        allow_insecure_token: bool = False,
        connect_timeout: float = 3.0,
        call_timeout: float = 5.0,
        report_queue: int = 10_000,
        report_patience: float = 60.0,
        flush_timeout: float = 10.0,
    ) -> None:
        read, secured = read_addresses(addresses, tls)
        settings = Settings(
            addresses=read,
            tls=secured,
            token=token,
            allow_insecure_token=allow_insecure_token,
            connect_timeout=connect_timeout,
            call_timeout=call_timeout,
            report_queue=report_queue,
            report_patience=report_patience,
            flush_timeout=flush_timeout,
        )
        self._core = Core(settings)
        self._defaults = AcquireOptions("", pool=pool, consumer=consumer, labels=labels or {})

    @classmethod
    def _of(cls, other: _Client) -> Self:
        made = cls.__new__(cls)
        made._core = other._core
        made._defaults = other._defaults
        return made

    @property
    def settings(self) -> Settings:
        """The settings of the connection."""
        return self._core.settings

    @property
    def unreported(self) -> int:
        """How many reports are not delivered yet."""
        return self._core.reporter.outstanding

    @property
    def reports_lost(self) -> int:
        """How many reports were given up since the start; their leases stay charged until they expire."""
        return self._core.reporter.lost

    def _options(self, model: str | None, changes: AcquireSettings) -> AcquireOptions:
        return from_keywords(self._defaults, model, changes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.endpoints} unreported={self.unreported}>"


class Broker(_Client):
    """A client of a broker. It may be shared by any number of threads, and stays usable after a fork.

    Args:
        addresses: `host:port`, several separated by commas or as a list; `https://host:port` for TLS. The next
            one is asked where one cannot be reached or shuts down. Nothing is connected before the first call.
        pool: The pool to lease from, where a lease names none. Default: the pool `default`.
        consumer: Who asks, where a lease names nobody.
        labels: Free labels of every lease, for the broker's logs, traces and hooks.
        tls: A `Tls`, or True for the authorities of the system.
        token: Sent as `authorization: Bearer`, over TLS or to a loopback address only.
        allow_insecure_token: Sends the token in plaintext to other hosts too.
        connect_timeout: How many seconds one connection may take to be made.
        call_timeout: The deadline of a call in seconds; acquiring has its `wait` on top.
        report_queue: How many reports may wait to be delivered; more are given up.
        report_patience: For how many seconds the delivery of a report is tried while no broker answers.
        flush_timeout: How many seconds `flush`, `close` and the end of the interpreter wait for reports.

    Raises:
        InvalidArgument: An argument cannot be used; its text names it.
    """

    def lease(self, model: str, **options: Unpack[AcquireSettings]) -> Lease:
        """Takes a lease.

        ```python
        with broker.lease("gemini-2.5-flash", input_tokens=4_000, wait=30) as lease:
            response = send(key=lease.begin_send())
            lease.success(response.usage)
        ```

        An Acquire whose answer was lost is never repeated, as it may have been granted.

        Args:
            model: The Gemini model id that will be called.
            **options: See `AcquireOptions`.

        Raises:
            Refused: No lease can be given now; `retry_after` says when one can.
            NeverPossible: As configured, none ever can.
            NoUsableKey: None can until an operator acts.
            UnknownPool: The pool is not configured.
            InvalidArgument: A field is missing or out of range.
            Unavailable: No broker can be reached, or it cannot serve.
            DeadlineExceeded: No answer came within `wait` and `call_timeout`.
            Unauthenticated: The broker does not take the token.
            NotPermitted: The identity may not lease so.
        """
        return self.acquire(self._options(model, options))

    def acquire(self, options: AcquireOptions) -> Lease:
        """The same as `lease` for options as a value."""
        return Lease(self._core, _drive.run(self._core.acquire(options)), options.ttl)

    def leased(
        self, model: str, **options: Unpack[AcquireSettings]
    ) -> Callable[[Callable[Concatenate[Lease, P], R]], Callable[P, R]]:
        """A decorator for functions that take a lease as their first argument.

        Each call takes a lease of its own. The function reports it; what it leaves unreported is reported as
        not sent, or as cancelled if it began to send.

        ```python
        @broker.leased("gemini-2.5-flash", wait=30)
        def ask(lease: keybroker.Lease, prompt: str) -> str: ...

        ask("Why is the sky blue?")
        ```
        """
        chosen = self._options(model, options)

        def decorate(function: Callable[Concatenate[Lease, P], R]) -> Callable[P, R]:
            if inspect.iscoroutinefunction(function):
                raise TypeError("use AsyncBroker.leased, or broker.aio.leased, for a coroutine function")

            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> R:
                with self.acquire(chosen) as lease:
                    return function(lease, *args, **kwargs)

            return call

        return decorate

    @property
    def aio(self) -> AsyncBroker:
        """The same client for asyncio: it shares connections and reports."""
        return AsyncBroker._of(self)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every report is delivered, those in the background included.

        Raises:
            Undelivered: After `timeout` (default: `flush_timeout`) seconds; delivery goes on.
        """
        self._core.reporter.flush(self._core.settings.flush_timeout if timeout is None else timeout)

    def close(self, timeout: float | None = None) -> None:
        """Refuses new leases, and flushes. Leases already held can still be reported. Raises as `flush`."""
        self._core.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncBroker(_Client):
    """The same as `Broker` for asyncio; it may be used in any number of event loops, one after another or at once.

    Args:
        addresses: As for `Broker`, and all others.
    """

    def lease(self, model: str, **options: Unpack[AcquireSettings]) -> LeaseContext:
        """Takes a lease: `async with broker.lease(...) as lease`, or `lease = await broker.lease(...)`.

        See `Broker.lease`. A task that is cancelled while it waits loses no lease: one that comes is refunded.
        """
        return self.acquire(self._options(model, options))

    def acquire(self, options: AcquireOptions) -> LeaseContext:
        """The same as `lease` for options as a value."""
        return LeaseContext(self._core, options)

    def leased(
        self, model: str, **options: Unpack[AcquireSettings]
    ) -> Callable[[Callable[Concatenate[AsyncLease, P], Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """As `Broker.leased`, for coroutine functions."""
        chosen = self._options(model, options)

        def decorate(
            function: Callable[Concatenate[AsyncLease, P], Awaitable[R]],
        ) -> Callable[P, Awaitable[R]]:
            @functools.wraps(function)
            async def call(*args: P.args, **kwargs: P.kwargs) -> R:
                async with self.acquire(chosen) as lease:
                    return await function(lease, *args, **kwargs)

            return call

        return decorate

    @property
    def sync(self) -> Broker:
        """The same client for threads: it shares connections and reports."""
        return Broker._of(self)

    async def flush(self, timeout: float | None = None) -> None:
        """As `Broker.flush`."""
        # A stream that was dropped is a chain of generators, of which the loop closes one at a turn.
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.to_thread(self.sync.flush, timeout)

    async def close(self, timeout: float | None = None) -> None:
        """As `Broker.close`."""
        await self.flush(timeout)
        await asyncio.to_thread(self.sync.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class LeaseContext:
    """A lease to be awaited, or entered by `async with`."""

    def __init__(self, core: Core, options: AcquireOptions) -> None:
        self._core = core
        self._options = options
        self._lease: AsyncLease | None = None

    async def _acquire(self) -> AsyncLease:
        granted = await _drive.arun(self._core.acquire(self._options))
        return AsyncLease(self._core, granted, self._options.ttl)

    def __await__(self) -> Generator[object, None, AsyncLease]:
        return self._acquire().__await__()

    async def __aenter__(self) -> AsyncLease:
        self._lease = await self._acquire()
        return self._lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(kind, error, traceback)
