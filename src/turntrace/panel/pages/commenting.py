"""Remarks on a turn or one of its steps: written by annotators, taken back by who wrote them."""

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.gate.role import Role
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import comments

_TURN_ID = 32


def add(request: Request) -> Response:
    """`POST /comments`: fields `target` (turn or observation id), `text`, `quote` (the passage meant), `next`."""
    visit = _annotator(request)
    visit.context.database.transact(_add, visit)
    return visit.back("traces")


def _add(connection: Connection, visit: Visit) -> None:
    target, text = visit.form.get("target", ""), visit.form.get("text", "").strip()
    quote = " ".join(visit.form.get("quote", "").split())[: comments.MOST_QUOTE]
    redact = visit.context.redact_text
    made = comments.add(
        connection,
        target[:_TURN_ID],
        target[_TURN_ID:] or None,
        redact(text) if redact is not None and text else text,
        quote=(redact(quote) if redact is not None and quote else quote) or None,
        author=visit.viewer.name,
        now_us=visit.now_us,
    )
    noted(connection, visit, "comment.add", made.turn_id, id=made.id)


def remove(request: Request) -> Response:
    """`POST /comments/remove`: fields `id`, `next`."""
    visit = _annotator(request)
    visit.context.database.transact(_remove, visit)
    return visit.back("traces")


def _remove(connection: Connection, visit: Visit) -> None:
    comment_id = visit.form.get("id", "")
    author = None if visit.viewer.may(Role.ADMIN) else visit.viewer.name
    noted(connection, visit, "comment.remove", comments.remove(connection, comment_id, author=author), id=comment_id)


def _annotator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.may_score:
        raise HTTPException(403)
    return visit
