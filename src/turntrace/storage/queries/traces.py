"""Traces: lists without content, one trace with everything."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, RowMapping, func, or_, select

from turntrace.records.filter import Page, TraceFilter
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.storage import tables
from turntrace.storage.queries import opened
from turntrace.storage.queries.condition import EVERYTHING, before, narrowed, on_traces
from turntrace.storage.queries.cursor import decode, encode
from turntrace.storage.queries.row import to_observation, to_trace
from turntrace.storage.queries.scores import scores_of

# A caller may repeat one W3C trace id for ever: no more turns than these are answered together.
MOST_TURNS: Final = 200

_t = tables.trace.c
_o = tables.observation.c


def list_traces(
    c: Connection, filter: TraceFilter = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[Trace]:
    """A page of traces, newest first; previews instead of content, scores attached, no observations."""
    conditions = [*on_traces(filter), *before(decode(cursor), _t.started_at_us, _t.id)]
    statement = narrowed(select(tables.trace), conditions).order_by(_t.started_at_us.desc(), _t.id.desc())
    rows = c.execute(statement.limit(limit + 1)).mappings().all()
    shown = rows[:limit]
    scores = scores_of(c, [row["id"] for row in shown])
    items = tuple(to_trace(row, scores.get(row["id"], ())) for row in shown)
    return Page(items=items, next_cursor=_next(items) if len(rows) > limit else None)


def _next(items: Sequence[Trace]) -> str:
    return encode(items[-1].started_at_us, items[-1].id)


def count_traces(c: Connection, filter: TraceFilter = EVERYTHING, *, cap: int = 1001) -> int:
    """How many traces match, counted up to `cap`: show "1,000+" when the answer is `cap`."""
    found = narrowed(select(_t.id), on_traces(filter)).limit(cap).subquery()
    return int(c.execute(select(func.count()).select_from(found)).scalar_one())


def list_ids(c: Connection, filter: TraceFilter = EVERYTHING, *, limit: int) -> list[str]:
    """Ids of the newest matching turns."""
    statement = narrowed(select(_t.id), on_traces(filter)).order_by(_t.started_at_us.desc(), _t.id.desc())
    return list(c.execute(statement.limit(limit)).scalars())


def find_traces(c: Connection, any_id: str) -> tuple[Trace, ...]:
    """The turns with this turn id or W3C trace id, oldest first, with observations, content and scores."""
    return _complete(c, _headers(c, any_id))


def turn_ids(c: Connection, any_id: str) -> tuple[str, ...]:
    """Ids of the turns with this turn id or W3C trace id, oldest first."""
    if c.execute(select(_t.id).where(_t.id == any_id)).first():
        return (any_id,)
    found = select(_t.id).where(_t.trace_id == any_id).order_by(_t.started_at_us, _t.id).limit(MOST_TURNS)
    return tuple(c.execute(found).scalars())


def of_session(
    c: Connection,
    session_id: str,
    user_id: str | None,
    *,
    with_unknown: bool,
    limit: int,
    is_strict: bool = False,
    away: opened.Away | None = None,
) -> tuple[Trace, ...]:
    """The latest turns of a session, oldest first, with everything.

    Args:
        user_id: turns of this user; with `with_unknown` also those of an unknown user.
        is_strict, away: as `by_ids`.
    """
    unknown = _t.user_id.is_(None)
    whose = unknown if user_id is None else (_t.user_id == user_id)
    statement = (
        select(tables.trace)
        .where(_t.session_id == session_id, or_(whose, unknown) if with_unknown else whose)
        .order_by(_t.started_at_us.desc(), _t.id.desc())
        .limit(limit)
    )
    return _complete(c, c.execute(statement).mappings().all()[::-1], is_strict=is_strict, away=away)


def users_of(c: Connection, session_id: str) -> list[str]:
    """Known users of the latest turns of a session."""
    latest = select(_t.user_id).where(_t.session_id == session_id).order_by(_t.started_at_us.desc()).limit(100)
    return sorted({user for user in c.execute(latest).scalars() if user})


def _headers(c: Connection, any_id: str) -> Sequence[RowMapping]:
    found = c.execute(select(tables.trace).where(_t.id == any_id)).mappings().all()
    if found:
        return found
    by_trace_id = select(tables.trace).where(_t.trace_id == any_id).order_by(_t.started_at_us, _t.id)
    return c.execute(by_trace_id.limit(MOST_TURNS)).mappings().all()


def _complete(
    c: Connection, rows: Sequence[RowMapping], *, is_strict: bool = False, away: opened.Away | None = None
) -> tuple[Trace, ...]:
    ids = [row["id"] for row in rows]
    if not ids:
        return ()
    observations = _observations(c, {row["id"]: row for row in rows})
    contents = opened.contents(c, ids, is_strict=is_strict, away=away)
    scores = scores_of(c, ids)
    return tuple(
        opened.fill(to_trace(row, scores.get(row["id"], ())), observations.get(row["id"], ()), contents) for row in rows
    )


def _observations(c: Connection, traces: Mapping[str, RowMapping]) -> dict[str, list[Observation]]:
    statement = select(tables.observation).where(_o.turn_id.in_(list(traces))).order_by(_o.started_at_us, _o.span_id)
    found: dict[str, list[Observation]] = {}
    for row in c.execute(statement).mappings():
        found.setdefault(row["turn_id"], []).append(to_observation(row, traces[row["turn_id"]]))
    return found


def by_ids(
    c: Connection, turn_ids: Sequence[str], *, is_strict: bool = False, away: opened.Away | None = None
) -> dict[str, Trace]:
    """These turns with everything, by id; those that are not stored are left out.

    Args:
        is_strict: for jobs that come again: a store of `content_urls` that is away is an error, not a flag.
        away: is told of turns in such a store, for jobs that go on without them.
    """
    if not turn_ids:
        return {}
    rows = c.execute(select(tables.trace).where(_t.id.in_(list(turn_ids)))).mappings().all()
    return {trace.id: trace for trace in _complete(c, rows, is_strict=is_strict, away=away)}


def by_headers(c: Connection, turn_ids: Sequence[str]) -> dict[str, Trace]:
    """These turns as lists show them, by id: previews instead of content, no scores."""
    if not turn_ids:
        return {}
    rows = c.execute(select(tables.trace).where(_t.id.in_(list(turn_ids)))).mappings()
    return {row["id"]: to_trace(row) for row in rows}
