"""The three calls of the contract, to any of several brokers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import grpc

from . import _trace
from ._proto.v1 import keybroker_pb2 as pb
from ._version import __version__
from .settings import Settings

_SERVICE = "/keybroker.v1.KeyBroker/"

# Channels of before a fork: a child must not use them, and closing them would disturb the parent's connections.
_left_to_the_parent: list[object] = []


class Call(Protocol):
    """A call under way."""

    def add_done_callback(self, callback: Any) -> None:
        """Calls back once the call is over, in a thread of gRPC's."""

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the answer."""

    def cancel(self) -> Any:
        """Calls it off."""


def _serialize(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


class Endpoint:
    """One address, with one connection that all tasks and threads share."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.address = address
        self._settings = settings
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: tuple[Any, Any, Any] | None = None

    def acquire(self, request: pb.AcquireRequest, timeout: float) -> Call:
        """Never retried here: an Acquire whose answer was lost may have granted a lease."""
        return self._call(0, request, timeout)

    def report(self, reports: list[pb.LeaseReport], timeout: float) -> Call:
        """Reports in one call."""
        return self._call(1, pb.ReportRequest(reports=reports), timeout)

    def renew(self, request: pb.RenewRequest, timeout: float) -> Call:
        """Renews a lease."""
        return self._call(2, request, timeout)

    def _call(self, number: int, request: object, timeout: float) -> Call:
        metadata = _trace.context()
        if self._settings.token is not None:
            metadata = (*metadata, ("authorization", f"Bearer {self._settings.token}"))
        stubs = self._stubs or self._connect()
        call: Call = stubs[number].future(request, timeout=timeout, metadata=metadata)
        return call

    def _connect(self) -> tuple[Any, Any, Any]:
        """Makes the channel, which connects at its first call."""
        with self._lock:
            if self._stubs is not None:
                return self._stubs
            connect = round(self._settings.connect_timeout * 1000)
            options: list[tuple[str, Any]] = [
                ("grpc.primary_user_agent", f"keybroker-python/{__version__}"),
                # Retries are this package's, which knows which are safe.
                ("grpc.enable_retries", 0),
                # Keys must not pass through a proxy that happens to stand in the environment.
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                # gRPC's name for the longest time that making a connection may take.
                ("grpc.min_reconnect_backoff_ms", connect),
                # Pings find a peer that vanished without closing.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 5_000),
            ]
            tls = self._settings.tls
            if tls is None:
                channel = grpc.insecure_channel(self.address, options=options)
            else:
                if tls.server_name is not None:
                    options.append(("grpc.ssl_target_name_override", tls.server_name))
                channel = grpc.secure_channel(self.address, tls.credentials(), options=options)
            self._channel = channel
            calls: tuple[tuple[str, Any], ...] = (
                ("Acquire", pb.AcquireResponse),
                ("Report", pb.ReportResponse),
                ("Renew", pb.RenewResponse),
            )
            stubs: list[Any] = [
                channel.unary_unary(
                    _SERVICE + name,
                    request_serializer=_serialize,
                    response_deserializer=answer.FromString,
                )
                for name, answer in calls
            ]
            self._stubs = (stubs[0], stubs[1], stubs[2])
            return self._stubs

    def close(self) -> None:
        """Closes the connection; calls under way fail."""
        with self._lock:
            channel, self._channel, self._stubs = self._channel, None, None
        if channel is not None:
            channel.close()

    def after_fork(self) -> None:
        """Lets go of what belongs to the parent process."""
        self._lock = threading.Lock()
        if self._channel is not None:
            _left_to_the_parent.append((self._channel, self._stubs))
        self._channel = self._stubs = None


class Endpoints:
    """All addresses; the one that served last is asked first."""

    def __init__(self, settings: Settings) -> None:
        # The TLS files are read at once, so that a wrong name is said when the client is made.
        if settings.tls is not None:
            settings.tls.credentials()
        self.all = [Endpoint(address, settings) for address in settings.addresses]
        self._first = 0

    def __str__(self) -> str:
        return ", ".join(endpoint.address for endpoint in self.all)

    @property
    def first(self) -> Endpoint:
        """The one to ask."""
        return self.all[self._first % len(self.all)]

    def in_turn(self) -> Iterator[Endpoint]:
        """Each once, beginning with the one that served last."""
        first = self._first
        for number in range(len(self.all)):
            yield self.all[(first + number) % len(self.all)]

    def failed(self, endpoint: Endpoint) -> None:
        """Asks the next one from now on."""
        if self.first is endpoint:
            self._first = (self._first + 1) % len(self.all)
