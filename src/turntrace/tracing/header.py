"""The header of a turn while it is made: the fields of `records.fragment.TurnHeader` as plain attributes."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from turntrace.records.fragment import END_LOST
from turntrace.tracing import encode
from turntrace.tracing.encode import Fragment, capture

IDENTITY: Final = ("id", "trace_id", "span_id", "started_at_us")
# What the numbers of late spans are counted by: an AMEND repeats it.
_DIMENSIONS: Final = (
    *("source", "route", "session_id", "user_id", "feature", "experiment", "environment", "release", "service_name"),
    *("tags", "depth", "content"),
)
_ALWAYS: Final = frozenset({*IDENTITY, "received"})


class Header:
    """What is known of a turn.

    A field that was never set has its default here, on the class, and is not in the dictionary of the instance: that
    dictionary is what a frame encodes, with no copy made of it. Whatever is no field of the header has a slot in the
    class below. Values are replaced and never changed in place.
    """

    __slots__ = ("__dict__", "__weakref__", "_notes", "_room", "field_limit", "short_limit")

    _notes: dict[str, int] | None  # facts about the recording itself, counted
    _room: int  # bytes that the turn may still take
    field_limit: int
    short_limit: int  # characters that are short enough in any encoding

    id: str
    trace_id: str
    span_id: str
    started_at_us: int
    outcome: str = "complete"
    parent_span_id: str | None = None
    name: str = ""
    source: str = "http"
    method: str | None = None
    route: str | None = None
    http_status: int | None = None
    duration_us: int | None = None
    ttft_us: int | None = None
    last_byte_us: int | None = None
    client_left_us: int | None = None
    bytes_sent: int | None = None
    chunk_count: int | None = None
    is_streamed: bool = False
    error: dict[str, Any] | None = None
    session_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    experiment: str | None = None
    environment: str | None = None
    release: str | None = None
    request_id: str | None = None
    service_name: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    feature_flags: Mapping[str, Any] = {}
    input: Any = None
    output: Any = None
    content: str | None = None
    depth: int = 0
    flags: tuple[str, ...] = ()
    overhead_us: int | None = None

    def keep(self, value: Any, replaced: Any = None) -> Any:
        """The recorded form of a content value, within the bounds of field and turn; `replaced` gives back its room."""
        if type(value) is str and (size := len(value)) <= self.short_limit:
            wire = value
        else:
            wire, size = capture(value, self.field_limit)
        room = self._room - size
        if replaced is not None:
            room += _size_of(replaced)
        if room < 0:
            self._room = room + size
            self.note("fields_cut")
            return encode.withheld(size)
        self._room = room
        return wire

    def note(self, flag: str, count: int = 1) -> None:
        """Count a fact about the recording itself; the header's flags have `flag`, or `flag:count` from two on."""
        notes = self._notes
        if notes is None:
            notes = self._notes = {}
        notes[flag] = notes.get(flag, 0) + count

    def note_once(self, flag: str) -> None:
        """State a fact about the recording itself."""
        self._notes = {**(self._notes or {}), flag: 1}


def _size_of(wire: Any) -> int:
    """Bytes that a recorded value took of its turn's room. Replacing one is rare: no books are kept of them."""
    kind = type(wire)
    return len(wire) if kind is str else len(orjson.dumps(wire)) if kind is Fragment else 0


def bare_header(turn: Header) -> dict[str, Any]:
    """The header of an END in place of one that could not be made: what was written before completes it."""
    header = {
        name: getattr(turn, name) for name in (*IDENTITY, "name", "source", "outcome", "duration_us", "environment")
    }
    return {**{name: value for name, value in header.items() if value}, "flags": [END_LOST]}


def changes(header: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What of `header` differs from the one `told` before, and whose it is; `received` is growth anyway."""
    return {name: value for name, value in header.items() if name in _ALWAYS or told.get(name) is not value}


def amended_header(turn: Header, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The header of an AMEND: whose it is, its dimensions, and the late fields."""
    known = turn.__dict__
    return {**{name: known[name] for name in (*IDENTITY, *_DIMENSIONS) if known.get(name)}, **fields}
