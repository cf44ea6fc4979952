"""What the Cost page asks beside sums: how many spent, what has no price, and what providers stated themselves."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select

from turntrace.records.filter import TraceFilter
from turntrace.records.observation import Observation
from turntrace.storage import restate, tables
from turntrace.storage.queries import people, rollups
from turntrace.storage.queries.condition import fits
from turntrace.storage.queries.row import to_observation

MOST_MODELS: Final = 50
LOOKED_AT: Final = 20_000
_r, _o = tables.rollup.c, tables.observation.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """Calls of one model that have usage and no price; tokens are those of calls without a price version."""

    model: str
    provider: str
    calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int


def count_values(c: Connection, dimension: str, filter: TraceFilter) -> int:
    """How many users or sessions had turns in a period, widened to whole days."""
    d = people.days(dimension, filter.environment, filter.from_us, filter.to_us).c
    # Grouped, then counted: PostgreSQL would sort every row to count the distinct ones.
    each = select(d.value).group_by(d.value).having(func.sum(d.turns) != 0).subquery()
    return int(c.execute(select(func.count()).select_from(each)).scalar_one())


def unpriced(c: Connection, filter: TraceFilter) -> list[Unpriced]:
    """Models whose calls have no price, by tokens."""
    parts = rollups.wide_parts(filter.from_us, filter.to_us)
    where = rollups.of_base(parts, _r.price_version == "", _r.model != "", *_environment(filter))
    names = ("unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cost_total_nano")
    sums = [func.sum(_r[name]).label(name) for name in names]
    statement = select(_r.model, _r.provider, *sums).where(where).group_by(_r.model, _r.provider)
    found = [
        Unpriced(
            model=row.model,
            provider=row.provider,
            calls=int(row.unpriced),
            input_tokens=int(row.input_tokens),
            output_tokens=int(row.output_tokens),
            cache_read_tokens=int(row.cache_read_tokens),
        )
        for row in c.execute(statement)
        if row.unpriced
    ]
    return sorted(found, key=lambda row: -(row.input_tokens + row.output_tokens))[:MOST_MODELS]


def stated(c: Connection, filter: TraceFilter, *, limit: int) -> list[Observation]:
    """The newest calls whose cost their provider stated, among the newest 20,000 steps of the period."""
    parts = rollups.wide_parts(filter.from_us, filter.to_us)
    priced = rollups.of_base(parts, _r.price_version == "", _r.cost_total_nano != 0, *_environment(filter))
    # Not the first of them: PostgreSQL would read the whole table for one that it takes for frequent.
    if c.execute(select(func.max(_r.cost_total_nano)).where(priced)).scalar() is None:
        return []
    where: list[ColumnElement[bool]] = []
    if filter.from_us is not None:
        where.append(_o.started_at_us >= filter.from_us)
    if filter.to_us is not None:
        where.append(_o.started_at_us < filter.to_us)
    order = (_o.started_at_us.desc(), _o.turn_id.desc(), _o.span_id.desc())
    # No index knows who stated a cost: what is looked at is bounded.
    newest = select(tables.observation).where(*where).order_by(*order).limit(LOOKED_AT).subquery()
    wanted = select(newest).where(newest.c.cost_source == "provider", newest.c.type.in_(restate.MODEL_CALLS))
    nobody: Any = {"trace_id": "", "session_id": None, "user_id": None}
    return [to_observation(row, nobody) for row in c.execute(wanted.limit(limit)).mappings()]


def _environment(filter: TraceFilter) -> list[ColumnElement[bool]]:
    return [] if filter.environment is None else [fits(_r.environment, filter.environment)]
