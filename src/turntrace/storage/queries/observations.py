"""Observations: lists without content, one with everything."""

from sqlalchemy import Connection, RowMapping, select

from turntrace.records.filter import Page, TraceFilter
from turntrace.records.observation import Observation
from turntrace.storage import tables
from turntrace.storage.queries import opened
from turntrace.storage.queries.condition import EVERYTHING, before, narrowed, on_observations
from turntrace.storage.queries.cursor import decode, encode
from turntrace.storage.queries.row import to_observation

_t = tables.trace.c
_o = tables.observation.c
_JOINED = select(
    tables.observation,
    _t.trace_id.label("turn_trace_id"),
    _t.session_id.label("turn_session_id"),
    _t.user_id.label("turn_user_id"),
).join_from(tables.observation, tables.trace, _t.id == _o.turn_id)


def list_observations(
    c: Connection, filter: TraceFilter = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[Observation]:
    """A page of observations, newest first, without content."""
    key = _o.turn_id + _o.span_id
    conditions = [*on_observations(filter), *before(decode(cursor), _o.started_at_us, key)]
    ordered = narrowed(_JOINED, conditions).order_by(_o.started_at_us.desc(), _o.turn_id.desc(), _o.span_id.desc())
    rows = c.execute(ordered.limit(limit + 1)).mappings().all()
    items = tuple(_joined(row) for row in rows[:limit])
    return Page(items=items, next_cursor=encode(items[-1].started_at_us, items[-1].id) if len(rows) > limit else None)


def get_observation(c: Connection, observation_id: str) -> Observation | None:
    """The observation with this id (48 hex digits) with its content, or None."""
    turn_id, span_id = observation_id[:32], observation_id[32:]
    row = c.execute(_JOINED.where(_o.turn_id == turn_id, _o.span_id == span_id)).mappings().first()
    if row is None:
        return None
    return opened.fill_observation(_joined(row), opened.contents(c, [turn_id]))


def _joined(row: RowMapping) -> Observation:
    return to_observation(row, {name: row[f"turn_{name}"] for name in ("trace_id", "session_id", "user_id")})
