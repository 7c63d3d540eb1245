"""Reports are delivered, in batches, by whichever broker answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import grpc
import pytest

import keybroker
from keybroker import outcome
from keybroker._proto.v1 import keybroker_pb2 as pb
from stub_broker import StubBroker, refuse
from support import MODEL, free_port, until


def waits(gate: threading.Event, seconds: float) -> Callable[[pb.ReportRequest, grpc.ServicerContext], None]:
    """Holds answers back until a gate opens."""

    def wait(request: pb.ReportRequest, context: grpc.ServicerContext) -> None:
        gate.wait(seconds)

    return wait


def test_reports_are_gathered(stub: StubBroker) -> None:
    gate = threading.Event()

    def wait(request: pb.ReportRequest, context: grpc.ServicerContext) -> None:
        gate.wait(5)

    broker = keybroker.Broker(stub.address)
    leases = [broker.lease(MODEL) for _ in range(300)]
    stub.on_report = wait
    for lease in leases:
        lease.report_in_background(outcome.not_sent())
    assert broker.unreported == 300
    gate.set()
    broker.flush()
    assert broker.unreported == 0
    assert len(stub.reports) == 300
    assert len({report.lease_id for report in stub.reports}) == 300
    assert max(map(len, stub.batches)) > 100
    assert len(stub.batches) <= 12


def test_large_bodies_are_spread_over_calls(stub: StubBroker) -> None:
    broker = keybroker.Broker(stub.address)
    leases = [broker.lease(MODEL) for _ in range(60)]
    gate = threading.Event()
    stub.on_report = waits(gate, 5)
    for lease in leases:
        lease.report_in_background(outcome.http_error(500, b"x" * 65_536, None))
    gate.set()
    broker.flush()
    sizes = [sum(report.ByteSize() for report in batch) for batch in stub.batches]
    assert max(sizes) <= 1024 * 1024
    assert len(stub.reports) == 60


def test_reports_wait_for_a_broker_that_is_away() -> None:
    port = free_port()
    broker = keybroker.Broker(f"127.0.0.1:{port}")
    with StubBroker(port=port):
        lease = broker.lease(MODEL)
        lease.begin_send()
    lease.report_in_background(outcome.success(None))
    with pytest.raises(keybroker.Undelivered, match="1 reports"):
        broker.flush(0.3)
    with StubBroker(port=port) as back:
        broker.flush(8)
        assert back.outcomes() == ["success"]


def test_reports_go_to_any_broker(stub: StubBroker) -> None:
    with StubBroker() as first:
        broker = keybroker.Broker([first.address, stub.address])
        lease = broker.lease(MODEL)
    started = time.monotonic()
    assert lease.success().action is keybroker.Action.DONE
    assert time.monotonic() - started < 2
    assert stub.outcomes() == ["success"]


def test_patience_ends(stub: StubBroker) -> None:
    broker = keybroker.Broker(stub.address, report_patience=0.5, call_timeout=3)
    lease = broker.lease(MODEL)
    stub.on_report = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "away")
    with pytest.raises(keybroker.ReportLost, match="stays charged"):
        lease.success()
    assert broker.reports_lost == 1
    broker.flush(1)


def test_an_advice_that_does_not_come(stub: StubBroker) -> None:
    broker = keybroker.Broker(stub.address, call_timeout=0.3)
    lease = broker.lease(MODEL)
    slow = threading.Event()
    stub.on_report = waits(slow, 0.6)
    with pytest.raises(keybroker.DeadlineExceeded, match="delivery goes on"):
        lease.success()
    stub.on_report = None
    broker.flush(5)
    assert "success" in stub.outcomes()


def test_a_full_queue_gives_up(stub: StubBroker) -> None:
    gate = threading.Event()
    stub.on_report = waits(gate, 5)
    broker = keybroker.Broker(stub.address, report_queue=4)
    leases = [broker.lease(MODEL) for _ in range(20)]
    for lease in leases:
        lease.report_in_background(outcome.not_sent())
    assert broker.reports_lost == 20 - 8 - 4
    gate.set()
    broker.flush()
    assert len(stub.reports) == 12


def test_one_bad_report_does_not_take_others_with_it(stub: StubBroker) -> None:
    def picky(request: pb.ReportRequest, context: grpc.ServicerContext) -> None:
        if any(report.http_error.status == 999 for report in request.reports):
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")

    gate = threading.Event()
    stub.on_report = waits(gate, 5)
    broker = keybroker.Broker(stub.address)
    leases = [broker.lease(MODEL) for _ in range(20)]
    for number, lease in enumerate(leases):
        report = outcome.http_error(999, b"", None) if number == 12 else outcome.not_sent()
        lease.report_in_background(report)
    stub.on_report = picky
    gate.set()
    until(lambda: broker.unreported == 0, "all reports")
    assert broker.reports_lost == 1
    assert len(stub.reports) == 19


def test_a_trace_is_passed_on(stub: StubBroker) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider

    broker = keybroker.Broker(stub.address)
    with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
        broker.lease(MODEL).success()
    trace = f"{span.get_span_context().trace_id:032x}"
    assert trace in stub.metadata[0]["traceparent"]
    broker.lease(MODEL).success()
    assert "traceparent" not in stub.metadata[2]
