"""Which stored turns each destination has yet to get, and how the destinations are doing.

A row per turn and destination, written in the transaction that stores the turn and removed when it was sent: whatever
dies in between, a turn is sent at least once. Positions in one log would not do: numbers given to rows are not in the
order in which transactions of several workers become visible.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from turntrace.storage import bulk, tables

# Turns of a destination that nobody names any more are forgotten after this long.
ORPHANED_US: Final = 24 * 3600 * 1_000_000
_o, _d = tables.outbound.c, tables.destination.c

Waiting = tuple[int, str]  # id of the row, and of the turn


def enqueue(connection: Connection, wanted: Iterable[tuple[str, str]], *, now_us: int) -> None:
    """Turns (destination, turn id) that were stored or changed in this transaction."""
    rows = [
        {"destination": destination, "turn_id": turn_id, "at_us": now_us}
        for destination, turn_id in sorted(set(wanted))
    ]
    if rows:
        connection.execute(insert(tables.outbound), rows)


def waiting(connection: Connection, destination: str, *, limit: int) -> list[Waiting]:
    """The turns that have waited longest."""
    statement = select(_o.id, _o.turn_id).where(_o.destination == destination).order_by(_o.id).limit(limit)
    return [(int(row.id), row.turn_id) for row in connection.execute(statement)]


def settle(
    connection: Connection, destination: str, ids: Sequence[int], counts: Mapping[str, int], now_us: int
) -> None:
    """These rows are done with, as `counts` says: any of sent, left_out, refused."""
    bulk.delete_keys(connection, tables.outbound, "id", ids)
    stated: dict[str, Any] = {"last_sent_at_us": now_us, "failing_since_us": None} if counts.get("sent") else {}
    _note(connection, destination, counts, stated)


def note_failure(connection: Connection, destination: str, reason: str, now_us: int, *, is_final: bool) -> None:
    """A request failed; `is_final`: it will not be tried again."""
    since = func.coalesce(_d.failing_since_us, now_us)
    stated: dict[str, Any] = {"last_error": reason[:255], "last_error_at_us": now_us}
    if not is_final:
        stated["failing_since_us"] = since
    _note(connection, destination, {} if is_final else {"failures": 1}, stated)


def trim(connection: Connection, destination: str, *, most: int) -> int:
    """Leave out the oldest where more than `most` wait; answers how many, which are counted."""
    newest_first = select(_o.id).where(_o.destination == destination).order_by(_o.id.desc())
    last = connection.execute(newest_first.offset(most).limit(1)).scalar()
    if last is None:
        return 0
    removed = delete(tables.outbound).where(_o.destination == destination, _o.id <= last)
    count = int(connection.execute(removed).rowcount)
    _note(connection, destination, {"overflowed": count}, {})
    return count


def forget_others(connection: Connection, names: Iterable[str], *, now_us: int) -> int:
    """Remove what waits for destinations that are named no more; answers how many turns."""
    is_orphan = (_o.destination.not_in(list(names)), _o.at_us < now_us - ORPHANED_US)
    return int(connection.execute(delete(tables.outbound).where(*is_orphan)).rowcount)


def _note(connection: Connection, destination: str, counts: Mapping[str, int], stated: Mapping[str, Any]) -> None:
    numbers = {name: 0 for name in ("sent", "left_out", "refused", "overflowed", "failures")}
    made = bulk.insert_missing(connection.dialect.name, tables.destination).values(name=destination, **numbers)
    connection.execute(made)
    changes: dict[str, Any] = {name: _d[name] + count for name, count in counts.items() if count}
    if changes or stated:
        statement = update(tables.destination).where(_d.name == destination).values(**changes, **stated)
        connection.execute(statement)
