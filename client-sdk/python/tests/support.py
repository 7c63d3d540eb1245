"""Brokers and a fake Gemini of a test's own, each on a free port of the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keybroker

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(os.environ.get("KEYBROKER_BIN") or ROOT / "target" / "quick")
MODEL = "gemini-2.5-flash"
LIMITS = "[{ requests_per_minute = 10000, in_flight = 1000 }]"

# Nothing on the loopback interface goes through a proxy of the machine's.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def binary(name: str) -> str:
    """A program of the workspace."""
    path = BIN / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: build the workspace, or set KEYBROKER_BIN to its folder")
    return str(path)


def free_port() -> int:
    """A port that nobody listens on.

    It is below those that Linux and macOS give to outgoing connections (from 32768), so that no connection of another
    test's takes it before it is used.
    """
    for _ in range(100):
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of a hundred is free")


def until(true: Callable[[], Any], what: str, patience: float = 10.0) -> Any:
    """Waits for something to be true."""
    end = time.monotonic() + patience
    while True:
        seen = true()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {patience} s")
        time.sleep(0.01)


def get(url: str) -> Any:
    """A page of JSON."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def post(url: str, body: Any) -> None:
    """Sends JSON."""
    content = json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


@dataclass
class Process:
    """A program that ends with its test, by its own id."""

    command: list[str]
    log: Path
    running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def stop(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            if self.running.stdout is not None:
                self.running.stdout.close()
            self.running = None


@dataclass
class FakeGemini:
    """The fake Gemini, with keys `fake-key-0000` and on."""

    process: Process
    url: str = ""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def fault(self, kind: str, count: int | None = 1, **more: Any) -> None:
        """Has calls go wrong from now on."""
        match = more.pop("match", {})
        rule: dict[str, Any] = {"match": match, "fault": {"kind": kind, **more}}
        if count is not None:
            rule["count"] = count
        post(f"{self.url}/control/faults", [rule])

    def verdict(self) -> Any:
        return get(f"{self.url}/control/verdict")

    def log(self) -> list[Any]:
        entries: list[Any] = get(f"{self.url}/control/log")["entries"]
        return entries


@dataclass
class Broker:
    """A broker with an embedded ledger."""

    process: Process
    address: str
    http: str
    folder: Path

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        self.process.start()

        def ready() -> bool:
            running = self.process.running
            if running is not None and running.poll() is not None:
                raise AssertionError(f"the broker ended with {running.returncode}: {self.process.log.read_text()}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{self.http}/readyz", timeout=1).close()
                return True
            return False

        until(ready, f"a broker at {self.address}", patience=30)

    def stop(self) -> None:
        self.process.stop()


@dataclass
class Fleet:
    """A broker, a fake Gemini, and what a test asks of them."""

    broker: Broker
    gemini: FakeGemini
    made: list[keybroker.Broker] = field(default_factory=list)

    def client(self, **options: Any) -> keybroker.Broker:
        """A client, closed at the end of the test."""
        client = keybroker.Broker(self.broker.address, **options)
        self.made.append(client)
        return client


@contextlib.contextmanager
def fleet(limits: str = LIMITS, projects: int = 2, pool: str = "", fake: list[str] | None = None) -> Iterator[Fleet]:
    """A broker and a fake Gemini that know the same projects."""
    with tempfile.TemporaryDirectory(prefix="keybroker-python") as name:
        folder = Path(name)
        address, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        config = folder / "keybroker.toml"
        config.write_text(
            f'default_plan = "off"\n[[pools]]\nname = "default"\nlimits = {limits}\n{pool}\n'
            + "".join(
                f'[[projects]]\nid = "project-{number:04}"\n'
                f'keys = [{{ id = "key-{number:04}", secret = "fake-key-{number:04}" }}]\n'
                for number in range(projects)
            )
        )
        command = [binary("keybroker"), "serve", "--config", str(config), "--grpc-addr", address]
        command += ["--http-addr", http, "--data-dir", str(folder / "data")]
        broker = Broker(Process(command, folder / "broker.log"), address, http, folder)
        gemini = FakeGemini(
            Process([binary("fake-gemini"), "--projects", str(projects), *(fake or [])], folder / "fake.log")
        )
        both = Fleet(broker, gemini)
        try:
            gemini.process.start()
            broker.start()
            assert gemini.process.running is not None
            assert gemini.process.running.stdout is not None
            gemini.url = "http://" + json.loads(gemini.process.running.stdout.readline())["listening"]
            yield both
        finally:
            for client in both.made:
                with contextlib.suppress(keybroker.KeybrokerError):
                    client.close(1)
            broker.stop()
            gemini.process.stop()
