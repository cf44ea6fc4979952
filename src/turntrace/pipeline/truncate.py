"""Byte bounds on what is stored of one field: head and tail stay, and how much there was."""

from dataclasses import replace
from typing import Any, Final

import orjson

from turntrace.records.observation import Observation
from turntrace.records.trace import Trace

_OBSERVATION_FIELDS: Final = (
    "parameters",
    "input",
    "output",
    "tool_calls",
    "tool_definitions",
    "query",
    "retrieval",
    "documents",
    "input_documents",
    "metadata",
)
_TOO_DEEP: Final = "…[nested too deeply]…"
_TRACE_FIELDS: Final = ("input", "output", "received", "metadata", "feature_flags")


def cut_text(text: str, most_bytes: int) -> str:
    """The text, or its head and tail round a mark with the number of bytes left out."""
    if len(text) * 4 <= most_bytes:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= most_bytes:
        return text
    head, tail = most_bytes * 2 // 3, most_bytes // 4
    left_out = len(data) - head - tail
    start, end = data[:head].decode("utf-8", "ignore"), data[-tail:].decode("utf-8", "ignore")
    return f"{start}…[{left_out} of {len(data)} bytes cut]…{end}"


def bound(value: Any, most_bytes: int) -> Any:
    """The value itself where it fits, else a cut form of the same kind: texts are cut, lists lose their middle."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return cut_text(value, most_bytes)
    # Encoding is the cheapest measure: orjson walks a value ten times as fast as Python does.
    try:
        size = len(_encoded(value))
    except TypeError:  # no encoder, of a database neither, goes down as far as somebody's brackets may
        return {"turntrace.cut": _TOO_DEEP} if isinstance(value, dict) else type(value)([_TOO_DEEP])
    if size <= most_bytes:
        return value
    if isinstance(value, dict):
        return _bound_mapping(value, most_bytes, size)
    return type(value)(_bound_sequence(list(value), most_bytes, size))


def _bound_mapping(value: dict[str, Any], most_bytes: int, size: int) -> dict[str, Any]:
    """Every entry cut to its share; entries that still do not fit together are counted only."""
    share = max(64, most_bytes // max(1, len(value)))
    kept: dict[str, Any] = {}
    room = most_bytes
    for name, item in value.items():
        cut = bound(item, share)
        room -= len(_encoded(cut)) + len(name) + 4
        if room < 0:
            break
        kept[name] = cut
    if len(kept) < len(value):
        kept["turntrace.cut"] = f"{len(value) - len(kept)} of {len(value)} entries, {size} bytes in all"
    return kept


def _bound_sequence(value: list[Any], most_bytes: int, size: int) -> list[Any]:
    """First and last entries, as many as fit; the longest texts are cut before entries are left out."""
    share = max(256, most_bytes // max(1, len(value)))
    cut = [bound(item, share) for item in value]
    sizes = [len(_encoded(item)) + 1 for item in cut]
    if sum(sizes) <= most_bytes:
        return cut
    head = _fitting(sizes, most_bytes * 2 // 3)
    tail = _fitting(sizes[:head:-1], most_bytes // 4)
    mark = f"…[{len(cut) - head - tail} of {len(cut)} entries cut, {size} bytes in all]…"
    return [*cut[:head], mark, *(cut[-tail:] if tail else [])]


def _fitting(sizes: list[int], most_bytes: int) -> int:
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > most_bytes:
            return count
    return len(sizes)


def _encoded(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


def truncate(trace: Trace, most_bytes: int) -> Trace:
    """The trace with every content field within the bound."""
    observations = tuple(_observation(item, most_bytes) for item in trace.observations)
    changes = _changes(trace, _TRACE_FIELDS, most_bytes)
    if any(new is not old for new, old in zip(observations, trace.observations, strict=True)):
        changes["observations"] = observations
    return replace(trace, **changes) if changes else trace


def _observation(observation: Observation, most_bytes: int) -> Observation:
    changes = _changes(observation, _OBSERVATION_FIELDS, most_bytes)
    if not changes:
        return observation
    flags = (*observation.flags, *(f"cut:{name}" for name in changes))
    return replace(observation, flags=flags, **changes)


def _changes(record: Trace | Observation, names: tuple[str, ...], most_bytes: int) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in names:
        value = getattr(record, name)
        if not value:
            continue
        cut = bound(value, most_bytes)
        if cut is not value:
            changes[name] = cut
    return changes
