"""The users or sessions that cost most, and those whose cost changed most, found by the database: there may be a
hundred thousand of them, and a page shows a few."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, case, func, literal, select, union_all

from turntrace.records.filter import TraceFilter
from turntrace.storage.queries import people, rollups

_LEADS, _MOVES, _ALL = "leads", "moves", "all"


@dataclass(frozen=True, slots=True)
class Moved:
    """What one value cost in the period before, and in this one, in nano-dollars."""

    value: str
    before_nano: int
    now_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """The costliest values of a period, the largest changes against the period before, how many values it has, and how
    many of them had turns."""

    values: Sequence[str]
    moved: Sequence[Moved]
    count: int
    active: int


def leading(
    c: Connection, dimension: str, filter: TraceFilter, before: TraceFilter | None, *, limit: int, moves: int
) -> Leading:
    """One statement over both periods.

    Args:
        dimension: one of `rollups.PEOPLE`.
        filter: times, widened to whole days, and the environment.
        before: the same of the period before; None leaves the changes out.
        limit, moves: how many values, and changes, at the most.
    """
    sums = _sums(dimension, filter, before)
    found = c.execute(union_all(*_answers(sums, limit, moves if before else 0))).all()
    leads = sorted((row for row in found if row.kind == _LEADS), key=lambda row: (-int(row.now), row.value))
    moved = [Moved(row.value, int(row.before), int(row.now)) for row in found if row.kind == _MOVES]
    every = next(row for row in found if row.kind == _ALL)
    return Leading(
        values=[row.value for row in leads],
        moved=sorted(moved, key=lambda each: (-abs(each.now_nano - each.before_nano), each.value)),
        count=int(every.now),
        active=int(every.before or 0),
    )


def _sums(dimension: str, filter: TraceFilter, before: TraceFilter | None) -> CTE:
    """Of each value: its cost in this period and the one before, and whether it has anything in this one."""
    now, _ = rollups.whole_parts(filter.from_us, filter.to_us)
    # One stretch of days: the two periods meet, and share the day in which they do.
    days = people.days(dimension, filter.environment, before.from_us if before else filter.from_us, filter.to_us)
    d = days.c
    numbers: dict[str, ColumnElement[Any]] = {"now": d.cost_total_nano, "turns": d.turns, "calls": d.calls}
    earlier: ColumnElement[Any] = literal(0)
    if before is not None:
        earlier = func.sum(case((d.at_us < before.to_us, d.cost_total_nano), else_=0))
        numbers = {name: case((d.at_us >= now.from_us, number), else_=0) for name, number in numbers.items()}
    columns = [func.sum(number).label(name) for name, number in numbers.items()]
    return select(d.value, earlier.label("before"), *columns).group_by(d.value).cte("sums")


def _answers(sums: CTE, limit: int, moves: int) -> list[Any]:
    s = sums.c
    has_any = s.turns + s.calls != 0
    leads = select(s.value, s.now, s.before).where(has_any).order_by(s.now.desc(), s.value).limit(limit).subquery("l")
    active = func.sum(case((s.turns != 0, 1), else_=0))
    found = [
        select(literal(_LEADS).label("kind"), leads.c.value, leads.c.now, leads.c.before),
        select(literal(_ALL).label("kind"), literal("").label("value"), func.count(), active).where(has_any),
    ]
    if moves:
        far = func.abs(s.now - s.before).desc()
        changed = select(s.value, s.now, s.before).where(s.now != s.before).order_by(far, s.value).limit(moves)
        moved = changed.subquery("m")
        found.append(select(literal(_MOVES).label("kind"), moved.c.value, moved.c.now, moved.c.before))
    return found
