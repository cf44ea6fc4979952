"""Scores of traces, observations and sessions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from turntrace.records.filter import Page
from turntrace.records.score import Score
from turntrace.storage import tables
from turntrace.storage.queries.condition import Condition, before, narrowed
from turntrace.storage.queries.cursor import decode, encode
from turntrace.storage.queries.row import to_score

_s = tables.score.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter:
    """Filters of the score list; None does not filter. `trace_id` takes a turn id or a W3C trace id."""

    trace_id: str | None = None
    observation_id: str | None = None
    session_id: str | None = None
    name: str | None = None
    source: str | None = None
    from_us: int | None = None
    to_us: int | None = None


def list_scores(
    c: Connection, filter: ScoreFilter = ScoreFilter(), *, limit: int = 50, cursor: str | None = None
) -> Page[Score]:
    """A page of scores, newest first."""
    conditions = [*_conditions(filter), *before(decode(cursor), _s.created_at_us, _s.id)]
    statement = narrowed(select(tables.score), conditions).order_by(_s.created_at_us.desc(), _s.id.desc())
    rows = c.execute(statement.limit(limit + 1)).mappings().all()
    items = tuple(to_score(row) for row in rows[:limit])
    return Page(items=items, next_cursor=encode(items[-1].created_at_us, items[-1].id) if len(rows) > limit else None)


def get_score(c: Connection, score_id: str) -> Score | None:
    """The score with this id, or None."""
    row = c.execute(select(tables.score).where(_s.id == score_id)).mappings().first()
    return None if row is None else to_score(row)


def scores_of(c: Connection, turn_ids: Collection[str]) -> Mapping[str, tuple[Score, ...]]:
    """The scores of these turns and of their observations, by turn id."""
    if not turn_ids:
        return {}
    statement = select(tables.score).where(_s.turn_id.in_(list(turn_ids))).order_by(_s.created_at_us, _s.id)
    found: dict[str, tuple[Score, ...]] = {}
    for row in c.execute(statement).mappings():
        found[row["turn_id"]] = (*found.get(row["turn_id"], ()), to_score(row))
    return found


def of_session(c: Connection, session_id: str, *, limit: int = 1000) -> tuple[Score, ...]:
    """The scores of the session itself, oldest first."""
    statement = select(tables.score).where(_s.session_id == session_id, _s.turn_id.is_(None))
    rows = c.execute(statement.order_by(_s.created_at_us, _s.id).limit(limit)).mappings()
    return tuple(to_score(row) for row in rows)


def _conditions(filter: ScoreFilter) -> list[Condition]:
    found = [
        column == value
        for column, value in (
            (_s.session_id, filter.session_id),
            (_s.name, filter.name),
            (_s.source, filter.source),
        )
        if value is not None
    ]
    if filter.trace_id is not None:
        # scores are found by the turn (indexed); a W3C id names its turns first
        same = select(tables.trace.c.id).where(tables.trace.c.trace_id == filter.trace_id)
        found.append(or_(_s.turn_id == filter.trace_id, _s.turn_id.in_(same)))
    if filter.observation_id is not None:
        found += [_s.turn_id == filter.observation_id[:32], _s.span_id == filter.observation_id[32:]]
    if filter.from_us is not None:
        found.append(_s.created_at_us >= filter.from_us)
    if filter.to_us is not None:
        found.append(_s.created_at_us < filter.to_us)
    return found
