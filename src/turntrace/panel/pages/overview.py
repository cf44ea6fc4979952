"""Overview: is anything wrong now, since when, and what changed against the period before."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.chart import Chart, Line, dollars, seconds, spark
from turntrace.panel.narrowing import narrowing
from turntrace.panel.pages.traces import range_options
from turntrace.panel.visit import visit_of
from turntrace.records.filter import TraceFilter
from turntrace.storage.queries.overview import Bucket, Overview, overview
from turntrace.storage.queries.traces import list_traces

DEFAULT_RANGE: Final = "24h"
_DAY_US: Final = 86_400_000_000


def show(request: Request) -> Response:
    """`GET /`."""
    visit = visit_of(request)
    narrowed = narrowing(request.query_params, now_us=visit.now_us, default_range=DEFAULT_RANGE)
    to_us = narrowed.filter.to_us or visit.now_us
    from_us = narrowed.filter.from_us or to_us - _DAY_US
    wanted = TraceFilter(environment=narrowed.filter.environment, feature=narrowed.filter.feature)
    with visit.context.database.read() as connection:
        found = overview(connection, from_us=from_us, to_us=to_us, filter=wanted)
        is_new = not found.totals.turns and not list_traces(connection, limit=1).items
    return visit.render(
        "overview.html",
        section="",
        title="Overview",
        narrowing=narrowed,
        custom=narrowed.custom,
        ranges=range_options(visit, "", narrowed, has_all=False),
        overview=found,
        charts=charts(found),
        sparks=sparks(found),
        is_new=is_new,
        traces_params=tuple(
            pair for pair in narrowed.params if pair[0] in ("range", "from", "to", "environment", "feature")
        )
        or (("range", DEFAULT_RANGE),),
    )


def charts(found: Overview) -> tuple[Chart, ...]:
    """Turns with errors, latency, spending, tokens."""
    times = [bucket.start_at_us // 1_000_000 for bucket in found.series]
    points = [bucket.totals for bucket in found.series]
    return (
        Chart(
            title="Turns and errors",
            unit="count",
            times=times,
            lines=(
                Line(label="Turns", values=[item.turns for item in points]),
                Line(label="Errors", values=[item.errors for item in points], dashed=True, colour=3),
            ),
        ),
        Chart(
            title="Duration",
            unit="seconds",
            times=times,
            lines=(
                Line(label="Median", values=[seconds(item.duration_p50_us) for item in points]),
                Line(label="95th percentile", values=[seconds(item.duration_p95_us) for item in points], dashed=True),
            ),
        ),
        Chart(
            title="Spending",
            unit="money",
            times=times,
            kind="bars",
            lines=(Line(label="Cost", values=[dollars(item.cost_total_nano) for item in points]),),
        ),
        Chart(
            title="Time to first byte",
            unit="seconds",
            times=times,
            lines=(
                Line(label="Median", values=[seconds(item.ttft_p50_us) for item in points]),
                Line(label="95th percentile", values=[seconds(item.ttft_p95_us) for item in points], dashed=True),
            ),
        ),
    )


def sparks(found: Overview) -> dict[str, tuple[str, str] | None]:
    """Small lines for the tiles."""
    return {
        "turns": spark([bucket.totals.turns for bucket in found.series]),
        "errors": spark([_error_rate(bucket) for bucket in found.series]),
        "duration": spark([bucket.totals.duration_p95_us for bucket in found.series]),
        "cost": spark([bucket.totals.cost_total_nano for bucket in found.series]),
    }


def _error_rate(bucket: Bucket) -> float:
    return bucket.totals.errors / bucket.totals.turns if bucket.totals.turns else 0
