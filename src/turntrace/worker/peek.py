"""Whose a frame is, without reading the whole of it."""

import re
from collections.abc import Iterable
from typing import Final

from turntrace.records.fragment import FrameKind
from turntrace.spool.reader import Frame

_BEGINNING: Final = re.compile(rb'\{"turn":\{"id":"([0-9a-f]{32})"')  # as capture writes frames


def id_of(payload: bytes) -> str | None:
    """The id that a frame of capture begins with; None for any other."""
    found = _BEGINNING.match(payload)
    return None if found is None else found[1].decode()


def ended_in(frames: Iterable[Frame]) -> frozenset[str]:
    """The ids of the turns whose END is among these frames: their earlier frames need not be read."""
    found = [id_of(frame.payload) for frame in frames if frame.kind is FrameKind.END]
    return frozenset(item for item in found if item is not None)
