"""The bridge to OpenTelemetry: a provider of our own, always on, and a processor for a provider the host has.

Needs `opentelemetry-api` only; the processor is typed against the SDK, which it never imports.
"""

from collections.abc import Iterator, Sequence
from threading import Lock
from time import time_ns
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from turntrace.tracing.context import current_span, current_turn, host_span, is_suspended
from turntrace.tracing.joined import KINDS, Heard, JoinedSpan, OpenSpan, has_ai_name, kept
from turntrace.tracing.place import begin, place_in
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.span import MAX_EVENTS, Span
from turntrace.tracing.turn import Turn

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace import Span as SdkSpan

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
            if is_suspended():
                return trace.INVALID_SPAN
            span = self._start(name, context, kind, attributes, start_time) if guard.is_recording() else None
        except Exception as exc:
            guard.fault("tracer.start_span", exc)
            span = None
        # Not recorded: one that stands for the span around it, since callers make it the current one.
        return trace.NonRecordingSpan(trace.get_current_span(context).get_span_context()) if span is None else span

    def _start(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Attributes, start_time: int | None
    ) -> Span | None:
        turn = self._turn_of(context)
        owns_turn = turn is None
        if turn is None:
            turn = Turn(self._recorder, name=name, source="manual", parent=host_span())
        span = begin(turn, name, None, context=context, started_at_us=start_time // 1000 if start_time else None)
        if span is None:
            return None
        span.facts.update(scope=self._name, scope_version=self._version, kind=KINDS[kind])
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

    The processor keeps nothing of the host's span but its id, until it ends; the turn holds the span until its own end,
    to say what is known of one that is still open then. What the host's sampler leaves out never reaches a processor; a
    turn in which such a span was seen as current has the flag `unsampled_host_span`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: dict[tuple[int, int], tuple[Turn, str | None, list[Heard]]] = {}
        self._lock = Lock()
        _register(self)

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
        if has_ai_name(span.attributes):
            turn.is_ai = True
        if len(self._open) >= _MAX_OPEN:  # spans that never end must not pile up: the oldest goes
            with self._lock:
                self._open.pop(next(iter(self._open), (0, 0)), None)
        events: list[Heard] = []
        self._open[context.trace_id, context.span_id] = (turn, parent_span_id, events)
        turn.join(context.span_id, OpenSpan(span, turn, parent_span_id, events))

    def hear(self, owner: Recorder | None, trace_id: int, span_id: int, event: Heard) -> None:
        """Keep what was logged in a span that is still open, where it is meant for turns of ours."""
        found = self._open.get((trace_id, span_id)) if owner is None or owner is self._recorder else None
        if found is None:
            return
        turn, _, events = found
        if len(events) < MAX_EVENTS:
            events.append((event[0], kept(event[1], turn), event[2] or time_ns()))
        else:
            turn.note("events_dropped")

    def _on_ending(self, span: "SdkSpan") -> None:
        """Part of the SDK's interface."""

    def on_end(self, span: "ReadableSpan") -> None:
        """Take the ended span over into the turn it began in."""
        try:
            context = span.get_span_context()
            found = self._open.pop((context.trace_id, context.span_id), None) if context is not None else None
            if context is not None and found is not None:
                turn, parent_span_id, heard = found
                turn.part(context.span_id)
                turn.collect(JoinedSpan(span, turn, parent_span_id, heard))
        except Exception as exc:
            self._recorder.guard.fault("processor.on_end", exc)

    def shutdown(self) -> None:
        """Forget what is open."""
        self._open.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Turns are written when they end; there is nothing to flush."""
        return True


_registering: Final = Lock()
_processors: tuple[ref[TurnSpanProcessor], ...] = ()  # replaced, never changed: whoever reads it needs no lock


def _register(processor: TurnSpanProcessor) -> None:
    global _processors
    with _registering:
        _processors = (*(known for known in _processors if known() is not None), ref(processor))


def hear(owner: Recorder | None, trace_id: int, span_id: int, event: Heard) -> None:
    """Give what was logged in a span of the host's to the processor that holds the span: `owner`'s, or anybody's."""
    for known in _processors:
        processor = known()
        if processor is not None:
            processor.hear(owner, trace_id, span_id, event)
