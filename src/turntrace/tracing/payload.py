"""The JSON of a turn's frames: `records/fragment.py` with everything left out that holds its default."""

from collections.abc import Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import orjson

from turntrace.records.fragment import END_LOST
from turntrace.tracing import encode
from turntrace.tracing.span import Recorded

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn

_NAMES: Final = (
    *("id", "trace_id", "span_id", "parent_span_id", "name", "source", "method", "route", "http_status"),
    *("started_at_us", "duration_us", "ttft_us", "last_byte_us", "client_left_us", "bytes_sent", "chunk_count"),
    *("is_streamed", "error", "session_id", "user_id", "feature", "experiment", "environment", "release", "request_id"),
    *("service_name", "tags", "metadata", "feature_flags", "input", "output", "content", "depth"),
)
IDENTITY: Final = ("id", "trace_id", "span_id", "started_at_us")
# What the numbers of late spans are counted by: an AMEND repeats it.
_DIMENSIONS: Final = (
    *("source", "route", "session_id", "user_id", "feature", "experiment", "environment", "release", "service_name"),
    *("tags", "depth", "content"),
)
_ALWAYS: Final = frozenset({*IDENTITY, "received"})
_AMENDED: Final = (*IDENTITY, *_DIMENSIONS)
_read = attrgetter(*_NAMES)
_read_amended = attrgetter(*_AMENDED)


def header_of(turn: "Turn", notes: Mapping[str, int]) -> dict[str, Any]:
    """The header of a START, DELTA or END: what is known now. `notes` become the flags."""
    values = _read(turn)
    header: dict[str, Any] = dict(zip(compress(_NAMES, values), filter(None, values), strict=True))
    if turn.source == "http":
        del header["source"]
    if turn.outcome != "complete":
        header["outcome"] = turn.outcome
    if notes:
        header["flags"] = [flag if count == 1 else f"{flag}:{count}" for flag, count in list(notes.items())]
    return header


def bare_header(turn: "Turn") -> dict[str, Any]:
    """The header of an END in place of one that could not be made: what was written before completes it."""
    header = {
        name: getattr(turn, name) for name in (*IDENTITY, "name", "source", "outcome", "duration_us", "environment")
    }
    return {**{name: value for name, value in header.items() if value}, "flags": [END_LOST]}


def changes(header: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What of `header` differs from the one `told` before, and whose it is; `received` is growth anyway."""
    return {name: value for name, value in header.items() if name in _ALWAYS or told.get(name) is not value}


def amended_header(turn: "Turn", fields: Mapping[str, Any]) -> dict[str, Any]:
    """The header of an AMEND: whose it is, its dimensions, and the late fields."""
    header = {name: value for name, value in zip(_AMENDED, _read_amended(turn), strict=True) if value}
    if turn.source == "http":
        del header["source"]
    return {**header, **fields}


def payload(header: Mapping[str, Any], spans: Sequence[Recorded]) -> bytes:
    """The bytes of one frame."""
    document = {"turn": header, "spans": [span.wire() for span in spans]}
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate in a name, say
        return encode.dump(document)
