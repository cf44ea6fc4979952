"""One person: what their turns cost and how they went, a copy of everything, and its erasure."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from turntrace.errors import NotFound
from turntrace.jobs import erase
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import subject_names
from turntrace.panel.address import named
from turntrace.panel.pages.erasures import TABLES, WAIT_SECONDS
from turntrace.panel.trail import looked, noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.erasure import Target
from turntrace.records.filter import TraceFilter
from turntrace.records.session import User
from turntrace.storage.queries.sessions import list_sessions
from turntrace.storage.queries.traces import list_traces
from turntrace.storage.queries.users import list_users

TURNS: Final = 10
SESSIONS: Final = 10


def show(request: Request) -> Response:
    """`GET /users/{user_id}`."""
    visit = visit_of(request)
    return _page(visit, named(request.path_params["user_id"], request.query_params))


def _page(visit: Visit, user_id: str, *, code: int = HTTPStatus.OK, **more: Any) -> Response:
    wanted = TraceFilter(user_id=user_id)
    with visit.context.database.read() as connection:
        people = list_users(connection, wanted, limit=1).items
        turns = list_traces(connection, wanted, limit=TURNS)
        sessions = list_sessions(connection, wanted, limit=SESSIONS)
    if not (people or turns.items or sessions.items):
        raise NotFound("No user has this id. Their turns may have been erased.")
    if visit.request.method == "POST":
        looked(visit, "subject.view", subject_names(visit.context.keyring, user_id)[0])
    found: Mapping[str, Any] = {"rehearsed": None, "refusal": None, "suppress": False, **more}
    return visit.render(
        "user.html",
        code=code,
        section="users",
        title="User",
        user=people[0] if people else User(user_id=user_id),
        turns=turns.items,
        has_more_turns=turns.next_cursor is not None,
        longest_us=max((turn.duration_us or 0 for turn in turns.items), default=0),
        sessions=sessions.items,
        has_more_sessions=sessions.next_cursor is not None,
        names=TABLES,
        **found,
    )


def _require(visit: Visit) -> tuple[str, Target]:
    """The user id of the form, and what is stored of it."""
    if not visit.may_erase:
        raise HTTPException(403)
    user_id = visit.form.get("user_id", "")
    return user_id, Target(kind="subject", user_ids=stored_ids(visit.context.keyring, user_id))


def rehearse(request: Request) -> Response:
    """`POST /subjects/rehearse`: what an erasure would delete; fields `user_id`, `suppress`."""
    visit = visit_of(request)
    user_id, target = _require(visit)
    suppress = visit.form.get("suppress") == "on"
    with visit.context.database.read() as connection:
        receipt = erase.rehearse(connection, target, suppress=suppress)
    return _page(visit, user_id, rehearsed=receipt, suppress=suppress)


def carry_out(request: Request) -> Response:
    """`POST /subjects/erase`: fields `user_id`, `typed` (the same, by hand), `suppress`."""
    visit = visit_of(request)
    user_id, target = _require(visit)
    suppress = visit.form.get("suppress") == "on"
    if visit.form.get("typed", "").strip() != user_id.strip():
        refusal = "What you typed is not this user's id. Nothing was erased."
        return _page(visit, user_id, code=HTTPStatus.BAD_REQUEST, refusal=refusal, suppress=suppress)
    receipt = erase.erase_at_once(
        visit.context.database,
        target,
        visit.context.keyring,
        actor=visit.viewer.name,
        suppress=suppress,
        seconds=WAIT_SECONDS,
        archive_dir=visit.context.settings.archive_dir,
    )
    return visit.back_to(f"erasures/{receipt.id}")


def export(request: Request) -> Response:
    """`POST /subjects/export`: fields `user_id`, `format` (`jsonl` or `zip`)."""
    visit = visit_of(request)
    user_id, target = _require(visit)
    write = visit.context.export_subject
    if write is None:
        raise HTTPException(404)
    is_zip = visit.form.get("format") == "zip"
    label = subject_names(visit.context.keyring, user_id)[0]
    visit.context.database.transact(noted, visit, "subject.export", label)
    name = "subject.zip" if is_zip else "subject.jsonl"
    media_type = "application/zip" if is_zip else "application/x-ndjson"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(write(target.user_ids, is_zip), media_type=media_type, headers=headers)
