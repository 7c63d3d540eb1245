"""What an answer of Gemini's is reported as.

Nothing here knows Google's errors: an answer failed if its status is not 2xx, or if it holds an object `error`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import _background, outcome
from .._proto.v1 import keybroker_pb2 as pb
from ..lease import BaseLease
from ..outcome import TransportKind, Usage

# As much of an answer that cannot be read as events is kept for its report.
LARGEST_STRAY = 64 * 1024

_INTERACTION = {
    "input_tokens": "total_input_tokens",
    "output_tokens": "total_output_tokens",
    "total_tokens": "total_tokens",
    "thoughts_tokens": "total_thought_tokens",
    "cached_tokens": "total_cached_tokens",
}


def parse(body: bytes) -> Any:
    """The JSON of a body; None if it is none."""
    if body[:1] not in (b"{", b"[") and body.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def error_of(value: Any) -> Mapping[str, Any] | None:
    """The error object of an answer that is one, or of an array that holds one."""
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, Mapping) and isinstance(one.get("error"), Mapping):
            found: Mapping[str, Any] = one["error"]
            return found
    return None


def status_of(error: Mapping[str, Any], status: int) -> int:
    """The HTTP status of an error object: its code where that is one."""
    code = error.get("code")
    is_status = isinstance(code, int) and not isinstance(code, bool) and 100 <= code <= 599
    return code if is_status and code is not None else status


def usage_of(value: Any) -> Usage | None:
    """The usage that an answer or an event names."""
    for one in reversed(value) if isinstance(value, list) else (value,):
        if not isinstance(one, Mapping):
            continue
        if isinstance(one.get("usageMetadata"), Mapping):
            return Usage.read(one["usageMetadata"])
        # The Interactions API has names of its own.
        interaction = one.get("interaction", one)
        usage = interaction.get("usage") if isinstance(interaction, Mapping) else None
        if isinstance(usage, Mapping):
            return Usage.read({own: usage.get(name) for own, name in _INTERACTION.items()})
    return None


def is_finished(value: Any) -> bool:
    """Whether an event says that the answer is whole: a reason why it ended, or why it was withheld."""
    for one in value if isinstance(value, list) else (value,):
        if not isinstance(one, Mapping):
            continue
        feedback = one.get("promptFeedback")
        if isinstance(feedback, Mapping) and feedback.get("blockReason"):
            return True
        candidates = one.get("candidates")
        if isinstance(candidates, list) and any(
            isinstance(candidate, Mapping) and candidate.get("finishReason") for candidate in candidates
        ):
            return True
    return False


def judge(
    lease: BaseLease | None, status: int, retry_after: float | None, body: bytes, value: Any
) -> tuple[bool, pb.LeaseReport]:
    """Whether a whole answer is good, and what to report."""
    masked = body if lease is None else lease.mask(body)
    if not 200 <= status < 300:
        return False, outcome.http_error(status, masked, retry_after)
    error = error_of(value)
    if error is not None:
        return False, outcome.http_error(status_of(error, status), masked, retry_after)
    return True, outcome.success(usage_of(value))


def retry_after_of(header: str | None) -> float | None:
    """A number of seconds. The form with a date depends on the clocks of both sides and is not read."""
    try:
        seconds = float((header or "").strip())
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e9 else None


class Watch:
    """Looks at the bytes of a streamed answer as they pass, and reports its lease however the stream ends."""

    def __init__(self, lease: BaseLease | None, status: int, *, events: bool, needs_reason: bool) -> None:
        self._lease = lease
        self._status = status
        self._reads_events = events
        self._needs_reason = needs_reason
        self._buffer = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._stray = bytearray()
        self._usage = Usage()
        self._finished = False
        self.seen = 0
        # What failed within the stream, as it is to be reported.
        self.failure: pb.LeaseReport | None = None

    def feed(self, chunk: bytes) -> None:
        """Looks at bytes that arrived."""
        if not self._reads_events:
            self.seen += 1
            return
        self._buffer += chunk
        start = 0
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            self._line(bytes(self._buffer[start:end]).removesuffix(b"\r"))
            start = self._searched = end + 1
        del self._buffer[:start]
        self._searched = len(self._buffer)

    def _line(self, line: bytes) -> None:
        if not line:
            if self._data:
                data, self._data = b"\n".join(self._data), []
                self._event(data)
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line.startswith((b":", b"event:", b"id:", b"retry:")) and len(self._stray) < LARGEST_STRAY:
            self._stray += line + b"\n"

    def _event(self, data: bytes) -> None:
        self.seen += 1
        value = parse(data)
        error = error_of(value)
        if error is not None and self.failure is None:
            body = data if self._lease is None else self._lease.mask(data)
            self.failure = outcome.http_error(status_of(error, self._status), body, None)
        self._usage = usage_of(value) or self._usage
        self._finished = self._finished or is_finished(value)

    def hand_over(self, is_busy: bool) -> None:
        """Notes that the caller has what came, or asks for more."""
        if self._lease is not None:
            self._lease.caller_is_busy(is_busy)

    def end(self) -> bool:
        """The stream ended; False if it was cut."""
        self._line(bytes(self._buffer).removesuffix(b"\r"))
        self._line(b"")
        self._buffer.clear()
        if self._stray and self.failure is None:
            self._event(bytes(self._stray))
        if self.failure is None and self._needs_reason and not self._finished:
            text = "the stream ended before the answer did"
            self._report(outcome.transport_error(TransportKind.RESET, text, self._usage))
            return False
        self._report(self.failure or outcome.success(self._usage))
        return True

    def broken(self, kind: TransportKind, message: str) -> pb.LeaseReport:
        """The connection broke: what to report."""
        return self.failure or outcome.transport_error(kind, message, self._usage)

    def break_off(self, kind: TransportKind, message: str) -> None:
        """The connection broke after the answer was handed on."""
        self._report(self.broken(kind, message))

    def drop(self) -> None:
        """The caller wants no more of it. Some stop at the finish reason, without asking for the end."""
        self._report(self._dropped())

    def _dropped(self) -> pb.LeaseReport:
        if self.failure is not None:
            return self.failure
        if self._finished:
            return outcome.success(self._usage)
        return outcome.transport_error(TransportKind.CANCELLED, "the stream was dropped", self._usage)

    def release(self) -> None:
        """Somebody else reports the lease."""
        self._lease = None

    def _report(self, report: pb.LeaseReport) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.report_in_background(report)

    def __del__(self) -> None:
        lease = getattr(self, "_lease", None)
        if lease is not None and not lease.reported:
            # Not from here: a finalizer may have interrupted whoever holds the locks.
            report = self._dropped()
            _background.soon(lambda: (lease.report_in_background(report), None)[1])
