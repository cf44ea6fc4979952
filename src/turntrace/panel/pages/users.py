"""Users: what people's turns cost and how they went."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.narrowing import narrowing
from turntrace.panel.pages.traces import range_options
from turntrace.panel.visit import visit_of
from turntrace.storage.queries.users import list_users

PAGE_ROWS: Final = 50
DEFAULT_RANGE: Final = "30d"


def users(request: Request) -> Response:
    """`GET /users`."""
    visit = visit_of(request)
    names = ("user_id", "environment", "q", "range", "from", "to")
    query = {name: request.query_params[name] for name in names if name in request.query_params}
    narrowed = narrowing(query, now_us=visit.now_us, default_range=DEFAULT_RANGE)
    cursor = request.query_params.get("cursor") or None
    with visit.context.database.read() as connection:
        page = list_users(connection, narrowed.filter, limit=PAGE_ROWS, cursor=cursor)
    to = visit.address.with_query
    return visit.render(
        "users.html",
        section="users",
        title="Users",
        narrowing=narrowed,
        custom=narrowed.custom,
        ranges=range_options(visit, "users", narrowed),
        values=dict(narrowed.params),
        period=tuple(pair for pair in narrowed.params if pair[0] in ("from", "to")) or (("range", narrowed.range),),
        rows=page.items,
        costliest=max((row.cost_total_nano or 0 for row in page.items), default=0),
        newest=to("users", narrowed.params) if cursor else None,
        older=to("users", narrowed.params, cursor=page.next_cursor) if page.next_cursor else None,
    )
