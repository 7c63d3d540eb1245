"""How a client reaches its brokers, and what a lease is asked for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import grpc

from ._proto.v1 import keybroker_pb2 as pb
from ._wire import to_duration
from .errors import InvalidArgument
from .outcome import Tier

__all__ = ["AcquireOptions", "AcquireSettings", "Settings", "Tls"]

LONGEST_WAIT = 600.0
_INT64 = (1 << 63) - 1
_INT32 = (1 << 31) - 1


@dataclass(frozen=True)
class Tls:
    """How the connection to a broker is secured.

    Attributes:
        ca_file: Who signed the broker's certificate, in PEM form. Default: the authorities of the system.
        cert_file: The certificate that this client shows, in PEM form, with `key_file`.
        key_file: The private key of `cert_file`.
        server_name: The name to expect in the broker's certificate, where it is not the address's.
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidArgument("tls: cert_file and key_file belong together: give both or neither")
        return grpc.ssl_channel_credentials(_read(self.ca_file), _read(self.key_file), _read(self.cert_file))


def _read(file: str | Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"tls: cannot read {file}: {error.strerror}") from error


@dataclass(frozen=True)
class Settings:
    """The settings of a client. All times are in seconds.

    Attributes:
        addresses: `host:port` of each broker, in the order in which they are tried.
        tls: How connections are secured; None is plaintext.
        token: Sent as `authorization: Bearer`, over TLS or to a loopback address only.
        allow_insecure_token: Sends the token in plaintext to other hosts too.
        connect_timeout: How long one connection may take to be made.
        call_timeout: The deadline of a call; Acquire has its `wait` on top.
        report_queue: How many reports may wait to be delivered; more are given up.
        report_patience: For how long the delivery of a report is tried while no broker answers.
        flush_timeout: How long `flush`, `close` and the end of the interpreter wait for reports.
    """

    addresses: tuple[str, ...]
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)
    allow_insecure_token: bool = False
    connect_timeout: float = 3.0
    call_timeout: float = 5.0
    report_queue: int = 10_000
    report_patience: float = 60.0
    flush_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "call_timeout", "report_patience", "flush_timeout"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(f"{name} must be above 0 seconds, not {getattr(self, name)}")
        if self.report_queue < 1:
            raise InvalidArgument(f"report_queue must be 1 at least, not {self.report_queue}")
        if self.token is None or self.tls is not None or self.allow_insecure_token:
            return
        for address in self.addresses:
            if not _is_loopback(address):
                raise InvalidArgument(
                    f"the token would go to {address} in plaintext: give tls=, or allow_insecure_token=True"
                )


def read_addresses(addresses: str | Sequence[str], tls: Tls | bool | None) -> tuple[tuple[str, ...], Tls | None]:
    """Reads `host:port[,host:port]`; an address that begins with https:// asks for TLS."""
    given = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    read = []
    secured = Tls() if tls is True else (tls or None)
    for address in (one.strip() for one in given):
        scheme, separator, rest = address.rpartition("://")
        if separator and scheme not in ("http", "https", "grpc", "grpcs"):
            raise InvalidArgument(f"cannot use {address!r} as the broker's address: give host:port")
        if separator and scheme in ("https", "grpcs"):
            secured = secured or Tls()
        rest = rest.rstrip("/")
        host, _, port = rest.rpartition(":")
        bad_port = not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536
        if not host or bad_port or any(character.isspace() or character in "/@?#" for character in rest):
            raise InvalidArgument(f"cannot use {address!r} as the broker's address: give host:port")
        read.append(rest)
    if not read:
        raise InvalidArgument("give the address of a broker: host:port, several separated by commas")
    return tuple(dict.fromkeys(read)), secured


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AcquireSettings(TypedDict, total=False):
    """What a lease may be asked for; see `AcquireOptions`."""

    pool: str
    consumer: str
    input_tokens: int
    output_tokens: int
    ttl: float | None
    wait: float
    permits: int
    project: str
    tier: Tier | None
    exclude_keys: Sequence[str]
    exclude_projects: Sequence[str]
    key_labels: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class AcquireOptions:
    """What a lease is asked for.

    Attributes:
        model: The Gemini model id that will be called.
        pool: The pool to lease from. Default: the pool `default`.
        consumer: Who asks, under whose plan and limits. Default: nobody, under no consumer's limit.
        input_tokens: An upper bound on the input tokens; the report's usage corrects it. 0: not counted.
        output_tokens: The same for output tokens, thinking included.
        ttl: How many seconds the lease may be held without a report, 1 to 3600. Default: the pool's.
        wait: How many seconds the call may wait in the broker for a key, 0 to 600.
        permits: How many requests will be sent with the lease, 1 to 1000.
        project: Only keys of this project: files, caches and batches belong to the project that made them.
        tier: Only keys of this tier.
        exclude_keys: Never these keys, 256 at most.
        exclude_projects: Never keys of these projects, 256 at most.
        key_labels: Only keys with all of these labels, 16 at most.
        labels: Free labels for the broker's logs, traces and hooks, 16 at most.
    """

    model: str
    pool: str = ""
    consumer: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    ttl: float | None = None
    wait: float = 0.0
    permits: int = 1
    project: str = ""
    tier: Tier | None = None
    exclude_keys: Sequence[str] = ()
    exclude_projects: Sequence[str] = ()
    key_labels: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def with_(self, **changes: Unpack[AcquireSettings]) -> AcquireOptions:
        """The same with changes."""
        return replace(self, **changes)

    def for_model(self, model: str) -> AcquireOptions:
        """The same for another model."""
        return replace(self, model=model)

    def to_proto(self) -> pb.AcquireRequest:
        """The contract's form. Ranges are the broker's to check, as far as they fit in the message."""
        try:
            return self._to_proto()
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument(f"invalid request, correct it: {error}") from error

    def _to_proto(self) -> pb.AcquireRequest:
        constraints = pb.Constraints(
            project=self.project,
            exclude_key_ids=self.exclude_keys,
            exclude_projects=self.exclude_projects,
            labels=self.key_labels,
        )
        if self.tier is not None:
            constraints.tier = pb.Tier.Name(self.tier.value)  # type: ignore[assignment]
        request = pb.AcquireRequest(
            pool=self.pool,
            model=self.model,
            input_tokens=min(self.input_tokens, _INT64),
            output_tokens=min(self.output_tokens, _INT64),
            consumer=self.consumer,
            permits=min(self.permits, _INT32),
            constraints=constraints,
            labels=self.labels,
        )
        if self.ttl is not None:
            request.ttl.CopyFrom(to_duration(self.ttl))
        if self.wait:
            request.wait.CopyFrom(to_duration(self.wait))
        return request


def from_keywords(defaults: AcquireOptions, model: str | None, changes: Mapping[str, Any]) -> AcquireOptions:
    """Defaults of a client with what one call changes."""
    try:
        options = replace(defaults, **changes)
    except TypeError as error:
        known = ", ".join(AcquireSettings.__annotations__)
        raise TypeError(f"{error}: a lease takes {known}") from None
    return options if model is None else replace(options, model=model)
