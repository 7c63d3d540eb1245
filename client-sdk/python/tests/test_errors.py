"""Mistakes and trouble: each has its own error, whose text says what to do."""

from __future__ import annotations

import hashlib
import socket
import time
from typing import Any

import grpc
import pytest

import keybroker
from keybroker._proto.v1 import keybroker_pb2 as pb
from stub_broker import StubBroker, refuse
from support import MODEL, Fleet, fleet, free_port


@pytest.mark.parametrize(
    "address", ["", "localhost", "redis://127.0.0.1:1", "two words:1", "a:0", "a:b", "u@h:1", ":5"]
)
def test_an_address_that_cannot_be_used(address: str) -> None:
    with pytest.raises(keybroker.InvalidArgument, match="host:port"):
        keybroker.Broker(address)


def test_several_addresses_in_any_form() -> None:
    for given in ("a:1,b:2", "a:1, b:2", ["a:1", "b:2"], "http://a:1,grpc://b:2/"):
        assert keybroker.Broker(given).settings.addresses == ("a:1", "b:2")
    assert keybroker.Broker("https://a:1").settings.tls == keybroker.Tls()


def test_a_broker_that_is_down_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(keybroker.Unavailable) as caught:
        keybroker.Broker(address).lease(MODEL)
    assert address in str(caught.value)
    assert not caught.value.answer_lost
    assert time.monotonic() - started < 2
    other = f"127.0.0.1:{free_port()}"
    with pytest.raises(keybroker.Unavailable) as caught:
        keybroker.Broker([address, other]).lease(MODEL)
    assert address in str(caught.value)
    assert other in str(caught.value)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(keybroker.Unavailable, match=r"nowhere\.invalid:1"):
        keybroker.Broker("nowhere.invalid:1").lease(MODEL)


def test_an_address_that_is_no_broker(shared: Fleet) -> None:
    with pytest.raises(keybroker.KeybrokerError, match=shared.gemini.host):
        keybroker.Broker(shared.gemini.host, call_timeout=2).lease(MODEL)


def test_an_address_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises((keybroker.DeadlineExceeded, keybroker.Unavailable), match=address):
            keybroker.Broker(address, call_timeout=1).lease(MODEL)


def test_a_deadline_that_is_too_short(shared: Fleet) -> None:
    with pytest.raises(keybroker.DeadlineExceeded, match="call_timeout"):
        shared.client(call_timeout=1e-6).lease(MODEL)
    with pytest.raises(keybroker.InvalidArgument, match="call_timeout"):
        shared.client(call_timeout=0)


def test_an_unknown_pool(shared: Fleet) -> None:
    with pytest.raises(keybroker.UnknownPool, match="nowhere"):
        shared.client(pool="nowhere").lease(MODEL)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": MODEL, "permits": 0}, "permits"),
        ({"model": MODEL, "permits": 1 << 70}, "permits"),
        ({"model": MODEL, "wait": 601}, "wait"),
        ({"model": MODEL, "ttl": 0.5}, "ttl"),
        ({"model": MODEL, "consumer": "é"}, "consumer"),
        ({"model": MODEL, "input_tokens": -1}, "input_tokens"),
        ({"model": MODEL, "exclude_keys": [str(number) for number in range(300)]}, "exclude_key_ids"),
    ],
)
def test_a_field_out_of_range(shared: Fleet, options: dict[str, Any], field: str) -> None:
    with pytest.raises(keybroker.InvalidArgument) as caught:
        shared.client().lease(**options)
    assert field in str(caught.value)
    assert any(field in violation.field for violation in caught.value.violations)


def test_a_field_of_another_type(shared: Fleet) -> None:
    with pytest.raises(keybroker.InvalidArgument):
        shared.client().lease(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a lease takes pool"):
        shared.client().lease(MODEL, colour="red")  # type: ignore[call-arg]


def test_a_refusal_says_when_and_what() -> None:
    with fleet("[{ requests_per_minute = 1 }]", projects=1) as small:
        broker = small.client()
        broker.lease(MODEL).success()
        with pytest.raises(keybroker.Refused) as caught:
            broker.lease(MODEL)
        refusal = caught.value
        assert 30 < refusal.retry_after < 70
        assert refusal.reason == "QUOTA_EXHAUSTED"
        assert refusal.quota
        assert "project-0000" in str(refusal)
        assert refusal.metadata["retry_at_unix_ms"]
        assert refusal.retryable
        with pytest.raises(keybroker.NeverPossible):
            broker.lease(MODEL, permits=2)
        with pytest.raises(keybroker.NoUsableKey):
            broker.lease(MODEL, tier=keybroker.Tier.PAID)


def test_a_token() -> None:
    with StubBroker(token="fake-token") as stub:
        keybroker.Broker(stub.address, token="fake-token").lease(MODEL).success()
        for token in ("fake-other", None):
            with pytest.raises(keybroker.Unauthenticated, match="token=") as caught:
                keybroker.Broker(stub.address, token=token).lease(MODEL)
            assert stub.address in str(caught.value)
            assert "fake-" not in str(caught.value)


def test_a_real_broker_tells_who_is_not_known_and_who_may_not() -> None:
    digest = hashlib.sha256(b"fake-token-of-a-worker").hexdigest()
    identity = (
        f'[[identities]]\nname = "nightly"\nroles = ["worker"]\nmodels = ["gemini-2.5-*"]\ntoken_sha256 = ["{digest}"]'
    )
    with fleet(pool=identity) as small:
        small.client(token="fake-token-of-a-worker").lease(MODEL).not_sent()
        with pytest.raises(keybroker.Unauthenticated, match="token="):
            small.client(token="fake-token-wrong").lease(MODEL)
        with pytest.raises(keybroker.Unauthenticated, match="no credentials"):
            small.client().lease(MODEL)
        with pytest.raises(keybroker.NotPermitted, match="identity nightly may not lease for model") as caught:
            small.client(token="fake-token-of-a-worker").lease("gemini-3-pro")
        assert not caught.value.retryable
        assert caught.value.kind == "not_permitted"


def test_a_token_is_not_sent_in_plaintext() -> None:
    with pytest.raises(keybroker.InvalidArgument, match="plaintext"):
        keybroker.Broker("broker.example:1", token="fake-token")
    with pytest.raises(keybroker.InvalidArgument, match="plaintext"):
        keybroker.Broker("127.0.0.1:1,broker.example:1", token="fake-token")
    allowed = keybroker.Broker("broker.example:1", token="fake-token", allow_insecure_token=True)
    assert "fake-token" not in repr(allowed.settings)
    for loopback in ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.0.1:1"):
        keybroker.Broker(loopback, token="fake-token")
    keybroker.Broker("broker.example:1", token="fake-token", tls=True)


def test_tls_files_that_are_missing() -> None:
    with pytest.raises(keybroker.InvalidArgument, match=r"/no/such\.pem"):
        keybroker.Broker("127.0.0.1:1", tls=keybroker.Tls(ca_file="/no/such.pem"))
    with pytest.raises(keybroker.InvalidArgument, match="both or neither"):
        keybroker.Broker("127.0.0.1:1", tls=keybroker.Tls(cert_file="/no/such.pem"))


def test_an_answer_that_is_lost_is_not_asked_for_again(stub: StubBroker) -> None:
    def lose(request: pb.AcquireRequest, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    stub.on_acquire = lose
    with pytest.raises(keybroker.Unavailable) as caught:
        keybroker.Broker(stub.address).lease(MODEL, wait=2)
    assert caught.value.answer_lost
    assert len(stub.acquires) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "LEDGER_UNAVAILABLE"),
        (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    ],
)
def test_a_broker_that_handed_nothing_out_is_asked_again(stub: StubBroker, code: grpc.StatusCode, reason: str) -> None:
    def once(request: pb.AcquireRequest, context: grpc.ServicerContext) -> None:
        if len(stub.acquires) == 1:
            refuse(context, code, reason, 0.05)

    stub.on_acquire = once
    broker = keybroker.Broker(stub.address)
    with pytest.raises(keybroker.Unavailable) as caught:
        broker.lease(MODEL)
    assert caught.value.reason == reason
    assert not caught.value.answer_lost
    stub.acquires.clear()
    broker.lease(MODEL, wait=5).success()
    assert len(stub.acquires) == 2


def test_another_broker_is_asked(stub: StubBroker) -> None:
    gone = f"127.0.0.1:{free_port()}"
    broker = keybroker.Broker([gone, stub.address])
    broker.lease(MODEL).success()

    def leave(request: pb.AcquireRequest, context: grpc.ServicerContext) -> None:
        refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")

    with StubBroker() as second:
        stub.on_acquire = leave
        both = keybroker.Broker(f"{stub.address},{second.address}")
        both.lease(MODEL).success()
        both.lease(MODEL).success()
        assert (len(stub.acquires), len(second.acquires)) == (2, 2), "the one that served last is asked first"


def test_a_reason_of_another_domain_is_not_ours(stub: StubBroker) -> None:
    def deny(request: pb.AcquireRequest, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.INTERNAL, "text")

    stub.on_acquire = deny
    with pytest.raises(keybroker.Other) as caught:
        keybroker.Broker(stub.address).lease(MODEL)
    assert caught.value.code == "INTERNAL"


def test_a_closed_client(stub: StubBroker) -> None:
    with keybroker.Broker(stub.address) as broker:
        lease = broker.lease(MODEL)
    with pytest.raises(keybroker.Closed):
        broker.lease(MODEL)
    assert lease.success().action is keybroker.Action.DONE


def test_kinds_are_distinct() -> None:
    kinds = [
        error.kind
        for error in vars(keybroker.errors).values()
        if isinstance(error, type) and issubclass(error, keybroker.KeybrokerError) and error.kind != "other"
    ]
    assert sorted(kinds) == sorted(set(kinds))
    assert len(kinds) == 13
