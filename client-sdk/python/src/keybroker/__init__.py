"""Leases Gemini API keys from a keybroker.

```python
import keybroker

broker = keybroker.Broker("127.0.0.1:50051")
with broker.lease("gemini-2.5-flash", input_tokens=4_000, wait=30) as lease:
    key = lease.begin_send()  # send it as the header x-goog-api-key
    lease.success()
```

With Google's SDK see `keybroker.genai`, with httpx `keybroker.httpx`, with requests `keybroker.requests`.
"""

import os as _os
import sys as _sys

if "grpc" not in _sys.modules:
    # gRPC reads these once, when it is loaded. Without the first a child process cannot make calls; without the
    # second a broker that restarts is told of on standard error.
    _os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
    _os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from ._gemini.affinity import Affinity
from ._gemini.estimate import estimate_input_tokens
from ._gemini.options import CallOptions, CallSettings, call_options
from ._version import __version__
from .broker import AsyncBroker, Broker
from .errors import (
    Closed,
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    KeybrokerError,
    LeaseEnded,
    NeverPossible,
    NotPermitted,
    NoUsableKey,
    Other,
    QuotaViolation,
    Refused,
    ReportLost,
    SendWindowPassed,
    Unauthenticated,
    Unavailable,
    Undelivered,
    UnknownLease,
    UnknownPool,
)
from .lease import AsyncLease, Lease
from .outcome import Action, Advice, SettleState, Tier, TransportKind, Usage
from .settings import AcquireOptions, AcquireSettings, Settings, Tls

__all__ = [
    "AcquireOptions",
    "AcquireSettings",
    "Action",
    "Advice",
    "Affinity",
    "AsyncBroker",
    "AsyncLease",
    "Broker",
    "CallOptions",
    "CallSettings",
    "Closed",
    "DeadlineExceeded",
    "FieldViolation",
    "InvalidArgument",
    "KeybrokerError",
    "Lease",
    "LeaseEnded",
    "NeverPossible",
    "NoUsableKey",
    "NotPermitted",
    "Other",
    "QuotaViolation",
    "Refused",
    "ReportLost",
    "SendWindowPassed",
    "Settings",
    "SettleState",
    "Tier",
    "Tls",
    "TransportKind",
    "Unauthenticated",
    "Unavailable",
    "Undelivered",
    "UnknownLease",
    "UnknownPool",
    "Usage",
    "__version__",
    "call_options",
    "estimate_input_tokens",
]
