"""How whole calls are leased for, and what one call may change."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from ..errors import InvalidArgument, KeybrokerError
from ..outcome import Tier
from ..settings import AcquireOptions
from .affinity import Affinity
from .estimate import estimate_input_tokens

__all__ = ["CallOptions", "CallSettings", "call_options"]

GEMINI_HOST = "generativelanguage.googleapis.com"

Estimator = Callable[[Any], int]
Fallback = Callable[[KeybrokerError], "str | Awaitable[str | None] | None"]
_LEASE = [
    "pool",
    "consumer",
    "input_tokens",
    "output_tokens",
    "ttl",
    "permits",
    "project",
    "tier",
    "exclude_keys",
    "exclude_projects",
    "key_labels",
    "labels",
]


class CallSettings(TypedDict, total=False):
    """What may be set for calls; see `CallOptions`."""

    pool: str
    consumer: str
    input_tokens: int
    output_tokens: int
    ttl: float | None
    wait: float | None
    permits: int
    project: str
    tier: Tier | None
    exclude_keys: Sequence[str]
    exclude_projects: Sequence[str]
    key_labels: Mapping[str, str]
    labels: Mapping[str, str]
    deadline: float
    attempts: int
    files_model: str
    estimator: Estimator | None
    count_tokens: bool
    fallback: Fallback | None
    cache: MutableMapping[str, bytes] | None
    affinity: Affinity
    hosts: Sequence[str]


@dataclass(frozen=True)
class CallOptions:
    """How the calls of a client are leased for. All times are in seconds.

    Attributes:
        lease: What leases are asked for. The model, the permits and the input tokens come from the request,
            unless `permits` or `input_tokens` are set.
        wait: How long a request for a lease may queue in the broker, 0 to 600. Default: what is left of the
            deadline.
        deadline: How long waiting for leases and between tries may take in all. An answer that is under way is
            not cut: that is for the timeouts of the HTTP client.
        attempts: The most requests that are sent for one call, 1 to 256; with a fallback also how often brokers
            that are away are asked, else until the deadline.
        files_model: The model that is leased for requests that name none, as for files.
        estimator: Makes an upper bound on the input tokens of a request from its JSON; None: not counted.
        count_tokens: Has Gemini count the tokens of each generation first, which takes a lease of its own. Where
            that fails the estimator is asked.
        fallback: Called with the error when no lease can be had. It answers with an API key to use for this
            request, or None, or raises. For async clients it may be a coroutine function.
        cache: Where the answers to identical requests are kept, such as a `cachetools.TTLCache`. Default: none.
        affinity: Which project made which file. Clients of one process may share one.
        hosts: For which hosts (`host` or `host:port`) requests are leased; all others pass untouched.
    """

    lease: AcquireOptions = field(default_factory=lambda: AcquireOptions(""))
    wait: float | None = None
    deadline: float = 60.0
    attempts: int = 8
    files_model: str = "gemini-2.5-flash"
    estimator: Estimator | None = estimate_input_tokens
    count_tokens: bool = False
    fallback: Fallback | None = None
    cache: MutableMapping[str, bytes] | None = None
    affinity: Affinity = field(default_factory=Affinity)
    hosts: Sequence[str] = (GEMINI_HOST,)
    fixed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 256:
            raise InvalidArgument(f"attempts must be 1 to 256, not {self.attempts}")
        if not self.deadline > 0:
            raise InvalidArgument(f"deadline must be above 0 seconds, not {self.deadline:g}")
        if self.wait is not None and not 0 <= self.wait <= 600:
            raise InvalidArgument(f"wait must be 0 to 600 seconds, not {self.wait:g}")

    def with_(self, changes: Mapping[str, Any]) -> CallOptions:
        """The same with changes, by the names of `CallSettings`."""
        unknown = sorted(set(changes) - set(CallSettings.__annotations__))
        if unknown:
            known = ", ".join(CallSettings.__annotations__)
            raise TypeError(f"unknown option {', '.join(unknown)}: there are {known}")
        lease = {name: value for name, value in changes.items() if name in _LEASE}
        own = {name: value for name, value in changes.items() if name not in _LEASE}
        fixed = self.fixed | (lease.keys() & {"permits", "input_tokens"})
        return replace(self, lease=replace(self.lease, **lease), fixed=fixed, **own)


_changes: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("keybroker_options", default=None)


@contextlib.contextmanager
def call_options(**changes: Unpack[CallSettings]) -> Iterator[None]:
    """Changes options for the calls made in a block, in this thread or task.

    ```python
    with keybroker.call_options(consumer="ann@example.com", deadline=300):
        client.models.generate_content(model="gemini-2.5-flash", contents="Why is the sky blue?")
    ```
    """
    CallOptions().with_(changes)
    token = _changes.set({**(_changes.get() or {}), **changes})
    try:
        yield
    finally:
        _changes.reset(token)


def current(options: CallOptions) -> CallOptions:
    """A client's options with what the current block changes."""
    changes = _changes.get()
    return options.with_(changes) if changes else options
