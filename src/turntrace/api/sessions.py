"""`/sessions`."""

from collections.abc import Sequence
from typing import Final

from turntrace.api import parameter, shape
from turntrace.api.components import page
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.filters import PERIOD, to_filter
from turntrace.api.parameter import paging
from turntrace.api.problem import Problem, not_found
from turntrace.api.schema import reference
from turntrace.storage.queries import sessions

_USER: Final = parameter.text("user_id", "the session of this user")
_FILTERS: Final = (
    *PERIOD,
    parameter.text("session_id", "exact id"),
    parameter.text("user_id", "sessions of this user"),
    parameter.text("environment", "deployment environment"),
    parameter.text("q", "start of a session id"),
)


async def _list(call: Call) -> Answer:
    limit, cursor = call.page
    page_of = shape.paged(shape.listed_session)
    return Answer(
        await call.read_as(page_of, sessions.list_sessions, to_filter(call.values), limit=limit, cursor=cursor)
    )


async def _get(call: Call) -> Answer:
    session_id = call.request.path_params["session_id"]
    found = None
    if "\x00" not in session_id:
        try:
            found = await call.read(sessions.get_session, session_id, call.values.get("user_id"))
        except sessions.SeveralUsers as error:
            raise _several(error) from None
    if found is None:
        raise not_found("session", "Give a session id as the application sent it, URL-encoded.")
    return Answer(await call.run(shape.whole_session, found))


def _several(error: sessions.SeveralUsers) -> Problem:
    return Problem(
        409,
        "several-users",
        "Several users have a session of this id",
        "Name one of `user_ids` with the parameter `user_id`.",
        user_ids=list(error.user_ids),
    )


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/sessions",
        name="listSessions",
        summary="Conversations with totals, the latest active first",
        handle=_list,
        parameters=(*_FILTERS, *paging()),
        answers={200: ("a page of sessions", page("Session"))},
    ),
    Endpoint(
        method="GET",
        path="/sessions/{session_id:path}",
        name="getSession",
        summary="One conversation with totals and its traces in order, the latest 500 of them",
        handle=_get,
        parameters=(_USER,),
        path_parameters={"session_id": "id of the session"},
        answers={200: ("the session", reference("Session"))},
    ),
)
