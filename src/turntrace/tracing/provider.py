"""The bridge to OpenTelemetry: a provider of our own, always on, and a processor for a provider the host has.

Needs `opentelemetry-api` only; the processor is typed against the SDK, which it never imports.
"""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from turntrace import semconv
from turntrace.tracing.context import current_span, current_turn, host_span, is_suspended
from turntrace.tracing.place import begin, place_in
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.silent import SILENT
from turntrace.tracing.span import Span
from turntrace.tracing.turn import Turn

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace import Span as SdkSpan

_KINDS: Final = {kind: kind.name.lower() for kind in SpanKind}
_MAX_OPEN: Final = 10_000  # host spans that began in a turn and have not ended yet


class TurntraceTracerProvider(trace.TracerProvider):
    """Gives instrumentations tracers whose spans join the current turn, whatever is sampled elsewhere.

    Outside a turn a span makes one of its own, kept under `record=ai` if it proves to be of an LLM.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.turntrace_recorder = recorder

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """A tracer; its name and version are kept on its spans."""
        return TurntraceTracer(self.turntrace_recorder, instrumenting_module_name, instrumenting_library_version)

    def add_span_processor(self, processor: Any) -> None:
        """Some instrumentations try this; nothing of ours leaves through processors."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Turns are written when they end; there is nothing to flush."""
        return True

    def shutdown(self) -> None:
        """The recorder is stopped by its owner."""


class TurntraceTracer(trace.Tracer):
    """A tracer of `TurntraceTracerProvider`."""

    __slots__ = ("_name", "_recorder", "_version")

    def __init__(self, recorder: Recorder, name: str, version: str | None) -> None:
        self._recorder = recorder
        self._name = name
        self._version = version

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """A span in the turn of `context`'s span, else in the current turn, else in one of its own."""
        guard = self._recorder.guard
        try:
            if is_suspended() or not guard.is_recording():
                return trace.INVALID_SPAN if is_suspended() else SILENT
            return self._start(name, context, kind, attributes, start_time)
        except Exception as exc:
            guard.fault("tracer.start_span", exc)
            return SILENT

    def _start(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Attributes, start_time: int | None
    ) -> Span:
        turn = self._turn_of(context)
        owns_turn = turn is None
        if turn is None:
            turn = Turn(self._recorder, name=name, source="manual", parent=host_span())
        span = begin(turn, name, None, context=context, started_at_us=start_time // 1000 if start_time else None)
        if span is None:
            return SILENT
        span.facts.update(scope=self._name, scope_version=self._version, kind=_KINDS[kind])
        span.owns_turn = owns_turn
        if attributes:
            span.set_attributes(attributes)
            turn.is_ai = span.is_ai() or turn.is_ai
        return span

    def _turn_of(self, context: Context | None) -> Turn | None:
        turn = getattr(current_span(context), "turn", None) if context is not None else None
        return turn if isinstance(turn, Turn) and not turn.is_stale() else current_turn()

    @_agnosticcontextmanager  # the SDK's tracer uses it too: it decorates async functions as well
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[trace.Span]:
        """The same, current inside the `with`; also a decorator."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span


class TurnSpanProcessor:
    """A span processor for a tracer provider of the host: its spans join the turn they began in.

    Nothing of the host's span is kept but its id, until it ends. What the host's sampler leaves out never reaches a
    processor; a turn in which such a span was seen as current has the flag `unsampled_host_span`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: dict[tuple[int, int], tuple[Turn, str | None]] = {}
        self._lock = Lock()

    def on_start(self, span: "SdkSpan", parent_context: Context | None = None) -> None:
        """Note the turn that is current and where in it the span stands."""
        try:
            turn = None if is_suspended() or not self._recorder.guard.is_recording() else current_turn()
            if turn is not None and turn.recorder is self._recorder:
                self._note(span, turn, parent_context)
        except Exception as exc:
            self._recorder.guard.fault("processor.on_start", exc)

    def _note(self, span: "SdkSpan", turn: Turn, parent_context: Context | None) -> None:
        context = span.get_span_context()
        if turn.span_count >= turn.span_limit:
            turn.note("spans_dropped")
            return
        turn.span_count += 1
        parent_span_id, _ = place_in(turn, parent_context)
        if _has_ai_name(span.attributes):
            turn.is_ai = True
        if len(self._open) >= _MAX_OPEN:  # spans that never end must not pile up: the oldest goes
            with self._lock:
                self._open.pop(next(iter(self._open), (0, 0)), None)
        self._open[context.trace_id, context.span_id] = (turn, parent_span_id)

    def _on_ending(self, span: "SdkSpan") -> None:
        """Part of the SDK's interface."""

    def on_end(self, span: "ReadableSpan") -> None:
        """Take the ended span over into the turn it began in."""
        try:
            context = span.get_span_context()
            found = self._open.pop((context.trace_id, context.span_id), None) if context is not None else None
            if found is not None:
                turn, parent_span_id = found
                turn.collect(JoinedSpan(span, turn, parent_span_id))
        except Exception as exc:
            self._recorder.guard.fault("processor.on_end", exc)

    def shutdown(self) -> None:
        """Forget what is open."""
        self._open.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Turns are written when they end; there is nothing to flush."""
        return True


class JoinedSpan:
    """An ended span of the host's tracing, in the form of `RawSpan`."""

    __slots__ = ("_is_ai", "_wire")

    def __init__(self, span: "ReadableSpan", turn: Turn, parent_span_id: str | None) -> None:
        self._wire = _converted(span, turn)
        if parent_span_id is not None:
            self._wire["parent_span_id"] = parent_span_id
        self._is_ai = _has_ai_name(span.attributes)

    def wire(self) -> dict[str, Any]:
        """The keys of `RawSpan` that do not hold their default."""
        return self._wire

    def is_ai(self) -> bool:
        """Whether it carries an LLM instrumentation's attributes."""
        return self._is_ai


def _has_ai_name(attributes: Attributes) -> bool:
    return any(name.startswith(semconv.AI_PREFIXES) for name in attributes or ())


def _converted(span: "ReadableSpan", turn: Turn) -> dict[str, Any]:
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None
    started, ended = span.start_time or 0, span.end_time or 0
    trace_id = f"{context.trace_id:032x}"
    wire: dict[str, Any] = {
        "span_id": f"{context.span_id:016x}",
        "name": span.name,
        "scope": scope.name if scope is not None else "",
        "scope_version": scope.version if scope is not None else None,
        "kind": _KINDS[span.kind],
        "started_at_us": started // 1000,
        "duration_us": max(ended - started, 0) // 1000,
        "status": span.status.status_code.name.lower(),
        "attributes": _kept(span.attributes, turn),
        "events": [
            {"name": event.name, "at_us": event.timestamp // 1000, "attributes": _kept(event.attributes, turn)}
            for event in span.events
        ],
    }
    if trace_id != turn.trace_id:
        wire["trace_id"] = trace_id
    if span.status.description:
        wire["status_message"] = span.status.description
    return wire


def _kept(attributes: Mapping[str, Any] | None, turn: Turn) -> dict[str, Any]:
    return {name: turn.keep(value) for name, value in attributes.items()} if attributes else {}
