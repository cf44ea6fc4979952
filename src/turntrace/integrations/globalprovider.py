"""The tracer provider for SDKs that trace themselves: OpenTelemetry's own, with nothing but our processor in it.

They take the process's global provider and nothing else. It is a plain SDK provider, so that processors added later,
by Langfuse or an exporter of the host's, work as they would without us.
"""

from collections.abc import Iterator
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.util._decorator import _agnosticcontextmanager

from turntrace.tracing.provider import TurnSpanProcessor
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.span import MAX_ATTRIBUTES, MAX_EVENTS

# They trace every request by themselves as soon as there is a provider. The turn is that span already: theirs would
# only be made to be dropped, and would take the caller's `traceparent` whatever `trusted_context` says.
_WEB_FRAMEWORKS: Final = frozenset({"fastapi", "starlette"})


class _Mute(trace.NoOpTracer):
    """Gives the span that is none, also below a caller's context, and leaves the current one current."""

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """The invalid span."""
        return trace.INVALID_SPAN

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Iterator[trace.Span]:
        """The same; what runs inside belongs to whoever is current outside."""
        yield trace.INVALID_SPAN


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

    def get_tracer(self, instrumenting_module_name: str, *args: Any, **kwargs: Any) -> trace.Tracer:
        """A tracer; one without spans for web frameworks."""
        if instrumenting_module_name in _WEB_FRAMEWORKS:
            return _Mute()
        return super().get_tracer(instrumenting_module_name, *args, **kwargs)

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
