"""Google's own SDK with leased keys."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

import keybroker
import keybroker.genai
from keybroker._proto.v1 import keybroker_pb2 as pb
from stub_broker import StubBroker
from stub_gemini import Reply, Seen, StubGemini, as_json, events, text
from support import MODEL, Fleet, fleet, free_port

PROMPT = "Why is the sky blue?"
EMBEDDER = "gemini-embedding-001"


def client_of(shared: Fleet, **options: Any) -> keybroker.genai.Client:
    return keybroker.genai.Client(shared.client(), http_options={"base_url": shared.gemini.url}, **options)


@pytest.fixture(params=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Iterator[Callable[[Any, str, dict[str, Any]], Any]]:
    """Calls a method of a client's in one of its two forms."""
    with asyncio.Runner() as runner:

        def call(client: Any, name: str, arguments: dict[str, Any]) -> Any:
            service, _, method = name.partition(".")
            if request.param == "threads":
                return getattr(getattr(client, service), method)(**arguments)
            return runner.run(getattr(getattr(client.aio, service), method)(**arguments))

        yield call


Ask = Callable[[Any, str, dict[str, Any]], Any]


def test_it_is_a_client_of_google(shared: Fleet) -> None:
    client = client_of(shared)
    assert isinstance(client, genai.Client)
    assert "fake-key" not in repr(client)


def test_aiohttp_is_installed_and_not_used(shared: Fleet) -> None:
    pytest.importorskip("aiohttp")
    client = client_of(shared)
    assert genai._api_client.has_aiohttp
    assert not client._api_client._use_aiohttp()


def test_generates(shared: Fleet, ask: Ask) -> None:
    answer = ask(client_of(shared), "models.generate_content", {"model": MODEL, "contents": PROMPT})
    assert answer.text == f"echo: {PROMPT}"


def test_streams(shared: Fleet) -> None:
    client = client_of(shared)
    stream = client.models.generate_content_stream(model=MODEL, contents=PROMPT)
    assert [event.text for event in stream] == ["echo", ": ", PROMPT]

    async def astream() -> list[str | None]:
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents=PROMPT)
        return [event.text async for event in stream]

    assert asyncio.run(astream()) == ["echo", ": ", PROMPT]


def test_counts_and_looks_at_models(shared: Fleet, ask: Ask) -> None:
    client = client_of(shared)
    assert ask(client, "models.count_tokens", {"model": MODEL, "contents": "12345678"}).total_tokens == 2
    assert ask(client, "models.get", {"model": MODEL}).name == f"models/{MODEL}"


def test_embeds_one_request_for_each_text(shared: Fleet, ask: Ask) -> None:
    client = client_of(shared)
    before = len(shared.gemini.log())
    one = ask(client, "models.embed_content", {"model": EMBEDDER, "contents": "a"})
    many = ask(client, "models.embed_content", {"model": EMBEDDER, "contents": ["a", "b", "c"]})
    assert len(one.embeddings) == 1
    assert len(many.embeddings) == 3
    assert [entry["requests"] for entry in shared.gemini.log()[before:]] == [1, 3]


def test_a_batch_of_embeddings_takes_a_permit_for_each(ask: Ask) -> None:
    with fleet("[{ requests_per_minute = 5 }]", projects=1, fake=["--rpm", "5"]) as small:
        client = client_of(small, deadline=1)
        ask(client, "models.embed_content", {"model": EMBEDDER, "contents": ["a", "b", "c"]})
        with pytest.raises(keybroker.Refused):
            ask(client, "models.embed_content", {"model": EMBEDDER, "contents": ["a", "b", "c"]})
        assert small.gemini.verdict()["quota_refusals"] == 0


def test_chats_and_tools_lease_for_each_request(shared: Fleet) -> None:
    client = client_of(shared)
    chat = client.chats.create(model=MODEL)
    before = len(shared.gemini.log())
    assert chat.send_message("one").text == "echo: one"
    assert chat.send_message("two").text == "echo: two"
    assert len(shared.gemini.log()) - before == 2


def test_no_key_is_in_a_url_or_a_log(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with fleet() as small:
        client = client_of(small)
        small.gemini.fault("error", name="suspended", match={"method": "countTokens"})
        ask(client, "models.generate_content", {"model": MODEL, "contents": PROMPT})
        ask(client, "models.count_tokens", {"model": MODEL, "contents": PROMPT})
        assert small.gemini.verdict()["keys_in_url"] == 0
    assert "fake-key" not in caplog.text


def test_an_answer_that_repeats_the_key_is_masked(ask: Ask) -> None:
    with fleet(projects=1) as small:
        small.gemini.fault("error", name="suspended")
        with pytest.raises(errors.APIError) as caught:
            ask(client_of(small, deadline=2), "models.generate_content", {"model": MODEL, "contents": PROMPT})
        assert "fake-key" not in str(caught.value)
        assert "[redacted]" in str(caught.value)


def test_googles_own_retries_are_off(stub: StubBroker, ask: Ask) -> None:
    stub.advise = lambda _: pb.Advice(action=pb.Advice.DO_NOT_RETRY)
    broken = as_json({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}, 503)
    with StubGemini(lambda seen: broken) as gemini:
        options = types.HttpOptions(base_url=gemini.url, retry_options=types.HttpRetryOptions(attempts=5))
        client = keybroker.genai.Client(stub.address, http_options=options)
        with pytest.raises(errors.ServerError) as caught:
            ask(client, "models.generate_content", {"model": MODEL, "contents": PROMPT})
        assert caught.value.code == 503
        assert len(gemini.seen) == 1
        client.close()
    assert stub.outcomes() == ["http_error"]


def test_a_call_tries_so_often_and_no_more(stub: StubBroker, ask: Ask) -> None:
    stub.advise = lambda _: pb.Advice(action=pb.Advice.RETRY_OTHER_KEY)
    with StubGemini(lambda seen: as_json({"error": {"code": 429, "message": "spent"}}, 429)) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url}, attempts=3)
        with pytest.raises(errors.ClientError):
            ask(client, "models.generate_content", {"model": MODEL, "contents": PROMPT})
        assert len(gemini.seen) == 3
    excluded = [list(asked.constraints.exclude_key_ids) for asked in stub.acquires]
    assert excluded == [[], ["key-0"], ["key-0", "key-1"]]


def test_one_more_try_and_no_third(stub: StubBroker) -> None:
    stub.advise = lambda _: pb.Advice(action=pb.Advice.RETRY_OTHER_KEY, once=True)
    with StubGemini(lambda seen: as_json({"error": {"code": 400, "message": "no"}}, 400)) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url})
        with pytest.raises(errors.ClientError):
            client.models.generate_content(model=MODEL, contents=PROMPT)
        assert len(gemini.seen) == 2


def test_an_error_in_a_good_answer_is_googles(stub: StubBroker, ask: Ask) -> None:
    stub.advise = lambda report: pb.Advice(
        action=pb.Advice.RETRY_OTHER_KEY if report.HasField("http_error") else pb.Advice.DONE
    )
    bad = {"error": {"code": 429, "message": "spent", "status": "RESOURCE_EXHAUSTED"}}
    answers = [as_json(bad), as_json([bad]), as_json(text("well"))]
    with StubGemini(lambda seen: answers.pop(0)) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url})
        assert ask(client, "models.generate_content", {"model": MODEL, "contents": PROMPT}).text == "well"
        client.close()
    assert stub.outcomes() == ["http_error", "http_error", "success"]
    assert [report.http_error.status for report in stub.reports[:2]] == [429, 429]
    assert stub.reports[2].success.usage.input_tokens == 3


def test_a_stream_that_begins_with_an_error_is_tried_again(stub: StubBroker) -> None:
    stub.advise = lambda report: pb.Advice(
        action=pb.Advice.RETRY_OTHER_KEY if report.HasField("http_error") else pb.Advice.DONE
    )
    bad = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    answers = [events(bad), events(text("one", last=False), text("two", tokens=9))]
    with StubGemini(lambda seen: answers.pop(0)) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url})
        stream = client.models.generate_content_stream(model=MODEL, contents=PROMPT)
        assert [event.text for event in stream] == ["one", "two"]
        client.close()
    assert stub.outcomes() == ["http_error", "success"]
    assert stub.reports[1].success.usage.input_tokens == 9


def test_a_refusal_is_an_error_of_this_package() -> None:
    with fleet("[{ requests_per_minute = 1 }]", projects=1) as small:
        client = client_of(small, deadline=1)
        client.models.generate_content(model=MODEL, contents=PROMPT)
        with pytest.raises(keybroker.Refused, match="project-0000"):
            client.models.generate_content(model=MODEL, contents=PROMPT)


def test_a_broker_that_is_down(ask: Ask) -> None:
    address = f"127.0.0.1:{free_port()}"
    client = keybroker.genai.Client(address, deadline=1)
    with pytest.raises(keybroker.Unavailable, match=address):
        ask(client, "models.generate_content", {"model": MODEL, "contents": PROMPT})


def test_a_fallback_has_a_key(shared: Fleet) -> None:
    told: list[keybroker.KeybrokerError] = []

    def fallback(error: keybroker.KeybrokerError) -> str:
        told.append(error)
        return "fake-key-0001"

    async def afallback(error: keybroker.KeybrokerError) -> str | None:
        told.append(error)
        return None

    options = types.HttpOptions(base_url=shared.gemini.url)
    gone = f"127.0.0.1:{free_port()}"
    client = keybroker.genai.Client(gone, http_options=options, attempts=1, fallback=fallback)
    assert client.models.generate_content(model=MODEL, contents=PROMPT).text
    assert told[0].kind == "unavailable"
    client = keybroker.genai.Client(gone, http_options=options, attempts=1, fallback=afallback)
    with pytest.raises(keybroker.Unavailable):
        asyncio.run(client.aio.models.generate_content(model=MODEL, contents=PROMPT))
    assert len(told) == 2


def test_identical_requests_are_answered_from_a_cache(shared: Fleet, ask: Ask) -> None:
    import cachetools

    kept: Any = cachetools.TTLCache(100, 60)
    client = client_of(shared, cache=kept)
    before = len(shared.gemini.log())
    answers = [
        ask(client, "models.generate_content", {"model": MODEL, "contents": words}).text
        for words in ("one", "one", "two", "one")
    ]
    assert answers == ["echo: one", "echo: one", "echo: two", "echo: one"]
    assert len(shared.gemini.log()) - before == 2
    assert not any("fake-key" in entry.decode() for entry in kept.values())


def counting(seen: Seen) -> Reply:
    """Counts tokens, or answers."""
    return as_json({"totalTokens": 2} if seen.path.endswith(":countTokens") else text("well"))


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({}, 8, 40),
        ({"estimator": lambda body: 77}, 77, 77),
        ({"estimator": None}, 0, 0),
        ({"input_tokens": 5}, 5, 5),
    ],
)
def test_tokens_are_estimated(stub: StubBroker, ask: Ask, settings: dict[str, Any], least: int, most: int) -> None:
    with StubGemini(counting) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url}, **settings)
        ask(client, "models.generate_content", {"model": MODEL, "contents": "12345678"})
    assert least <= stub.acquires[0].input_tokens <= most


def test_tokens_are_counted(stub: StubBroker, ask: Ask) -> None:
    with StubGemini(counting) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url}, count_tokens=True)
        ask(client, "models.generate_content", {"model": MODEL, "contents": "12345678"})
        assert stub.acquires[1].input_tokens == 2
        counted = json.loads(gemini.seen[0].body)["generateContentRequest"]
        assert counted["model"] == f"models/{MODEL}"
        assert counted["contents"]


def test_one_block_changes_options(stub: StubBroker) -> None:
    with StubGemini(counting) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url}, consumer="ann")
        with keybroker.call_options(consumer="bob", pool="batch"):
            client.models.generate_content(model=MODEL, contents=PROMPT)
        client.models.generate_content(model=MODEL, contents=PROMPT)
    assert [(asked.consumer, asked.pool) for asked in stub.acquires] == [("bob", "batch"), ("ann", "")]
    with pytest.raises(TypeError, match="unknown option"), keybroker.call_options(colour="red"):  # type: ignore[call-arg]
        pass


def test_a_whole_http_client_is_not_taken() -> None:
    with pytest.raises(keybroker.InvalidArgument, match="transport"):
        keybroker.genai.Client("127.0.0.1:1", http_options=types.HttpOptions(httpx_client=httpx2.Client()))


def test_a_transport_of_the_callers_sends(stub: StubBroker) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["x-goog-api-key"].startswith("fake-key-")
        return httpx2.Response(200, json=text("mocked"))

    client = keybroker.genai.Client(
        stub.address, http_options={"client_args": {"transport": httpx2.MockTransport(handle)}}
    )
    assert client.models.generate_content(model=MODEL, contents=PROMPT).text == "mocked"


def test_a_redirect_elsewhere_carries_no_key(stub: StubBroker) -> None:
    with StubGemini(lambda seen: as_json(text("elsewhere"))) as other:
        moved = Reply(302, b"", {"location": f"{other.url}/x"})
        with StubGemini(lambda seen: moved) as gemini:
            client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url})
            client.models.generate_content(model=MODEL, contents=PROMPT)
        assert gemini.seen[0].headers["x-goog-api-key"].startswith("fake-key-")
        assert "x-goog-api-key" not in other.seen[0].headers


class Files:
    """The Files API and the Interactions API, in little."""

    def __init__(self) -> None:
        self.url = ""

    def __call__(self, seen: Seen) -> Reply:
        path = seen.path.partition("?")[0]
        made = {"name": "files/abc", "uri": f"{self.url}/v1beta/files/abc", "mimeType": "text/plain", "state": "ACTIVE"}
        if path.startswith("/upload/") and "upload_id" not in seen.path:
            where = f"{self.url}/upload/v1beta/files?upload_id=u1&upload_protocol=resumable"
            return as_json({}, headers={"x-goog-upload-url": where, "x-goog-upload-status": "active"})
        if path.startswith("/upload/"):
            status = "final" if "finalize" in seen.headers["x-goog-upload-command"] else "active"
            return as_json({"file": made} if status == "final" else {}, headers={"x-goog-upload-status": status})
        if path.endswith(":download"):
            return Reply(200, b"\x00" * 100_000, {"content-type": "application/octet-stream"})
        if path.endswith("/files/abc"):
            return as_json({} if seen.method == "DELETE" else made)
        if path.endswith("/interactions"):
            return self.interaction(seen)
        return as_json(text("read"))

    def interaction(self, seen: Seen) -> Reply:
        usage = {"total_input_tokens": 7, "total_output_tokens": 2, "total_tokens": 9}
        whole = {
            "id": "i1",
            "status": "completed",
            "model": MODEL,
            "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
            "steps": [{"type": "model_output", "content": [{"type": "text", "text": "well"}]}],
            "usage": usage,
        }
        if not json.loads(seen.body).get("stream"):
            return as_json(whole)
        return events(
            {"event_type": "interaction.created", "interaction": {**whole, "status": "in_progress"}},
            {"event_type": "interaction.completed", "interaction": whole},
        )


@pytest.fixture
def files() -> Iterator[StubGemini]:
    answer = Files()
    with StubGemini(answer) as gemini:
        answer.url = gemini.url
        yield gemini


def test_a_file_stays_with_its_project(stub: StubBroker, files: StubGemini, ask: Ask) -> None:
    client = keybroker.genai.Client(stub.address, http_options={"base_url": files.url})
    made = ask(
        client, "files.upload", {"file": io.BytesIO(b"words"), "config": types.UploadFileConfig(mime_type="text/plain")}
    )
    first, second = stub.acquires
    assert (first.model, first.constraints.project) == (MODEL, "")
    assert second.constraints.project == "project-0", "the content goes where the upload began"
    stub.acquires.clear()
    ask(client, "models.generate_content", {"model": MODEL, "contents": ["look", made]})
    ask(client, "files.get", {"name": made.name})
    ask(client, "models.generate_content", {"model": MODEL, "contents": "nothing of the file"})
    ask(client, "files.delete", {"name": made.name})
    assert [asked.constraints.project for asked in stub.acquires] == ["project-0", "project-0", "", "project-0"]
    assert all("key=" not in seen.path for seen in files.seen)
    assert all(seen.headers["x-goog-api-key"].startswith("fake-key-") for seen in files.seen)


def test_a_file_of_another_process_can_be_told_of(stub: StubBroker, files: StubGemini) -> None:
    client = keybroker.genai.Client(stub.address, http_options={"base_url": files.url})
    client.affinity.remember("files/of-another", "project-7")
    part = types.Part.from_uri(file_uri=f"{files.url}/v1beta/files/of-another", mime_type="text/plain")
    client.models.generate_content(model=MODEL, contents=[part])
    assert stub.acquires[0].constraints.project == "project-7"


def test_a_download_is_not_held_in_memory(stub: StubBroker, files: StubGemini, ask: Ask) -> None:
    client = keybroker.genai.Client(stub.address, http_options={"base_url": files.url})
    content = ask(client, "files.download", {"file": "files/abc"})
    assert len(content) == 100_000
    client.broker.sync.flush() if isinstance(client.broker, keybroker.AsyncBroker) else client.broker.flush()
    assert stub.outcomes() == ["success"]


def test_files_of_the_fake(shared: Fleet, ask: Ask) -> None:
    client = client_of(shared)
    config = types.UploadFileConfig(mime_type="text/plain")
    try:
        made = ask(client, "files.upload", {"file": io.BytesIO(b"words"), "config": config})
    except errors.ClientError as error:
        if error.code == 404:
            pytest.skip("this fake Gemini has no files")
        raise
    for _ in range(4):
        answer = ask(client, "models.generate_content", {"model": MODEL, "contents": ["look", made]})
        assert answer.text
    assert ask(client, "files.get", {"name": made.name}).name == made.name


def test_interactions(stub: StubBroker, files: StubGemini, ask: Ask) -> None:
    client = keybroker.genai.Client(stub.address, http_options={"base_url": files.url})
    answer = ask(client, "interactions.create", {"model": MODEL, "input": PROMPT})
    assert answer.id == "i1"
    ask(client, "interactions.create", {"model": MODEL, "input": "more", "previous_interaction_id": "i1"})
    client.flush()
    assert [asked.model for asked in stub.acquires] == [MODEL, MODEL]
    assert [asked.constraints.project for asked in stub.acquires] == ["", "project-0"]
    assert stub.outcomes() == ["success", "success"]
    assert stub.reports[0].success.usage.input_tokens == 7


def test_interactions_stream(stub: StubBroker, files: StubGemini) -> None:
    client = keybroker.genai.Client(stub.address, http_options={"base_url": files.url})
    stream: Any = client.interactions.create(model=MODEL, input=PROMPT, stream=True)
    assert [event.event_type for event in stream] == ["interaction.created", "interaction.completed"]
    client.flush()
    assert stub.outcomes() == ["success"]
    assert stub.reports[0].success.usage.total_tokens == 9


def test_retries_of_interactions_are_off(stub: StubBroker, ask: Ask) -> None:
    stub.advise = lambda _: pb.Advice(action=pb.Advice.DO_NOT_RETRY)
    with StubGemini(lambda seen: as_json({"error": {"code": "busy", "message": "no"}}, 503)) as gemini:
        client = keybroker.genai.Client(stub.address, http_options={"base_url": gemini.url})
        with pytest.raises(Exception, match="no"):
            ask(client, "interactions.create", {"model": MODEL, "input": PROMPT})
        assert len(gemini.seen) == 1
        client.flush()
    assert stub.outcomes() == ["http_error"]


def test_interactions_of_the_fake(shared: Fleet, ask: Ask) -> None:
    client = client_of(shared)
    try:
        answer = ask(client, "interactions.create", {"model": MODEL, "input": PROMPT})
    except Exception as error:
        if getattr(error, "status_code", getattr(error, "code", None)) == 404:
            pytest.skip("this fake Gemini has no interactions")
        raise
    assert answer.id


def test_a_hundred_threads_share_one_client(shared: Fleet) -> None:
    client = client_of(shared)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            assert client.models.generate_content(model=MODEL, contents=str(number)).text == f"echo: {number}"
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    client.flush()


def test_a_lease_that_is_too_old_once_connected_is_given_back(stub: StubBroker) -> None:
    stub.send_within = 0.2

    class Slow(httpx2.HTTPTransport):
        tries = 0

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            Slow.tries += 1
            if Slow.tries == 1:
                time.sleep(0.3)
            return super().handle_request(request)

    with StubGemini(lambda seen: as_json(text("well"))) as gemini:
        client = keybroker.genai.Client(
            stub.address, http_options={"base_url": gemini.url, "client_args": {"transport": Slow()}}
        )
        assert client.models.generate_content(model=MODEL, contents=PROMPT).text == "well"
        assert len(gemini.seen) == 1
        client.flush()
    assert stub.outcomes() == ["not_sent", "success"]
