"""Content of turns, read and put into records. A blob that cannot be opened leaves a flag, not an error."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, select

from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.storage import tables
from turntrace.storage.content import TurnContent, filled_observation, filled_trace, opened

UNREADABLE: Final = "content_unreadable"
_c = tables.content.c

Contents = dict[str, TurnContent | None]


def contents(c: Connection, turn_ids: Sequence[str]) -> Contents:
    """Content by turn id; None where a newer release wrote it or it is damaged. Turns without content are left out."""
    rows = c.execute(select(_c.turn_id, _c.codec, _c.key_id, _c.data).where(_c.turn_id.in_(turn_ids)))
    return {row.turn_id: _opened(c, row) for row in rows}


def _opened(c: Connection, row: Any) -> TurnContent | None:
    try:
        return opened(c, row)
    except ValueError:
        return None


def fill(trace: Trace, observations: Sequence[Observation], found: Contents) -> Trace:
    """The trace with its observations and the content of both."""
    content = found.get(trace.id, TurnContent())
    if content is None:
        flags = (*trace.flags, UNREADABLE)
        return replace(trace, input=None, output=None, observations=tuple(observations), flags=flags)
    return filled_trace(replace(trace, observations=tuple(observations)), content)


def fill_observation(observation: Observation, found: Contents) -> Observation:
    """The observation with its content."""
    content = found.get(observation.turn_id, TurnContent())
    if content is None:
        return replace(observation, flags=(*observation.flags, UNREADABLE))
    return filled_observation(observation, content)
