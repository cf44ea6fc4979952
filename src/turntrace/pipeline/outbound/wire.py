"""Writes protocol buffers: the few messages of an `ExportTraceServiceRequest`.

Source: opentelemetry-proto 1.x (trace, common, resource), protocol buffers encoding.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE: Final = struct.Struct("<d")
_LONG: Final = struct.Struct("<Q")
_INT: Final = struct.Struct("<I")
_WORD: Final = 1 << 64
_MOST_NESTED: Final = 32

KINDS: Final[Mapping[str, int]] = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
STATUSES: Final[Mapping[str, int]] = {"unset": 0, "ok": 1, "error": 2}

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A timed event; `at_us` in microseconds since the Unix epoch."""

    name: str
    at_us: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as it goes out: ids in hex, times in microseconds; attributes that are None are left out."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    started_at_us: int
    ended_at_us: int
    status: str = "unset"
    status_message: str | None = None
    attributes: Attributes = field(default_factory=dict)
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpans:
    """The spans of one resource, under one instrumentation scope."""

    resource: Attributes
    scope: str
    scope_version: str
    spans: Sequence[Span]


def request(groups: Iterable[ResourceSpans]) -> bytes:
    """The whole request."""
    return b"".join(_bytes(1, _group(group)) for group in groups)


def _group(group: ResourceSpans) -> bytes:
    scope = _text(1, group.scope) + _text(2, group.scope_version)
    spans = b"".join(_bytes(2, _span(span)) for span in group.spans)
    return _bytes(1, _attributes(1, group.resource)) + _bytes(2, _bytes(1, scope) + spans)


def _span(span: Span) -> bytes:
    parts = [_bytes(1, bytes.fromhex(span.trace_id)), _bytes(2, bytes.fromhex(span.span_id))]
    if span.parent_span_id:
        parts.append(_bytes(4, bytes.fromhex(span.parent_span_id)))
    parts += [_text(5, span.name), _varint(6, KINDS[span.kind])]
    parts += [_time(7, span.started_at_us), _time(8, span.ended_at_us), _attributes(9, span.attributes)]
    parts += [_bytes(11, _event(event)) for event in span.events]
    parts.append(_bytes(15, _status(span)))
    parts.append(_number(16 << 3 | _FIXED32) + _INT.pack(1))  # flags: sampled
    return b"".join(parts)


def _status(span: Span) -> bytes:
    message = _text(2, span.status_message) if span.status_message else b""
    return message + _varint(3, STATUSES[span.status])


def _event(event: Event) -> bytes:
    return _time(1, event.at_us) + _text(2, event.name) + _attributes(3, event.attributes)


def _time(number: int, at_us: int) -> bytes:
    return _number(number << 3 | _FIXED64) + _LONG.pack(max(0, at_us) * 1000 % _WORD)


def _attributes(number: int, attributes: Attributes) -> bytes:
    return b"".join(_bytes(number, _pair(key, value)) for key, value in attributes.items() if value is not None)


def _pair(key: str, value: Any, depth: int = 0) -> bytes:
    return _text(1, key) + _bytes(2, _value(value, depth))


def _value(value: Any, depth: int = 0) -> bytes:
    """An `AnyValue`; what has no form there goes as text."""
    if isinstance(value, str):
        return _text(1, value)
    if isinstance(value, bool):
        return _varint(2, int(value))
    if isinstance(value, int) and -(_WORD >> 1) <= value < _WORD >> 1:
        return _varint(3, value)
    if isinstance(value, float):
        return _number(4 << 3 | _FIXED64) + _DOUBLE.pack(value)
    if value is None:
        return b""
    if isinstance(value, (list, tuple)) and depth < _MOST_NESTED:
        return _bytes(5, b"".join(_bytes(1, _value(item, depth + 1)) for item in value))
    if isinstance(value, Mapping) and depth < _MOST_NESTED:
        return _bytes(6, b"".join(_bytes(1, _pair(str(key), item, depth + 1)) for key, item in value.items()))
    return _text(1, str(value))


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode("utf-8", "replace"))


def _bytes(number: int, value: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def _varint(number: int, value: int) -> bytes:
    return _number(number << 3 | _VARINT) + _number(value % _WORD)


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
