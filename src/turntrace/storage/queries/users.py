"""Users: what people's turns cost, from the daily roll-ups."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    String,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
)

from turntrace.records.filter import Page, TraceFilter
from turntrace.records.session import User
from turntrace.storage import tables
from turntrace.storage.queries import rollups
from turntrace.storage.queries.condition import EVERYTHING, fits
from turntrace.storage.queries.cursor import decode, encode
from turntrace.storage.queries.rollups import DAY_US

_r = tables.rollup.c
_t = tables.trace.c
_s = tables.session.c
_score = tables.score.c
_spent = func.sum(_r.cost_total_nano)


def list_users(
    c: Connection, filter: TraceFilter = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[User]:
    """A page of users, the costliest of the period first.

    Filters: `from_us` and `to_us` (whole UTC days), `user_id`, `environment`, `q` (start of a user id).
    """
    user = rollups.VALUE.label("value")
    statement = rollups.grouped([user], rollups.sums(), _where(filter))
    position = decode(cursor)
    if position is not None:
        cost, last = position
        # The selected column by its name or, on PostgreSQL, by what it is: MariaDB knows no other column in HAVING.
        after = literal_column("value", String()) if c.dialect.name in ("mysql", "mariadb") else rollups.VALUE
        statement = statement.having(or_(_spent < cost, and_(_spent == cost, after > last)))
    page = statement.order_by(_spent.desc(), user).limit(limit + 1).subquery("page")
    rows = c.execute(_with_facts(page, filter)).mappings().all()
    kinds = _error_kinds(c, [row["last_error_turn_id"] for row in rows if row["last_error_turn_id"]])
    last_row = rows[limit - 1] if len(rows) > limit else None
    return Page(
        items=tuple(_to_user(row, kinds) for row in rows[:limit]),
        next_cursor=encode(int(last_row["cost_total_nano"]), last_row["value"]) if last_row is not None else None,
    )


def _where(filter: TraceFilter) -> ColumnElement[bool]:
    head: list[ColumnElement[bool]] = [_r.dimension == "user"]
    if filter.user_id is not None:
        head.append(_r.value == filter.user_id)
    if filter.environment is not None:
        head.append(fits(_r.environment, filter.environment))
    if filter.q is not None:
        head.append(_r.value.startswith(filter.q, autoescape=True))
    days = rollups.whole_parts(filter.from_us, filter.to_us)
    return rollups.covered(tables.rollup, head, days, by_value=filter.user_id is not None)


def _with_facts(page: FromClause, filter: TraceFilter) -> Select[Any]:
    """The page, and of each user what an index answers at once: grouping would read every turn of theirs."""
    mine = _t.user_id == page.c.value
    feedback = (_score.user_id == page.c.value, _score.source == "user")
    is_positive = or_(_score.flag.is_(True), _score.number > 0)
    facts = {
        # By order and limit: MariaDB reads every turn of a user for a minimum here.
        "first_at_us": select(_t.started_at_us).where(mine).order_by(_t.started_at_us, _t.id).limit(1),
        "last_at_us": select(_t.started_at_us).where(mine).order_by(_t.started_at_us.desc(), _t.id.desc()).limit(1),
        "session_count": select(func.count()).where(_s.user_id == page.c.value),
        "feedback_count": select(func.count()).where(*feedback),
        "feedback_positive": select(func.count()).where(*feedback, is_positive),
    }
    error = case((page.c.errors > 0, _last_error(mine, filter).scalar_subquery()))
    columns = [found.scalar_subquery().label(name) for name, found in facts.items()]
    statement = select(page, *columns, error.label("last_error_turn_id"))
    return statement.order_by(page.c.cost_total_nano.desc(), page.c.value)


def _last_error(mine: ColumnElement[bool], filter: TraceFilter) -> Select[Any]:
    # Not by the index of states: it would walk through everybody's errors to find this one's.
    is_error = func.coalesce(_t.status, "") == "error"
    statement = select(_t.id).where(mine, is_error)
    if filter.from_us is not None:
        statement = statement.where(_t.started_at_us >= filter.from_us - filter.from_us % DAY_US)
    return statement.order_by(_t.started_at_us.desc(), _t.id.desc()).limit(1)


def _error_kinds(c: Connection, turn_ids: list[str]) -> dict[str, str]:
    rows = c.execute(select(_t.id, _t.error_type).where(_t.id.in_(turn_ids))) if turn_ids else ()
    return {turn_id: kind or "error" for turn_id, kind in rows}


def _to_user(row: RowMapping, kinds: dict[str, str]) -> User:
    return User(
        user_id=row["value"],
        trace_count=int(row["turns"] or 0),
        error_count=int(row["errors"] or 0),
        input_tokens=int(row["input_tokens"] or 0),
        output_tokens=int(row["output_tokens"] or 0),
        cost_total_nano=rollups.cost(row),
        first_at_us=row["first_at_us"] or 0,
        last_at_us=row["last_at_us"] or 0,
        session_count=row["session_count"],
        feedback_count=row["feedback_count"],
        feedback_positive=row["feedback_positive"],
        last_error_type=kinds.get(row["last_error_turn_id"]),
        last_error_turn_id=row["last_error_turn_id"],
    )
