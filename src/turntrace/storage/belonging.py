"""What belongs to an erasure's target: which tables, which turns, which rows; and how many there are.

Which tables hold something of a turn or a person is read off their columns, so that a new table cannot be forgotten:
`turn_id` names the turn a row came from, `user_id` its subject. What names somebody in its text is in `storage.naming`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, or_, select, true, union

from turntrace.records.erasure import Target
from turntrace.storage import naming, tables, tombstones
from turntrace.storage.rollups import DAY_US

_t, _o, _s, _r = tables.trace.c, tables.observation.c, tables.session.c, tables.rollup.c
_item, _run, _evaluation = tables.dataset_item.c, tables.run_item.c, tables.evaluation.c
_stone = tables.tombstone.c

# Alerts stay, without the turn and the person they name; what is yet to be deleted in a store stays until it is.
KEPT: Final = frozenset({tables.alert.name, tables.stray.name})


def _with(column: str, *, but: Iterable[str]) -> tuple[Table, ...]:
    left_out = frozenset(but)
    found = (table for name, table in sorted(tables.metadata.tables.items()) if name not in left_out)
    return tuple(table for table in found if column in table.c)


TURN_TABLES: Final = _with("turn_id", but=KEPT)
USER_TABLES: Final = _with("user_id", but=KEPT | {tables.trace.name, tables.observation.name, tables.session.name})


def short(table: Table) -> str:
    """The table's name without our prefix."""
    return table.name.removeprefix(tables.PREFIX)


def of_user(table: Table, target: Target) -> ColumnElement[bool]:
    """Rows of a table whose subject is the target's, written before its end."""
    mine = table.c.user_id.in_(target.user_ids)
    return and_(mine, _is_before(table.c.get("created_at_us"), target))


def _is_before(column: Any, target: Target) -> ColumnElement[bool]:
    return true() if target.until_us is None or column is None else column <= target.until_us


def turn_sources(target: Target) -> list[Select[Any]]:
    """Queries of the ids of turns that go: one after the other, each again until it answers none."""
    if target.kind == "turn":
        return [select(_t.id).where(_t.id.in_(target.turn_ids))]
    if target.kind == "session":
        return [
            select(_t.id).where(
                _t.session_id == session_id,
                _t.user_id == user_id if user_id else _t.user_id.is_(None),
                _is_before(_t.started_at_us, target),
            )
            for session_id, user_id in target.sessions
        ]
    return _of_subject(target)


def _of_subject(target: Target) -> list[Select[Any]]:
    """Turns of a person, turns with a step of theirs, judges' turns about them, experiments' turns made from them."""
    users, began = target.user_ids, _is_before(_t.started_at_us, target)
    return [
        select(_t.id).where(_t.user_id.in_(users), began),
        select(_t.id).join(tables.observation, _o.turn_id == _t.id).where(_o.user_id.in_(users), began),
        select(_t.id)
        .join(tables.evaluation, _evaluation.judge_turn_id == _t.id)
        .where(of_user(tables.evaluation, target)),
        select(_t.id).join(tables.run_item, _run.turn_id == _t.id).where(of_user(tables.run_item, target)),
        select(_t.id)
        .join(tables.run_item, _run.turn_id == _t.id)
        .join(tables.dataset_item, _run.item_id == _item.id)
        .where(of_user(tables.dataset_item, target)),
    ]


def count(connection: Connection, target: Target) -> dict[str, int]:
    """Rows by table that an erasure would delete now; of `rollup`, rows that would lose an identity.

    What hangs on turns made from these turns (of judges, of experiments) is not followed.
    """
    turns = union(*turn_sources(target)).subquery()
    is_theirs = select(turns.c[0])
    found = {"trace": _number(connection, select(func.count()).select_from(turns))}
    for table in TURN_TABLES:
        found[short(table)] = _rows(connection, table, table.c.turn_id.in_(is_theirs))
    for table in USER_TABLES if target.user_ids else ():
        condition = of_user(table, target)
        if "turn_id" in table.c:
            turn_id = table.c.turn_id
            condition = and_(condition, or_(turn_id.is_(None), turn_id.not_in(is_theirs)))
        found[short(table)] = found.get(short(table), 0) + _rows(connection, table, condition)
    found["session"] = _rows(connection, tables.session, _sessions(target))
    found["rollup"] = _rows(connection, tables.rollup, _named(target)) if target.user_ids else 0
    found |= naming.count(connection, target.user_ids, _sessions(target))
    return {name: number for name, number in found.items() if number}


def _sessions(target: Target) -> ColumnElement[bool]:
    if target.user_ids:
        return and_(_s.user_id.in_(target.user_ids), _is_before(_s.first_at_us, target))
    pairs = (and_(_s.session_id == session_id, _s.user_id == user_id) for session_id, user_id in target.sessions)
    return or_(_s.session_id.is_(None), *pairs)


def _named(target: Target) -> ColumnElement[bool]:
    return and_(_r.dimension == "user", _r.value.in_(target.user_ids), _is_before(_r.at_us, target))


def _left_named(connection: Connection, target: Target) -> ColumnElement[bool]:
    """Roll-ups are kept by day: that of the erasure may name somebody who has come back since."""
    until_us = target.until_us
    if until_us is None:
        return _named(target)
    is_back = select(_t.id).where(_t.user_id.in_(target.user_ids), _t.started_at_us > until_us).limit(1)
    if connection.execute(is_back).first() is None:
        return _named(target)
    return and_(_named(target), _r.at_us < until_us - until_us % DAY_US)


def remaining(connection: Connection, target: Target, erasure_id: str) -> Mapping[str, int]:
    """What an erasure has left over, by table: nothing, if it is complete."""
    found = {name: n for name, n in count(connection, target).items() if name not in naming.TABLES}
    found |= naming.remaining(connection, target.user_ids)
    found["rollup"] = _rows(connection, tables.rollup, _left_named(connection, target)) if target.user_ids else 0
    mine = select(_stone.key).where(_stone.erasure_id == erasure_id, _stone.kind == tombstones.TURN)
    for table in (tables.trace, *TURN_TABLES):
        column = table.c.id if table is tables.trace else table.c.turn_id
        number = _rows(connection, table, column.in_(mine))
        found[short(table)] = max(number, found.get(short(table), 0))
    return {name: number for name, number in sorted(found.items()) if number}


def _rows(connection: Connection, table: Table, condition: Any) -> int:
    return _number(connection, select(func.count()).select_from(table).where(condition))


def _number(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar_one())
