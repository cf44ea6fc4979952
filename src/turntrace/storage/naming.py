"""What names people and sessions in its text, where no column says so: budgets of one user, saved views, and the
filters of queues and evaluators.

A session is named as long as it has an owner; when its last turn was erased, a tombstone knows it by its digest.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, or_, select, update

from turntrace.storage import tables, tombstones

TABLES: Final = frozenset({"saved_view", "annotation_queue", "evaluator_version", "spending_rule"})
_FIELDS: Final = ("user_id", "session_id")
_view, _queue, _version = tables.saved_view.c, tables.annotation_queue.c, tables.evaluator_version.c
_evaluator, _backfill = tables.evaluator.c, tables.backfill.c
_rule, _spending = tables.spending_rule.c, tables.spending.c


@dataclass(frozen=True, slots=True)
class Mention:
    """A row whose text names somebody: its key, what it names by field, and its definition, if that is JSON."""

    table: Table
    key: tuple[Any, ...]
    named: Mapping[str, frozenset[str]]
    definition: Mapping[str, Any] = field(default_factory=dict)

    def names(self, user_ids: Iterable[str], session_ids: Iterable[str]) -> list[str]:
        """The fields that name one of these."""
        wanted = {"user_id": user_ids, "session_id": session_ids}
        return [name for name in _FIELDS if not self.named[name].isdisjoint(wanted[name])]

    def without(self, names: Iterable[str]) -> str:
        """The definition with a filter that lacks these fields."""
        left = {name: value for name, value in self.definition["filter"].items() if name not in names}
        return orjson.dumps({**self.definition, "filter": left}).decode()


def count(connection: Connection, user_ids: Iterable[str], theirs: ColumnElement[bool]) -> dict[str, int]:
    """Rows by table that name these people, or sessions that nobody but they have.

    Args:
        theirs: a condition on the table of sessions.
    """
    found = list(_mentions(connection))
    return _count(connection, found, user_ids, _only_theirs(connection, _sessions_in(found), theirs))


def remaining(connection: Connection, user_ids: Iterable[str]) -> dict[str, int]:
    """Rows by table that name these people, or sessions that were erased."""
    found = list(_mentions(connection))
    return _count(connection, found, user_ids, _erased(connection, _sessions_in(found)))


def forget(connection: Connection, user_ids: Iterable[str], *, now_us: int) -> Counter[str]:
    """Delete budgets and views that name these people or an erased session; answers rows by table.

    Filters lose the name, and who used them is switched off: without the name they would match everybody.
    """
    users, counts = list(user_ids), Counter[str]()
    found = list(_mentions(connection, locked=True))
    sessions = _erased(connection, _sessions_in(found))
    for mention in found:
        if names := mention.names(users, sessions):
            _blank(connection, mention, names, now_us)
            counts[_short(mention.table)] += 1
    if users:
        rules = [row.id for row in connection.execute(select(_rule.id).where(_is_of(users)))]
        counts["spending"] += connection.execute(delete(tables.spending).where(_spending.rule_id.in_(rules))).rowcount
        counts["spending_rule"] += connection.execute(delete(tables.spending_rule).where(_rule.id.in_(rules))).rowcount
    return +counts


def _blank(connection: Connection, mention: Mention, names: list[str], now_us: int) -> None:
    if mention.table is tables.saved_view:
        connection.execute(delete(tables.saved_view).where(_view.id == mention.key[0]))
    elif mention.table is tables.annotation_queue:
        values = {"definition": mention.without(names), "is_archived": True, "updated_at_us": now_us}
        connection.execute(update(tables.annotation_queue).where(_queue.id == mention.key[0]).values(values))
    else:
        _blank_version(connection, mention, names, now_us)


def _blank_version(connection: Connection, mention: Mention, names: list[str], now_us: int) -> None:
    evaluator_id, version = mention.key
    mine = and_(_version.evaluator_id == evaluator_id, _version.version == version)
    connection.execute(update(tables.evaluator_version).where(mine).values(definition=mention.without(names)))
    current = and_(_evaluator.id == evaluator_id, _evaluator.version == version)
    off = {"is_enabled": False, "updated_at_us": now_us}
    connection.execute(update(tables.evaluator).where(current).values(off))
    walks = and_(_backfill.evaluator_id == evaluator_id, _backfill.evaluator_version == version)
    stopped = {"status": "stopped", "finished_at_us": now_us, "updated_at_us": now_us}
    connection.execute(update(tables.backfill).where(walks, _backfill.status == "running").values(stopped))


def _is_of(user_ids: Iterable[str]) -> ColumnElement[bool]:
    return and_(_rule.scope == "user", _rule.value.in_(list(user_ids)))


def _mentions(connection: Connection, *, locked: bool = False) -> Iterator[Mention]:
    """Views, queues and evaluators that narrow by a user or a session; read locked, for a snapshot may be old."""
    views = select(_view.id, _view.query).where(_names_any(_view.query))
    for row in connection.execute(views.with_for_update() if locked else views):
        pairs = parse_qsl(row.query)
        named = {name: frozenset(value for key, value in pairs if key == name) for name in _FIELDS}
        yield Mention(tables.saved_view, (row.id,), named)
    queues = select(_queue.id, _queue.definition).where(_names_any(_queue.definition))
    for row in connection.execute(queues.with_for_update() if locked else queues):
        yield _mention(tables.annotation_queue, (row.id,), row.definition)
    keys = (_version.evaluator_id, _version.version)
    versions = select(*keys, _version.definition).where(_names_any(_version.definition))
    for version in connection.execute(versions.with_for_update() if locked else versions):
        yield _mention(tables.evaluator_version, (version.evaluator_id, version.version), version.definition)


def _names_any(column: Any) -> ColumnElement[bool]:
    return or_(*(column.contains(name, autoescape=True) for name in _FIELDS))


def _mention(table: Table, key: tuple[Any, ...], text: str) -> Mention:
    definition = orjson.loads(text)
    narrowed = definition.get("filter") or {}
    named = {name: frozenset({str(narrowed[name])} if name in narrowed else ()) for name in _FIELDS}
    return Mention(table, key, named, definition)


def _sessions_in(found: Iterable[Mention]) -> set[str]:
    return {session_id for mention in found for session_id in mention.named["session_id"]}


def _only_theirs(connection: Connection, session_ids: set[str], theirs: ColumnElement[bool]) -> set[str]:
    column = tables.session.c.session_id
    rows = connection.execute(select(column, theirs).where(column.in_(session_ids))).all()
    return {row[0] for row in rows} - {row[0] for row in rows if not row[1]}


def _erased(connection: Connection, session_ids: set[str]) -> set[str]:
    """Those that were erased, and that nobody has any more."""
    left = set(session_ids)
    for table in (tables.session, tables.trace):
        column = table.c.session_id
        left -= {row[0] for row in connection.execute(select(column).where(column.in_(left)).distinct())}
    return tombstones.find_conversations(connection, left)


def _count(
    connection: Connection, found: Iterable[Mention], user_ids: Iterable[str], session_ids: set[str]
) -> dict[str, int]:
    users = list(user_ids)
    counts = Counter(_short(mention.table) for mention in found if mention.names(users, session_ids))
    counts["spending_rule"] = len(connection.execute(select(_rule.id).where(_is_of(users))).all()) if users else 0
    return {name: number for name, number in counts.items() if number}


def _short(table: Table) -> str:
    return table.name.removeprefix(tables.PREFIX)
