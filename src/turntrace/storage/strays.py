"""Blobs in stores that no row points to: put down in the transaction that left them, deleted there afterwards.

The order makes it exact. A writer's ids are committed here (staged) before its blobs are written, and leave with the
transaction that points to them; what is deleted is deleted in its store first, then here. A crash between any two
steps leaves a row that says what is left to do.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, Select, Table, case, delete, false, func, insert, select, update

from turntrace.errors import TurntraceError
from turntrace.storage import bulk, leases, tables
from turntrace.storage.content import Codec
from turntrace.storage.residence import Pointer, named
from turntrace.storage.tables.residence import blob

if TYPE_CHECKING:
    from turntrace.storage.database import Database

log = logging.getLogger("turntrace.storage")

# A writer that has not come back for its blobs by then has died, or begins again.
LAPSE_US: Final = 15 * 60 * 1_000_000
AT_ONCE: Final = 500
_s, _c, _b = tables.stray.c, tables.content.c, blob.c


def drop_contents(connection: Connection, turn_ids: Iterable[str], used: set[str] | None = None) -> int:
    """Delete the content rows of these turns; what they point to is to go, with their transaction.

    Args:
        used: blobs that this very transaction has pointed to, which are put down as staged still: those that it leaves
            again are taken out.

    Returns:
        Rows that were deleted.
    """
    found, number = sorted(turn_ids), 0
    for start in range(0, len(found), bulk.KEYS_AT_ONCE):
        rows = _taken(connection, found[start : start + bulk.KEYS_AT_ONCE])
        number += len(rows)
        left = [(row.turn_id, Pointer.read(row.pointer)) for row in rows if row.pointer is not None]
        mine = {pointer.blob_id for _, pointer in left} & (used or set())
        if used is not None:
            used -= mine
        old = ((turn_id, pointer) for turn_id, pointer in left if pointer.blob_id not in mine)
        put(connection, old, is_staged=False, at_us=0)
    return number


def _taken(connection: Connection, turn_ids: Sequence[str]) -> Sequence[Any]:
    """Content rows, deleted: exactly these. Whoever looked first and deleted by turn afterwards would delete, unseen,
    the row that another writer commits in between."""
    mine = bulk.among(connection, _c.turn_id, turn_ids)
    columns = (_c.turn_id, case((_c.codec == int(Codec.STORE), _c.data)).label("pointer"))
    if connection.dialect.delete_returning and connection.dialect.name != "sqlite":
        return connection.execute(delete(tables.content).where(mine).returning(*columns)).all()
    # SQLite has one writer at a time; elsewhere the rows are locked, and only those are deleted.
    rows = connection.execute(select(*columns).where(mine).with_for_update()).all()
    bulk.delete_keys(connection, tables.content, "turn_id", [row.turn_id for row in rows])
    return rows


def drop_of_turns(connection: Connection, table: Table, turn_ids: Iterable[str]) -> int:
    """Delete the rows of these turns in a table that names them; answers how many there were."""
    if table is tables.content:
        return drop_contents(connection, turn_ids)
    return bulk.delete_keys(connection, table, "turn_id", turn_ids)


def put(connection: Connection, pointers: Iterable[tuple[str, Pointer]], *, is_staged: bool, at_us: int) -> None:
    """Put blobs of turns down."""
    rows = _rows(pointers, is_staged=is_staged, at_us=at_us)
    if rows:
        connection.execute(insert(tables.stray), rows)


def _rows(pointers: Iterable[tuple[str, Pointer]], *, is_staged: bool, at_us: int) -> list[dict[str, Any]]:
    return [
        {"blob_id": to.blob_id, "store": to.store, "turn_id": turn_id, "is_staged": is_staged, "at_us": at_us}
        for turn_id, to in pointers
    ]


def settle(connection: Connection, used: set[str], unused: set[str]) -> bool:
    """A writer's transaction points to `used`, and not to `unused`; False where its time had lapsed."""
    mine = (bulk.among(connection, _s.blob_id, used), _s.is_staged.is_(True))
    if used and connection.execute(delete(tables.stray).where(*mine)).rowcount != len(used):
        return False
    if unused:
        left = bulk.among(connection, _s.blob_id, unused)
        connection.execute(update(tables.stray).where(left).values(is_staged=False))
    return True


def put_again(connection: Connection, pointers: Iterable[tuple[str, Pointer]]) -> None:
    """Blobs whose time had lapsed before they were written are to go, where their rows are gone already."""
    rows = _rows(pointers, is_staged=False, at_us=0)
    if rows:
        connection.execute(bulk.insert_missing(connection.dialect.name, tables.stray), rows)


def clock(connection: Connection) -> int:
    """Now in microseconds, by the clock that all hosts share."""
    return int(connection.execute(select(leases.now_us(connection.dialect.name))).scalar_one())


def drop(connection: Connection, blob_ids: Sequence[str]) -> None:
    """Forget blobs that are not there."""
    bulk.delete_keys(connection, tables.stray, "blob_id", blob_ids)


def staged(connection: Connection) -> list[str]:
    """Blobs that writers are at, now. With the fence held exclusively: all that may yet come in unasked."""
    # Locked: under REPEATABLE READ (a host's transaction on MariaDB) a plain read sees an old moment.
    rows = connection.execute(select(_s.blob_id).where(_s.is_staged.is_(True)).with_for_update(read=True))
    return list(rows.scalars())


def are_left(connection: Connection, turn_ids: Sequence[str], blob_ids: Sequence[str]) -> bool:
    """Whether blobs of these turns, or these, are under way, or were left by their writers and are to go."""
    return bool(_of(connection, turn_ids, blob_ids))


def _of(connection: Connection, turn_ids: Sequence[str], blob_ids: Sequence[str]) -> dict[str, Any]:
    """What is put down of these turns, and of these blobs, by blob."""
    found: dict[str, Any] = {}
    if connection.execute(select(_s.blob_id).limit(1)).first() is None:
        return found  # as ever where content lies in the main database
    for column, keys in ((_s.turn_id, turn_ids), (_s.blob_id, blob_ids)):
        for start in range(0, len(keys), bulk.KEYS_AT_ONCE):
            mine: Any = bulk.among(connection, column, keys[start : start + bulk.KEYS_AT_ONCE])
            found |= {row.blob_id: row for row in connection.execute(select(tables.stray).where(mine))}
    return found


class Tidied(NamedTuple):
    """What became of blobs that were to go: how many went, and whether none is left that was to go before."""

    gone: int
    is_clean: bool


def is_any(database: "Database") -> bool:
    """Whether anything is left to do, or was begun."""
    with database.read() as connection:
        return connection.execute(select(_s.blob_id).limit(1)).first() is not None


def unnamed(database: "Database") -> list[str]:
    """Environments whose blobs are to go, and whose store the settings do not name (any more)."""
    with database.read() as connection:
        found = connection.execute(select(_s.store).where(_s.store.not_in(list(database.stores))).distinct())
        return sorted(found.scalars())


def tidy(database: "Database", *, now_us: int | None = None) -> Tidied:
    """Delete in the stores what is to go there. A store that is away keeps its own waiting. Safe to stop anywhere.

    Args:
        now_us: None: by the database's clock.
    """
    database.transact(_lapse, now_us)
    done = [_tidy(database, name, store) for name, store in database.stores.items()]
    return Tidied(sum(item.gone for item in done), all(item.is_clean for item in done) and not unnamed(database))


def _lapse(connection: Connection, now_us: int | None) -> None:
    """Staged blobs of writers that died. Claimed first: a writer that is only slow finds its row gone and begins
    again, rather than pointing to what is being deleted."""
    before_us = (clock(connection) if now_us is None else now_us) - LAPSE_US
    old = (_s.is_staged.is_(True), _s.at_us < before_us)
    connection.execute(update(tables.stray).where(*old).values(is_staged=False))


def _tidy(database: "Database", name: str, store: "Database") -> Tidied:
    gone, last = 0, ""
    while True:
        with database.read() as connection:
            found = list(connection.execute(to_go(name, after=last)).scalars())
        if not found:
            return Tidied(gone, True)
        try:
            gone += store.transact(_delete, found)
        except TurntraceError as error:
            log.warning("blobs in the store of %s wait to be deleted: %s", name, type(error).__name__)
            return Tidied(gone, False)
        database.transact(drop, found)
        last = found[-1]


def to_go(name: str, *, after: str) -> Select[str]:
    """Some blobs that are to go in a store, in the order of their ids: rows just deleted are not read again."""
    wanted = (_s.is_staged == false(), _s.store == name, _s.blob_id > after)
    return select(_s.blob_id).where(*wanted).order_by(_s.blob_id).limit(AT_ONCE)


def _delete(connection: Connection, blob_ids: Sequence[str]) -> int:
    return bulk.delete_keys(connection, blob, "id", blob_ids)


# --- erasure ---------------------------------------------------------------------------------------------------------


def clear(database: "Database", turn_ids: Sequence[str], blob_ids: Sequence[str], *, deadline: float) -> bool:
    """Delete what stores have of these erased turns, pointed to or not, and what writers have left of these blobs.

    Only stores that have something of it to go, as the main database has it put down, are asked: it is put down until
    they have nothing more of these turns.

    Returns:
        Whether that is done; False past the deadline (monotonic), or where such a store is away or not named.
    """
    with database.read() as connection:
        found = [row for row in _of(connection, turn_ids, blob_ids).values() if not row.is_staged]
    to_go: dict[str, list[str]] = {}
    for row in found:
        to_go.setdefault(row.store, []).append(row.blob_id)
    return all([_clear(database, name, turn_ids, to_go[name], deadline) for name in sorted(to_go)])


def _clear(database: "Database", name: str, turn_ids: Sequence[str], blob_ids: Sequence[str], deadline: float) -> bool:
    try:
        store = named(database.stores, name)
        return (
            _in_parts(turn_ids, deadline, lambda part: store.transact(_purge, part))
            and not left_in(store, turn_ids)
            and _in_parts(blob_ids, deadline, lambda part: _gone(database, store, part))
        )
    except TurntraceError as error:
        log.warning("an erasure waits for the store of %s: %s", name, type(error).__name__)
        return False


def _in_parts(keys: Sequence[str], deadline: float, work: Callable[[Sequence[str]], object]) -> bool:
    """Whether all was worked on before the deadline; some of it always is."""
    for start in range(0, len(keys), AT_ONCE):
        if start and time.monotonic() > deadline:
            return False
        work(keys[start : start + AT_ONCE])
    return True


def _gone(database: "Database", store: "Database", blob_ids: Sequence[str]) -> None:
    store.transact(_delete, blob_ids)
    database.transact(drop, blob_ids)


def _purge(connection: Connection, turn_ids: Sequence[str]) -> int:
    return bulk.delete_keys(connection, blob, "turn_id", turn_ids)


def left_in(store: "Database", turn_ids: Sequence[str]) -> int:
    """Blobs of these turns that a store has.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: it is away, or has no table.
    """
    number = 0
    with store.read() as connection:
        for start in range(0, len(turn_ids), bulk.KEYS_AT_ONCE):
            mine: Any = bulk.among(connection, _b.turn_id, turn_ids[start : start + bulk.KEYS_AT_ONCE])
            number += connection.execute(select(func.count()).select_from(blob).where(mine)).scalar_one()
    return number
