"""One call of the caller's, which may take several requests: leases, tries and waits, as the broker advises."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .. import _drive, outcome
from .._core import Core
from .._drive import Answer, Do, Sleep, Steps
from .._proto.v1 import keybroker_pb2 as pb
from .._wire import backoff, spread
from ..errors import DeadlineExceeded, KeybrokerError, Refused, SendWindowPassed
from ..lease import BaseLease
from ..outcome import Action, Advice
from ..settings import LONGEST_WAIT, AcquireOptions
from . import answer, target
from .options import CallOptions, current

# A refusal whose time has come already is not answered at once, or the two would spin.
SHORTEST_WAIT = 0.005
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# An advice is waited for so long even where the deadline is over.
ADVICE_GRACE = 1.0


@dataclass(frozen=True)
class Request:
    """A request in plain form; the headers matter only to who sends it."""

    method: str
    url: str
    body: bytes = field(repr=False)


@dataclass
class Attempt:
    """What came of one request.

    Attributes:
        ok: Whether it is a good answer.
        response: The answer in the form of the HTTP library, good or not.
        error: What the HTTP library raised, where there is no answer.
        report: What to report; None where the answer is a stream that reports itself.
        missed: The lease was too old once there was a connection; nothing was sent.
        status: The HTTP status.
        body: The whole body, where the answer is not a stream.
        value: Its JSON.
        upload_url: Where Google wants the content of an upload.
    """

    ok: bool = False
    response: Any = None
    error: BaseException | None = None
    report: pb.LeaseReport | None = None
    missed: SendWindowPassed | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    value: Any = None
    upload_url: str = ""

    def give(self) -> Any:
        """Gives the caller what the HTTP library would."""
        if self.error is not None:
            raise self.error
        return self.response


class Port(Protocol):
    """What sends requests: one HTTP library, for threads or for asyncio."""

    def send(self, request: Request, key: str, lease: BaseLease | None) -> Any:
        """Sends a request with a key; answers with an `Attempt`, or something to await for one."""

    def rebuild(self, status: int, headers: dict[str, str], body: bytes) -> Any:
        """A response out of the cache."""


@dataclass
class _Progress:
    tries: int = 0
    missed: int = 0
    excluded: list[str] = field(default_factory=list)
    last_try: bool = False
    last: Attempt | None = None


class Call:
    """One call."""

    def __init__(self, core: Core, options: CallOptions, request: Request, port: Port) -> None:
        self.core = core
        self.options = current(options)
        self.request = Request(request.method, without_key(request.url), request.body)
        self.port = port
        self.deadline = time.monotonic() + self.options.deadline
        self.body = answer.parse(request.body)
        self.target = target.read(request.url, self.body)
        # Whether brokers that are away are waited for: not where something else would serve.
        self.is_patient = self.options.fallback is None

    @property
    def remaining(self) -> float:
        """How much of the deadline is left, in seconds."""
        return self.deadline - time.monotonic()

    def steps(self) -> Steps[Any]:
        """Makes the call; answers with the HTTP library's response, or raises as it would."""
        cached = self._cached()
        if cached is not None:
            return cached
        progress = _Progress()
        if self.options.count_tokens and self.target.generates:
            yield from self._count()
        while True:
            try:
                lease = yield from self._lease(progress)
            except KeybrokerError as error:
                return (yield from self._without_lease(error, progress))
            try:
                key = lease.begin_send()
            except SendWindowPassed as passed:
                self._missed(lease, passed, progress)
                continue
            lease.keep_renewed()
            progress.tries += 1
            try:
                attempt: Attempt = yield Do(self._sending(key, lease))
            except BaseException:
                lease.abandon("the call was called off")
                raise
            if attempt.missed is not None:
                progress.tries -= 1
                self._missed(lease, attempt.missed, progress)
                continue
            if attempt.ok:
                return self._good(lease, attempt)
            if not (yield from self._obey(lease, attempt, progress)):
                return attempt.give()
            progress.last = attempt

    def _sending(self, key: str, lease: BaseLease | None) -> Callable[[], Any]:
        return lambda: self.port.send(self.request, key, lease)

    def _good(self, lease: BaseLease, attempt: Attempt) -> Any:
        if attempt.report is not None:
            lease.report_in_background(attempt.report)
        path = urlsplit(self.request.url).path
        if self.request.method != "GET":
            self.options.affinity.learn(lease.project, path, attempt.value, attempt.upload_url)
        self._keep(attempt)
        return attempt.give()

    def _missed(self, lease: BaseLease, passed: SendWindowPassed, progress: _Progress) -> None:
        """A lease that came too late to be used is given back; too many of them are an error."""
        lease.report_in_background(outcome.not_sent())
        progress.missed += 1
        if progress.missed >= self.options.attempts:
            raise passed

    def _obey(self, lease: BaseLease, attempt: Attempt, progress: _Progress) -> Steps[bool]:
        """Reports a failure and does what the broker advises; True to try again."""
        report = attempt.report or outcome.transport_error(outcome.TransportKind.RESET, "", None)
        future = lease.submit(report)
        within = min(self.core.settings.call_timeout, max(self.remaining, ADVICE_GRACE))
        advice: Advice | None
        try:
            advice = yield Answer(future, within)
        except (KeybrokerError, TimeoutError):
            # Without advice there is nothing to obey, so the failure is final; it stays reported.
            advice = None
        if advice is None or progress.tries >= self.options.attempts or progress.last_try:
            return False
        progress.last_try = advice.once
        match advice.action:
            case Action.RETRY_OTHER_KEY:
                progress.excluded.append(lease.key_id)
                pause = 0.0
            case Action.RETRY_AFTER if advice.retry_after is not None:
                pause = spread(advice.retry_after)
            case Action.RETRY_AFTER:
                pause = backoff(progress.tries - 1, FIRST_PAUSE, LONGEST_PAUSE)
            case _:
                # Done after a failure means that the broker sees nothing left to do about it.
                return False
        if pause >= self.remaining:
            return False
        if pause:
            yield Sleep(pause)
        return True

    def _lease(self, progress: _Progress) -> Steps[BaseLease]:
        """Takes a lease, waiting for as long as the deadline allows."""
        while True:
            remaining = self.remaining
            if remaining <= 0:
                raise DeadlineExceeded(
                    f"no lease within the deadline of {self.options.deadline:g} s: allow more time with deadline=, "
                    "or ask for less"
                )
            wait = min(remaining, LONGEST_WAIT)
            if self.options.wait is not None:
                wait = min(wait, self.options.wait)
            options = self._lease_options(progress, wait)
            try:
                tries = None if self.is_patient else self.options.attempts
                granted = yield from self.core.acquire(options, remaining, tries)
                return BaseLease(self.core, granted, options.ttl)
            except Refused as refusal:
                # Exact: before it nothing is to be had, and after it somebody else is served first.
                pause = max(refusal.retry_after, SHORTEST_WAIT)
                if pause >= self.remaining:
                    raise
            yield Sleep(pause)

    def _lease_options(self, progress: _Progress, wait: float) -> AcquireOptions:
        lease = self.options.lease
        fixed = self.options.fixed
        project = lease.project or self.options.affinity.of_request(self.request.url, self.body)
        tokens = lease.input_tokens
        if "input_tokens" not in fixed:
            tokens = self._tokens()
        return lease.with_(
            wait=wait,
            input_tokens=tokens,
            permits=lease.permits if "permits" in fixed else self.target.permits,
            project=project,
            exclude_keys=[*lease.exclude_keys, *progress.excluded],
        ).for_model(self.target.model or self.options.files_model)

    _counted: int | None = None

    def _tokens(self) -> int:
        if self._counted is None:
            estimator = self.options.estimator
            has_json = isinstance(self.body, dict)
            self._counted = max(0, int(estimator(self.body))) if estimator and has_json else 0
        return self._counted

    def _count(self) -> Steps[None]:
        """Has Gemini count the tokens; the estimate stays where it does not."""
        counting = {"generateContentRequest": {"model": f"models/{self.target.model}", **(self.body or {})}}
        url = self.request.url.replace(f":{self.target.method}", ":countTokens").partition("?")[0]
        request = Request("POST", url, json.dumps(counting).encode())
        options = self.options.with_({"count_tokens": False, "fallback": None, "attempts": 1})
        recorder = _Recorder(self.port)
        try:
            call = Call(self.core, options, request, recorder)
            call.is_patient = False
            yield from call.steps()
        except Exception:  # noqa: BLE001 (counting is a help, not a condition)
            return
        total = recorder.value.get("totalTokens") if isinstance(recorder.value, dict) else None
        if isinstance(total, int) and total >= 0:
            self._counted = total

    def _without_lease(self, error: KeybrokerError, progress: _Progress) -> Steps[Any]:
        """No lease can be had: the fallback may have a key; else the last answer says more than a refusal."""
        if self.options.fallback is not None:
            fallback = self.options.fallback
            key = yield Do(lambda: fallback(error))
            if key:
                attempt: Attempt = yield Do(self._sending(key, None))
                return attempt.give()
        if progress.last is not None:
            return progress.last.give()
        raise error

    def _cache_key(self) -> str:
        text = json.dumps([self.request.method, self.request.url, self.options.lease.project])
        return hashlib.sha256(text.encode() + b"\n" + self.request.body).hexdigest()

    def _cached(self) -> Any:
        if self.options.cache is None or not self.target.is_repeatable:
            return None
        kept = self.options.cache.get(self._cache_key())
        if kept is None:
            return None
        entry = json.loads(kept)
        return self.port.rebuild(entry["status"], entry["headers"], base64.b64decode(entry["body"]))

    def _keep(self, attempt: Attempt) -> None:
        if self.options.cache is None or not self.target.is_repeatable or attempt.body is None:
            return
        body = base64.b64encode(attempt.body).decode()
        kind = {name: value for name, value in attempt.headers.items() if name == "content-type"}
        entry = {"status": attempt.status, "headers": kind, "body": body}
        self.options.cache[self._cache_key()] = json.dumps(entry).encode()


class _Recorder:
    """Keeps the JSON of the last answer."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.value: Any = None

    def send(self, request: Request, key: str, lease: BaseLease | None) -> Any:
        attempt = self.port.send(request, key, lease)
        return self._note(attempt) if isinstance(attempt, Attempt) else self._anote(attempt)

    def rebuild(self, status: int, headers: dict[str, str], body: bytes) -> Any:
        self.value = answer.parse(body)
        return self.port.rebuild(status, headers, body)

    def _note(self, attempt: Attempt) -> Attempt:
        self.value = attempt.value if attempt.ok else None
        return attempt

    async def _anote(self, attempt: Any) -> Attempt:
        return self._note(await attempt)


def without_key(url: str) -> str:
    """A URL without a parameter `key`: keys in URLs end in logs."""
    if "key=" not in url:
        return url
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "key"]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def concerns(options: CallOptions, host: str, port: int | None) -> bool:
    """Whether requests to a host are leased for."""
    return host in options.hosts or f"{host}:{port}" in options.hosts


run = _drive.run
arun = _drive.arun
