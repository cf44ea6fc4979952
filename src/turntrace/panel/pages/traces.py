"""Traces: one row a turn, newest first, with facets at the side; the same list as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.narrowing import RANGES, TEXTS, Narrowing, narrowing
from turntrace.panel.pages.views import usable
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.filter import Page
from turntrace.records.trace import Trace
from turntrace.storage.queries.facets import Facets, facets
from turntrace.storage.queries.running import list_running
from turntrace.storage.queries.traces import count_traces, list_traces

PAGE_ROWS: Final = 50
COUNT_CAP: Final = 1001
LIVE_SECONDS: Final = 5
FACETS: Final = ("status", "feature", "model", "type", "environment", "score", "tag", "release", "experiment")
SHOWN_VALUES: Final = 8
SHOWN_RUNNING: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A choice in a row of links or a facet."""

    label: str
    href: str
    is_current: bool = False
    count: int = 0


def range_options(visit: Visit, page: str, narrowed: Narrowing, *, has_all: bool = True) -> list[Option]:
    """The time ranges as links that keep the other filters."""
    names = {**({"all": "All"} if has_all else {}), **{name: name for name in RANGES}}
    return [
        Option(
            label=label,
            href=visit.address.with_query(page, narrowed.params, range=name, from_=None, to=None),
            is_current=narrowed.range == name,
        )
        for name, label in names.items()
    ]


def traces(request: Request) -> Response:
    """`GET /traces`."""
    visit = visit_of(request)
    narrowed = narrowing(request.query_params, now_us=visit.now_us)
    cursor = request.query_params.get("cursor") or None
    with visit.context.database.read() as connection:
        page = list_traces(connection, narrowed.filter, limit=PAGE_ROWS, cursor=cursor)
        total = count_traces(connection, narrowed.filter, cap=COUNT_CAP)
        facet_values = facets(connection, narrowed.filter)
        kept = usable(visit, connection)
        running = list_running(connection, limit=SHOWN_RUNNING + 1) if _shows_running(narrowed, cursor) else ()
    is_live = request.query_params.get("live") == "1" and cursor is None
    return visit.render(
        "traces.html",
        section="traces",
        title="Traces",
        narrowing=narrowed,
        custom=narrowed.custom,
        ranges=range_options(visit, "traces", narrowed),
        rows=page.items,
        longest_us=max((row.duration_us or 0 for row in page.items), default=0),
        facets=facet_options(visit, narrowed, facet_values),
        is_complete=facet_values.is_complete,
        sampled=facet_values.sampled,
        kept=kept,
        may_keep=visit.viewer.scope is None,
        query=urlencode(narrowed.params),
        filter_fields=TEXTS,
        values=dict(narrowed.params),
        running=running[:SHOWN_RUNNING],
        has_more_running=len(running) > SHOWN_RUNNING,
        is_live=is_live,
        live_seconds=LIVE_SECONDS,
        **_paging(visit, narrowed, page, cursor, total),
    )


def _shows_running(narrowed: Narrowing, cursor: str | None) -> bool:
    """Turns in progress stand above the newest rows, unless the list shows just these or what somebody looks for."""
    return cursor is None and not narrowed.is_narrowed


def _paging(visit: Visit, narrowed: Narrowing, page: Page[Trace], cursor: str | None, total: int) -> Mapping[str, Any]:
    to = visit.address.with_query
    counted = f"{COUNT_CAP - 1:,}+" if total >= COUNT_CAP else f"{total:,}"
    return {
        "summary": f"{counted} {'trace' if total == 1 else 'traces'}",
        "newest": to("traces", narrowed.params) if cursor else None,
        "older": to("traces", narrowed.params, cursor=page.next_cursor) if page.next_cursor else None,
        "live_href": to("traces", narrowed.params, live="1"),
        "still_href": to("traces", narrowed.params),
    }


def facet_options(visit: Visit, narrowed: Narrowing, found: Facets) -> dict[str, list[Option]]:
    """Facet links by label: each switches its filter on, or off where it is in force."""
    chosen = {chip.name: chip.value for chip in narrowed.chips}
    options: dict[str, list[Option]] = {}
    for name in FACETS:
        values = [item for item in found.values.get(name, ()) if item.value][:SHOWN_VALUES]
        if not values or (len(values) == 1 and name in ("environment",) and name not in chosen):
            continue
        options[TEXTS[name]] = [
            Option(
                label=item.value,
                count=item.count,
                is_current=chosen.get(name) == item.value,
                href=visit.address.with_query(
                    "traces", narrowed.params, **{name: None if chosen.get(name) == item.value else item.value}
                ),
            )
            for item in values
        ]
    return options
