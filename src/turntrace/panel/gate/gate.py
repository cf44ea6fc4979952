"""Default deny: what is not on the open list needs a person with a session (or the host's word for them)."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from turntrace.errors import DatabaseUnavailable, SchemaOutOfDate, SchemaTooNew
from turntrace.panel.address import Address, below, here
from turntrace.panel.context import PanelContext
from turntrace.panel.gate import csrf
from turntrace.panel.gate.auth import Authenticator
from turntrace.panel.gate.role import Role, Viewer
from turntrace.panel.gate.witness import Witness
from turntrace.panel.visit import STATE, Visit
from turntrace.storage.sight import seen_by

log = logging.getLogger("turntrace.panel")

LOGIN_PATH: Final = "/login"
STATIC_PATH: Final = "/static/"
_UNREADY: Final = (DatabaseUnavailable, SchemaOutOfDate, SchemaTooNew)
# Pages about the whole installation: nothing for people who see the turns of one tenant.
_OF_EVERYBODY: Final = frozenset({"admin", "system", "audit", "privacy", "erasures", "subjects"})
# What people with a scope may change: remarks on turns they see, and their own session.
_OF_A_TURN: Final = frozenset({"scores", "comments", "theme", "logout"})
# All there is for people who only review.
_OF_REVIEWERS: Final = frozenset({"queues", "theme", "logout"})
FORM_STATE: Final = "turntrace.form"
ADMIN_PATH: Final = "/admin"


class Gate:
    """Lets a request through to the pages with a `Visit` in its scope, or answers it.

    Open without a session: static files and the login page. Everything that is not GET or HEAD needs a form of ours.
    """

    def __init__(self, app: ASGIApp, context: PanelContext, authenticator: Authenticator) -> None:
        self._app = app
        self._context = context
        self._authenticator = authenticator
        self._witness = Witness(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            await send({"type": "websocket.close", "code": 4404})
            return
        scope = _without_nul(scope)
        request = Request(scope, receive)
        path = below(scope)
        if request.method not in ("GET", "HEAD", "POST"):
            await PlainTextResponse("method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)(scope, receive, send)
        elif not _page_of(path).isprintable():
            # Routes match "/system" with a line break behind it, too; what is asked of a page goes by its name.
            await PlainTextResponse("not found", HTTPStatus.NOT_FOUND)(scope, receive, send)
        elif path.startswith(STATIC_PATH) and request.method != "POST":
            await self._app(scope, receive, send)
        else:
            await self._guarded(request, path, scope, receive, send)

    async def _guarded(self, request: Request, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        form: Mapping[str, str] = {}
        if request.method == "POST":
            if csrf.site_of(scope, self._context.settings.panel_url) == "cross":
                await _refused(HTTPStatus.FORBIDDEN, "this form came from another site")(scope, receive, send)
                return
            try:
                form, receive = await csrf.read_form(scope, receive)
            except csrf.BodyTooLarge:
                await _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")(scope, receive, send)
                return
        scope = {**scope, FORM_STATE: form}
        if path == LOGIN_PATH:
            await self._app(scope, receive, send)
            return
        answer = await self._admit(request, scope, form)
        await (answer or self._app)(scope, receive, send)

    async def _admit(self, request: Request, scope: Scope, form: Mapping[str, str]) -> Response | None:
        """Put the visit into the scope, or answer why not."""
        try:
            viewer = await self._authenticator.viewer(request)
        except _UNREADY:
            # Nobody can be recognised without the database: say nothing about it to strangers.
            log.warning("the panel cannot look up sessions: the database is not available or not migrated")
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "The panel is not available: see `turntrace doctor`.")
        if viewer is None:
            return _turned_away(request)
        if request.method == "POST" and not csrf.matches(viewer.csrf_token, _token(request, form)):
            return _refused(HTTPStatus.FORBIDDEN, "The form has expired. Load the page again and repeat.")
        path = below(scope)
        if (path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/")) and not viewer.may(Role.ADMIN):
            return _refused(HTTPStatus.FORBIDDEN, "This needs the role admin.")
        if viewer.is_reviewer and _page_of(path) not in _OF_REVIEWERS:
            if path == "/" and request.method != "POST":
                return RedirectResponse(Address(request.scope.get("root_path", "")).to("queues"), HTTPStatus.SEE_OTHER)
            return _refused(HTTPStatus.FORBIDDEN, "You see the queues that you review, and nothing else.")
        if viewer.scope is not None and _is_of_everybody(request.method, _page_of(path)):
            return _refused(HTTPStatus.FORBIDDEN, "This is about everybody's turns; you see a part of them.")
        scope[STATE] = self._visit(request, viewer, form)
        return await self._witnessed(request, viewer)

    async def _witnessed(self, request: Request, viewer: Viewer) -> Response | None:
        """Nothing is shown that could not be written into the audit log first."""
        if self._witness.is_needed(request, viewer):
            try:
                await to_thread.run_sync(self._witness.see, request, viewer)
            except _UNREADY:
                log.warning("a page was not shown: the audit log cannot be written to")
                text = "The database cannot be reached or written to just now; turns go on being recorded."
                return _refused(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    def _visit(self, request: Request, viewer: Viewer, form: Mapping[str, str]) -> Visit:
        address = Address(request.scope.get("root_path", ""))
        context = self._context
        if viewer.sight.is_limited:  # here, and not in the pages: none of them can forget it
            context = replace(context, database=seen_by(context.database, viewer.sight))
        return Visit(request=request, context=context, viewer=viewer, address=address, form=form)


def _without_nul(scope: Scope) -> Scope:
    """The address with U+FFFD for U+0000, as what is stored has it: PostgreSQL refuses to be asked for the other."""
    path, query = (
        scope["path"].replace("\0", "\ufffd"),
        scope.get("query_string", b"").replace(b"%00", csrf.REPLACEMENT),
    )
    return {**scope, "path": path, "query_string": query}


def _page_of(path: str) -> str:
    """The first part of a path below the mount."""
    return path.split("/")[1]


def _is_of_everybody(method: str, part: str) -> bool:
    return part in _OF_EVERYBODY or (method == "POST" and part not in _OF_A_TURN)


def _token(request: Request, form: Mapping[str, str]) -> str | None:
    return form.get(csrf.FIELD) or request.headers.get(csrf.HEADER)


def _turned_away(request: Request) -> Response:
    """Browsers go to the login page and back; everyone else is told."""
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not wants_page or request.headers.get("hx-request"):
        headers = {"HX-Refresh": "true"} if request.headers.get("hx-request") else None
        return PlainTextResponse("login needed", HTTPStatus.UNAUTHORIZED, headers=headers)
    address = Address(request.scope.get("root_path", ""))
    target, home = here(request.scope), f"{address.root}/"
    return RedirectResponse(
        address.to("login", next=None if target == home else target), status_code=HTTPStatus.SEE_OTHER
    )


def _refused(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(text, status)
