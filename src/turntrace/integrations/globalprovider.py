"""The tracer provider for SDKs that trace themselves: OpenTelemetry's own, with nothing but our processor in it.

They take the process's global provider and nothing else. It is a plain SDK provider, so that processors added later,
by Langfuse or an exporter of the host's, work as they would without us.
"""

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from turntrace.tracing.provider import TurnSpanProcessor
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.span import MAX_ATTRIBUTES, MAX_EVENTS


class GlobalProvider(TracerProvider):
    """A provider whose spans join the turns they are made in; outside a turn they are nobody's."""

    def __init__(self, recorder: Recorder) -> None:
        # Instrumentations spell out messages as indexed attributes: the SDK's 128 would cut a conversation short.
        limits = SpanLimits(max_span_attributes=MAX_ATTRIBUTES, max_events=MAX_EVENTS)
        known = {"service.name": recorder.resource.service_name or "unknown_service"}
        super().__init__(ALWAYS_ON, Resource(known), shutdown_on_exit=False, span_limits=limits)
        # `tracing` knows by this name that the provider is ours already: it adds no second processor.
        self.turntrace_recorder = recorder
        self._recorders: list[Recorder] = []
        self.join(recorder)

    def join(self, recorder: Recorder) -> None:
        """Have the spans of another Turntrace's turns join them, too."""
        if all(known is not recorder for known in self._recorders):
            self._recorders.append(recorder)
            processor: Any = TurnSpanProcessor(recorder)
            self.add_span_processor(processor)


def set_global_provider(recorder: Recorder) -> str:
    """Set the global provider where the host has set none.

    Returns:
        What is the case now: `set`, `ours` (it was before), or `host` (the host has one: ours stays away).
    """
    current = trace.get_tracer_provider()
    if isinstance(current, GlobalProvider):
        current.join(recorder)
        return "ours"
    if not isinstance(current, trace.ProxyTracerProvider):
        return "host"
    trace.set_tracer_provider(GlobalProvider(recorder))
    return "set"
