"""OTLP as JSON (or protobuf turned to the same mappings) to raw spans. Pure; grouping and storing are for others."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from turntrace.pipeline.convert.logevent import BODY
from turntrace.records.fragment import RawSpan, SpanEvent

_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_MOST_NESTED: Final = 64


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record that belongs to a span."""

    trace_id: str
    span_id: str
    event: SpanEvent


def read_spans(request: Mapping[str, Any]) -> tuple[list[RawSpan], int]:
    """Spans of an `ExportTraceServiceRequest`, with their own trace ids, and how many could not be read."""
    spans: list[RawSpan] = []
    rejected = 0
    for resource, scope, raw in _entries(request, "resourceSpans", "scopeSpans", "spans"):
        span = read_span(raw, resource, scope)
        if span is None:
            rejected += 1
        else:
            spans.append(span)
    return spans, rejected


def read_logs(request: Mapping[str, Any]) -> tuple[list[LogRecord], int]:
    """Log records of an `ExportLogsServiceRequest` that name a span, and how many do not."""
    records: list[LogRecord] = []
    rejected = 0
    for _, _, raw in _entries(request, "resourceLogs", "scopeLogs", "logRecords"):
        record = read_log(raw)
        if record is None:
            rejected += 1
        else:
            records.append(record)
    return records, rejected


def join_logs(spans: Iterable[RawSpan], records: Iterable[LogRecord]) -> list[RawSpan]:
    """The spans, each with the log records of its trace and span id as events, in time order."""
    by_span: dict[tuple[str | None, str], list[SpanEvent]] = {}
    for record in records:
        by_span.setdefault((record.trace_id, record.span_id), []).append(record.event)
    return [_joined(span, by_span.get((span.trace_id, span.span_id))) for span in spans]


def _joined(span: RawSpan, events: list[SpanEvent] | None) -> RawSpan:
    if not events:
        return span
    return replace(span, events=tuple(sorted((*span.events, *events), key=lambda event: event.at_us)))


def _entries(
    request: Mapping[str, Any], outer: str, inner: str, leaf: str
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], Any]]:
    for resource in _list(request.get(outer)):
        named = attributes(_mapping(resource.get("resource")).get("attributes"))
        for scoped in _list(resource.get(inner)):
            scope = _mapping(scoped.get("scope"))
            for raw in _list(scoped.get(leaf), only_mappings=False):
                yield named, scope, raw


def _list(value: Any, *, only_mappings: bool = True) -> list[Any]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)] if only_mappings else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def read_span(raw: Any, resource: dict[str, Any], scope: Mapping[str, Any]) -> RawSpan | None:
    """One span, or None where its ids or its start cannot be read.

    Args:
        resource: attributes of its resource, as `attributes` reads them.
    """
    if not isinstance(raw, dict):
        return None
    trace_id, span_id = hex_id(raw.get("traceId"), 32), hex_id(raw.get("spanId"), 16)
    started = microseconds(raw.get("startTimeUnixNano"))
    if trace_id is None or span_id is None or started is None:
        return None
    ended = microseconds(raw.get("endTimeUnixNano"))
    status = _mapping(raw.get("status"))
    return RawSpan(
        span_id=span_id,
        trace_id=trace_id,
        parent_span_id=hex_id(raw.get("parentSpanId"), 16),
        name=_text(raw.get("name")) or "",
        scope=_text(scope.get("name")) or "",
        scope_version=_text(scope.get("version")),
        kind=_enum(raw.get("kind"), _KINDS, "SPAN_KIND_"),
        started_at_us=started,
        duration_us=max(0, ended - started) if ended else None,
        status=_enum(status.get("code"), _STATUSES, "STATUS_CODE_"),
        status_message=_text(status.get("message")),
        attributes=attributes(raw.get("attributes")),
        events=tuple(event for event in map(_event, _list(raw.get("events"))) if event is not None),
        resource=resource or None,
    )


def _event(raw: Mapping[str, Any]) -> SpanEvent | None:
    at = microseconds(raw.get("timeUnixNano"))
    name = _text(raw.get("name"))
    if at is None or name is None:
        return None
    return SpanEvent(name=name, at_us=at, attributes=attributes(raw.get("attributes")))


def read_log(raw: Any) -> LogRecord | None:
    """One log record, or None where it names no span."""
    if not isinstance(raw, dict):
        return None
    trace_id, span_id = hex_id(raw.get("traceId"), 32), hex_id(raw.get("spanId"), 16)
    at = microseconds(raw.get("timeUnixNano")) or microseconds(raw.get("observedTimeUnixNano"))
    if trace_id is None or span_id is None:
        return None
    named = attributes(raw.get("attributes"))
    name = _text(raw.get("eventName")) or _text(named.get("event.name")) or ""
    body = value(raw.get("body"))
    if body is not None:
        named[BODY] = body
    return LogRecord(trace_id, span_id, SpanEvent(name=name, at_us=at or 0, attributes=named))


def attributes(raw: Any) -> dict[str, Any]:
    """A list of `{"key", "value"}` as a mapping; unreadable entries are left out."""
    found: dict[str, Any] = {}
    for entry in _list(raw):
        key = entry.get("key")
        if isinstance(key, str) and key:
            found[key] = value(entry.get("value"))
    return found


def value(raw: Any, depth: int = 0) -> Any:
    """The plain value of an `AnyValue`; nesting past a bound is cut off."""
    if not isinstance(raw, dict) or depth > _MOST_NESTED:
        return None
    for kind, inner in raw.items():
        if kind in ("stringValue", "boolValue", "bytesValue"):
            return inner
        if kind == "intValue":
            return _integer(inner)
        if kind == "doubleValue":
            return inner if isinstance(inner, (int, float)) else _text(inner)
        if kind == "arrayValue":
            return [value(item, depth + 1) for item in _list(_mapping(inner).get("values"))]
        if kind == "kvlistValue":
            entries = _list(_mapping(inner).get("values"))
            return {str(item.get("key", "")): value(item.get("value"), depth + 1) for item in entries}
    return None


def _integer(raw: Any) -> Any:
    """64-bit integers travel as text; what is none stays as it is."""
    try:
        number = int(raw)
    except (TypeError, ValueError):
        return raw
    return number if -(1 << 63) <= number < (1 << 63) else raw


def microseconds(raw: Any) -> int | None:
    """Microseconds of a time in nanoseconds, given as number or text; None for none and for zero."""
    nanoseconds = _integer(raw)
    if not isinstance(nanoseconds, int) or isinstance(nanoseconds, bool) or nanoseconds <= 0:
        return None
    return nanoseconds // 1000


def hex_id(raw: Any, digits: int) -> str | None:
    """A lower-case id of so many hex digits that is not all zero, or None."""
    if not isinstance(raw, str) or len(raw) != digits:
        return None
    found = raw.lower()
    is_hex = all(character in "0123456789abcdef" for character in found)
    return found if is_hex and found.strip("0") else None


def _enum(raw: Any, names: tuple[str, ...], prefix: str) -> str:
    if isinstance(raw, str):
        name = raw.removeprefix(prefix).lower()
        return name if name in names else names[0]
    return names[raw] if type(raw) is int and 0 <= raw < len(names) else names[0]


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and raw else None
