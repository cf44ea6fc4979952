"""Sessions: conversations, and the replay of one as its person saw it."""

from itertools import pairwise
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import NotFound
from turntrace.panel.address import named
from turntrace.panel.narrowing import narrowing
from turntrace.panel.pages.traces import range_options
from turntrace.panel.visit import visit_of
from turntrace.pipeline.received import text_of
from turntrace.records.trace import Trace
from turntrace.storage.queries.sessions import get_session, list_sessions

PAGE_ROWS: Final = 50
_LONG_PAUSE_US: Final = 10 * 60 * 1_000_000


def sessions(request: Request) -> Response:
    """`GET /sessions`."""
    visit = visit_of(request)
    names = ("session_id", "user_id", "environment", "q", "range", "from", "to")
    query = {name: request.query_params[name] for name in names if name in request.query_params}
    narrowed = narrowing(query, now_us=visit.now_us)
    cursor = request.query_params.get("cursor") or None
    with visit.context.database.read() as connection:
        page = list_sessions(connection, narrowed.filter, limit=PAGE_ROWS, cursor=cursor)
    to = visit.address.with_query
    return visit.render(
        "sessions.html",
        section="sessions",
        title="Sessions",
        narrowing=narrowed,
        custom=narrowed.custom,
        ranges=range_options(visit, "sessions", narrowed),
        values=dict(narrowed.params),
        rows=page.items,
        newest=to("sessions", narrowed.params) if cursor else None,
        older=to("sessions", narrowed.params, cursor=page.next_cursor) if page.next_cursor else None,
    )


def session(request: Request) -> Response:
    """`GET /sessions/{session_id}`."""
    visit = visit_of(request)
    session_id = named(request.path_params["session_id"], request.query_params)
    with visit.context.database.read() as connection:
        found = get_session(connection, session_id, request.query_params.get("user_id") or None)
    if found is None:
        raise NotFound("No session has this id. Its turns may have been erased or left out by sampling.")
    return visit.render(
        "session.html",
        section="sessions",
        title="Session",
        session=found,
        exchanges=[(turn, answer_of(turn), _is_cut(turn)) for turn in found.traces],
        pauses=_pauses(found.traces),
    )


def answer_of(turn: Trace) -> object:
    """What the person was given: of an answer that broke off only the part that reached them."""
    return text_of(turn.received) if _is_cut(turn) and turn.received is not None else turn.output


def _is_cut(turn: Trace) -> bool:
    return turn.outcome in ("client_disconnected", "interrupted")


def _pauses(turns: tuple[Trace, ...]) -> dict[str, int]:
    """Long pauses in microseconds, by the id of the turn they came before."""
    found: dict[str, int] = {}
    for before, after in pairwise(turns):
        pause = after.started_at_us - before.started_at_us - (before.duration_us or 0)
        if pause >= _LONG_PAUSE_US:
            found[after.id] = pause
    return found
