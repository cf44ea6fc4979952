"""One turn from all that was received of it over OTLP: spans and log records in any order, late or twice. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from turntrace import semconv
from turntrace.pipeline.convert.relayed import is_relayed
from turntrace.pipeline.convert.value import json_value, mapping, text, texts
from turntrace.pipeline.unfinished import MOST_US
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, SpanEvent, TurnHeader

# What of a resource describes the turn; where a span says it itself, that is nearer.
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
ENVIRONMENTS: Final = ("deployment.environment.name", "deployment.environment")
RESOURCE_KEYS: Final = frozenset({SERVICE_NAME, SERVICE_VERSION, *ENVIRONMENTS})
_NEARER: Final = {
    "environment": ("langfuse.environment",),
    "release": ("langfuse.release", "langfuse.version"),
}

# Flag of a turn that another Turntrace sent on: it is not sent on again, or two that name each other never end.
RELAYED: Final = "relayed"
_TURN_FIELDS: Final = (
    *("name", "outcome", "ttft_us", "is_streamed", "feature", "experiment", "request_id", "tags", "metadata"),
    "feature_flags",
)
_TURN_NAMES: Final = frozenset(semconv.TURN_PREFIX + name for name in _TURN_FIELDS)
_OUTCOMES: Final = frozenset({"complete", "client_disconnected", "interrupted"})

Spans = dict[str, RawSpan]


def gather(fragments: Sequence[Fragment]) -> Fragment | None:
    """The turn of these OTLP and LOGS fragments, given in any order; None while there is no span of it.

    Raises:
        ValueError: no fragment, or fragments of different turns.
    """
    if len({fragment.turn.id for fragment in fragments}) != 1:
        raise ValueError("gather takes fragments of one turn")
    spans = _spans(fragments)
    if not spans:
        return None
    joined = _joined(spans, _events(fragments))
    header = _header(fragments[0].turn, joined)
    root = _turn_of(joined)
    if root is not None:
        header = _told(header, joined.pop(root.span_id))
    return Fragment(kind=FrameKind.OTLP, turn=header, spans=tuple(joined.values()))


def as_late(fragments: Iterable[Fragment]) -> list[Fragment]:
    """The spans of these fragments as late ones: for a turn that cannot be made anew any more."""
    return [
        Fragment(
            kind=FrameKind.AMEND,
            turn=_bare(fragment.turn, is_relayed=_are_relayed(fragment.spans)),
            spans=fragment.spans,
        )
        for fragment in fragments
        if fragment.kind is FrameKind.OTLP
    ]


def _bare(turn: TurnHeader, *, is_relayed: bool = False) -> TurnHeader:
    flags = (RELAYED,) if is_relayed else ()
    return TurnHeader(id=turn.id, trace_id=turn.trace_id, span_id=turn.span_id, source="otlp", flags=flags)


def _turn_of(spans: Spans) -> RawSpan | None:
    """The span that another Turntrace sent for the turn itself: it is the turn here, too, and no step of it."""
    turns = [span for span in spans.values() if semconv.TURN_ID in span.attributes]
    roots = [span for span in turns if span.parent_span_id is None or span.parent_span_id not in spans]
    return roots[0] if len(roots) == 1 else None


def _told(header: TurnHeader, span: RawSpan) -> TurnHeader:
    """The header with what its sender knew of the turn; a value of a wrong type is left out."""
    stated = span.attributes
    own = {name[len(semconv.TURN_PREFIX) :]: value for name, value in stated.items() if name in _TURN_NAMES}
    status, ttft_us, outcome = stated.get(semconv.HTTP_STATUS), own.get("ttft_us"), text(own.get("outcome"))
    return replace(
        header,
        name=text(own.get("name")) or "",
        method=_text(stated, semconv.HTTP_METHOD),
        route=_text(stated, semconv.HTTP_ROUTE),
        http_status=status if type(status) is int and 0 < status < 1000 else None,
        outcome=outcome if outcome in _OUTCOMES else header.outcome,
        ttft_us=ttft_us if type(ttft_us) is int and 0 <= ttft_us <= MOST_US else None,
        is_streamed=own.get("is_streamed") is True,
        error=_error(span),
        session_id=_text(stated, semconv.SESSION_ID),
        user_id=_text(stated, semconv.USER_ID),
        feature=text(own.get("feature")),
        experiment=text(own.get("experiment")),
        request_id=text(own.get("request_id")),
        tags=texts(own.get("tags")),
        metadata=mapping(own.get("metadata")),
        feature_flags=mapping(own.get("feature_flags")),
        input=_value(stated, semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE),
        output=_value(stated, semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE),
    )


def _value(stated: Mapping[str, Any], name: str, mime_type: str) -> Any:
    value = stated.get(name)
    return json_value(value) if stated.get(mime_type) == "application/json" else value


def _error(span: RawSpan) -> dict[str, Any] | None:
    events = (event for event in span.events if event.name == semconv.EXCEPTION_EVENT)
    event = next(events, None)
    if event is None:
        return {"type": "Error"} if span.status == "error" else None
    return {
        "type": event.attributes.get(semconv.EXCEPTION_TYPE),
        "message": event.attributes.get(semconv.EXCEPTION_MESSAGE),
        "stack": event.attributes.get(semconv.EXCEPTION_STACKTRACE),
    }


def _spans(fragments: Iterable[Fragment]) -> Spans:
    """Spans by id. Of one that came in several forms the fullest stays, whatever the order."""
    found: Spans = {}
    for fragment in fragments:
        if fragment.kind is not FrameKind.OTLP:
            continue
        for span in fragment.spans:
            known = found.get(span.span_id)
            if known is None or (known != span and _fullness(span) > _fullness(known)):
                found[span.span_id] = span
    return found


def _fullness(span: RawSpan) -> tuple[Any, ...]:
    is_ended = span.duration_us is not None
    return is_ended, span.duration_us or 0, len(span.attributes), len(span.events), repr(span)


def _events(fragments: Iterable[Fragment]) -> dict[str, list[SpanEvent]]:
    """Log records by span id, each as often as the fragment has it that has it most: sent again is not said again."""
    found: dict[str, dict[bytes, SpanEvent]] = {}
    counts: dict[str, Counter[bytes]] = {}
    for fragment in fragments:
        if fragment.kind is not FrameKind.LOGS:
            continue
        here: dict[str, Counter[bytes]] = {}
        for span in fragment.spans:
            for event in span.events:
                key = _key(event)
                found.setdefault(span.span_id, {}).setdefault(key, event)
                here.setdefault(span.span_id, Counter())[key] += 1
        for span_id, counted in here.items():
            counts[span_id] = counts.get(span_id, Counter()) | counted
    return {
        span_id: [event for key, event in events.items() for _ in range(counts[span_id][key])]
        for span_id, events in found.items()
    }


def _key(event: SpanEvent) -> bytes:
    return orjson.dumps([event.at_us, event.name, event.attributes], option=orjson.OPT_SORT_KEYS)


def _joined(spans: Spans, events: Mapping[str, list[SpanEvent]]) -> Spans:
    for span_id in spans.keys() & events.keys():
        span = spans[span_id]
        ordered = sorted((*span.events, *events[span_id]), key=lambda event: event.at_us)
        spans[span_id] = replace(span, events=tuple(ordered))
    return spans


def _header(turn: TurnHeader, spans: Spans) -> TurnHeader:
    """The turn goes from the first start to the last end; its caller is the parent that is not here."""
    ordered = sorted(spans.values(), key=lambda span: (span.started_at_us, span.span_id))
    roots = [span for span in ordered if span.parent_span_id is None or span.parent_span_id not in spans] or ordered
    started = ordered[0].started_at_us
    ends = [span.started_at_us + span.duration_us for span in ordered if span.duration_us is not None]
    resource = next((span.resource for span in (*roots, *ordered) if span.resource), {})
    return replace(
        _bare(turn, is_relayed=_are_relayed(ordered)),
        parent_span_id=next((span.parent_span_id for span in roots if span.parent_span_id), None),
        started_at_us=started,
        duration_us=min(max(ends) - started, MOST_US) if ends else None,
        service_name=_text(resource, SERVICE_NAME),
        release=None if _is_said(ordered, "release") else _text(resource, SERVICE_VERSION),
        environment=None if _is_said(ordered, "environment") else _text(resource, *ENVIRONMENTS),
    )


def _are_relayed(spans: Iterable[RawSpan]) -> bool:
    return any(is_relayed(span.attributes) for span in spans)


def _is_said(spans: Iterable[RawSpan], field: str) -> bool:
    return any(name in span.attributes for span in spans for name in _NEARER[field])


def _text(values: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := values.get(name), str) and value), None)
