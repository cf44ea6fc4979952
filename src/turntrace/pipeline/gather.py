"""One turn from all that was received of it over OTLP: spans and log records in any order, late or twice. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

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
    return Fragment(kind=FrameKind.OTLP, turn=_header(fragments[0].turn, joined), spans=tuple(joined.values()))


def as_late(fragments: Iterable[Fragment]) -> list[Fragment]:
    """The spans of these fragments as late ones: for a turn that cannot be made anew any more."""
    return [
        Fragment(kind=FrameKind.AMEND, turn=_bare(fragment.turn), spans=fragment.spans)
        for fragment in fragments
        if fragment.kind is FrameKind.OTLP
    ]


def _bare(turn: TurnHeader) -> TurnHeader:
    return TurnHeader(id=turn.id, trace_id=turn.trace_id, span_id=turn.span_id, source="otlp")


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
        _bare(turn),
        parent_span_id=next((span.parent_span_id for span in roots if span.parent_span_id), None),
        started_at_us=started,
        duration_us=max(ends) - started if ends else None,
        service_name=_text(resource, SERVICE_NAME),
        release=None if _is_said(ordered, "release") else _text(resource, SERVICE_VERSION),
        environment=None if _is_said(ordered, "environment") else _text(resource, *ENVIRONMENTS),
    )


def _is_said(spans: Iterable[RawSpan], field: str) -> bool:
    return any(name in span.attributes for span in spans for name in _NEARER[field])


def _text(values: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := values.get(name), str) and value), None)
