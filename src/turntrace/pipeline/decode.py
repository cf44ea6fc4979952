"""Frames to fragments: JSON whose every value is checked, because a spool outlives the release that wrote it."""

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import orjson

from turntrace.errors import FrameInvalid
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, SpanEvent, TurnHeader

# A value that has the wrong type under a known key survives under this prefix, in metadata or attributes.
INVALID_PREFIX: Final = "turntrace.invalid."
_HEX32 = re.compile(r"[0-9a-f]{32}\Z")
_HEX16 = re.compile(r"[0-9a-f]{16}\Z")
_BIGINT: Final = 1 << 63

# How a value is checked: by its exact type, and for the few types where that does not do, by a function too.
Check = tuple[frozenset[type], Callable[[Any], bool] | None]


def _fits(value: Any) -> bool:
    return value is None or -_BIGINT <= value < _BIGINT


def _is_texts(value: Any) -> bool:
    return all(type(item) is str for item in value)


_NONE: Final = type(None)
_CHECKS: Final[dict[str, Check]] = {
    "str": (frozenset({str}), None),
    "str | None": (frozenset({str, _NONE}), None),
    "int": (frozenset({int}), _fits),
    "int | None": (frozenset({int, _NONE}), _fits),
    "bool": (frozenset({bool}), None),
    "dict[str, Any]": (frozenset({dict}), None),
    "dict[str, Any] | None": (frozenset({dict, _NONE}), None),
    "tuple[str, ...]": (frozenset({list}), _is_texts),
    "tuple[SpanEvent, ...]": (frozenset({list}), None),
    "Any": (frozenset({str, int, float, bool, dict, list, _NONE}), None),
}


def _type_name(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else annotation
    return str(text).replace("typing.", "").replace("turntrace.records.fragment.", "")


def _checks_of(record: type[Any]) -> dict[str, Check]:
    return {item.name: _CHECKS[_type_name(item.type)] for item in fields(record)}


_HEADER_CHECKS: Final = _checks_of(TurnHeader)
_SPAN_CHECKS: Final = _checks_of(RawSpan)
_EVENT_CHECKS: Final = _checks_of(SpanEvent)


def decode(kind: FrameKind, payload: bytes) -> Fragment:
    """The fragment a frame holds.

    Unknown keys are passed over. A value of the wrong type under a known key is kept raw under
    `turntrace.invalid.<key>` (metadata of the turn, attributes of the span) and flagged.

    Raises:
        FrameInvalid: not JSON, or without a turn that has valid ids.
    """
    try:
        document = orjson.loads(payload)
    except ValueError as error:
        raise FrameInvalid("the frame is not JSON") from error
    if type(document) is not dict or type(document.get("turn")) is not dict:
        raise FrameInvalid("the frame has no turn")
    spans, lost = _spans(document.get("spans"))
    return Fragment(kind=kind, turn=_header(document["turn"], lost), spans=spans)


def _header(values: dict[str, Any], spans_lost: int) -> TurnHeader:
    known, invalid = _sort(values, _HEADER_CHECKS)
    _require_ids(known)
    flags = tuple(known.get("flags", ())) + tuple(f"field_invalid:{name}" for name in invalid)
    if spans_lost:
        flags += (f"spans_invalid:{spans_lost}",)
    if flags:
        known["flags"] = flags
    if invalid:
        raw = {INVALID_PREFIX + name: value for name, value in invalid.items()}
        known["metadata"] = {**known.get("metadata", {}), **raw}
    if "tags" in known:
        known["tags"] = tuple(known["tags"])
    return TurnHeader(**known)


def _require_ids(known: dict[str, Any]) -> None:
    for name, pattern in (("id", _HEX32), ("trace_id", _HEX32), ("span_id", _HEX16)):
        if not pattern.match(known.get(name, "")):
            raise FrameInvalid(f"the turn has no valid {name}")


def _spans(values: Any) -> tuple[tuple[RawSpan, ...], int]:
    """The readable spans, and how many were not."""
    if values is None:
        return (), 0
    if type(values) is not list:
        return (), 1
    read = [_span(item) for item in values if type(item) is dict]
    spans = tuple(span for span in read if span is not None)
    return spans, len(values) - len(spans)


def _span(values: dict[str, Any]) -> RawSpan | None:
    span_id = values.get("span_id")
    if type(span_id) is not str or not _HEX16.match(span_id):
        return None
    known, invalid = _sort(values, _SPAN_CHECKS)
    if "events" in known:
        known["events"] = tuple(event for event in map(_event, known["events"]) if event is not None)
    if invalid:
        raw = {INVALID_PREFIX + name: value for name, value in invalid.items()}
        known["attributes"] = {**known.get("attributes", {}), **raw}
    return RawSpan(**known)


def _event(values: Any) -> SpanEvent | None:
    if type(values) is not dict:
        return None
    known, _ = _sort(values, _EVENT_CHECKS)
    return SpanEvent(**known) if "name" in known and "at_us" in known else None


def _sort(values: dict[str, Any], checks: dict[str, Check]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Known keys by whether their value can be used; unknown keys are left out."""
    known: dict[str, Any] = {}
    invalid: dict[str, Any] = {}
    for name, value in values.items():
        check = checks.get(name)
        if check is None:
            continue
        types, rule = check
        if type(value) in types and (rule is None or rule(value)):
            known[name] = value
        else:
            invalid[name] = value
    return known, invalid
