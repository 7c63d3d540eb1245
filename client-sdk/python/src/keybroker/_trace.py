"""Passes on an OpenTelemetry context, where that is installed."""

from __future__ import annotations

Metadata = tuple[tuple[str, str], ...]

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:

    def context() -> Metadata:
        """No context without OpenTelemetry."""
        return ()

else:
    _propagator = TraceContextTextMapPropagator()

    def context() -> Metadata:
        """The current context as the metadata `traceparent` and `tracestate`."""
        if not trace.get_current_span().get_span_context().is_valid:
            return ()
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return tuple(carrier.items())
