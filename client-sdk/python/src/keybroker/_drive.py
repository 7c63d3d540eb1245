"""Runs what is written once for threads and for asyncio.

A procedure that has to wait is a generator: it yields what it waits for and is sent the result, or is thrown
the exception. `run` waits for each in the calling thread, `arun` in the running event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ._rpc import Call

T = TypeVar("T")


class Command(Protocol):
    """Something to wait for."""

    def run(self) -> Any:
        """Waits in the calling thread."""

    async def arun(self) -> Any:
        """Waits in the running event loop."""


Steps = Generator[Command, Any, T]


@dataclass(frozen=True)
class Answer:
    """Waits for a call or a future, for `timeout` seconds at most (then: TimeoutError)."""

    call: Call
    timeout: float | None = None

    def run(self) -> Any:
        """Waits in the calling thread."""
        return self.call.result(self.timeout)

    async def arun(self) -> Any:
        """Waits in the running event loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake(_: object) -> None:
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                return  # The loop was closed; nobody waits any more.

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        self.call.add_done_callback(wake)
        if self.timeout is None:
            await done
        else:
            async with asyncio.timeout(self.timeout):
                await done
        return self.call.result(0)


@dataclass(frozen=True)
class Sleep:
    """Waits so many seconds."""

    seconds: float

    def run(self) -> None:
        """Waits in the calling thread."""
        time.sleep(self.seconds)

    async def arun(self) -> None:
        """Waits in the running event loop."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Do:
    """Calls what has a form of its own for each: a function, or one that is awaited."""

    work: Callable[[], Any]

    def run(self) -> Any:
        """Calls it."""
        return self.work()

    async def arun(self) -> Any:
        """Calls and awaits it."""
        result = self.work()
        return await result if isinstance(result, Awaitable) else result


def run(steps: Steps[T]) -> T:
    """Runs a procedure in the calling thread."""
    try:
        command = next(steps)
        while True:
            try:
                result = command.run()
            except BaseException as error:  # noqa: BLE001 (it is thrown on)
                command = steps.throw(error)
            else:
                command = steps.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def arun(steps: Steps[T]) -> T:
    """Runs a procedure in the running event loop."""
    try:
        command = next(steps)
        while True:
            try:
                result = await command.arun()
            except BaseException as error:  # noqa: BLE001 (it is thrown on)
                command = steps.throw(error)
            else:
                command = steps.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
