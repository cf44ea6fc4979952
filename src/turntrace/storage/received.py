"""Pieces of turns received over OTLP, kept as they came (sealed) until no more comes.

What counts once, and where a span hangs, shows only when the whole trace is there: so every arrival makes the rows of
its turn anew from all its pieces. Two workers that do so at once are told apart in the transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, func, select

from turntrace.records.batch import Piece, Reception
from turntrace.storage import bulk, tables

# A turn of which nothing came for so long is settled: its pieces go, and what still comes joins its rows one by one.
SETTLED_US: Final = 6 * 3600 * 1_000_000
_PRUNED_AT_ONCE: Final = 500
_r = tables.received.c
_t = tables.trace.c
_s = tables.sampled.c


class ReceivedMeanwhile(Exception):
    """Another worker has stored pieces of one of these turns since they were read: read them again."""


@dataclass(slots=True)
class Stored:
    """What the tables have of a turn that something was received of."""

    pieces: list[Piece] = field(default_factory=list)
    is_known: bool = False  # it has rows
    is_sampled: bool = False  # sampling left it out


def load(connection: Connection, turn_ids: Iterable[str]) -> dict[str, Stored]:
    """Pieces and state of these turns; each of them is in the answer."""
    found = {turn_id: Stored() for turn_id in turn_ids}
    columns = (_r.turn_id, _r.digest, _r.size, _r.key_id, _r.data)
    for row in connection.execute(select(*columns).where(_r.turn_id.in_(found)).order_by(_r.at_us, _r.digest)):
        found[row.turn_id].pieces.append(
            Piece(digest=row.digest, size=int(row.size), key_id=row.key_id, data=bytes(row.data))
        )
    for row in connection.execute(select(_t.id).where(_t.id.in_(found))):
        found[row.id].is_known = True
    for row in connection.execute(select(_s.turn_id).where(_s.turn_id.in_(found))):
        found[row.turn_id].is_sampled = True
    return found


def sizes(connection: Connection, turn_ids: Iterable[str]) -> Mapping[str, int]:
    """Bytes of the stored pieces of these turns."""
    statement = select(_r.turn_id, func.sum(_r.size)).where(_r.turn_id.in_(set(turn_ids))).group_by(_r.turn_id)
    return {row[0]: int(row[1]) for row in connection.execute(statement)}


def store(connection: Connection, receptions: Iterable[Reception], *, now_us: int) -> None:
    """Keep the pieces of these receptions. The fence must be held.

    Raises:
        ReceivedMeanwhile: there are pieces that the rows were not made from.
    """
    found = {reception.turn_id: reception for reception in receptions}
    if not found:
        return
    for row in connection.execute(select(_r.turn_id, _r.digest).where(_r.turn_id.in_(found))):
        reception = found[row.turn_id]
        if row.digest not in reception.seen and all(row.digest != piece.digest for piece in reception.pieces):
            raise ReceivedMeanwhile
    rows = [
        {
            "turn_id": turn_id,
            "digest": piece.digest,
            "at_us": now_us,
            "size": piece.size,
            "key_id": piece.key_id,
            "data": piece.data,
        }
        for turn_id, reception in sorted(found.items())
        for piece in reception.pieces
    ]
    if rows:
        connection.execute(bulk.insert_missing(connection.dialect.name, tables.received), rows)


def forget(connection: Connection, turn_ids: Iterable[str]) -> int:
    """Remove all pieces of these turns; answers how many there were."""
    return bulk.delete_keys(connection, tables.received, "turn_id", sorted(turn_ids))


def prune(connection: Connection, *, now_us: int) -> int:
    """Remove the pieces of settled turns, some hundred at a time; answers how many turns were settled."""
    is_settled = func.max(_r.at_us) < now_us - SETTLED_US
    statement = select(_r.turn_id).group_by(_r.turn_id).having(is_settled).limit(_PRUNED_AT_ONCE)
    turn_ids = [row[0] for row in connection.execute(statement)]
    forget(connection, turn_ids)
    return len(turn_ids)
