"""Spans of a tracing that is not ours in a turn: ended ones as they are, open ones as far as they have come.

The spans are the SDK's, which is never imported here.
"""

from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import Attributes

from turntrace import semconv

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from turntrace.tracing.turn import Turn

KINDS: Final = {kind: kind.name.lower() for kind in SpanKind}
Heard = tuple[str, dict[str, Any], int | None]  # a log record as an event: name, attributes, Unix time in nanoseconds


class JoinedSpan:
    """An ended span of the host's tracing, in the form of `RawSpan`."""

    __slots__ = ("_is_ai", "facts", "is_settled")

    def __init__(
        self, span: "ReadableSpan", turn: "Turn", parent_span_id: str | None, heard: Sequence[Heard] = ()
    ) -> None:
        self.facts = _converted(span, turn, parent_span_id, heard)
        self.is_settled = True
        self._is_ai = has_ai_name(span.attributes)

    def wire(self) -> dict[str, Any]:
        """The keys of `RawSpan` that do not hold their default."""
        return self.facts

    def is_ai(self) -> bool:
        """Whether it carries an LLM instrumentation's attributes."""
        return self._is_ai


class OpenSpan:
    """A span of the host's tracing that has not ended: its form of `RawSpan` is made anew each time."""

    __slots__ = ("_heard", "_parent_span_id", "_span", "_turn", "facts", "is_settled")

    def __init__(self, span: "ReadableSpan", turn: "Turn", parent_span_id: str | None, heard: Sequence[Heard]) -> None:
        self._span, self._turn, self._parent_span_id, self._heard = span, turn, parent_span_id, heard
        self.facts: dict[str, Any] = {}
        self.is_settled = False

    def wire(self) -> dict[str, Any]:
        """What is known of it now; only its id where that fails: the frame's other spans must not go with it."""
        try:
            return _converted(self._span, self._turn, self._parent_span_id, self._heard)
        except Exception as exc:
            self._turn.recorder.guard.fault("joined.open", exc)
            context = self._span.get_span_context()
            return {"span_id": f"{context.span_id:016x}" if context is not None else ""}

    def is_ai(self) -> bool:
        """Whether it carries an LLM instrumentation's attributes by now."""
        return has_ai_name(self._span.attributes)


def has_ai_name(attributes: Attributes) -> bool:
    """Whether one of the attributes is an LLM instrumentation's."""
    return any(name.startswith(semconv.AI_PREFIXES) for name in attributes or ())


def _converted(
    span: "ReadableSpan", turn: "Turn", parent_span_id: str | None, heard: Sequence[Heard]
) -> dict[str, Any]:
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None
    started, ended = span.start_time or 0, span.end_time
    length_us = max((time_ns() if ended is None else ended) - started, 0) // 1000
    trace_id = f"{context.trace_id:032x}"
    wire: dict[str, Any] = {
        "span_id": f"{context.span_id:016x}",
        "name": span.name,
        "scope": scope.name if scope is not None else "",
        "scope_version": scope.version if scope is not None else None,
        "kind": KINDS[span.kind],
        "started_at_us": started // 1000,
        "seen_us" if ended is None else "duration_us": length_us,
        "status": span.status.status_code.name.lower(),
        "attributes": kept(span.attributes, turn),
        "events": [
            {"name": event.name, "at_us": event.timestamp // 1000, "attributes": kept(event.attributes, turn)}
            for event in span.events
        ],
    }
    wire["events"] += [{"name": name, "at_us": (at_ns or 0) // 1000, "attributes": told} for name, told, at_ns in heard]
    if parent_span_id is not None:
        wire["parent_span_id"] = parent_span_id
    if trace_id != turn.trace_id:
        wire["trace_id"] = trace_id
    if span.status.description:
        wire["status_message"] = span.status.description
    return wire


def kept(attributes: Mapping[str, Any] | None, turn: "Turn") -> dict[str, Any]:
    """Attributes within the bounds of the turn."""
    return {name: turn.keep(value) for name, value in attributes.items()} if attributes else {}
