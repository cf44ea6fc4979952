"""Fragments and pipelines for tests, with as little said as possible."""

from collections.abc import Sequence
from typing import Any

import orjson

from turntrace.pipeline import Pipeline, decode
from turntrace.records.batch import Worked
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader
from turntrace.records.observation import Observation
from turntrace.settings import Settings

TURN, TRACE, ROOT = "1" * 32, "2" * 32, "f" * 16
START_US = 1_795_000_000_000_000


def span_id(number: int) -> str:
    return f"{number:016x}"


def span(number: int, parent: int | str | None = ROOT, **fields: Any) -> RawSpan:
    """A span with this number as its id; a plain parent number means that span."""
    above = span_id(parent) if isinstance(parent, int) else parent
    values = {"started_at_us": START_US + number, "duration_us": 1000, "name": f"s{number}", **fields}
    return RawSpan(span_id=span_id(number), parent_span_id=above, **values)


def own(number: int, type: str = "span", parent: int | str | None = ROOT, **fields: Any) -> RawSpan:
    return span(number, parent, own={"type": type, **fields})


def turn(*spans: RawSpan, kind: FrameKind = FrameKind.END, **header: Any) -> Fragment:
    values = {"id": TURN, "trace_id": TRACE, "span_id": ROOT, "started_at_us": START_US, "duration_us": 5000, **header}
    return Fragment(kind=kind, turn=TurnHeader(**values), spans=spans)


def frame(spans: Sequence[Any] = (), kind: FrameKind = FrameKind.END, **header: Any) -> Fragment:
    """What decoding the JSON of such a frame gives."""
    values = {"id": TURN, "trace_id": TRACE, "span_id": ROOT, **header}
    return decode(kind, orjson.dumps({"turn": values, "spans": list(spans)}))


def worked(fragment: Fragment, **settings: Any) -> Worked:
    (found,) = Pipeline(Settings(**{"redaction": "off", **settings})).work([fragment])
    return found


def observed(*spans: RawSpan, **header: Any) -> dict[str, Observation]:
    """Observations by name."""
    return {item.name: item for item in worked(turn(*spans, **header)).trace.observations}
