"""What a lease does, whatever becomes of it."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import keybroker
from keybroker._proto.v1 import keybroker_pb2 as pb
from stub_broker import StubBroker
from support import MODEL, Fleet, fleet, until


@pytest.fixture
def broker(stub: StubBroker) -> keybroker.Broker:
    return keybroker.Broker(stub.address)


def test_a_lease_is_used_and_reported(shared: Fleet) -> None:
    broker = shared.client()
    with broker.lease(MODEL, input_tokens=100, ttl=30) as lease:
        assert lease.begin_send().startswith("fake-key-")
        assert lease.project.startswith("project-")
        assert 0 < lease.send_within <= 1
        assert 25 < lease.expires_in <= 32
        advice = lease.success({"promptTokenCount": 7})
    assert advice.action is keybroker.Action.DONE
    assert advice.settled is keybroker.SettleState.SETTLED
    assert advice.signal == "SIGNAL_OK"


def test_what_is_asked_for_reaches_the_broker(stub: StubBroker) -> None:
    broker = keybroker.Broker(stub.address, pool="batch", consumer="ann", labels={"app": "x"})
    broker.lease(
        MODEL,
        input_tokens=1,
        output_tokens=2,
        ttl=3,
        wait=4,
        permits=5,
        project="p",
        tier=keybroker.Tier.PAID,
        exclude_keys=["k"],
        exclude_projects=["q"],
        key_labels={"region": "eu"},
        consumer="bob",
    ).not_sent()
    (asked,) = stub.acquires
    assert (asked.pool, asked.model, asked.consumer, dict(asked.labels)) == (
        "batch",
        MODEL,
        "bob",
        {"app": "x"},
    )
    assert (asked.input_tokens, asked.output_tokens, asked.permits) == (1, 2, 5)
    assert (asked.ttl.seconds, asked.wait.seconds) in ((3, 4), (3, 3))
    limits = asked.constraints
    assert (limits.project, limits.tier) == ("p", pb.TIER_PAID)
    assert (list(limits.exclude_key_ids), list(limits.exclude_projects)) == (["k"], ["q"])
    assert dict(limits.labels) == {"region": "eu"}


def test_a_block_that_is_left_reports(stub: StubBroker, broker: keybroker.Broker) -> None:
    with broker.lease(MODEL):
        pass
    # Batches that are under way at the same time come in any order.
    broker.flush()
    with broker.lease(MODEL) as lease:
        lease.begin_send()
    broker.flush()
    with pytest.raises(KeyError), broker.lease(MODEL) as lease:
        lease.begin_send()
        raise KeyError("a prompt that must not be told")
    broker.flush()
    assert stub.outcomes() == ["not_sent", "transport_error", "transport_error"]
    assert stub.reports[1].transport_error.kind == pb.TransportError.CANCELLED
    assert stub.reports[2].transport_error.message == "the block was left by KeyError"
    assert stub.reports[2].latency.nanos > 0


def test_a_lease_that_is_dropped_reports(stub: StubBroker, broker: keybroker.Broker) -> None:
    broker.lease(MODEL)
    gc.collect()
    broker.flush()
    lease = broker.lease(MODEL)
    lease.begin_send()
    del lease
    gc.collect()
    broker.flush()
    assert stub.outcomes() == ["not_sent", "transport_error"]


def test_a_lease_is_reported_once(stub: StubBroker, broker: keybroker.Broker) -> None:
    with broker.lease(MODEL) as lease:
        lease.begin_send()
        lease.success()
        with pytest.raises(keybroker.LeaseEnded):
            lease.success()
        with pytest.raises(keybroker.LeaseEnded):
            lease.begin_send()
        with pytest.raises(keybroker.LeaseEnded):
            lease.renew(5)
    broker.flush()
    assert stub.outcomes() == ["success"]


def test_a_lease_is_reported_once_by_many_threads(stub: StubBroker, broker: keybroker.Broker) -> None:
    lease = broker.lease(MODEL)
    gate = threading.Barrier(8)
    reported = []

    def report() -> None:
        gate.wait()
        reported.append(lease.report_in_background(pb.LeaseReport(not_sent=pb.NotSent())))

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broker.flush()
    assert sorted(reported) == [False] * 7 + [True]
    assert len(stub.reports) == 1


def test_a_key_comes_only_in_time(stub: StubBroker, broker: keybroker.Broker) -> None:
    stub.send_within = 0.05
    with broker.lease(MODEL) as lease:
        time.sleep(0.1)
        with pytest.raises(keybroker.SendWindowPassed) as caught:
            lease.begin_send()
        assert caught.value.late_by > 0
    broker.flush()
    assert stub.outcomes() == ["not_sent"]


def test_a_window_that_is_missing_is_an_empty_one(stub: StubBroker, broker: keybroker.Broker) -> None:
    stub.send_within = 0
    with broker.lease(MODEL) as lease, pytest.raises(keybroker.SendWindowPassed):
        lease.begin_send()


def test_no_text_of_a_lease_holds_the_key(broker: keybroker.Broker, stub: StubBroker) -> None:
    with broker.lease(MODEL) as lease:
        key = lease.begin_send()
        for text in (repr(lease), str(lease), f"{lease}", repr(broker), repr(lease.__class__)):
            assert key not in text
        for dump in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="belongs to the process"):
                dump(lease)
        lease.http_error(400, f'{{"error": "consumer api_key:{key} is suspended"}}')
    assert key.encode() not in stub.reports[0].http_error.body
    assert b"[redacted]" in stub.reports[0].http_error.body


def test_a_body_is_cut(broker: keybroker.Broker, stub: StubBroker) -> None:
    with broker.lease(MODEL) as lease:
        lease.begin_send()
        lease.http_error(500, b"x" * 200_000, retry_after=1.5)
    error = stub.reports[0].http_error
    assert (len(error.body), error.retry_after.seconds, error.retry_after.nanos) == (65_536, 1, 500_000_000)


def test_a_lease_is_extended(shared: Fleet) -> None:
    with shared.client().lease(MODEL, ttl=2) as lease:
        assert 50 < lease.renew(60) <= 61
        assert lease.expires_in > 50
        with pytest.raises(keybroker.InvalidArgument, match="ttl"):
            lease.renew(0)


def test_a_lease_in_use_is_renewed_until_it_is_reported(stub: StubBroker, broker: keybroker.Broker) -> None:
    stub.expires_in = 1
    with broker.lease(MODEL, ttl=1) as lease:
        lease.begin_send()
        lease.keep_renewed()
        until(lambda: len(stub.renews) >= 2, "two renewals")
        lease.success()
    seen = len(stub.renews)
    time.sleep(0.8)
    assert len(stub.renews) == seen


def test_functions_take_leases(stub: StubBroker, broker: keybroker.Broker) -> None:
    @broker.leased(MODEL, wait=1)
    def ask(lease: keybroker.Lease, prompt: str, *, loud: bool) -> str:
        """Asks."""
        lease.begin_send()
        lease.success()
        return prompt.upper() if loud else prompt

    @broker.aio.leased(MODEL)
    async def aask(lease: keybroker.AsyncLease, prompt: str) -> str:
        lease.begin_send()
        await lease.success()
        return prompt

    assert ask("why", loud=True) == "WHY"
    assert ask.__doc__ == "Asks."

    async def both() -> list[str]:
        return list(await asyncio.gather(aask("a"), aask("b")))

    assert asyncio.run(both()) == ["a", "b"]
    assert stub.outcomes() == ["success"] * 3
    with pytest.raises(TypeError, match="aio"):
        broker.leased(MODEL)(aask)  # type: ignore[arg-type]


def test_asyncio_in_several_loops(stub: StubBroker) -> None:
    broker = keybroker.AsyncBroker(stub.address)

    async def one(number: int) -> str:
        async with broker.lease(MODEL) as lease:
            lease.begin_send()
            await lease.success()
        other = await broker.lease(MODEL)
        await other.not_sent()
        return other.lease_id

    async def many() -> int:
        return len(set(await asyncio.gather(*map(one, range(20)))))

    assert asyncio.run(many()) == 20
    assert asyncio.run(many()) == 20
    broker.sync.flush()
    assert sorted(stub.outcomes()) == ["not_sent"] * 40 + ["success"] * 40


def test_a_cancelled_wait_loses_no_lease(stub: StubBroker) -> None:
    broker = keybroker.AsyncBroker(stub.address)

    def slow(request: pb.AcquireRequest, context: Any) -> None:
        time.sleep(0.3)

    stub.on_acquire = slow

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await broker.lease(MODEL)

    asyncio.run(give_up())
    broker.sync.flush()
    assert stub.outcomes() == ["not_sent"]


def test_a_cancelled_task_reports(stub: StubBroker) -> None:
    broker = keybroker.AsyncBroker(stub.address)

    async def cancelled() -> None:
        async def hold() -> None:
            async with broker.lease(MODEL) as lease:
                lease.begin_send()
                await asyncio.sleep(60)

        task = asyncio.create_task(hold())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await broker.flush()

    asyncio.run(cancelled())
    assert stub.reports[0].transport_error.message == "the block was left by CancelledError"


HOLD = """
import sys, keybroker
broker = keybroker.Broker(sys.argv[1])
held = broker.lease("gemini-2.5-flash")
used = broker.lease("gemini-2.5-flash")
used.begin_send()
done = broker.lease("gemini-2.5-flash")
done.begin_send()
done.report_in_background(keybroker.outcome.success(None))
{end}
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise KeyError('x')", "import os; os.abort"])
def test_the_end_of_a_program_reports(stub: StubBroker, end: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HOLD.format(end=end), stub.address], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == {"raise SystemExit(3)": 3, "raise KeyError('x')": 1}.get(end, 0), run.stderr
    assert sorted(stub.outcomes()) == ["not_sent", "success", "transport_error"], run.stderr
    assert "fake-key" not in run.stdout + run.stderr


def _child(broker: keybroker.Broker, lease: keybroker.Lease, answers: Any) -> None:
    try:
        lease.success()
    except keybroker.LeaseEnded as error:
        answers.put(str(error))
    del lease
    with broker.lease(MODEL) as own:
        own.begin_send()
        answers.put(own.success().action.name)
    broker.flush()


def test_a_forked_child_begins_anew(stub: StubBroker, broker: keybroker.Broker) -> None:
    """Its parent has a connection, a lease and a thread in the background."""
    lease = broker.lease(MODEL)
    lease.begin_send()
    lease.keep_renewed()
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()
    children = [context.Process(target=_child, args=(broker, lease, answers)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    told = sorted(answers.get(timeout=1) for _ in range(4))
    assert told[:2] == ["DONE", "DONE"]
    assert "parent process" in told[2]
    # The children run side by side.
    assert {report.lease_id for report in stub.reports} == {"lease-1", "lease-2"}
    with broker.lease(MODEL) as after:
        after.begin_send()
        after.success()
    lease.success()
    assert {report.lease_id for report in stub.reports} == {f"lease-{number}" for number in range(4)}
    assert os.getpid() == multiprocessing.current_process().pid


def test_a_killed_worker_costs_its_slot_until_expiry() -> None:
    code = """
import sys, time, keybroker
lease = keybroker.Broker(sys.argv[1]).lease("gemini-2.5-flash", ttl=2)
lease.begin_send()
print("held", flush=True)
time.sleep(60)
"""
    with fleet("[{ requests_per_minute = 100, in_flight = 1 }]", projects=1) as small:
        command = [sys.executable, "-c", code, small.broker.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "held\n"
            worker.kill()
        broker = small.client()
        with pytest.raises(keybroker.Refused):
            broker.lease(MODEL)
        started = time.monotonic()
        broker.lease(MODEL, wait=10).not_sent()
        assert time.monotonic() - started < 4
