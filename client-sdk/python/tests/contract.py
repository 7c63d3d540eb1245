"""Plays the scenarios of client-sdk/contract. What it does not know in one is a failure."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import google.genai.errors
import httpx
import httpx2

import keybroker
import keybroker.genai
from support import ROOT, binary

SCENARIOS = ROOT / "client-sdk" / "contract" / "scenarios"
FIELDS = {"name", "about", "projects", "pool", "brokers", "faults", "identities", "tls", "client", "steps"}
STAGE = {"stop_broker", "start_broker", "drain_broker", "faults", "see"}
PROMPT = "Why is the sky blue?"


class CalledOff(BaseException):
    """How a thread's call is called off here, as by Ctrl-C."""


class OfTheCaller(Exception):
    """An error of the caller's own."""


class Stage:
    """The process that runs the broker and the fake Gemini of one scenario."""

    def __init__(self, scenario: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [binary("contract-stage"), str(scenario)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        where = self._read()
        self.brokers: list[str] = where["brokers"]
        self.gemini: str = where["gemini"]
        self.certificates = Path(where["certificates"])

    def take(self, step: dict[str, Any]) -> Any:
        """Hands over a step, and reads the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the stage ended: {self._process.stderr.read()[-2000:]}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


class Player:
    """Plays one scenario with the SDK's form for threads or for asyncio."""

    def __init__(self, file: Path, stage: Stage, *, is_async: bool) -> None:
        self.scenario = json.loads(file.read_text())
        unknown = set(self.scenario) - FIELDS
        assert not unknown, f"{file.name} has fields that are not known: {unknown}"
        self.stage = stage
        self.is_async = is_async
        self.leases: dict[str, Any] = {}
        self.runner = asyncio.Runner()
        self.connect(self.scenario.get("client", {}))

    def connect(self, options: dict[str, Any]) -> None:
        """Makes the client with these options."""
        given = dict(options)
        settings: dict[str, Any] = {}
        if "call_timeout" in given:
            settings["call_timeout"] = given.pop("call_timeout") / 1000
        if "token" in given:
            settings["token"] = given.pop("token")
        if "tls" in given:
            files = {name: self.stage.certificates / file for name, file in given.pop("tls").items()}
            settings["tls"] = keybroker.Tls(**files)
        calls: dict[str, Any] = {"deadline": given.pop("deadline") / 1000} if "deadline" in given else {}
        if "attempts" in given:
            calls["attempts"] = given.pop("attempts")
        assert not given, f"options that are not known: {given}"
        self.broker = keybroker.Broker(self.stage.brokers, **settings)
        self.gemini = keybroker.genai.Client(self.broker, http_options={"base_url": self.stage.gemini}, **calls)

    def disconnect(self) -> None:
        """Closes the client."""
        with contextlib.suppress(keybroker.KeybrokerError):
            self.broker.close(2)
        if self.is_async:
            self.runner.run(self.gemini.aio.aclose())

    def play(self) -> None:
        """Takes all steps."""
        try:
            for number, step in enumerate(self.scenario["steps"]):
                try:
                    self.take(step)
                except AssertionError as error:
                    raise AssertionError(f"step {number}, {json.dumps(step)[:300]}: {error}") from error
        finally:
            self.disconnect()
            self.runner.close()

    def take(self, step: dict[str, Any]) -> None:
        """Takes one step."""
        expect = dict(step.get("expect", {}))
        if "stage" in step:
            assert step["stage"] in STAGE, f"a step of the stage that is not known: {step['stage']}"
            answer = self.stage.take(step)
            seen = {name: answer.get(name) for name in expect}
            assert all(matches(answer.get(name), wanted) for name, wanted in expect.items()), f"seen: {seen}"
            return
        rest = {name: value for name, value in step.items() if name not in ("expect", "as", "lease")}
        (action, fields), *more = rest.items()
        assert not more, f"more than one action: {rest}"
        play = getattr(self, f"do_{action}", None)
        assert play is not None, f"an action that is not known: {action}"
        name = step.get("as") or step.get("lease") or "lease"
        check(play(name, dict(fields) if isinstance(fields, dict) else fields), expect)

    def wait(self, made: Any) -> Any:
        """The result of a call in either form."""
        if not self.is_async:
            return made
        return self.runner.run(_await(made))

    @property
    def client(self) -> Any:
        return self.broker.aio if self.is_async else self.broker

    def do_acquire(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        with seen() as result:
            self.leases[name] = self.wait(self.client.lease(**lease_fields(fields)))
            result["granted"] = True
        return result

    def do_begin_send(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        assert not fields, fields
        with seen() as result:
            result["key"] = self.leases[name].begin_send().startswith("fake-key-")
        return result

    def do_report(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        ((outcome, values),) = fields.items()
        lease = self.leases[name]
        report: Callable[[], Any]
        match outcome:
            case "success":
                report = lambda: lease.success(keybroker.Usage(**values))  # noqa: E731
            case "http_error":
                retry_after = values["retry_after"] / 1000 if "retry_after" in values else None
                report = lambda: lease.http_error(values["status"], values["body"], retry_after)  # noqa: E731
            case "transport_error":
                kind = keybroker.TransportKind[values["kind"]]
                report = lambda: lease.transport_error(kind)  # noqa: E731
            case "not_sent":
                report = lease.not_sent
            case _:
                raise AssertionError(f"an outcome that is not known: {outcome}")
        with seen() as result:
            advice: keybroker.Advice = self.wait(report())
            result.update(
                action=advice.action.name,
                settled=advice.settled.name,
                signal=advice.signal,
                once=advice.once,
                retry_after=None if advice.retry_after is None else advice.retry_after * 1000,
            )
        return result

    def do_renew(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        with seen() as result:
            result["expires_in"] = self.wait(self.leases[name].renew(fields.pop("ttl") / 1000)) * 1000
            assert not fields, fields
        return result

    def do_raise(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        sent = fields.pop("sent")
        wanted = lease_fields(fields)

        def block() -> None:
            with self.broker.lease(**wanted) as lease:
                if sent:
                    lease.begin_send()
                raise OfTheCaller

        async def ablock() -> None:
            async with self.broker.aio.lease(**wanted) as lease:
                if sent:
                    lease.begin_send()
                raise OfTheCaller

        with seen() as result:
            try:
                self.wait(ablock()) if self.is_async else block()
            except OfTheCaller:
                result["raised"] = True
        return result

    def do_abandon(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        lease = self.leases.pop(name)
        if fields.pop("sent"):
            lease.begin_send()
        assert not fields, fields
        del lease
        gc.collect()
        return {}

    def do_flush(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        assert not fields, fields
        if self.is_async:
            self.runner.run(_collect())
        self.wait(self.client.flush())
        return {}

    def do_client(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        self.disconnect()
        self.connect(fields)
        return {}

    def do_sleep(self, name: str, fields: float) -> dict[str, Any]:
        time.sleep(fields / 1000)
        return {}

    def do_generate(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        unknown = set(fields) - {"model", "stream", "stop_after", "cancel_after"}
        assert not unknown, f"not known: {unknown}"
        with seen() as result:
            result["events"] = 0
            result["answer"] = False
            if self.is_async:
                self.runner.run(self._agenerate(fields, result))
            else:
                with called_off_after(fields.get("cancel_after")):
                    self._generate(fields, result)
        return result

    def _generate(self, fields: dict[str, Any], result: dict[str, Any]) -> None:
        models = self.gemini.models
        if not fields.get("stream"):
            answer = models.generate_content(model=fields["model"], contents=PROMPT)
            result["answer"] = bool(answer.text)
            return
        text = ""
        for event in models.generate_content_stream(model=fields["model"], contents=PROMPT):
            result["events"] += 1
            text += event.text or ""
            if result["events"] == fields.get("stop_after"):
                break
        result["answer"] = bool(text)

    async def _agenerate(self, fields: dict[str, Any], result: dict[str, Any]) -> None:
        models = self.gemini.aio.models
        cancel_after = fields.get("cancel_after")
        if not fields.get("stream"):
            call = asyncio.ensure_future(models.generate_content(model=fields["model"], contents=PROMPT))
            if cancel_after is not None:
                asyncio.get_running_loop().call_later(cancel_after / 1000, call.cancel)
            result["answer"] = bool((await call).text)
            return
        assert cancel_after is None, "a stream that is cancelled is not known"
        text = ""
        async for event in await models.generate_content_stream(model=fields["model"], contents=PROMPT):
            result["events"] += 1
            text += event.text or ""
            if result["events"] == fields.get("stop_after"):
                break
        result["answer"] = bool(text)


async def _collect() -> None:
    """Google's SDK leaves a stream that was dropped to the garbage collector, and that to the loop."""
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0.01)


async def _await(made: Any) -> Any:
    return await made


def lease_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `lease`, for which times are seconds."""
    known = {"model", "pool", "wait", "ttl", "permits", "input_tokens", "consumer"}
    assert set(fields) <= known, f"not known: {set(fields) - known}"
    return {name: value / 1000 if name in ("wait", "ttl") else value for name, value in fields.items()}


@contextlib.contextmanager
def seen() -> Iterator[dict[str, Any]]:
    """Notes what a step brought, an error by its kind."""
    result: dict[str, Any] = {}
    try:
        yield result
    except keybroker.KeybrokerError as error:
        retry_after = None if error.retry_after is None else error.retry_after * 1000
        result.update(error=error.kind, text=str(error), retry_after=retry_after)
    except google.genai.errors.APIError as error:
        result.update(error="upstream", status=error.code, text=str(error))
    except (httpx.TransportError, httpx2.TransportError) as error:
        result.update(error="transport", text=str(error))
    except (asyncio.CancelledError, CalledOff):
        result.update(error="cancelled")


@contextlib.contextmanager
def called_off_after(milliseconds: float | None) -> Iterator[None]:
    """Interrupts the main thread."""
    if milliseconds is None:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise CalledOff

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


KNOWN = {
    "granted",
    "error",
    "retry_after",
    "text",
    "key",
    "action",
    "settled",
    "signal",
    "once",
    "expires_in",
    "raised",
    "answer",
    "status",
    "events",
}


def check(result: dict[str, Any], expect: dict[str, Any]) -> None:
    """Compares what came with what was expected."""
    unknown = set(expect) - KNOWN
    assert not unknown, f"expectations that are not known: {unknown}"
    if "error" in result and "error" not in expect and expect.keys() & {"granted", "key", "raised", "action"}:
        raise AssertionError(f"an error: {result}")
    for name, wanted in expect.items():
        if name == "text":
            assert wanted in result.get("text", ""), f"{wanted!r} is not in {result.get('text')!r}"
        else:
            assert matches(result.get(name), wanted), f"{name}: {result.get(name)!r}, seen: {result}"


def matches(value: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one, or in the wanted range."""
    if isinstance(wanted, dict):
        assert set(wanted) <= {"min", "max"}, f"a range that is not known: {wanted}"
        within = value is not None and value >= wanted.get("min", value)
        return within and bool(value <= wanted.get("max", value))
    return bool(value == wanted)


def play(file: Path, *, is_async: bool) -> float:
    """Plays a scenario; how many seconds it took."""
    started = time.monotonic()
    with Stage(file) as stage:
        Player(file, stage, is_async=is_async).play()
    return time.monotonic() - started
