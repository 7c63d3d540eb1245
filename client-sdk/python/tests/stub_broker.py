"""A broker made of a few lines, for answers that a real one gives only in trouble."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn, Self

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from keybroker._proto.v1 import keybroker_pb2 as pb
from support import free_port

SERVICE = "keybroker.v1.KeyBroker"


class StubBroker:
    """Grants every lease, and notes what it is asked and told; the hooks may do otherwise."""

    def __init__(self, token: str | None = None, port: int | None = None) -> None:
        self.token = token
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.acquires: list[pb.AcquireRequest] = []
        self.batches: list[list[pb.LeaseReport]] = []
        self.renews: list[pb.RenewRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.on_acquire: Callable[[pb.AcquireRequest, grpc.ServicerContext], pb.AcquireResponse | None] | None = None
        self.on_report: Callable[[pb.ReportRequest, grpc.ServicerContext], None] | None = None
        self.advise: Callable[[pb.LeaseReport], pb.Advice] | None = None
        self.send_within = 5.0
        self.expires_in = 60.0
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        calls: dict[str, tuple[Any, Any]] = {
            "Acquire": (self._acquire, pb.AcquireRequest),
            "Report": (self._report, pb.ReportRequest),
            "Renew": (self._renew, pb.RenewRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                handler, request_deserializer=kind.FromString, response_serializer=_serialize
            )
            for name, (handler, kind) in calls.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def __enter__(self) -> Self:
        assert self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    @property
    def reports(self) -> list[pb.LeaseReport]:
        """All reports, in the order in which they came."""
        return [report for batch in self.batches for report in batch]

    def outcomes(self) -> list[str]:
        """What all reports say."""
        return [str(report.WhichOneof("outcome")) for report in self.reports]

    def _enter(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.metadata.append(metadata)
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known")

    def _acquire(self, request: pb.AcquireRequest, context: grpc.ServicerContext) -> pb.AcquireResponse:
        self._enter(context)
        with self._lock:
            self.acquires.append(request)
        if self.on_acquire is not None:
            response = self.on_acquire(request, context)
            if response is not None:
                return response
        return self.grant(request.constraints.project)

    def grant(self, project: str = "") -> pb.AcquireResponse:
        """A lease."""
        number = next(self._numbers)
        lease = pb.Lease(
            lease_id=f"lease-{number}",
            key_id=f"key-{number}",
            api_key=f"fake-key-{number:04}",
            project=project or f"project-{number % 2}",
            quota_model="gemini-2.5-flash",
            send_within=duration(self.send_within),
            expires_in=duration(self.expires_in),
            permits=1,
        )
        return pb.AcquireResponse(lease=lease)

    def _report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        self._enter(context)
        if self.on_report is not None:
            self.on_report(request, context)
        with self._lock:
            self.batches.append(list(request.reports))
        done = pb.Advice(action=pb.Advice.DONE, signal=pb.SIGNAL_OK, message="well")
        advise = self.advise or (lambda _: done)
        results = [
            pb.ReportResult(lease_id=one.lease_id, state=pb.SETTLED, advice=advise(one)) for one in request.reports
        ]
        return pb.ReportResponse(results=results)

    def _renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewResponse:
        self._enter(context)
        self.renews.append(request)
        return pb.RenewResponse(expires_in=request.ttl)


def _serialize(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def refuse(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, retry_after: float | None = None
) -> NoReturn:
    """Answers with an error of the contract."""
    details = [any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=reason, domain="keybroker.v1"))
    if retry_after is not None:
        details.append(any_pb2.Any())
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=duration(retry_after)))
    status = status_pb2.Status(code=code.value[0], message="the broker's words", details=details)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, "the broker's words")
    raise AssertionError("abort raises")
