"""Cost: what was spent, on what, over time. Every number leads to the turns behind it."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.address import Params
from turntrace.panel.chart import Chart, Line, dollars
from turntrace.panel.narrowing import Narrowing, narrowing
from turntrace.panel.pages.traces import Option, range_options
from turntrace.panel.visit import Visit, visit_of
from turntrace.panel.wording import moment
from turntrace.records.filter import Except, TraceFilter
from turntrace.storage.queries.costs import CostRow, costs

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
    "environment": "Environment",
}
# The filter of the trace list that a group's value goes into.
_FILTERS: Final = {"user": "user_id", "session": "session_id"}
_PERIOD: Final = ("range", "from", "to")
CHART_LINES: Final = 5
SHOWN_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One row of the table: its value, where its turns are, its sums."""

    value: str
    href: str | None
    row: CostRow


def cost(request: Request) -> Response:
    """`GET /cost`."""
    visit = visit_of(request)
    query = {name: value for name, value in request.query_params.items() if name in (*_PERIOD, "environment")}
    narrowed = narrowing(query, now_us=visit.now_us, default_range=DEFAULT_RANGE)
    names = {**GROUPS, **{f"tag:{key}": f"Tag {key}" for key in visit.context.settings.rollup_tags}}
    group = request.query_params.get("group_by", "model")
    group = group if group in names else "model"
    # By environment the runs of judges have a row of their own; elsewhere they are left out.
    environment = narrowed.filter.environment
    environment = None if group == "environment" and isinstance(environment, Except) else environment
    wanted = TraceFilter(from_us=narrowed.filter.from_us, to_us=narrowed.filter.to_us, environment=environment)
    interval = _interval(narrowed, group)
    with visit.context.database.read() as connection:
        total = costs(connection, filter=wanted)
        rows = costs(connection, group_by=(group,), filter=wanted)
        series = costs(connection, group_by=(group,), interval=interval, filter=wanted)
        active = costs(connection, group_by=("user",), filter=wanted)
        month = _month(connection, visit.now_us, narrowed.filter.environment)
    kept = (*narrowed.params, *((("group_by", group),) if group != "model" else ()))
    return visit.render(
        "cost.html",
        section="cost",
        title="Cost",
        narrowing=narrowed,
        custom=narrowed.custom,
        params=kept,
        ranges=_ranges(visit, narrowed, kept),
        groups=[
            Option(label=label, href=visit.address.with_query("cost", kept, group_by=name), is_current=name == group)
            for name, label in names.items()
        ],
        group=group,
        group_label=names[group],
        total=total[0] if total else CostRow(),
        active_users=sum(1 for row in active if row.keys.get("user")),
        forecast_nano=month,
        rows=[_group(visit, narrowed, group, row) for row in rows[:SHOWN_ROWS]],
        rest=max(0, len(rows) - SHOWN_ROWS),
        chart=spending(
            series, group, [row.keys.get(group, "") for row in rows[:CHART_LINES]], interval, narrowed.filter.from_us
        ),
        unit="calls" if group in ("model", "provider") else "requests",
    )


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


def _month(connection: Any, now_us: int, environment: str | None) -> int | None:
    """Spending of this calendar month (UTC) carried on to its end at the rate so far, nano-dollars."""
    now = moment(now_us)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    elapsed = (now - start).total_seconds()
    if elapsed < 86_400:
        return None
    wanted = TraceFilter(from_us=int(start.timestamp()) * 1_000_000, to_us=now_us, environment=environment)
    rows = costs(connection, filter=wanted)
    spent = rows[0].cost_total_nano if rows else None
    return None if spent is None else round(spent * monthrange(now.year, now.month)[1] * 86_400 / elapsed)


def _group(visit: Visit, narrowed: Narrowing, group: str, row: CostRow) -> Group:
    value = row.keys.get(group, "")
    period = tuple(pair for pair in narrowed.params if pair[0] in (*_PERIOD, "environment")) or (
        ("range", DEFAULT_RANGE),
    )
    change = {"tag": f"{group[4:]}:{value}"} if group.startswith("tag:") else {_FILTERS.get(group, group): value}
    href = visit.address.with_query("traces", period, **change) if value else None
    return Group(value=value, href=href, row=row)


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
        name = (value or "none") if value in leaders else "others"
        at = (row.start_at_us or 0) // 1_000_000
        line = sums.setdefault(name, {})
        line[at] = line.get(at, 0) + (row.cost_total_nano or 0)
    order = [value or "none" for value in leaders if (value or "none") in sums] + (
        ["others"] if "others" in sums else []
    )
    lines = [
        Line(label=name, values=[dollars(sums[name].get(at, 0)) for at in times], dashed=index % 2 == 1)
        for index, name in enumerate(dict.fromkeys(order))
    ]
    return Chart(title=f"Spending per {interval}", unit="money", times=times, lines=lines)
