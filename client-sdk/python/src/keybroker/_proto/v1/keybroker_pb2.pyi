import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_FREE: _ClassVar[Tier]
    TIER_PAID: _ClassVar[Tier]

class SettleState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SETTLE_STATE_UNSPECIFIED: _ClassVar[SettleState]
    SETTLED: _ClassVar[SettleState]
    SETTLED_LATE: _ClassVar[SettleState]
    ALREADY_SETTLED: _ClassVar[SettleState]
    UNKNOWN_LEASE: _ClassVar[SettleState]

class Signal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNAL_UNSPECIFIED: _ClassVar[Signal]
    SIGNAL_OK: _ClassVar[Signal]
    SIGNAL_NOT_SENT: _ClassVar[Signal]
    SIGNAL_MINUTE_QUOTA: _ClassVar[Signal]
    SIGNAL_DAILY_QUOTA: _ClassVar[Signal]
    SIGNAL_MODEL_NOT_OFFERED: _ClassVar[Signal]
    SIGNAL_CAPACITY: _ClassVar[Signal]
    SIGNAL_SPEND_RATE: _ClassVar[Signal]
    SIGNAL_SPEND_CAP: _ClassVar[Signal]
    SIGNAL_CREDIT_DEPLETED: _ClassVar[Signal]
    SIGNAL_KEY_INVALID: _ClassVar[Signal]
    SIGNAL_KEY_BINDING: _ClassVar[Signal]
    SIGNAL_KEY_LEAKED: _ClassVar[Signal]
    SIGNAL_KEY_SUSPENDED: _ClassVar[Signal]
    SIGNAL_PROJECT_DISABLED: _ClassVar[Signal]
    SIGNAL_KEY_RESTRICTED: _ClassVar[Signal]
    SIGNAL_WRONG_PROJECT: _ClassVar[Signal]
    SIGNAL_PERMISSION_UNCLEAR: _ClassVar[Signal]
    SIGNAL_REGION_UNSUPPORTED: _ClassVar[Signal]
    SIGNAL_REQUEST_FAULT: _ClassVar[Signal]
    SIGNAL_MODEL_CLOSED: _ClassVar[Signal]
    SIGNAL_MODEL_OVERLOADED: _ClassVar[Signal]
    SIGNAL_SERVER_FAULT: _ClassVar[Signal]
    SIGNAL_NETWORK_FAULT: _ClassVar[Signal]
    SIGNAL_CANCELLED: _ClassVar[Signal]
    SIGNAL_UNREADABLE: _ClassVar[Signal]

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    QUOTA_EXHAUSTED: _ClassVar[ErrorReason]
    COOLING_DOWN: _ClassVar[ErrorReason]
    REQUEST_EXCEEDS_LIMIT: _ClassVar[ErrorReason]
    NO_USABLE_KEY: _ClassVar[ErrorReason]
    INVALID_FIELD: _ClassVar[ErrorReason]
    UNKNOWN_POOL: _ClassVar[ErrorReason]
    UNKNOWN_LEASE_ID: _ClassVar[ErrorReason]
    LEASE_ENDED: _ClassVar[ErrorReason]
    LEDGER_UNAVAILABLE: _ClassVar[ErrorReason]
    LEDGER_CHANGED: _ClassVar[ErrorReason]
    SHUTTING_DOWN: _ClassVar[ErrorReason]
    OVERLOADED: _ClassVar[ErrorReason]
    DEADLINE_PASSED: _ClassVar[ErrorReason]
    NOT_AUTHENTICATED: _ClassVar[ErrorReason]
    NOT_PERMITTED: _ClassVar[ErrorReason]
TIER_UNSPECIFIED: Tier
TIER_FREE: Tier
TIER_PAID: Tier
SETTLE_STATE_UNSPECIFIED: SettleState
SETTLED: SettleState
SETTLED_LATE: SettleState
ALREADY_SETTLED: SettleState
UNKNOWN_LEASE: SettleState
SIGNAL_UNSPECIFIED: Signal
SIGNAL_OK: Signal
SIGNAL_NOT_SENT: Signal
SIGNAL_MINUTE_QUOTA: Signal
SIGNAL_DAILY_QUOTA: Signal
SIGNAL_MODEL_NOT_OFFERED: Signal
SIGNAL_CAPACITY: Signal
SIGNAL_SPEND_RATE: Signal
SIGNAL_SPEND_CAP: Signal
SIGNAL_CREDIT_DEPLETED: Signal
SIGNAL_KEY_INVALID: Signal
SIGNAL_KEY_BINDING: Signal
SIGNAL_KEY_LEAKED: Signal
SIGNAL_KEY_SUSPENDED: Signal
SIGNAL_PROJECT_DISABLED: Signal
SIGNAL_KEY_RESTRICTED: Signal
SIGNAL_WRONG_PROJECT: Signal
SIGNAL_PERMISSION_UNCLEAR: Signal
SIGNAL_REGION_UNSUPPORTED: Signal
SIGNAL_REQUEST_FAULT: Signal
SIGNAL_MODEL_CLOSED: Signal
SIGNAL_MODEL_OVERLOADED: Signal
SIGNAL_SERVER_FAULT: Signal
SIGNAL_NETWORK_FAULT: Signal
SIGNAL_CANCELLED: Signal
SIGNAL_UNREADABLE: Signal
ERROR_REASON_UNSPECIFIED: ErrorReason
QUOTA_EXHAUSTED: ErrorReason
COOLING_DOWN: ErrorReason
REQUEST_EXCEEDS_LIMIT: ErrorReason
NO_USABLE_KEY: ErrorReason
INVALID_FIELD: ErrorReason
UNKNOWN_POOL: ErrorReason
UNKNOWN_LEASE_ID: ErrorReason
LEASE_ENDED: ErrorReason
LEDGER_UNAVAILABLE: ErrorReason
LEDGER_CHANGED: ErrorReason
SHUTTING_DOWN: ErrorReason
OVERLOADED: ErrorReason
DEADLINE_PASSED: ErrorReason
NOT_AUTHENTICATED: ErrorReason
NOT_PERMITTED: ErrorReason

class AcquireRequest(_message.Message):
    __slots__ = ("pool", "model", "input_tokens", "consumer", "ttl", "wait", "permits", "constraints", "labels", "output_tokens", "settle")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POOL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    pool: str
    model: str
    input_tokens: int
    consumer: str
    ttl: _duration_pb2.Duration
    wait: _duration_pb2.Duration
    permits: int
    constraints: Constraints
    labels: _containers.ScalarMap[str, str]
    output_tokens: int
    settle: LeaseReport
    def __init__(self, pool: _Optional[str] = ..., model: _Optional[str] = ..., input_tokens: _Optional[int] = ..., consumer: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., permits: _Optional[int] = ..., constraints: _Optional[_Union[Constraints, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., output_tokens: _Optional[int] = ..., settle: _Optional[_Union[LeaseReport, _Mapping]] = ...) -> None: ...

class Constraints(_message.Message):
    __slots__ = ("project", "tier", "exclude_key_ids", "exclude_projects", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_PROJECTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    project: str
    tier: Tier
    exclude_key_ids: _containers.RepeatedScalarFieldContainer[str]
    exclude_projects: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, project: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., exclude_key_ids: _Optional[_Iterable[str]] = ..., exclude_projects: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ("lease", "settled")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    settled: ReportResult
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ..., settled: _Optional[_Union[ReportResult, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "key_id", "api_key", "project", "quota_model", "send_within", "expires_at", "expires_in", "permits", "over_plan")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    QUOTA_MODEL_FIELD_NUMBER: _ClassVar[int]
    SEND_WITHIN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    OVER_PLAN_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    key_id: str
    api_key: str
    project: str
    quota_model: str
    send_within: _duration_pb2.Duration
    expires_at: _timestamp_pb2.Timestamp
    expires_in: _duration_pb2.Duration
    permits: int
    over_plan: bool
    def __init__(self, lease_id: _Optional[str] = ..., key_id: _Optional[str] = ..., api_key: _Optional[str] = ..., project: _Optional[str] = ..., quota_model: _Optional[str] = ..., send_within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., permits: _Optional[int] = ..., over_plan: bool = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[LeaseReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[LeaseReport, _Mapping]]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ReportResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ReportResult, _Mapping]]] = ...) -> None: ...

class LeaseReport(_message.Message):
    __slots__ = ("lease_id", "success", "http_error", "transport_error", "not_sent", "latency")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ERROR_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_ERROR_FIELD_NUMBER: _ClassVar[int]
    NOT_SENT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    success: Success
    http_error: HttpError
    transport_error: TransportError
    not_sent: NotSent
    latency: _duration_pb2.Duration
    def __init__(self, lease_id: _Optional[str] = ..., success: _Optional[_Union[Success, _Mapping]] = ..., http_error: _Optional[_Union[HttpError, _Mapping]] = ..., transport_error: _Optional[_Union[TransportError, _Mapping]] = ..., not_sent: _Optional[_Union[NotSent, _Mapping]] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Success(_message.Message):
    __slots__ = ("usage",)
    USAGE_FIELD_NUMBER: _ClassVar[int]
    usage: Usage
    def __init__(self, usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "total_tokens", "thoughts_tokens", "cached_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    THOUGHTS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    total_tokens: int
    thoughts_tokens: int
    cached_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., thoughts_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ...) -> None: ...

class HttpError(_message.Message):
    __slots__ = ("status", "body", "retry_after")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    retry_after: _duration_pb2.Duration
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TransportError(_message.Message):
    __slots__ = ("kind", "message", "usage")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TransportError.Kind]
        CONNECT: _ClassVar[TransportError.Kind]
        TIMEOUT: _ClassVar[TransportError.Kind]
        RESET: _ClassVar[TransportError.Kind]
        CANCELLED: _ClassVar[TransportError.Kind]
    KIND_UNSPECIFIED: TransportError.Kind
    CONNECT: TransportError.Kind
    TIMEOUT: TransportError.Kind
    RESET: TransportError.Kind
    CANCELLED: TransportError.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    kind: TransportError.Kind
    message: str
    usage: Usage
    def __init__(self, kind: _Optional[_Union[TransportError.Kind, str]] = ..., message: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class NotSent(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportResult(_message.Message):
    __slots__ = ("lease_id", "state", "advice")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    state: SettleState
    advice: Advice
    def __init__(self, lease_id: _Optional[str] = ..., state: _Optional[_Union[SettleState, str]] = ..., advice: _Optional[_Union[Advice, _Mapping]] = ...) -> None: ...

class Advice(_message.Message):
    __slots__ = ("action", "retry_after", "signal", "message", "once")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[Advice.Action]
        DONE: _ClassVar[Advice.Action]
        RETRY_OTHER_KEY: _ClassVar[Advice.Action]
        RETRY_AFTER: _ClassVar[Advice.Action]
        DO_NOT_RETRY: _ClassVar[Advice.Action]
    ACTION_UNSPECIFIED: Advice.Action
    DONE: Advice.Action
    RETRY_OTHER_KEY: Advice.Action
    RETRY_AFTER: Advice.Action
    DO_NOT_RETRY: Advice.Action
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ONCE_FIELD_NUMBER: _ClassVar[int]
    action: Advice.Action
    retry_after: _duration_pb2.Duration
    signal: Signal
    message: str
    once: bool
    def __init__(self, action: _Optional[_Union[Advice.Action, str]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., signal: _Optional[_Union[Signal, str]] = ..., message: _Optional[str] = ..., once: bool = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("lease_id", "ttl")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    ttl: _duration_pb2.Duration
    def __init__(self, lease_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("expires_at", "expires_in")
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    expires_at: _timestamp_pb2.Timestamp
    expires_in: _duration_pb2.Duration
    def __init__(self, expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
