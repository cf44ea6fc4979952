"""What is held about a person, record by record; and what an erasure of a turn or session is about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, or_, select, union

from turntrace.errors import Ambiguous, NotFound
from turntrace.records.erasure import Target
from turntrace.records.trace import Trace
from turntrace.storage import belonging, bulk, residence, tables
from turntrace.storage.content import Codec
from turntrace.storage.database import Database
from turntrace.storage.queries import traces

_PAGE: Final = 50
_s, _t, _c, _r = tables.session.c, tables.trace.c, tables.content.c, tables.rollup.c
# Told in another form with the turn, or sealed pieces of it, or of no turn's content.
_TOLD: Final = frozenset(
    table.name
    for table in (
        tables.observation,
        tables.content,
        tables.received,
        tables.sampled,
        tables.outbound,
    )
)


def turn_target(c: Connection, any_id: str) -> Target:
    """The one turn of this id or W3C trace id, as the target of an erasure.

    Raises:
        NotFound: there is none. Ambiguous: several turns share the W3C id.
    """
    found = traces.turn_ids(c, any_id.lower())
    if not found:
        raise NotFound("no such trace")
    if len(found) > 1:
        raise Ambiguous(found)
    return Target(kind="turn", turn_ids=found)


def session_target(c: Connection, session_id: str, user_ids: Sequence[str] | None = None) -> Target:
    """The conversations under this id, as the target of an erasure; `user_ids`: of these users only, "": of nobody
    known, as are those of which sampling left sums alone.

    Raises:
        NotFound: there is none.
    """
    known = {row[0] for row in c.execute(select(_s.user_id).where(_s.session_id == session_id))}
    users = select(_t.user_id).where(_t.session_id == session_id).distinct()
    known |= {row[0] or "" for row in c.execute(users)}
    if not known and _has_sums(c, session_id):
        known.add("")
    found = sorted(known if user_ids is None else known & set(user_ids))
    if not found:
        raise NotFound("no such session")
    return Target(kind="session", sessions=tuple((session_id, user_id) for user_id in found))


def _has_sums(c: Connection, session_id: str) -> bool:
    named = (_r.dimension == "session", _r.value == session_id)
    return c.execute(select(_r.id).where(*named).limit(1)).first() is not None


def turn_ids(c: Connection, target: Target) -> list[str]:
    """Ids of the turns of a target, the oldest first."""
    found = union(*belonging.turn_sources(target)).subquery()
    ordered = select(_t.id).where(_t.id.in_(select(found.c[0]))).order_by(_t.started_at_us, _t.id)
    return list(c.execute(ordered).scalars())


def look(database: Database, ids: Sequence[str]) -> None:
    """Nothing, where every store of `content_urls` that has content of these turns can be read.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: one is away, or not named.
    """
    names: set[str] = set()
    for page in _pages(ids, bulk.KEYS_AT_ONCE):
        with database.read() as c:
            away = select(_c.data).where(bulk.among(c, _c.turn_id, page), _c.codec == int(Codec.STORE))
            names |= {residence.Pointer.read(data).store for data in c.execute(away).scalars()}
    for name in sorted(names):
        residence.look(residence.named(database.stores, name))


def turns(database: Database, ids: Sequence[str]) -> Iterator[Trace]:
    """These turns with everything, in this order; a page in memory at a time.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: a store of `content_urls` that has some of it is away, or not named.
    """
    for page in _pages(ids):
        with database.read() as c:
            found = traces.by_ids(c, page, is_strict=True)
        yield from (found[turn_id] for turn_id in page if turn_id in found)


def rows(database: Database, target: Target, ids: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of other tables that came of these turns, or whose subject is the target, with their table's name."""
    for table in sorted({*belonging.TURN_TABLES, *belonging.USER_TABLES}, key=lambda table: table.name):
        if table.name in _TOLD:
            continue
        name = belonging.short(table)
        if "turn_id" in table.c:
            for page in _pages(ids):
                yield from _of(database, name, table, table.c.turn_id.in_(page))
        if "user_id" in table.c:
            yield from _of(database, name, table, _own(table, target))
    yield from _of(database, "session", tables.session, _s.user_id.in_(target.user_ids))


def _own(table: Table, target: Target) -> Any:
    """Rows of the person that hang on none of their turns."""
    mine = belonging.of_user(table, target)
    if "turn_id" not in table.c:
        return mine
    theirs = union(*belonging.turn_sources(target)).subquery()
    return and_(mine, or_(table.c.turn_id.is_(None), table.c.turn_id.not_in(select(theirs.c[0]))))


def _of(database: Database, name: str, table: Table, condition: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with database.read() as c:
        found = [dict(row) for row in c.execute(select(table).where(condition)).mappings()]
    yield from ((name, row) for row in found)


def _pages(ids: Sequence[str], size: int | None = None) -> Iterator[list[str]]:
    size = size or _PAGE
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])
