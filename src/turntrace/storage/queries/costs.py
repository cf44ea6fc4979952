"""What was spent, from the roll-ups: counted before sampling, exact in nano-dollars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping

from turntrace.errors import InvalidInput
from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries import rollups
from turntrace.storage.queries.condition import EVERYTHING, fits
from turntrace.storage.queries.rollups import DAY_US, HOUR_US
from turntrace.storage.rollups import PEOPLE

BASIC_GROUPS: Final = ("model", "provider", "feature", "environment")
SINGLE_GROUPS: Final = ("user", "session", "prompt", "experiment", "route", "release", "input_length", "step")
INTERVALS: Final = ("hour", "day", "month")
Interval = Literal["hour", "day", "month"]

_ALLOWED: Final = (
    "group_by takes any of model, provider, feature, environment; or one of user, session, prompt, experiment, route, "
    "release, input_length, step, tag:<declared key> with any of model, environment"
)
_OF_STEPS: Final = ("prompt", "input_length", "step")  # sums of calls and of steps, which are no turns
# Filters that name a marginal roll-up, and the dimension they name.
_MARGINAL_FILTERS: Final = {
    "user_id": "user",
    "session_id": "session",
    "prompt": "prompt",
    "experiment": "experiment",
    "route": "route",
    "release": "release",
    "tag": "tag",
    "step": "step",
}
_REFUSED: Final = ("type", "status", "min_cost", "min_duration_ms", "score", "name", "q")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_r = tables.rollup.c


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One group (and interval) of the cost summary.

    `keys` maps each name of `group_by` to its value, "" where the turn had none. `requests` counts turns, or model
    calls where model or provider is grouped or filtered by; `turns` is None then, since a turn may call several
    models. By `step` (`type:name`) it counts steps of any type. `own_us` is the time that steps took themselves,
    `turn_us` that of turns. `cost_total_nano` is None when calls had usage and none of them a price.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    start_at_us: int | None = None
    requests: int = 0
    turns: int | None = 0
    calls: int = 0
    errors: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_input_nano: int | None = None
    cost_output_nano: int | None = None
    cost_total_nano: int | None = None
    own_us: int = 0
    turn_us: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which roll-up answers: a dimension ("" is the base), and what is grouped by."""

    dimension: str
    tag_key: str | None
    group_by: tuple[str, ...]
    interval: str | None
    is_by_call: bool


def costs(
    c: Connection,
    *,
    group_by: Sequence[str] = (),
    interval: str | None = None,
    filter: TraceFilter = EVERYTHING,
    values: Sequence[str] | None = None,
    dimension: str = "",
) -> list[CostRow]:
    """Spending by group and interval (UTC), by interval ascending, then the costliest first.

    Args:
        group_by: any of `model provider feature environment`; or one of `user session prompt experiment route
            release input_length step tag:<declared key>` with any of `model environment`.
        interval: `hour`, `day`, `month` or None for one sum. Users and sessions are kept by day: no hours.
        filter: times (widened to whole hours, or days for users and sessions) and dimensions; a filter that the
            roll-up does not keep is refused.
        values: only these of the marginal that is grouped by.
        dimension: a marginal (`user`) that is not grouped by: sums of the turns that have a value of it.

    Raises:
        InvalidInput: a combination that is not kept; the message says which are.
    """
    plan = _plan(tuple(dict.fromkeys(group_by)), interval, filter)
    plan = replace(plan, dimension=dimension or plan.dimension)
    columns = _columns(plan, c.dialect.name)
    rollups.go_alone(c)
    statement = rollups.grouped(columns, rollups.sums(of_calls=plan.is_by_call), _where(plan, filter, values))
    rows = [_to_row(row, plan) for row in c.execute(statement).mappings()]
    kept = [row for row in (_by_month(rows) if interval == "month" else rows) if row.requests or row.calls]
    return sorted(kept, key=lambda row: (row.start_at_us or 0, -(row.cost_total_nano or 0), *row.keys.values()))


def _plan(group_by: tuple[str, ...], interval: str | None, filter: TraceFilter) -> _Plan:
    if interval is not None and interval not in INTERVALS:
        raise InvalidInput(f"interval: expected one of {', '.join(INTERVALS)}", field="interval")
    dimension, tag_key = _dimension(group_by, filter)
    others = [name for name in group_by if name in BASIC_GROUPS]
    if dimension:
        _refuse_beside(dimension, others, filter)
    _refuse_filters(filter)
    if interval == "hour" and dimension in PEOPLE:
        raise InvalidInput(f"interval: {dimension}s are kept by day; use day or month", field="interval")
    by_call = not {"model", "provider"}.isdisjoint(others) or bool(filter.model or filter.provider)
    by_call = by_call or dimension in _OF_STEPS
    return _Plan(dimension, tag_key, group_by, interval, by_call)


def _dimension(group_by: tuple[str, ...], filter: TraceFilter) -> tuple[str, str | None]:
    """The one marginal that grouping and filters name, or the base."""
    unknown = [name for name in group_by if name not in (*BASIC_GROUPS, *SINGLE_GROUPS) and not _tag_key(name)]
    if unknown:
        raise InvalidInput(f"group_by: {unknown[0][:100]!r} is unknown; {_ALLOWED}", field="group_by")
    grouped = [name for name in group_by if name not in BASIC_GROUPS]
    filtered = [name for attribute, name in _MARGINAL_FILTERS.items() if getattr(filter, attribute) is not None]
    dimensions = {"tag" if _tag_key(name) else name for name in grouped} | set(filtered)
    if len(grouped) > 1 or len(dimensions) > 1:
        named = ", ".join(dict.fromkeys([*grouped, *filtered]))
        raise InvalidInput(f"{named} are not kept together; {_ALLOWED}", field="group_by")
    return next(iter(dimensions), ""), next((_tag_key(name) for name in grouped if _tag_key(name)), None)


def _tag_key(name: str) -> str | None:
    return name[4:] if name.startswith("tag:") and len(name) > 4 else None


def _refuse_beside(dimension: str, others: Sequence[str], filter: TraceFilter) -> None:
    lost = [name for name in others if name in ("provider", "feature")]
    lost += [name for name in ("provider", "feature") if getattr(filter, name) is not None]
    if lost:
        raise InvalidInput(f"{lost[0]} is not kept by {dimension}; {_ALLOWED}", field="group_by")


def _refuse_filters(filter: TraceFilter) -> None:
    for name in _REFUSED:
        if getattr(filter, name) is not None:
            raise InvalidInput(f"{name}: costs are sums and cannot be filtered by it", field=name)


def _columns(plan: _Plan, dialect: str) -> list[ColumnElement[Any]]:
    found: list[ColumnElement[Any]] = []
    for name in plan.group_by:
        found.append((_r[name] if name in BASIC_GROUPS else rollups.VALUE).label(name))
    if plan.interval is not None:
        width = HOUR_US if plan.interval == "hour" else DAY_US
        found.append(rollups.floored(_r.at_us, width, dialect).label("start_at_us"))
    return found


def _where(plan: _Plan, filter: TraceFilter, only: Sequence[str] | None) -> ColumnElement[bool]:
    head = [_r.dimension == plan.dimension]
    head += [fits(_r[name], getattr(filter, name)) for name in BASIC_GROUPS if getattr(filter, name) is not None]
    values = [getattr(filter, attribute) for attribute, name in _MARGINAL_FILTERS.items() if name == plan.dimension]
    head += [_r.value == value for value in values if value is not None]
    if plan.tag_key is not None:
        head.append(_r.value.startswith(f"{plan.tag_key}:", autoescape=True))
    if only is not None:
        head.append(_r.value.in_(only))
    by_value = only is not None or any(value is not None for value in values)
    return rollups.covered(tables.rollup, head, _parts(plan, filter), by_value=by_value)


def _parts(plan: _Plan, filter: TraceFilter) -> list[rollups.Part]:
    if plan.dimension in PEOPLE:
        if plan.is_by_call:
            return rollups.parts("day", filter.from_us, filter.to_us)
        return rollups.whole_parts(filter.from_us, filter.to_us)
    if plan.interval == "hour":
        return rollups.parts("hour", filter.from_us, filter.to_us)
    return rollups.wide_parts(filter.from_us, filter.to_us)


def _to_row(row: RowMapping, plan: _Plan) -> CostRow:
    number = {name: int(row[name] or 0) for name in _COUNTS}
    total = rollups.cost(row)
    is_priced = total is not None
    return CostRow(
        keys={name: _value(name, row[name]) for name in plan.group_by},
        start_at_us=int(row["start_at_us"]) if plan.interval else None,
        requests=number["calls"] if plan.is_by_call else int(row["turns"] or 0),
        turns=None if plan.is_by_call else int(row["turns"] or 0),
        cost_input_nano=int(row["cost_input_nano"] or 0) if is_priced else None,
        cost_output_nano=int(row["cost_output_nano"] or 0) if is_priced else None,
        cost_total_nano=total,
        **number,
    )


_COUNTS: Final = (
    "calls",
    "errors",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "own_us",
    "turn_us",
)
_COSTS: Final = ("cost_input_nano", "cost_output_nano", "cost_total_nano")


def _value(name: str, value: str) -> str:
    return value.partition(":")[2] if name.startswith("tag:") else value


def _by_month(rows: Sequence[CostRow]) -> list[CostRow]:
    """Days summed to months: calendar months have no fixed length that SQL could divide by on every database."""
    merged: dict[tuple[Any, ...], CostRow] = {}
    for row in rows:
        start = _month(row.start_at_us or 0)
        key = (start, *row.keys.values())
        merged[key] = (
            _plus(merged[key], row) if key in merged else _plus(CostRow(keys=row.keys, start_at_us=start), row)
        )
    return list(merged.values())


def _plus(left: CostRow, right: CostRow) -> CostRow:
    counts: dict[str, Any] = {name: getattr(left, name) + getattr(right, name) for name in (*_COUNTS, "requests")}
    amounts: dict[str, Any] = {name: _sum(getattr(left, name), getattr(right, name)) for name in _COSTS}
    turns = None if right.turns is None else (left.turns or 0) + right.turns
    return CostRow(keys=left.keys, start_at_us=left.start_at_us, turns=turns, **counts, **amounts)


def _sum(left: int | None, right: int | None) -> int | None:
    return right if left is None else left + (right or 0)


def _month(at_us: int) -> int:
    day = _EPOCH + timedelta(microseconds=at_us)
    return (day.replace(day=1) - _EPOCH) // timedelta(microseconds=1)
