"""What the trace list can be narrowed by, with counts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries.condition import EVERYTHING, narrowed, on_traces

MOST_VALUES: Final = 50
_PLAIN: Final = ("feature", "environment", "experiment", "release", "route")
_ORDER: Final = ("status", "feature", "model", "type", "environment", "release", "experiment", "route", "tag", "score")

_t = tables.trace.c
_o = tables.observation.c
_s = tables.score.c


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """One value a filter can take, and how many of the sampled traces have it."""

    value: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Values by filter name (see `_ORDER`), commonest first; `score` has names of scores.

    Counted over the newest `sampled` matching traces; `is_complete` says whether those are all.
    """

    values: Mapping[str, tuple[FacetValue, ...]] = field(default_factory=dict)
    sampled: int = 0
    is_complete: bool = True


def facets(c: Connection, filter: TraceFilter = EVERYTHING, *, sample: int = 1000) -> Facets:
    """Facets of the newest `sample` traces that match the filter."""
    columns = (_t.id, _t.status, _t.outcome, _t.models, _t.tags, *(_t[name] for name in _PLAIN))
    newest = narrowed(select(*columns), on_traces(filter)).order_by(_t.started_at_us.desc(), _t.id.desc())
    rows = c.execute(newest.limit(sample + 1)).all()
    counters = _of_traces(rows[:sample])
    ids = [row.id for row in rows[:sample]]
    counters["type"] = _by_turn(c, ids, _o.type, _o.turn_id)
    counters["score"] = _by_turn(c, ids, _s.name, _s.turn_id)
    values = {name: _ranked(counters[name]) for name in _ORDER if counters.get(name)}
    return Facets(values=values, sampled=len(ids), is_complete=len(rows) <= sample)


def _of_traces(rows: Sequence[Row[Any]]) -> dict[str, Counter[str]]:
    counters: dict[str, Counter[str]] = {name: Counter() for name in _ORDER}
    for row in rows:
        for name in _PLAIN:
            if getattr(row, name):
                counters[name][getattr(row, name)] += 1
        counters["status"].update(_states(row))
        counters["model"].update(json.loads(row.models) if row.models else ())
        counters["tag"].update(json.loads(row.tags) if row.tags else ())
    return counters


def _states(row: Row[Any]) -> Iterator[str]:
    yield row.status
    if row.outcome != "complete":
        yield row.outcome


def _by_turn(c: Connection, ids: Sequence[str], value: Any, turn_id: Any) -> Counter[str]:
    """In how many of these turns each value occurs."""
    if not ids:
        return Counter()
    statement = select(value, func.count(turn_id.distinct())).where(turn_id.in_(ids)).group_by(value)
    return Counter({name: int(n) for name, n in c.execute(statement).all()})


def _ranked(counter: Counter[str]) -> tuple[FacetValue, ...]:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return tuple(FacetValue(value=value, count=count) for value, count in ranked[:MOST_VALUES])
