"""Where in its turn a span begins."""

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from turntrace.tracing.context import current_span
from turntrace.tracing.span import Span

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn


def place_in(turn: "Turn", context: Context | None = None) -> tuple[str, str]:
    """Parent span id and trace id of a span that begins now in `turn`.

    The parent is OpenTelemetry's current span where that belongs to this turn: ours, or one of the host's own tracing
    inside the turn. Everything else (no span, another turn's, what the turn itself hangs below) gives the turn's root.
    """
    current = current_span(context)
    owner = getattr(current, "turn", None)
    if owner is turn:
        return current.span_id, current.trace_id  # type: ignore[attr-defined]
    if owner is not None:
        return turn.span_id, turn.trace_id
    found = current.get_span_context()
    if not found.is_valid:
        return turn.span_id, turn.trace_id
    if not current.is_recording() and not found.is_remote:
        turn.note_once("unsampled_host_span")
    span_id = f"{found.span_id:016x}"
    if found.is_remote or span_id == turn.parent_span_id:
        return turn.span_id, turn.trace_id
    return span_id, f"{found.trace_id:032x}"


def begin(
    turn: "Turn",
    name: str,
    own: dict[str, Any] | None,
    *,
    context: Context | None = None,
    started_at_us: int | None = None,
) -> Span | None:
    """Start a span in `turn`; None where the turn is full (`max_spans`): it is counted only."""
    current = current_span(context)
    if getattr(current, "turn", None) is turn:  # so it nearly always is
        parent_span_id, trace_id = current.span_id, current.trace_id  # type: ignore[attr-defined]
    else:
        parent_span_id, trace_id = place_in(turn, context)
    if turn.span_count >= turn.span_limit:
        turn.note("spans_dropped")
        return None
    turn.span_count += 1
    span = Span(turn, name, parent_span_id, trace_id, own, started_at_us)
    turn.open[span.span_id] = span
    return span
