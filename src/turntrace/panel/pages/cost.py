"""Cost: what was spent, on what, over time. Every number leads to the turns behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from turntrace.jobs.spending import as_table, rows_by, summarise
from turntrace.panel.address import Params
from turntrace.panel.chart import Chart, Line, dollars
from turntrace.panel.gate.role import Role
from turntrace.panel.narrowing import Narrowing, narrowing
from turntrace.panel.pages.traces import Option, range_options
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.dimension import Dimension, parse
from turntrace.records.filter import Except, TraceFilter
from turntrace.storage.cardinality import OTHER
from turntrace.storage.queries.costs import CostRow, costs
from turntrace.storage.queries.rollups import DAY_US, HOUR_US
from turntrace.storage.rollups import PEOPLE

DEFAULT_RANGE: Final = "7d"
GROUPS: Final = {
    "model": "Model",
    "feature": "Feature",
    "user": "User",
    "provider": "Provider",
    "session": "Session",
    "route": "Route",
    "release": "Release",
    "experiment": "Experiment",
    "prompt": "Prompt",
    "input_length": "Input length",
    "step": "Step",
    "environment": "Environment",
}
# The filter of the trace list that a group's value goes into.
_FILTERS: Final = {"user": "user_id", "session": "session_id"}
_UNITS: Final = {"model": "calls", "provider": "calls", "prompt": "calls", "input_length": "calls", "step": "steps"}
_WITHOUT_FILTER: Final = ("input_length",)  # groups that no list can be narrowed by
_PERIOD: Final = ("range", "from", "to")
CHART_LINES: Final = 5
SHOWN_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One row of the table: its value, where its turns are, its sums."""

    value: str
    href: str | None
    row: CostRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the address asks for."""

    visit: Visit
    narrowed: Narrowing
    names: dict[str, str]
    group: str
    filter: TraceFilter
    dimension: Dimension | None  # of the host's own, where that is grouped by

    @property
    def params(self) -> Params:
        """The address' own parameters."""
        return (*self.narrowed.params, *((("group_by", self.group),) if self.group != "model" else ()))


def _asked(request: Request) -> Asked:
    visit = visit_of(request)
    query = {name: value for name, value in request.query_params.items() if name in (*_PERIOD, "environment")}
    narrowed = narrowing(query, now_us=visit.now_us, default_range=DEFAULT_RANGE)
    settings = visit.context.settings
    hosted = {found.name: found for found in map(parse, settings.dimensions)}
    names = {**GROUPS, **{f"tag:{key}": f"Tag {key}" for key in settings.rollup_tags}}
    names = {**names, **{name: name.capitalize() for name in hosted if name not in names}}
    group = request.query_params.get("group_by", "model")
    group = group if group in names else "model"
    # By environment the runs of judges have a row of their own; elsewhere they are left out.
    environment = narrowed.filter.environment
    environment = None if group == "environment" and isinstance(environment, Except) else environment
    wanted = TraceFilter(from_us=narrowed.filter.from_us, to_us=narrowed.filter.to_us, environment=environment)
    dimension = None if group in GROUPS else hosted.get(group)
    return Asked(visit=visit, narrowed=narrowed, names=names, group=group, filter=wanted, dimension=dimension)


def cost(request: Request) -> Response:
    """`GET /cost`."""
    asked = _asked(request)
    visit, narrowed, group = asked.visit, asked.narrowed, asked.group
    interval = _interval(narrowed, group)
    success = visit.context.settings.success_score
    with visit.context.database.read() as connection:
        pricer = visit.context.pricer(connection)
        found = summarise(
            connection,
            pricer,
            asked.filter,
            group=group,
            now_us=visit.now_us,
            dimension=asked.dimension,
            success=success,
        )
        leaders = [row.keys.get(group, "") for row in found.rows[:CHART_LINES]]
        series = _series(connection, asked, interval, leaders)
    return visit.render(
        "cost.html",
        section="cost",
        title="Cost",
        narrowing=narrowed,
        custom=narrowed.custom,
        params=asked.params,
        ranges=_ranges(visit, narrowed, asked.params),
        groups=_groups(asked),
        group=group,
        group_label=asked.names[group],
        found=found,
        total=found.total,
        each_now=_each(found.total),
        each_before=_each(found.previous),
        period=_period(narrowed),
        month=_month(narrowed, visit.now_us),
        rows=[_group(visit, narrowed, group, row) for row in found.rows[:SHOWN_ROWS]],
        rest=max(0, found.count - SHOWN_ROWS),
        movers=[(each, _href(visit, narrowed, group, each.value)) for each in found.movers],
        csv=visit.address.with_query("cost.csv", asked.params),
        chart=spending(series, group, [] if asked.dimension else leaders, interval, narrowed.filter.from_us),
        unit=_UNITS.get(group, "requests"),
        success=success,
        steps=[_group(visit, narrowed, "step", row) for row in found.steps],
        is_hosted=asked.dimension is not None,
        may_price=visit.viewer.may(Role.ADMIN),
    )


def as_csv(request: Request) -> Response:
    """`GET /cost.csv`: every row of the table, sums exact."""
    asked = _asked(request)
    with asked.visit.context.database.read() as connection:
        rows = rows_by(connection, asked.group, asked.filter, asked.dimension)
    text = as_table(asked.group, rows)
    headers = {"content-disposition": 'attachment; filename="cost.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _series(c: Connection, asked: Asked, interval: str, leaders: Sequence[str]) -> list[CostRow]:
    """Spending over time, of each value that the chart names at least."""
    if asked.dimension is not None:  # what the host's tables say is not kept over time: one line for all of it
        return costs(c, interval=interval, filter=asked.filter)
    if asked.group not in PEOPLE:
        return costs(c, group_by=(asked.group,), interval=interval, filter=asked.filter)
    named = costs(c, group_by=(asked.group,), interval="day", filter=asked.filter, values=leaders) if leaders else []
    return [*named, *_others(c, asked, named)]


def _others(c: Connection, asked: Asked, named: Sequence[CostRow]) -> Iterator[CostRow]:
    """What others spent, by day: there are too many people to read each of them for it."""
    known: dict[int | None, int] = {}
    for row in named:
        known[row.start_at_us] = known.get(row.start_at_us, 0) + (row.cost_total_nano or 0)
    for row in costs(c, interval="day", filter=asked.filter, dimension=asked.group):
        rest = (row.cost_total_nano or 0) - known.get(row.start_at_us, 0)
        if rest > 0:
            yield replace(row, keys={asked.group: OTHER}, cost_total_nano=rest)


def _groups(asked: Asked) -> list[Option]:
    to = asked.visit.address.with_query
    return [
        Option(label=label, href=to("cost", asked.params, group_by=name), is_current=name == asked.group)
        for name, label in asked.names.items()
    ]


def _each(row: CostRow | None) -> int | None:
    """Nano-dollars a request."""
    return None if row is None or row.cost_total_nano is None or not row.turns else row.cost_total_nano // row.turns


def _ranges(visit: Visit, narrowed: Narrowing, kept: Params) -> list[Option]:
    """The longer ranges: costs are kept by the hour."""
    options = range_options(visit, "cost", replace(narrowed, params=kept), has_all=False)
    return [item for item in options if item.label not in ("15m", "1h")]


def _interval(narrowed: Narrowing, group: str) -> str:
    """Hours up to two days, else days; users and sessions are kept by day."""
    if group in ("user", "session"):
        return "day"
    if narrowed.range != "custom":
        return "hour" if narrowed.range in ("15m", "1h", "24h") else "day"
    start, end = narrowed.filter.from_us, narrowed.filter.to_us
    return "hour" if start and end and end - start <= 2 * 86_400_000_000 else "day"


def _period(narrowed: Narrowing, width_us: int = HOUR_US) -> Params:
    """What other pages are to be narrowed to: the period as sums are kept, whole hours or days."""
    kept = tuple(pair for pair in narrowed.params if pair[0] == "environment")
    start, end = narrowed.filter.from_us, narrowed.filter.to_us
    if start is None and end is None:
        return (*kept, ("range", "all"))
    first = () if start is None else (("from", _instant(start - start % width_us)),)
    return (*kept, *first, *(() if end is None else (("to", _instant(end + -end % width_us)),)))


def _month(narrowed: Narrowing, now_us: int) -> Params:
    """The calendar month so far, which the forecast is made from, whatever the page's period is."""
    first = datetime.fromtimestamp(now_us // 1_000_000, tz=UTC).replace(day=1, hour=0, minute=0, second=0)
    kept = tuple(pair for pair in narrowed.params if pair[0] == "environment")
    return (*kept, ("from", f"{first:%Y-%m-%dT%H:%M}"))


def _instant(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 1_000_000, tz=UTC):%Y-%m-%dT%H:%M}"


def _href(visit: Visit, narrowed: Narrowing, group: str, value: str) -> str | None:
    """Where the turns of one value are; None for those without one."""
    if (
        not value
        or value == OTHER
        or group in _WITHOUT_FILTER
        or (group not in (*GROUPS, *_FILTERS) and not group.startswith("tag:"))
    ):
        return None
    change = {"tag": f"{group[4:]}:{value}"} if group.startswith("tag:") else {_FILTERS.get(group, group): value}
    period = _period(narrowed, DAY_US if group in _FILTERS else HOUR_US)  # people are kept by the day
    return visit.address.with_query("traces", period, **change)


def _group(visit: Visit, narrowed: Narrowing, group: str, row: CostRow) -> Group:
    value = row.keys.get(group, "")
    return Group(value=value, href=_href(visit, narrowed, group, value), row=row)


def spending(
    series: Sequence[CostRow], group: str, leaders: Sequence[str], interval: str, from_us: int | None
) -> Chart:
    """Spending over time: the costliest groups each, the others together. Empty intervals count as nothing."""
    step = 3600 if interval == "hour" else 86_400
    starts = [row.start_at_us // 1_000_000 for row in series if row.start_at_us is not None]
    if starts and from_us is not None:
        starts.append(from_us // 1_000_000 // step * step)
    times = list(range(min(starts), max(starts) + 1, step)) if starts else []
    sums: dict[str, dict[int, int]] = {}
    for row in series:
        value = row.keys.get(group, "")
        name = (value or "none") if value in leaders else "others" if leaders else "all"
        at = (row.start_at_us or 0) // 1_000_000
        line = sums.setdefault(name, {})
        line[at] = line.get(at, 0) + (row.cost_total_nano or 0)
    order = [value or "none" for value in leaders if (value or "none") in sums] + (
        [name for name in ("others", "all") if name in sums]
    )
    lines = [
        Line(label=name, values=[dollars(sums[name].get(at, 0)) for at in times], dashed=index % 2 == 1)
        for index, name in enumerate(dict.fromkeys(order))
    ]
    return Chart(title=f"Spending per {interval}", unit="money", times=times, lines=lines)
