"""From spans and log records to frames of the spool: one turn per W3C trace id and sender."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from turntrace.pipeline.convert.otlp import LogRecord
from turntrace.pipeline.gather import RESOURCE_KEYS
from turntrace.records.fragment import FrameKind, RawSpan, SpanEvent
from turntrace.tracing.encode import dump

# A frame is read, sealed and decoded as a whole: small enough to be handled, large enough to be worth it.
FRAME_BYTES: Final = 256 << 10
_OMITTED: Final = frozenset({"trace_id", "events", "resource"})
_DEFAULTS: Final = {
    name: item.default for name, item in RawSpan.__dataclass_fields__.items() if name not in {*_OMITTED, "attributes"}
}


@dataclass(frozen=True, slots=True)
class TurnIdentity:
    """The ids of the turn that stands for one sender's spans of one W3C trace.

    They depend on both, so that spans in any order, late or twice find their turn, and nobody who repeats a trace id
    finds somebody else's: turns captured in a process have ids of version 7, these of version 8 (RFC 9562).
    """

    turn_id: str
    span_id: str

    @classmethod
    def of(cls, sender: str, trace_id: str) -> "TurnIdentity":
        """The identity for a sender, named by the id of its key."""
        digest = hashlib.sha256(f"turntrace.otlp\0{sender}\0{trace_id}".encode()).hexdigest()
        variant = "89ab"[int(digest[16], 16) & 3]
        return cls(turn_id=f"{digest[:12]}8{digest[13:16]}{variant}{digest[17:32]}", span_id=digest[32:48])


Frame = tuple[FrameKind, bytes]


@dataclass(slots=True)
class _Open:
    """A frame of one turn that grows."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class FrameMaker:
    """Collects what one sender sent of many traces, in order.

    Args:
        sender: id of the key that was presented.
    """

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._open: dict[tuple[FrameKind, str], _Open] = {}
        self._done: list[Frame] = []
        self.size = 0

    def identity(self, trace_id: str) -> TurnIdentity:
        """Ids of the turn of this trace."""
        return TurnIdentity.of(self._sender, trace_id)

    def add_span(self, span: RawSpan) -> None:
        """Take a span that names its trace."""
        assert span.trace_id is not None
        self._add(FrameKind.OTLP, span.trace_id, _span(span))

    def add_record(self, record: LogRecord) -> None:
        """Take a log record that belongs to a span."""
        found = {"span_id": record.span_id, "events": [_event(record.event)]}
        self._add(FrameKind.LOGS, record.trace_id, found)

    def frames(self) -> Iterator[Frame]:
        """All frames; those of one turn in order."""
        for (kind, trace_id), found in self._open.items():
            if found.parts:
                self._close(kind, trace_id, found)
        self._open.clear()
        yield from self._done

    def _add(self, kind: FrameKind, trace_id: str, values: dict[str, Any]) -> None:
        try:
            part = orjson.dumps(values)
        except TypeError:  # lone surrogates, integers of more than 64 bits
            part = dump(values)
        found = self._open.setdefault((kind, trace_id), _Open())
        found.parts.append(part)
        found.size += len(part)
        self.size += len(part)
        if found.size >= FRAME_BYTES:
            self._close(kind, trace_id, found)

    def _close(self, kind: FrameKind, trace_id: str, found: _Open) -> None:
        ids = self.identity(trace_id)
        turn = {"id": ids.turn_id, "trace_id": trace_id, "span_id": ids.span_id, "source": "otlp"}
        payload = b'{"turn":' + orjson.dumps(turn) + b',"spans":[' + b",".join(found.parts) + b"]}"
        self._done.append((kind, payload))
        found.parts, found.size = [], 0


def _span(span: RawSpan) -> dict[str, Any]:
    """The fields that say something; of the resource what describes the turn."""
    values = {name: value for name, default in _DEFAULTS.items() if (value := getattr(span, name)) != default}
    values["span_id"] = span.span_id
    if span.scope is not None:
        values["scope"] = span.scope  # empty is not none: that would be a span of our own
    if span.attributes:
        values["attributes"] = span.attributes
    if span.events:
        values["events"] = [_event(event) for event in span.events]
    resource = {name: value for name, value in (span.resource or {}).items() if name in RESOURCE_KEYS}
    if resource:
        values["resource"] = resource
    return values


def _event(event: SpanEvent) -> dict[str, Any]:
    return {"name": event.name, "at_us": event.at_us, "attributes": event.attributes}
