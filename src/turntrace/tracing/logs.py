"""Content that instrumentations emit as log records: events of the span that they were emitted in.

Only records named `gen_ai.…` are taken; an application's own log stays where it is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import Logger, LoggerProvider, LogRecord
from opentelemetry.context import Context

from turntrace.semconv import LOG_BODY
from turntrace.tracing.context import current_span, is_suspended
from turntrace.tracing.provider import hear
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.root import RootSpan
from turntrace.tracing.span import Span

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord

_PREFIX: Final = "gen_ai."


class TurntraceLoggerProvider(LoggerProvider):
    """For instrumentations that `tt.instrument()` switches on; what they log goes to the spans of turns alone."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def get_logger(self, name: str, *args: Any, **kwargs: Any) -> Logger:
        """A logger; its name is not kept."""
        return _TurnLogger(name, self._recorder)


class _TurnLogger(Logger):
    def __init__(self, name: str, recorder: Recorder) -> None:
        super().__init__(name)
        self._recorder = recorder

    def emit(self, record: LogRecord | None = None, **stated: Any) -> None:
        """Take a record, or what one is made of, for whatever turn it was emitted in: nobody else is given it."""
        take(self._recorder, None, record, **stated)

    def enabled(self, **about: Any) -> bool:
        """Whether records are wanted: always, and for events only."""
        return True


class TurnLogProcessor:
    """A log record processor for a logger provider of the host: content of spans in turns of `recorder` joins them.

    Each `Turntrace` of the process has one there, and each is given every record.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_emit(self, log_record: "ReadWriteLogRecord") -> None:
        """Take a record."""
        take(self._recorder, self._recorder, log_record.log_record)

    def enabled(self, **about: Any) -> bool:
        """Part of the SDK's interface; whether a record is made at all is decided by the host's other processors."""
        return str(about.get("event_name") or "").startswith(_PREFIX)

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held."""
        return True


def take(recorder: Recorder, owner: Recorder | None, record: LogRecord | None, **stated: Any) -> None:
    """Join a record, or what one is made of, to the span that it was emitted in; never raises.

    Args:
        recorder: who is told of faults.
        owner: only spans in its turns are meant; None: in anybody's.
    """
    try:
        record = LogRecord(**stated) if record is None else record
        attributes = record.attributes or {}
        name = record.event_name or attributes.get("event.name")
        if isinstance(name, str) and name.startswith(_PREFIX) and not is_suspended():
            _join(owner, record, name, attributes)
    except Exception as exc:
        recorder.guard.fault("logs.take", exc)


def _join(owner: Recorder | None, record: LogRecord, name: str, attributes: Mapping[str, Any]) -> None:
    told = dict(attributes) if record.body is None else {**attributes, LOG_BODY: record.body}
    at_ns = record.timestamp or record.observed_timestamp
    context = record.context if isinstance(record.context, Context) else None
    span = current_span(context)
    place = span.get_span_context()
    trace_id, span_id = record.trace_id or place.trace_id, record.span_id or place.span_id
    if span_id != place.span_id or not isinstance(span, Span):
        hear(owner, trace_id, span_id, (name, told, at_ns))
    elif not isinstance(span, RootSpan) and _is_meant(span, owner):  # a turn itself has no model call's content
        span.add_event(name, told, at_ns)


def _is_meant(span: Span, owner: Recorder | None) -> bool:
    turn = getattr(span, "turn", None)  # the span that records nothing has none
    return turn is not None and (owner is None or turn.recorder is owner)
