"""Whose a frame is, without reading the whole of it."""

from collections.abc import Iterable
from typing import Final

from turntrace.records.fragment import FrameKind
from turntrace.spool.reader import Frame

_BEGINNING: Final = b'{"turn":{"id":"'  # as capture writes frames
_AT: Final = len(_BEGINNING)
_END: Final = _AT + 32


def id_of(payload: bytes) -> str | None:
    """The id that a frame of capture begins with; None for any other."""
    if payload.startswith(_BEGINNING) and payload[_END : _END + 1] == b'"':
        return payload[_AT:_END].decode("ascii", "replace")
    return None


def ended_in(frames: Iterable[Frame]) -> frozenset[str]:
    """The ids of the turns whose END is among these frames: their earlier frames need not be read."""
    found = [id_of(frame.payload) for frame in frames if frame.kind is FrameKind.END]
    return frozenset(item for item in found if item is not None)
