"""The parts that need nobody else."""

from __future__ import annotations

import pytest

import keybroker
from keybroker import Affinity, Usage, estimate_input_tokens
from keybroker._gemini import answer, target
from keybroker._gemini.call import without_key
from keybroker._proto.v1 import keybroker_pb2 as pb
from keybroker._wire import backoff, seconds, spread, to_duration
from keybroker.outcome import Action, Advice


def test_prose_counts_half_of_its_bytes_and_numbers_all_of_them() -> None:
    assert estimate_input_tokens("four word text here") == 10
    assert estimate_input_tokens("1234567890") == 10
    assert estimate_input_tokens("日本語") == 5
    assert estimate_input_tokens("a\nb\n") == 3
    assert estimate_input_tokens("") == 0


def test_media_counts_by_size_with_an_allowance_at_least() -> None:
    assert estimate_input_tokens({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}) == 2_240
    assert estimate_input_tokens({"inlineData": {"data": "A" * 400_000}}) == 10_000
    assert estimate_input_tokens({"fileData": {"fileUri": "https://files.example/1"}}) == 2_240


def test_everything_in_a_body_counts() -> None:
    without = {"contents": [{"parts": [{"text": "hello"}]}]}
    with_more = {**without, "systemInstruction": {"parts": [{"text": "be brief"}]}}
    assert estimate_input_tokens(with_more) > estimate_input_tokens(without)


@pytest.mark.parametrize(
    ("url", "body", "expected"),
    [
        ("https://h/v1beta/models/m-1:generateContent", {}, ("m-1", "generateContent", 1)),
        ("https://h/v1/models/m:streamGenerateContent?alt=sse", {}, ("m", "streamGenerateContent", 1)),
        ("https://h/base/v1beta/models/m:batchEmbedContents", {"requests": [{}] * 3}, ("m", "batchEmbedContents", 3)),
        ("https://h/v1beta/models/m%3AcountTokens", None, ("m", "countTokens", 1)),
        ("https://h/v1beta/models/m", None, ("m", "", 1)),
        ("https://h/v1beta/models", None, ("", "", 1)),
        ("https://h/v1beta/interactions", {"model": "m"}, ("m", "", 1)),
        ("https://h/v1beta/cachedContents", {"model": "models/m"}, ("m", "", 1)),
        ("https://h/upload/v1beta/files", {"file": {}}, ("", "", 1)),
    ],
)
def test_a_url_says_what_is_asked_for(url: str, body: object, expected: tuple[str, str, int]) -> None:
    read = target.read(url, body)
    assert (read.model, read.method, read.permits) == expected


def test_a_key_leaves_a_url() -> None:
    assert without_key("https://h/p?key=fake-key&alt=sse") == "https://h/p?alt=sse"
    assert without_key("https://h/p?alt=sse") == "https://h/p?alt=sse"
    assert without_key("https://h/p?monkey=1") == "https://h/p?monkey=1"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"error":{"code":429,"message":"slow down"}}', 429),
        (b'[{"error":{"code":503}}]', 503),
        (b' {"error":{"code":"quota_exceeded"}}', 200),
        (b'{"error":{"code":true}}', 200),
        (b'{"error":{"code":99}}', 200),
    ],
)
def test_an_error_is_found_in_each_of_its_shapes(body: bytes, status: int) -> None:
    error = answer.error_of(answer.parse(body))
    assert error is not None
    assert answer.status_of(error, 200) == status


@pytest.mark.parametrize(
    "body", [b"<html>bad gateway</html>", b'{"candidates":[]}', b"[]", b"", b"{", b'{"error":"odd"}']
)
def test_what_is_no_error(body: bytes) -> None:
    assert answer.error_of(answer.parse(body)) is None


def test_usage_is_read_in_each_of_its_forms() -> None:
    class Metadata:
        prompt_token_count = 7
        total_token_count = 9
        thoughts_token_count = None

    expected = Usage(input_tokens=7, total_tokens=9)
    assert Usage.read({"promptTokenCount": 7, "totalTokenCount": 9}) == expected
    assert Usage.read(Metadata()) == expected
    assert Usage.read(expected) is expected
    assert Usage.read(None) == Usage()
    assert Usage.read({"promptTokenCount": "7", "totalTokenCount": -1}) == Usage()
    assert not Usage.read({"promptTokenCount": 7}).to_proto().HasField("output_tokens")


def test_a_retry_after_is_read_in_seconds() -> None:
    assert answer.retry_after_of("12") == 12
    for odd in (None, "", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "nan", "inf"):
        assert answer.retry_after_of(odd) is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_events_arrive_in_pieces_of_any_size(size: int) -> None:
    stream = (
        b': hello\r\nevent: x\ndata: {"usageMetadata":\ndata: {"promptTokenCount": 4}}\r\n\r\n'
        b'data: {"candidates": [{"finishReason": "STOP"}]}\n\n'
    )
    watch = answer.Watch(None, 200, events=True, needs_reason=True)
    for start in range(0, len(stream), size):
        watch.feed(stream[start : start + size])
    assert watch.seen == 2
    assert watch.failure is None
    assert watch.end()
    assert watch._usage.input_tokens == 4


def test_a_prompt_that_was_blocked_is_an_end() -> None:
    watch = answer.Watch(None, 200, events=True, needs_reason=True)
    watch.feed(b'data: {"promptFeedback": {"blockReason": "SAFETY"}}\n\n')
    assert watch.end()


def test_a_resource_is_known_by_name_and_by_uri() -> None:
    affinity = Affinity(size=2)
    affinity.remember("https://h/v1beta/files/abc", "p")
    assert affinity.project_of("files/abc") == "p"
    body = {"contents": [{"parts": [{"fileData": {"fileUri": "https://h/v1beta/files/abc"}}]}]}
    assert affinity.of_request("https://h/v1beta/models/m:generateContent", body) == "p"
    assert affinity.of_request("https://h/v1beta/files/abc:download?alt=media", None) == "p"
    assert affinity.of_request("https://h/v1beta/files/abcd", None) == ""
    affinity.remember("cachedContents/x", "q")
    assert affinity.of_request("https://h/", {"cachedContent": "cachedContents/x"}) == "q"
    affinity.remember("batches/y", "r")
    assert affinity.project_of("files/abc") == ""


def test_an_unknown_action_is_not_a_retry() -> None:
    result = pb.ReportResult()
    result.advice.ParseFromString(b"\x08\x63\x18\x63")
    advice = Advice.from_proto(result)
    assert advice.action is Action.DO_NOT_RETRY
    assert advice.signal == "SIGNAL_99"
    assert not advice.retryable


def test_a_wait_of_zero_leaves_the_backoff_to_the_caller() -> None:
    result = pb.ReportResult(advice=pb.Advice(action=pb.Advice.RETRY_AFTER, retry_after=to_duration(0)))
    assert Advice.from_proto(result).retry_after is None


def test_waits() -> None:
    for retry in range(100):
        assert backoff(retry, 0.1, 2.0) <= min(2.0, 0.1 * 2**retry)
        assert 3 <= spread(3) <= 3.3
    assert seconds(to_duration(1.25)) == 1.25
    assert seconds(to_duration(-1)) == 0


def test_options_are_checked() -> None:
    for wrong in ({"attempts": 0}, {"attempts": 257}, {"deadline": 0}, {"wait": 601}):
        with pytest.raises(keybroker.InvalidArgument, match=next(iter(wrong))):
            keybroker.CallOptions(**wrong)  # type: ignore[arg-type]
