"""Successful turns: those that a named score says it of, or that stand in a session which one says it of."""

from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, Select, func, not_, or_, select

from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries import rollups
from turntrace.storage.queries.condition import fits, scored

_s, _t, _r = tables.score.c, tables.trace.c, tables.rollup.c


def successes(c: Connection, filter: TraceFilter, stated: str) -> int:
    """How many turns of a period succeeded.

    Turns of successful sessions are counted before sampling (by whole days), others where they are kept: a score keeps
    its turn.

    Args:
        filter: its times and environment.
        stated: a score as lists are filtered by it: `resolved=true`, `rating>=4`.

    Raises:
        InvalidInput: `stated` is of another form.
    """
    sessions = _sessions(filter, stated)
    return int(c.execute(_turns(filter, stated, sessions)).scalar_one()) + int(
        c.execute(_turns_of(filter, sessions)).scalar() or 0
    )


def _sessions(filter: TraceFilter, stated: str) -> CTE:
    """Ids of sessions that a score of the whole session calls successful; a score comes after its session began."""
    where = [*scored(stated), _s.turn_id.is_(None), _s.session_id.is_not(None)]
    if filter.from_us is not None:
        where.append(_s.created_at_us >= filter.from_us)
    return select(_s.session_id).where(*where).distinct().cte("successful")


def _turns(filter: TraceFilter, stated: str, sessions: CTE) -> Select[Any]:
    """How many turns a score calls successful, those of successful sessions left out."""
    among = _t.session_id.in_(select(sessions.c.session_id))
    where: list[ColumnElement[bool]] = [*scored(stated), _t.id == _s.turn_id, or_(_t.session_id.is_(None), not_(among))]
    if filter.from_us is not None:
        where += [_t.started_at_us >= filter.from_us, _s.created_at_us >= filter.from_us]
    if filter.to_us is not None:
        where.append(_t.started_at_us < filter.to_us)
    if filter.environment is not None:
        where.append(fits(_t.environment, filter.environment))
    return select(func.count(_t.id.distinct())).where(*where)


def _turns_of(filter: TraceFilter, sessions: CTE) -> Select[Any]:
    """How many turns successful sessions had."""
    head = [_r.dimension == "session", _r.value.in_(select(sessions.c.session_id))]
    if filter.environment is not None:
        head.append(fits(_r.environment, filter.environment))
    where = rollups.covered(tables.rollup, head, rollups.whole_parts(filter.from_us, filter.to_us), by_value=True)
    return select(func.sum(_r.turns)).where(where)
