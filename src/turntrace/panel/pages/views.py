"""Lists that people keep: saved with the filters that are in force, opened again, forgotten."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.panel.gate.role import Role
from turntrace.panel.narrowing import narrowing
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import views
from turntrace.storage.views import View

PAGE: Final = "traces"
# What people search for may be words that somebody said.
_TELLING: Final = frozenset({"q", "user_id", "session_id", "name"})
_TYPED: Final = ("q", "name", "step", "tag", "route")  # filters that take any text


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A saved view with its address; `is_mine`: this person may remove it."""

    view: View
    href: str
    is_mine: bool


def usable(visit: Visit, connection: Connection) -> list[Kept]:
    """The saved views of the trace list that this person may use."""
    found = views.list_views(connection, PAGE, visit.viewer.name)
    return [
        Kept(view=view, href=f"{visit.address.to(PAGE)}?{view.query}", is_mine=_may_remove(visit, view))
        for view in found
        if _may_see(visit, view)
    ]


def _may_see(visit: Visit, view: View) -> bool:
    """People who see numbers only are not shown what others look for."""
    names = {name for name, _ in parse_qsl(view.query)}
    return visit.may_read or view.author == visit.viewer.name or not names & _TELLING


def _may_remove(visit: Visit, view: View) -> bool:
    return view.author == visit.viewer.name or visit.viewer.may(Role.ADMIN)


def save(request: Request) -> Response:
    """`POST /views`: fields `name`, `query` (of the trace list), `is_shared`."""
    visit = _unscoped(request)
    given = dict(parse_qsl(visit.form.get("query", "")[: views.MOST_QUERY]))
    typed = [given.get(name, "") for name in _TYPED]
    for name, text in (("name", visit.form.get("name", "").strip()), *(("query", text) for text in typed)):
        _refuse_personal(visit, name, text)
    visit.context.database.transact(_save, visit)
    return visit.back(PAGE)


def _refuse_personal(visit: Visit, name: str, text: str) -> None:
    """Ids of users and sessions are filters of their own, which an erasure finds; what is typed freely is not kept.

    Raises:
        InvalidInput: the text holds personal data, or nobody can tell.
    """
    redact = visit.context.redact_text
    if redact is not None and text and redact(text) != text:
        raise InvalidInput("Personal data is not kept in views: filter by user or session instead.", field=name)


def _save(connection: Connection, visit: Visit) -> None:
    given = dict(parse_qsl(visit.form.get("query", "")[: views.MOST_QUERY]))
    query = urlencode(narrowing(given, now_us=visit.now_us).params)  # nothing but filters is kept
    is_shared = bool(visit.form.get("is_shared")) and visit.may_read
    made = views.save(
        connection,
        PAGE,
        visit.form.get("name", "").strip(),
        query,
        author=visit.viewer.name,
        is_shared=is_shared,
        now_us=visit.now_us,
    )
    noted(connection, visit, "view.save", made.id, is_shared=is_shared)


def remove(request: Request) -> Response:
    """`POST /views/remove`: field `id`."""
    visit = _unscoped(request)
    visit.context.database.transact(_remove, visit)
    return visit.back(PAGE)


def _remove(connection: Connection, visit: Visit) -> None:
    view_id = visit.form.get("id", "")
    views.remove(connection, view_id, author=None if visit.viewer.may(Role.ADMIN) else visit.viewer.name)
    noted(connection, visit, "view.remove", view_id)


def _unscoped(request: Request) -> Visit:
    visit = visit_of(request)
    if visit.viewer.scope is not None:  # views of different tenants would meet here
        raise HTTPException(403)
    return visit
