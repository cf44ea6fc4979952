"""One period's spending in figures, for the Cost page and the scheduled report."""

import csv
import io
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from sqlalchemy import Connection

from turntrace.jobs.reprice import price_of
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.price import Pricer
from turntrace.records.dimension import Dimension
from turntrace.records.filter import Except, TraceFilter
from turntrace.records.fragment import RawSpan
from turntrace.records.observation import Observation
from turntrace.records.usage import Usage, to_decimal
from turntrace.storage.queries import spending
from turntrace.storage.queries.costs import CostRow, costs
from turntrace.storage.queries.hosted import costs_by
from turntrace.storage.queries.leading import leading
from turntrace.storage.queries.spending import Unpriced
from turntrace.storage.queries.success import successes
from turntrace.storage.rollups import PEOPLE

JUDGES: Final = "turntrace-evaluation"
MOVERS: Final = 6
PEOPLE_SHOWN: Final = 100
STEPS: Final = 15
STATED_CALLS: Final = 1000
DAY_SECONDS: Final = 86_400
_COUNTED: Final = ("unpriced", "input_tokens", "output_tokens", "cache_read_tokens")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
_SAMPLE: Final = 1000  # tokens: below the sizes that any price has tiers for


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """One value of the group: what it cost in the period before, and now."""

    value: str
    before_nano: int
    now_nano: int

    @property
    def difference_nano(self) -> int:
        """How much more it costs now."""
        return self.now_nano - self.before_nano


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """Calls of one model whose cost their provider stated, and what our prices say of the same calls."""

    model: str
    calls: int
    stated_nano: int
    computed_nano: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one period. Money is in nano-dollars; None is unknown."""

    total: CostRow
    previous: CostRow | None
    rows: list[CostRow]
    movers: list[Mover]
    active_users: int
    sessions: int
    unpriced: list[Unpriced]
    stated: list[Stated]
    savings_nano: int | None
    judges_nano: int | None
    forecast_nano: int | None
    count: int = 0  # values of the group: of users and sessions `rows` has the costliest only
    steps: Sequence[CostRow] = ()  # the steps that took most time themselves, of all turns
    successes: int | None = None  # turns that the score of the setting calls successful; None: no setting


def summarise(
    c: Connection,
    pricer: Pricer,
    filter: TraceFilter,
    *,
    group: str,
    now_us: int,
    dimension: Dimension | None = None,
    success: str | None = None,
) -> Summary:
    """Read a period.

    Args:
        filter: its times, and the environment.
        group: a name that `costs` groups by, or that of `dimension`, a column of the host's.
        success: the setting `success_score`.
    """
    before = _before(filter, now_us)
    rows, moved, count, active = _by_group(c, group, filter, before, dimension)
    total = _first(costs(c, filter=filter)) or CostRow()
    by_model = costs(c, group_by=("model", "provider"), filter=filter)
    return Summary(
        total=total,
        previous=_first(costs(c, filter=before)) if before else None,
        rows=rows,
        movers=moved,
        count=count,
        active_users=active["user"],
        sessions=active["session"],
        unpriced=spending.unpriced(c, filter) if total.unpriced else [],
        stated=_stated(spending.stated(c, filter, limit=STATED_CALLS), pricer),
        savings_nano=savings(pricer, by_model, filter.to_us or now_us),
        judges_nano=_judges(c, filter),
        forecast_nano=forecast(c, now_us, filter.environment),
        steps=steps(c, filter),
        successes=successes(c, filter, success) if success else None,
    )


def _by_group(
    c: Connection, group: str, filter: TraceFilter, before: TraceFilter | None, dimension: Dimension | None
) -> tuple[list[CostRow], list[Mover], int, dict[str, int]]:
    """Rows of one group, what changed most, how many values there are, and how many users and sessions had turns."""
    if group in PEOPLE and dimension is None:
        found = leading(c, group, filter, before, limit=PEOPLE_SHOWN, moves=MOVERS)
        rows = costs(c, group_by=(group,), filter=filter, values=found.values) if found.values else []
        moved = [Mover(value=each.value, before_nano=each.before_nano, now_nano=each.now_nano) for each in found.moved]
        return rows, moved, found.count, _active(c, filter, {group: found.active})
    rows = rows_by(c, group, filter, dimension)
    earlier = rows_by(c, group, before, dimension) if before else []
    return rows, movers(group, rows, earlier) if before else [], len(rows), _active(c, filter, {})


def _active(c: Connection, filter: TraceFilter, known: Mapping[str, int]) -> dict[str, int]:
    """How many users and sessions had turns; `known` need not be counted again."""
    return {name: known[name] if name in known else spending.count_values(c, name, filter) for name in PEOPLE}


def rows_by(c: Connection, group: str, filter: TraceFilter, dimension: Dimension | None = None) -> list[CostRow]:
    """Sums of one group, the costliest first."""
    return costs(c, group_by=(group,), filter=filter) if dimension is None else costs_by(c, dimension, filter)


def as_table(group: str, rows: Sequence[CostRow]) -> str:
    """Rows as CSV (RFC 4180), money in exact US dollars; cells that spreadsheets would run are made text."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([group, "requests", "errors", *_COUNTED, "cost_usd"])
    for row in rows:
        value = row.keys[group]
        shown = f"'{value}" if value.startswith(_FORMULA) else value
        cost = to_decimal(row.cost_total_nano)
        counts = [getattr(row, name) for name in _COUNTED]
        writer.writerow([shown, row.requests, row.errors, *counts, "" if cost is None else f"{cost:f}"])
    return stream.getvalue()


def steps(c: Connection, filter: TraceFilter) -> list[CostRow]:
    """Where the time of turns goes: steps by what they took themselves, the longest first."""
    rows = costs(c, group_by=("step",), filter=filter)
    return sorted(rows, key=lambda row: (-row.own_us, row.keys["step"]))[:STEPS]


def _first(rows: Sequence[CostRow]) -> CostRow | None:
    return rows[0] if rows else None


def _before(filter: TraceFilter, now_us: int) -> TraceFilter | None:
    """The period of the same length before."""
    if filter.from_us is None:
        return None
    length_us = (filter.to_us or now_us) - filter.from_us
    return replace(filter, from_us=filter.from_us - length_us, to_us=filter.from_us)


def movers(group: str, rows: Sequence[CostRow], earlier: Sequence[CostRow]) -> list[Mover]:
    """The values whose cost changed most, the largest change first."""
    now = {row.keys[group]: row.cost_total_nano or 0 for row in rows}
    then = {row.keys[group]: row.cost_total_nano or 0 for row in earlier}
    found = [
        Mover(value=value, before_nano=then.get(value, 0), now_nano=now.get(value, 0)) for value in {**now, **then}
    ]
    moved = [each for each in found if each.difference_nano]
    return sorted(moved, key=lambda each: (-abs(each.difference_nano), each.value))[:MOVERS]


def savings(pricer: Pricer, by_model: Sequence[CostRow], at_us: int) -> int | None:
    """What tokens read from the cache would have cost beyond what they did; None where no model has prices for both."""
    found: Fraction | None = None
    for row in by_model:
        if not row.cache_read_tokens:
            continue
        full = _cost(pricer, row, Usage(input_tokens=_SAMPLE), at_us)
        cached = _cost(pricer, row, Usage(input_tokens=_SAMPLE, cache_read_tokens=_SAMPLE), at_us)
        if full is not None and cached is not None:
            found = (found or Fraction(0)) + Fraction((full - cached) * row.cache_read_tokens, _SAMPLE)
    return None if found is None else round(found)


def _cost(pricer: Pricer, row: CostRow, usage: Usage, at_us: int) -> int | None:
    draft = Draft(
        span=RawSpan(span_id="0" * 16),
        type="generation",
        model=row.keys["model"],
        provider=row.keys["provider"] or None,
        usage=usage,
        started_at_us=at_us,
    )
    pricer.price(draft)
    return None if draft.cost is None else draft.cost.input_nano


def _stated(calls: Sequence[Observation], pricer: Pricer) -> list[Stated]:
    found: dict[str, list[int]] = {}
    for call in calls:
        computed = price_of(pricer, call)
        sums = found.setdefault(call.model or "unknown", [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += call.cost.total_nano if call.cost else 0
        sums[2] += computed.total_nano if computed else 0
        sums[3] += computed is None
    return [
        Stated(model=model, calls=n, stated_nano=told, computed_nano=None if missing else computed)
        for model, (n, told, computed, missing) in sorted(found.items(), key=lambda item: -item[1][1])
    ]


def _judges(c: Connection, filter: TraceFilter) -> int | None:
    """What evaluators spent on judging, apart from the application's own calls."""
    row = _first(costs(c, filter=replace(filter, environment=JUDGES)))
    return row.cost_total_nano if row else None


def forecast(c: Connection, now_us: int, environment: "str | Except | None") -> int | None:
    """Spending of this calendar month (UTC) carried on to its end at the rate so far; None on the first day."""
    now = datetime.fromtimestamp(now_us / 1_000_000, tz=UTC)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    elapsed = (now - start).total_seconds()
    if elapsed < DAY_SECONDS:
        return None
    row = _first(costs(c, filter=TraceFilter(from_us=_us(start), to_us=now_us, environment=environment)))
    if row is None or row.cost_total_nano is None:
        return None
    return round(row.cost_total_nano * monthrange(now.year, now.month)[1] * DAY_SECONDS / elapsed)


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000
