"""Google's own SDK as it is, with a base URL and a key that is none, through `keybroker proxy`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from contract import Stage
from support import MODEL, ROOT, Process, binary, get, until

PROMPT = "Why is the sky blue?"
EMBEDDER = "gemini-embedding-001"
ANY_TEXT = "any-text"
PROJECTS = 3
VERSIONS = ["v1", "v1beta"]


@dataclass
class Proxied:
    """A broker, the fake Gemini, and a proxy before it."""

    stage: Stage
    url: str

    def client(self, version: str) -> genai.Client:
        """A client that knows nothing of leases."""
        return genai.Client(api_key=ANY_TEXT, http_options=types.HttpOptions(base_url=self.url, api_version=version))

    def log(self) -> list[Any]:
        """The calls that reached the fake Gemini."""
        entries: list[Any] = get(f"{self.stage.gemini}/control/log")["entries"]
        return entries

    def check_books(self, **expected: int) -> None:
        """Everything is reported, nothing was refused, and only leased keys reached Gemini."""
        wanted = {"in_flight": 0, "waiting": 0, "refused": 0, "keys_in_url": 0, **expected}
        seen = self.stage.take({"stage": "see", "expect": wanted})
        assert {name: seen[name] for name in wanted} == wanted
        assert seen["granted"] == seen["settled"] > 0
        leased = {hashlib.sha256(f"fake-key-{number:04}".encode()).hexdigest()[:12] for number in range(PROJECTS)}
        assert get(f"{self.stage.gemini}/control/verdict")["keys"].keys() <= leased


@contextlib.contextmanager
def proxied(
    folder: Path, *options: str, limits: dict[str, int] | None = None, projects: int = PROJECTS
) -> Iterator[Proxied]:
    scenario = folder / "scenario.json"
    # So that the next request goes elsewhere, unless something keeps it.
    pool = {
        "strategy": "least_recently_used",
        "limits": [limits or {"requests_per_minute": 1000, "in_flight": 100}],
    }
    scenario.write_text(json.dumps({"name": "proxy", "about": "", "projects": projects, "pool": pool, "steps": []}))
    with Stage(scenario) as stage:
        command = [binary("keybroker"), "proxy", "--broker", stage.brokers[0], "--upstream", stage.gemini]
        proxy = Process([*command, "--listen", "127.0.0.1:0", *options], folder / "proxy.log")
        try:
            proxy.start()
            until(lambda: proxy.log.exists() and "base URL" in proxy.log.read_text(), "the proxy listens")
            words = proxy.log.read_text().split()
            yield Proxied(stage, next(word.rstrip(";") for word in words if word.startswith("http://")))
        finally:
            proxy.stop()


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with proxied(tmp_path_factory.mktemp("proxy")) as shared:
        yield shared
        shared.check_books()


Ask = Callable[[str, dict[str, Any]], Any]


@pytest.fixture(params=[f"{form}-{version}" for form in ("threads", "asyncio") for version in VERSIONS])
def ask(request: pytest.FixtureRequest, shared_proxy: Proxied) -> Iterator[Ask]:
    """Calls a method of a client's, in one of its two forms and one of the API's versions."""
    form, version = request.param.split("-")
    client = shared_proxy.client(version)
    with asyncio.Runner() as runner:

        async def collect(stream: Any) -> list[Any]:
            return [event async for event in await stream]

        def call(name: str, arguments: dict[str, Any]) -> Any:
            service, _, method = name.partition(".")
            if form == "threads":
                answer = getattr(getattr(client, service), method)(**arguments)
                return list(answer) if method.endswith("_stream") else answer
            waiting = getattr(getattr(client.aio, service), method)(**arguments)
            return runner.run(collect(waiting) if method.endswith("_stream") else waiting)

        yield call
        runner.run(client.aio.aclose())
    client.close()


def test_generates_streams_and_counts(ask: Ask) -> None:
    asked = {"model": MODEL, "contents": PROMPT}
    assert ask("models.generate_content", asked).text == f"echo: {PROMPT}"
    assert [event.text for event in ask("models.generate_content_stream", asked)] == ["echo", ": ", PROMPT]
    assert ask("models.count_tokens", {"model": MODEL, "contents": "12345678"}).total_tokens == 2
    assert ask("models.get", {"model": MODEL}).name == f"models/{MODEL}"


def test_embeds(ask: Ask) -> None:
    assert len(ask("models.embed_content", {"model": EMBEDDER, "contents": ["a", "b", "c"]}).embeddings) == 3


def test_interacts(ask: Ask, shared_proxy: Proxied) -> None:
    before = len(shared_proxy.log())
    answer = ask("interactions.create", {"model": MODEL, "input": PROMPT})
    assert f"echo: {PROMPT}" in str(answer)
    for _ in range(PROJECTS):
        ask("interactions.create", {"model": MODEL, "input": "more", "previous_interaction_id": answer.id})
    made, *more = shared_proxy.log()[before:]
    assert [entry["project"] for entry in more] == [made["project"]] * PROJECTS


def test_a_file_is_used_with_the_project_that_has_it(ask: Ask, shared_proxy: Proxied) -> None:
    config = types.UploadFileConfig(mime_type="text/plain", display_name="rivers")
    made = ask("files.upload", {"file": io.BytesIO(b"Nile, Amazon"), "config": config})
    assert (made.display_name, made.size_bytes) == ("rivers", 12)
    before = len(shared_proxy.log())
    # The fake Gemini answers 403 to a key of another project.
    for _ in range(2 * PROJECTS):
        assert ask("models.generate_content", {"model": MODEL, "contents": ["What is in it?", made]}).text
    assert ask("files.get", {"name": made.name}).name == made.name
    ask("files.delete", {"name": made.name})
    assert len({entry["project"] for entry in shared_proxy.log()[before:]}) == 1
    ask("models.generate_content", {"model": MODEL, "contents": PROMPT})
    ask("models.generate_content", {"model": MODEL, "contents": PROMPT})
    assert len({entry["project"] for entry in shared_proxy.log()[before:]}) == PROJECTS, (
        "what names no file goes elsewhere"
    )


@pytest.mark.parametrize("name", ["environment_before", "rotator_before"])
def test_a_program_is_told_of_the_proxy_by_its_environment(shared_proxy: Proxied, name: str) -> None:
    program = ROOT / "client-sdk" / "python" / "examples" / "migrate" / f"{name}.py"
    environment = {**os.environ, "GOOGLE_GEMINI_BASE_URL": shared_proxy.url}
    environment.update(GEMINI_API_KEY=ANY_TEXT, GOOGLE_API_KEY="")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("echo: ")


def test_a_program_is_given_a_leased_key_in_its_environment(shared_proxy: Proxied) -> None:
    program = ROOT / "client-sdk" / "python" / "examples" / "migrate" / "environment_before.py"
    command = [binary("keybroker"), "exec", "--broker", shared_proxy.stage.brokers[0], "--model", MODEL, "--"]
    environment = {**os.environ, "GOOGLE_GEMINI_BASE_URL": shared_proxy.stage.gemini}
    done = subprocess.run(
        [*command, sys.executable, program], capture_output=True, text=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "echo: Name three rivers.\n"), done.stderr


def test_a_batch_costs_as_many_permits_as_it_has_texts(tmp_path: Path) -> None:
    with (
        proxied(tmp_path, "--deadline", "1", limits={"requests_per_minute": 5}, projects=1) as small,
        small.client("v1beta") as client,
    ):
        client.models.embed_content(model=EMBEDDER, contents=["a", "b", "c"])
        with pytest.raises(errors.ClientError) as caught:
            client.models.embed_content(model=EMBEDDER, contents=["a", "b", "c"])
        assert caught.value.code == 429
        small.check_books(calls=1)


def test_spent_quota_and_a_broker_that_is_away_are_told_as_google_tells_errors(tmp_path: Path) -> None:
    with (
        proxied(tmp_path, "--deadline", "1", limits={"requests_per_minute": 1, "in_flight": 10}, projects=1) as small,
        small.client("v1") as client,
    ):
        assert client.models.generate_content(model=MODEL, contents=PROMPT).text
        with pytest.raises(errors.ClientError) as spent:
            client.models.generate_content(model=MODEL, contents=PROMPT)
        assert (spent.value.code, spent.value.status) == (429, "RESOURCE_EXHAUSTED")
        assert str(spent.value.message).startswith("keybroker: no key is free")
        assert "project project-0000" in str(spent.value.message)
        assert 50 <= int(spent.value.response.headers["retry-after"]) <= 65
        assert "type.googleapis.com/google.rpc.RetryInfo" in json.dumps(spent.value.details)
        small.check_books(calls=1)
        small.stage.take({"stage": "stop_broker", "number": 0})
        with pytest.raises(errors.ServerError) as away:
            client.models.generate_content(model=MODEL, contents=PROMPT)
        assert (away.value.code, away.value.status) == (503, "UNAVAILABLE")
        assert str(away.value.message).startswith("keybroker: ")
        assert small.stage.brokers[0] in str(away.value.message)
        with pytest.raises(errors.ServerError, match=small.stage.brokers[0]):
            asyncio.run(client.aio.models.generate_content(model=MODEL, contents=PROMPT))
