"""Content of turns, read and put into records. A blob that cannot be opened leaves a flag, not an error."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, select

from turntrace.errors import TurntraceError
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.storage import residence, tables
from turntrace.storage.content import Codec, TurnContent, filled_observation, filled_trace, opened

if TYPE_CHECKING:
    from turntrace.storage.database import Database

UNREADABLE: Final = "content_unreadable"
_c = tables.content.c

Contents = dict[str, TurnContent | None]


@dataclass(slots=True)
class Away:
    """What could not be read now, for those who go on with the rest and come back for this."""

    stores: set[str] = field(default_factory=set)  # asked once, and not again by whoever reads on
    turn_ids: set[str] = field(default_factory=set)  # of turns whose content lies there


def contents(c: Connection, turn_ids: Sequence[str], *, is_strict: bool = False, away: Away | None = None) -> Contents:
    """Content by turn id; None where a newer release wrote it or it is damaged. Turns without content are left out.

    Args:
        is_strict: for what comes again, or must be whole: content in a store that is away, or that `content_urls` does
            not name, is an error, not None.
        away: is told of such content.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: the store is away, or not named.
    """
    rows = c.execute(select(_c.turn_id, _c.codec, _c.key_id, _c.data).where(_c.turn_id.in_(turn_ids))).all()
    found: dict[str, Any] = {row.turn_id: row for row in rows}
    if any(row.codec == Codec.STORE for row in rows):
        found |= _followed(c, [row for row in rows if row.codec == Codec.STORE], is_strict, away or Away())
    return {turn_id: _opened(c, row) for turn_id, row in found.items()}


def _followed(c: Connection, rows: Sequence[Any], is_strict: bool, away: Away) -> Mapping[str, Any]:
    """Rows of blobs by turn id, each store asked once; None where there is none."""
    found: dict[str, Any] = dict.fromkeys(row.turn_id for row in rows)
    for name, turns in residence.grouped(list(_pointers(rows))).items():
        try:
            blobs = {} if name in away.stores else residence.blobs(_store(c, name), list(turns))
        except TurntraceError:
            if is_strict:
                raise
            away.stores.add(name)
            blobs = {}
        if name in away.stores:
            away.turn_ids.update(turns.values())
        found.update({turns[blob_id]: row for blob_id, row in blobs.items()})
    return found


def _store(c: Connection, name: str) -> "Database":
    return residence.named(residence.stores_of(c), name)


def _pointers(rows: Sequence[Any]) -> Iterator[tuple[str, residence.Pointer]]:
    """With the ids of their turns; one that is damaged leads nowhere, and coming again would not mend it."""
    for row in rows:
        with contextlib.suppress(ValueError):
            yield row.turn_id, residence.Pointer.read(row.data)


def _opened(c: Connection, row: Any) -> TurnContent | None:
    if row is None:
        return None
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
