"""A turn as a span of its own, above those of its observations."""

from typing import Any

from turntrace import semconv
from turntrace.pipeline.outbound.observation import error_event
from turntrace.pipeline.outbound.text import answered, as_json, given
from turntrace.pipeline.outbound.wire import Span
from turntrace.records.trace import Trace

_SERVED = frozenset({"http", "websocket"})


def turn_span(trace: Trace) -> Span:
    """The span of the request that the turn was."""
    ended = trace.started_at_us + (trace.duration_us or 0)
    error = error_event(trace.error, ended)
    return Span(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        parent_span_id=trace.parent_span_id,
        name=_name(trace),
        kind="server" if trace.source in _SERVED else "internal",
        started_at_us=trace.started_at_us,
        ended_at_us=ended,
        status="error" if trace.status == "error" else "unset",
        attributes=_attributes(trace),
        events=(error,) if error else (),
    )


def _name(trace: Trace) -> str:
    if trace.method and trace.route:
        return f"{trace.method} {trace.route}"
    return trace.name or "turn"


def _attributes(trace: Trace) -> dict[str, Any]:
    own = {
        "id": trace.id,
        "name": trace.name or None,
        "source": trace.source,
        "outcome": trace.outcome,
        "ttft_us": trace.ttft_us,
        "is_streamed": trace.is_streamed or None,
        "feature": trace.feature,
        "experiment": trace.experiment,
        "request_id": trace.request_id,
        "tags": list(trace.tags) or None,
        "metadata": as_json(dict(trace.metadata)) if trace.metadata else None,
        "feature_flags": as_json(dict(trace.feature_flags)) if trace.feature_flags else None,
    }
    return {
        semconv.OPENINFERENCE_KIND: "CHAIN",
        semconv.LANGFUSE_TAGS: list(trace.tags) or None,
        semconv.HTTP_METHOD: trace.method,
        semconv.HTTP_ROUTE: trace.route,
        semconv.HTTP_STATUS: trace.http_status,
        semconv.CONVERSATION_ID: trace.session_id,
        semconv.SESSION_ID: trace.session_id,
        semconv.USER_ID: trace.user_id,
        semconv.ERROR_TYPE: trace.error.type if trace.error else None,
        **given(trace.input),
        **answered(trace.output),
        **{semconv.TURN_PREFIX + name: value for name, value in own.items()},
    }
