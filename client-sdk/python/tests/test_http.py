"""httpx, httpx2 and requests with leased keys."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import httpx2
import pytest
import requests

import keybroker
import keybroker.httpx
import keybroker.httpx2
import keybroker.requests
from keybroker._proto.v1 import keybroker_pb2 as pb
from stub_broker import StubBroker
from stub_gemini import Reply, StubGemini, as_json, events, text, zipped
from support import MODEL, Fleet, free_port

BODY = {"contents": [{"parts": [{"text": "Why is the sky blue?"}]}]}
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
CUTS = (httpx.TransportError, httpx2.TransportError, requests.RequestException)


class Sync:
    """A client of httpx or httpx2."""

    def __init__(self, lib: Any, module: Any, broker: keybroker.Broker, host: str, **options: Any) -> None:
        transport = module.LeaseTransport(broker, hosts=[host], **options)
        self.client = lib.Client(transport=transport, base_url=f"http://{host}", timeout=10)

    def post(self, path: str) -> tuple[int, bytes]:
        answer = self.client.post(path, json=BODY)
        return answer.status_code, answer.content

    def stream(self, path: str, most: int | None = None) -> list[bytes]:
        pieces: list[bytes] = []
        with self.client.stream("POST", path, json=BODY) as answer:
            for piece in answer.iter_bytes():
                pieces.append(piece)
                if len(pieces) == most:
                    break
        return pieces

    def close(self) -> None:
        self.client.close()


class Async:
    """An async client of httpx or httpx2."""

    def __init__(self, lib: Any, module: Any, broker: keybroker.Broker, host: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        transport = module.AsyncLeaseTransport(broker, hosts=[host], **options)
        self.client = lib.AsyncClient(transport=transport, base_url=f"http://{host}", timeout=10)

    def post(self, path: str) -> tuple[int, bytes]:
        answer = self.runner.run(self.client.post(path, json=BODY))
        return answer.status_code, answer.content

    def stream(self, path: str, most: int | None = None) -> list[bytes]:
        async def read() -> list[bytes]:
            pieces: list[bytes] = []
            async with self.client.stream("POST", path, json=BODY) as answer:
                async for piece in answer.aiter_bytes():
                    pieces.append(piece)
                    if len(pieces) == most:
                        break
            return pieces

        return self.runner.run(read())

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


class Requests:
    """A session of requests."""

    def __init__(self, broker: keybroker.Broker, host: str, **options: Any) -> None:
        self.session = requests.Session()
        self.url = f"http://{host}"
        self.session.mount(self.url, keybroker.requests.LeaseAdapter(broker, **options))

    def post(self, path: str) -> tuple[int, bytes]:
        answer = self.session.post(self.url + path, json=BODY, timeout=10)
        return answer.status_code, answer.content

    def stream(self, path: str, most: int | None = None) -> list[bytes]:
        pieces: list[bytes] = []
        with self.session.post(self.url + path, json=BODY, timeout=10, stream=True) as answer:
            for piece in answer.iter_content(None):
                pieces.append(piece)
                if len(pieces) == most:
                    break
        return pieces

    def close(self) -> None:
        self.session.close()


Make = Callable[..., Any]


@pytest.fixture(params=["httpx", "httpx2", "httpx-async", "httpx2-async", "requests"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a client of one of the libraries."""
    made: list[Any] = []

    def one(broker: keybroker.Broker, host: str, **options: Any) -> Any:
        kind: str = request.param
        if kind == "requests":
            client: Any = Requests(broker, host, **options)
        else:
            lib, module = (httpx2, keybroker.httpx2) if "httpx2" in kind else (httpx, keybroker.httpx)
            form = Async if kind.endswith("async") else Sync
            client = form(lib, module, broker, host, **options)
        made.append(client)
        return client

    yield one
    for client in made:
        client.close()


@pytest.fixture
def broker(stub: StubBroker) -> keybroker.Broker:
    return keybroker.Broker(stub.address)


def test_a_request_and_a_stream(shared: Fleet, make: Make) -> None:
    client = make(shared.client(), shared.gemini.host)
    status, content = client.post(f"{GENERATE}?key=fake-key-of-the-caller")
    assert (status, b"echo: Why" in content) == (200, True)
    assert len(b"".join(client.stream(STREAM)).split(b"data:")) == 4
    assert shared.gemini.verdict()["keys_in_url"] == 0


def test_an_answer_that_is_compressed(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    answers = [zipped(as_json(text("well"))), zipped(events(text("one", last=False), text("two")))]
    with StubGemini(lambda seen: answers.pop(0)) as gemini:
        client = make(broker, gemini.host)
        assert b"well" in client.post(GENERATE)[1]
        assert b"two" in b"".join(client.stream(STREAM))
    broker.flush()
    assert [report.success.usage.input_tokens for report in stub.reports] == [3, 3]


def test_a_stream_that_ends_without_a_reason_is_a_cut(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    cut = events(text("one", last=False), text("two", last=False, tokens=8))
    with StubGemini(lambda seen: cut) as gemini, pytest.raises(CUTS):
        make(broker, gemini.host).stream(STREAM)
    broker.flush()
    (report,) = stub.reports
    assert report.transport_error.kind == pb.TransportError.RESET
    assert report.transport_error.usage.input_tokens == 8


def test_an_error_within_a_stream(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    bad = {"error": {"code": 429, "message": "spent"}}
    with StubGemini(lambda seen: events(text("one", last=False), bad)) as gemini:
        assert b"spent" in b"".join(make(broker, gemini.host).stream(STREAM))
    broker.flush()
    assert stub.reports[0].http_error.status == 429


def test_an_error_that_is_no_event(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    stray = (b'{"error": {"code": 503,\n"message": "busy"}}\n',)
    with StubGemini(lambda seen: events(text("one", last=False), raw=stray)) as gemini:
        assert b"busy" in b"".join(make(broker, gemini.host).stream(STREAM))
    broker.flush()
    assert stub.reports[0].http_error.status == 503


def test_a_stream_that_is_left(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    gate = threading.Event()

    def slow(seen: Any) -> Reply:
        reply = events(text("one", last=False, tokens=5), text("two", last=False), text("three"))
        reply.gate = gate
        return reply

    with StubGemini(slow) as gemini:
        client = make(broker, gemini.host)
        assert len(client.stream(STREAM, most=1)) == 1
        gate.set()
    gc.collect()
    broker.flush()
    (report,) = stub.reports
    assert report.transport_error.kind == pb.TransportError.CANCELLED
    assert report.transport_error.usage.input_tokens == 5


def test_a_stream_that_is_left_at_its_end(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    gate = threading.Event()

    def open_ended(seen: Any) -> Reply:
        reply = events(text("whole", tokens=5), {})
        reply.gate = gate
        return reply

    with StubGemini(open_ended) as gemini:
        assert len(make(broker, gemini.host).stream(STREAM, most=1)) == 1
        gate.set()
    gc.collect()
    broker.flush()
    assert stub.outcomes() == ["success"]


def test_a_connection_that_cannot_be_made(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    stub.advise = lambda _: pb.Advice(action=pb.Advice.DO_NOT_RETRY)
    client = make(broker, f"127.0.0.1:{free_port()}")
    with pytest.raises(CUTS):
        client.post(GENERATE)
    broker.flush()
    assert stub.reports[0].transport_error.kind == pb.TransportError.CONNECT


def test_a_connection_that_breaks_is_tried_again(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    stub.advise = lambda report: pb.Advice(
        action=pb.Advice.DONE if report.HasField("success") else pb.Advice.RETRY_AFTER,
    )
    halves = [
        Reply(200, b"", {"content-type": "application/json", "content-length": "900"}, [b"{"]),
        as_json(text("well")),
    ]
    with StubGemini(lambda seen: halves.pop(0)) as gemini:
        assert b"well" in make(broker, gemini.host).post(GENERATE)[1]
    broker.flush()
    assert stub.outcomes() == ["transport_error", "success"]
    assert stub.reports[0].transport_error.kind == pb.TransportError.RESET


def test_the_last_answer_is_googles(stub: StubBroker, broker: keybroker.Broker, make: Make) -> None:
    """A refusal that follows it says less."""
    stub.advise = lambda _: pb.Advice(action=pb.Advice.RETRY_OTHER_KEY)

    def once(request: pb.AcquireRequest, context: Any) -> None:
        if len(stub.acquires) > 1:
            from stub_broker import refuse

            refuse(context, __import__("grpc").StatusCode.FAILED_PRECONDITION, "NO_USABLE_KEY")

    stub.on_acquire = once
    reply = Reply(429, b"<html>busy fake-key-0000</html>", {"content-type": "text/html", "retry-after": "7"})
    with StubGemini(lambda seen: reply) as gemini:
        status, content = make(broker, gemini.host).post(GENERATE)
    assert (status, content) == (429, b"<html>busy [redacted]</html>")
    broker.flush()
    assert stub.reports[0].http_error.retry_after.seconds == 7


def test_no_lease_is_an_error_of_this_package(make: Make, shared: Fleet) -> None:
    client = make(shared.client(pool="nowhere"), shared.gemini.host)
    with pytest.raises(keybroker.UnknownPool, match="nowhere"):
        client.post(GENERATE)


def test_other_hosts_pass_untouched(stub: StubBroker, broker: keybroker.Broker) -> None:
    with StubGemini(lambda seen: as_json({})) as other:
        with httpx.Client(transport=keybroker.httpx.LeaseTransport(broker)) as client:
            client.get(other.url, headers={"x-goog-api-key": "fake-key-of-the-caller"})
        assert "x-goog-api-key" not in other.seen[0].headers
    assert not stub.acquires


def test_the_proxies_of_the_environment_are_used(
    stub: StubBroker, broker: keybroker.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StubGemini(lambda seen: as_json(text("by the proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with closing(Sync(httpx, keybroker.httpx, broker, "gemini.invalid:80")) as client:
            assert b"by the proxy" in client.post(GENERATE)[1]
        assert proxy.seen[0].path.startswith("http://gemini.invalid")


def test_a_body_that_is_a_stream_is_sent_again(stub: StubBroker, broker: keybroker.Broker) -> None:
    stub.advise = lambda report: pb.Advice(
        action=pb.Advice.DONE if report.HasField("success") else pb.Advice.RETRY_OTHER_KEY
    )
    answers = [as_json({"error": {"code": 500}}, 500), as_json({}), as_json({"error": {"code": 500}}, 500), as_json({})]
    with StubGemini(lambda seen: answers.pop(0)) as gemini:
        transport = keybroker.httpx.LeaseTransport(broker, hosts=[gemini.host])
        with httpx.Client(transport=transport) as client:
            assert client.post(gemini.url + "/v1beta/files", content=iter([b"a", b"b"])).status_code == 200
        session = requests.Session()
        session.mount(gemini.url, keybroker.requests.LeaseAdapter(broker))
        assert session.post(gemini.url + "/v1beta/files", data=iter([b"a", b"b"]), timeout=5).status_code == 200
        assert [seen.body for seen in gemini.seen] == [b"ab"] * 4
