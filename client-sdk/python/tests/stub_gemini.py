"""A Gemini made of a few lines, for files, interactions and answers of odd forms."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    # Pieces that are flushed one by one instead of the body; without a length, so that their end is the end.
    pieces: list[bytes] | None = None
    gate: threading.Event | None = None


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """An answer of JSON."""
    return Reply(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})


def events(*values: Any, raw: tuple[bytes, ...] = ()) -> Reply:
    """An answer of server-sent events."""
    pieces = [b"data: " + json.dumps(value).encode() + b"\r\n\r\n" for value in values]
    return Reply(200, b"", {"content-type": "text/event-stream"}, [*pieces, *raw])


def text(words: str, *, last: bool = True, tokens: int = 3) -> dict[str, Any]:
    """A response of a model, or a piece of one."""
    candidate: dict[str, Any] = {"content": {"parts": [{"text": words}], "role": "model"}}
    if last:
        candidate["finishReason"] = "STOP"
    usage = {"promptTokenCount": tokens, "candidatesTokenCount": 1, "totalTokenCount": tokens + 1}
    return {"candidates": [candidate], "usageMetadata": usage}


def zipped(reply: Reply) -> Reply:
    """The same, compressed."""
    headers = {**reply.headers, "content-encoding": "gzip"}
    if reply.pieces is None:
        return Reply(reply.status, gzip.compress(reply.body), headers)
    whole = gzip.compress(b"".join(reply.pieces))
    return Reply(reply.status, b"", headers, [whole[:20], whole[20:]])


class StubGemini:
    """Answers as `answer` says, and keeps what it saw."""

    def __init__(self, answer: Callable[[Seen], Reply]) -> None:
        self.seen: list[Seen] = []
        self.answer = answer
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, self.rfile.read(length))
                stub.seen.append(seen)
                reply = stub.answer(seen)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.pieces is None:
                    self.send_header("content-length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                    return
                self.send_header("connection", "close")
                self.close_connection = True
                self.end_headers()
                for piece in reply.pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if reply.gate is not None:
                        reply.gate.wait(5)

            do_GET = do_POST = do_DELETE = do_PATCH = do_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
