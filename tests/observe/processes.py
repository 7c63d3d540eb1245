"""Processes of this host that a test starts, and ends by their ids."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Callable


def free_port() -> int:
    """A port that nobody listens on, of those that tests of this repository take."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as held:
            try:
                held.bind(("", port))
            except OSError:
                continue
            return port


def fetch(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """What a server answers, and its text; 0 where there is none."""
    of_body = {"content-type": "application/json"} if body else {}
    request = urllib.request.Request(url, data=body, headers=of_body | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for something to hold."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"still not: {what}"
        time.sleep(0.1)


class Processes:
    """Those that were started in a folder, with their logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: object, env: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)} | (env or {})
            words = [str(word) for word in command]
            self.running[name] = subprocess.Popen(words, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_for(self, name: str, url: str) -> None:
        """Waits until a server answers with 200."""

        def answers() -> bool:
            assert self.running[name].poll() is None, f"{name} has ended:\n{self.log(name)}"
            return fetch(url)[0] == 200

        wait_until(f"{name} answers {url}", answers)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def end_all(self) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()
