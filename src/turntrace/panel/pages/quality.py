"""Quality: scores over time with their confidence, what made them better or worse, and the turns behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.evaluation.agreement import differs
from turntrace.evaluation.trend import Cell, Step, change_point, steps
from turntrace.panel.address import Params
from turntrace.panel.chart import Chart, Line
from turntrace.panel.headline import DEFAULT_RANGE, KEPT, headline, period_before
from turntrace.panel.narrowing import Narrowing, narrowing
from turntrace.panel.pages.traces import Option, range_options
from turntrace.panel.standing import DAYS, Giver, Standing, grouped, series, shapes_of, standings
from turntrace.panel.trust import gather, trust_of
from turntrace.panel.visit import Visit, visit_of
from turntrace.panel.wording import moment
from turntrace.records.dimension import Dimension, parse
from turntrace.records.evaluator import Evaluator
from turntrace.records.trace import Trace
from turntrace.storage.queries import evaluators as evaluators_queries
from turntrace.storage.queries import quality as queries
from turntrace.storage.queries.traces import by_headers

GROUPS: Final = {
    "version": "Evaluator version",
    "release": "Release",
    "prompt": "Prompt version",
    "model": "Model",
    "feature": "Feature",
    "environment": "Environment",
    "experiment": "Experiment",
    "data_source": "Data source",
}
LISTED: Final = frozenset(GROUPS) - {"data_source"}  # what the trace list can be narrowed by
SHOWN_ROWS: Final = 50
SHOWN_WORST: Final = 10
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A value of the group with what its scores say; `href` is where its turns are."""

    value: str
    cell: Cell
    shown: str
    low: str
    high: str
    href: str | None
    is_worst: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One of the worst: the turn, and what was said of it."""

    trace: Trace
    value: str
    reason: str | None
    href: str


def show(request: Request) -> Response:
    """`GET /quality`."""
    visit = visit_of(request)
    query = {name: value for name, value in request.query_params.items() if name in KEPT}
    narrowed = narrowing(query, now_us=visit.now_us, default_range=DEFAULT_RANGE)
    wanted = narrowed.filter
    with visit.context.database.read() as c:
        now = queries.masses(c, wanted)
        before = queries.masses(c, period_before(wanted, visit.now_us))
        since_us = visit.now_us - DAYS * _DAY_US
        pairs = [*queries.with_people(c, from_us=since_us), *queries.among_people(c, from_us=since_us)]
        evaluators = evaluators_queries.list_evaluators(c)
    found = standings(now, before, pairs, shapes_of(evaluators))
    chosen = _chosen(visit, found)
    kept = (*narrowed.params, *(_naming(chosen.giver) if chosen is not None else ()))
    return visit.render(
        "quality.html",
        section="quality",
        title="Quality",
        narrowing=narrowed,
        custom=narrowed.custom,
        params=kept,
        ranges=[
            option
            for option in range_options(visit, "quality", replace(narrowed, params=kept), has_all=False)
            if option.label != "15m"
        ],
        sentence=headline(visit.address, narrowed, chosen, visit.now_us) if chosen is not None else None,
        rows=[
            (item, visit.address.with_query("quality", narrowed.params, **dict(_naming(item.giver)))) for item in found
        ],
        chosen=chosen,
        has_evaluators=bool(evaluators),
        **(_details(visit, narrowed, kept, chosen, pairs, evaluators) if chosen is not None else {}),
    )


def _naming(giver: Giver) -> Params:
    by = (("by", giver.evaluator),) if giver.evaluator else (("source", giver.source),)
    return (("of", giver.name), *by)


def _chosen(visit: Visit, found: Sequence[Standing]) -> Standing | None:
    query = visit.request.query_params
    for item in found:
        if dict(_naming(item.giver)) == {key: query[key] for key in ("of", "by", "source") if key in query}:
            return item
    judged = [item for item in found if item.giver.source == "evaluator"]
    return next(iter([*judged, *found]), None)


def _hosted(visit: Visit) -> dict[str, Dimension]:
    """Columns of the host's own that turns can be told apart by."""
    return {found.name: found for found in map(parse, visit.context.settings.dimensions) if found.name not in GROUPS}


def _details(
    visit: Visit,
    narrowed: Narrowing,
    kept: Params,
    chosen: Standing,
    pairs: Sequence[queries.Pair],
    evaluators: Sequence[Evaluator],
) -> dict[str, Any]:
    hosted = _hosted(visit)
    labels = {**GROUPS, **{name: name.capitalize() for name in hosted}}
    group = visit.request.query_params.get("group_by", "version")
    group = group if group in labels else "version"
    evaluator = next((item for item in evaluators if item.name == chosen.giver.evaluator), None)
    wanted, name = narrowed.filter, chosen.giver.name
    step_us = _step_us(visit.now_us - chosen.first_at_us)
    reading = chosen.reading
    with visit.context.database.read() as c:
        over_time = queries.masses(c, wanted, name=name, step_us=step_us)
        column = group if group in GROUPS and group != "version" else None
        by_group = queries.masses(c, wanted, name=name, group=column, dimension=hosted.get(group))
        by_release = queries.masses(c, wanted, name=name, group="release")
        is_low_bad = reading.is_low_bad
        bad = _bad_labels(by_group, chosen)
        worst = queries.worst(c, wanted, name=name, is_low_bad=is_low_bad, bad=bad, limit=3 * SHOWN_WORST)
        worst = [score for score in worst if _is_of(score.source, score.evaluator, chosen.giver)]
        worst = [score for score in worst if _is_below_mean(score.value, chosen)][:SHOWN_WORST]
        traces = by_headers(c, [score.turn_id for score in worst if score.turn_id])
        is_judged = chosen.giver.source == "evaluator"
        material = gather(c, chosen, evaluator, wanted, pairs, visit.now_us) if is_judged else None
    shape = shapes_of(evaluators).get(chosen.giver.evaluator or "")
    line = series(over_time, chosen.giver, reading)
    groups = grouped(by_group, chosen.giver, reading, by_version=group == "version")
    releases = [(key or "none", cell) for key, cell, _ in grouped(by_release, chosen.giver, reading, by_version=False)]
    days = [(moment(at).strftime("%d %b" if step_us == _DAY_US else "%d %b %H:%M"), cell) for at, cell in line]
    return {
        "group": group,
        "group_label": labels[group],
        "trust": trust_of(chosen, evaluator, shape, material) if material is not None else None,
        "groups": [
            Option(
                label=label,
                href=visit.address.with_query("quality", kept, group_by=key),
                is_current=key == group,
            )
            for key, label in labels.items()
        ],
        "chart": _chart(line, chosen),
        "group_rows": _rows(visit, narrowed, group, groups, chosen),
        "release_steps": steps(releases, reading),
        "time_step": _time_step(days, chosen),
        "worst": [
            Bad(
                trace=traces[score.turn_id],
                value=_said(score.value),
                reason=score.comment,
                href=visit.address.to("traces", score.turn_id, observation=score.span_id or "turn"),
            )
            for score in worst
            if score.turn_id in traces
        ],
    }


def _said(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.3g}"


def _is_below_mean(value: float | bool | str, chosen: Standing) -> bool:
    """Whether a number is worse than the mean; other values were chosen as bad before."""
    return isinstance(value, (bool, str)) or chosen.reading.is_worse(value, chosen.value.value)


def _is_of(source: str, evaluator: str | None, giver: Giver) -> bool:
    return source == giver.source and (giver.evaluator is None or evaluator == giver.evaluator)


def _bad_labels(masses: Sequence[queries.Mass], chosen: Standing) -> tuple[str, ...]:
    labels = {mass.label for mass in masses if mass.label and mass.data_type == "categorical"}
    return tuple(sorted(labels - set(chosen.reading.good)))


def _time_step(days: Sequence[tuple[str, Cell]], chosen: Standing) -> Step | None:
    return change_point(days, chosen.reading)


def _step_us(span_us: int) -> int:
    """The length of an interval, by how far the scores reach back."""
    if span_us <= 3 * _HOUR_US:
        return _HOUR_US // 12 if span_us > _HOUR_US // 2 else _HOUR_US // 60
    return _HOUR_US if span_us <= 2 * _DAY_US else _DAY_US


def _chart(line: Sequence[tuple[int, Cell]], chosen: Standing) -> Chart:
    found = [(at, chosen.reading.interval(cell)) for at, cell in line]
    known = [(at, interval) for at, interval in found if interval is not None]
    return Chart(
        title=f"{chosen.giver.name} over time",
        unit="share" if chosen.reading.is_share else "number",
        times=[at // 1_000_000 for at, _ in known],
        lines=[
            Line(label=chosen.giver.name, values=[interval.value for _, interval in known], colour=0),
            Line(label="95 % high", values=[interval.high for _, interval in known], dashed=True, colour=0),
            Line(label="95 % low", values=[interval.low for _, interval in known], dashed=True, colour=0),
        ],
        bands=((1, 2),),
    )


def _rows(
    visit: Visit, narrowed: Narrowing, group: str, groups: Sequence[tuple[str, Cell, int]], chosen: Standing
) -> list[Row]:
    """The groups with the worst first; groups too small to tell come where their value puts them."""
    reading = chosen.reading
    found: list[tuple[float, Row]] = []
    for key, cell, _ in groups:
        interval = reading.interval(cell)
        if interval is None:
            continue
        row = Row(
            value=key,
            cell=cell,
            shown=chosen.say(interval.value),
            low=chosen.say(interval.low),
            high=chosen.say(interval.high),
            href=_turns(visit, narrowed, group, key, chosen),
        )
        found.append((interval.value, row))
    ordered = [row for _, row in sorted(found, key=lambda item: item[0], reverse=not reading.is_low_bad)]
    if len(ordered) > 1 and _stands_out(ordered[0], ordered[1:]):
        ordered[0] = replace(ordered[0], is_worst=True)
    return ordered[:SHOWN_ROWS]


def _stands_out(row: Row, others: Sequence[Row]) -> bool:
    """Whether a group differs from all the others together beyond chance."""
    rest = Cell()
    for other in others:
        rest = rest.plus(other.cell.n, other.cell.total, other.cell.squares)
    return differs(row.cell.sums, rest.sums)


def _turns(visit: Visit, narrowed: Narrowing, group: str, key: str, chosen: Standing) -> str | None:
    if group not in LISTED or (group != "version" and not key):
        return None
    period = tuple(pair for pair in narrowed.params if pair[0] in KEPT) or (("range", DEFAULT_RANGE),)
    change = {} if group == "version" else {group: key}
    return visit.address.with_query("traces", period, score=chosen.giver.name, **change)
