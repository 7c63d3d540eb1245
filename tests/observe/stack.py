"""What deploy/compose describes, as processes of this host: the same files, commands and variables, with addresses of loopback
in the place of names of compose's network."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from dockerfile import environment
from processes import Processes, fetch, free_port
from repository import BIN, COMPOSE, FILES, PROMETHEUS_BIN

DEMO = COMPOSE / "demo.env"


def model(env_file: Path | None = None, file: Path = COMPOSE / "compose.yaml") -> dict:
    """The compose file as Docker Compose loads it."""
    command = [os.environ["COMPOSE_CONFIG"], file, *([env_file] if env_file else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={"HOME": "/", "COMPOSE_DISABLE_ENV_FILE": "true"})
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


class Stack:
    """Redis, two brokers, the stand-in for Gemini, workers and Prometheus."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="keybroker-observe")
        self.folder = Path(self._folder.name)
        self.processes = Processes(self.folder)
        self.services = model(DEMO)["services"]
        names = ["redis:6379", "fake-gemini:8090", "prometheus:9090"]
        names += [f"broker-{number}:{port}" for number in (1, 2) for port in (50051, 8080)]
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
        for mount in ("config", "secrets", "redis", "tsdb"):
            (self.folder / mount).mkdir()
        for kind in ("config", "secrets"):
            for file in (COMPOSE / "demo" / kind).iterdir():
                self.put(f"{kind}/{file.name}", file.read_text())
        self.put("redis.conf", (COMPOSE / "redis.conf").read_text().replace("dir /data", f"dir {self.folder}/redis"))
        prometheus = (COMPOSE / "prometheus.yml").read_text()
        self.put("prometheus.yml", prometheus.replace("interval: 10s", "interval: 1s").replace("/etc/prometheus/", f"{FILES}/"))

    def here(self, text: str) -> str:
        """A text of the compose file, with what it means on this host."""
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        return text.replace("/etc/keybroker", f"{self.folder}/config").replace("/run/secrets", f"{self.folder}/secrets")

    def put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self.here(text))

    def url(self, name: str, path: str) -> str:
        return f"http://{self.addresses[name]}{path}"

    def port(self, name: str) -> str:
        return self.addresses[name].rpartition(":")[2]

    def start_redis(self) -> None:
        self.processes.start("redis", "redis-server", "redis.conf", "--port", self.port("redis:6379"), "--bind", "127.0.0.1")

    def broker_env(self, name: str) -> dict[str, str]:
        """The variables of a broker of the compose file, above those of its image."""
        own = {
            "KEYBROKER_GRPC_ADDR": self.addresses[f"{name}:50051"],
            "KEYBROKER_HTTP_ADDR": self.addresses[f"{name}:8080"],
            "KEYBROKER_LOG_FORMAT": "json",
        }
        told = environment() | self.services[name]["environment"]
        return {key: self.here(value) for key, value in told.items()} | own

    def start(self) -> None:
        self.start_redis()
        command = self.services["fake-gemini"]["command"]
        command = [word.replace("0.0.0.0:8090", self.addresses["fake-gemini:8090"]) for word in command]
        self.processes.start("fake-gemini", BIN / "fake-gemini", *command)
        self.processes.wait_for("fake-gemini", self.url("fake-gemini:8090", "/control/healthz"))
        for name in ("broker-1", "broker-2"):
            self.processes.start(name, BIN / "keybroker", "serve", env=self.broker_env(name))
        for name in ("broker-1", "broker-2"):
            self.processes.wait_for(name, self.url(f"{name}:8080", "/readyz"))
        options = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "tsdb"]
        options += ["--web.listen-address", self.addresses["prometheus:9090"]]
        self.processes.start("prometheus", PROMETHEUS_BIN / "prometheus", *options)
        self.processes.wait_for("prometheus", self.url("prometheus:9090", "/-/ready"))

    def start_workers(self) -> None:
        command = [self.here(word) for word in self.services["workers"]["command"]]
        self.processes.start("workers", BIN / "examples/fleet", *command)

    def keybroker(self, *words: object) -> subprocess.CompletedProcess[str]:
        env = {"KEYBROKER_BROKER": self.addresses["broker-1:50051"], "PATH": "/usr/bin:/bin"}
        command = [str(word) for word in (BIN / "keybroker", *words)]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    def ask(self, query: str) -> dict:
        """What Prometheus answers to a query, at present."""
        status, text = fetch(self.url("prometheus:9090", f"/api/v1/query?query={quote(query)}"))
        assert status == 200, f"{query}: {text}"
        return json.loads(text)["data"]

    def end(self) -> None:
        self.processes.end_all()
        self._folder.cleanup()
