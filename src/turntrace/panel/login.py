"""Login and logout: throttled, argon2 off the event loop, a new session at each login."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from turntrace.errors import DatabaseUnavailable, SchemaOutOfDate, SchemaTooNew
from turntrace.panel.address import Address, local_path
from turntrace.panel.assets import release
from turntrace.panel.context import PanelContext
from turntrace.panel.gate import cookie, csrf
from turntrace.panel.gate.gate import FORM_STATE
from turntrace.panel.gate.session import Refusal, Sessions
from turntrace.panel.templating import environment
from turntrace.panel.visit import THEME_COOKIE, THEMES, visit_of

_UNREADY: Final = (DatabaseUnavailable, SchemaOutOfDate, SchemaTooNew)
CREATE_USER: Final = "turntrace users create NAME --role admin"
_PROBLEMS: Final = {
    Refusal.WRONG: "Name or password is wrong.",
    Refusal.THROTTLED: "Too many attempts. Wait a minute and try again.",
    Refusal.EXPIRED: "The form has expired. Please try again.",
}


# Logins wait for one another: in threads beside the host's, which strangers could fill otherwise.
_THREADS: Final = 4
_threads: RunVar[CapacityLimiter] = RunVar("turntrace.panel.login")


def _limiter() -> CapacityLimiter:
    """The limiter of this event loop."""
    found = _threads.get(None)
    if found is None:
        found = CapacityLimiter(_THREADS)
        _threads.set(found)
    return found


class Login:
    """The endpoints of coming and going."""

    def __init__(self, context: PanelContext, sessions: Sessions) -> None:
        self._context = context
        self._sessions = sessions

    async def form(self, request: Request) -> Response:
        """`GET /login`: the form, or how to get an account where nobody has one."""
        try:
            is_open = await to_thread.run_sync(self._sessions.has_accounts)
        except _UNREADY as error:
            return self._not_ready(request, error)
        if not is_open:
            return self._closed(request)
        return self._page(request, HTTPStatus.OK, next=request.query_params.get("next"))

    async def submit(self, request: Request) -> Response:
        """`POST /login`: fields `username`, `password`, `next`."""
        form: Mapping[str, str] = request.scope[FORM_STATE]
        if not self._is_our_form(request, form):
            return self._page(
                request, HTTPStatus.FORBIDDEN, Refusal.EXPIRED, form.get("username", ""), form.get("next")
            )
        client = request.client.host if request.client else ""
        name, password = form.get("username", ""), form.get("password", "")
        try:
            token = await to_thread.run_sync(self._sessions.log_in, name, password, client, limiter=_limiter())
        except _UNREADY as error:
            return self._not_ready(request, error)
        if isinstance(token, Refusal):
            status = HTTPStatus.TOO_MANY_REQUESTS if token is Refusal.THROTTLED else HTTPStatus.UNAUTHORIZED
            return self._page(request, status, token, name, form.get("next"))
        return self._welcome(request, token, form.get("next"))

    async def logout(self, request: Request) -> Response:
        """`POST /logout`: the session ends on the server, the cookie goes."""
        visit = visit_of(request)
        if visit.viewer.token_hash:
            await to_thread.run_sync(self._sessions.close, visit.viewer)
        answer = RedirectResponse(visit.address.to("login"), status_code=HTTPStatus.SEE_OTHER)
        cookie.drop(answer, request, self._context.settings, cookie.name(request, self._context.settings))
        answer.headers["clear-site-data"] = '"cache"'
        return answer

    def _is_our_form(self, request: Request, form: Mapping[str, str]) -> bool:
        """By origin; where a browser hides it (plain HTTP), by the token that the form and a cookie share."""
        site = csrf.site_of(request.scope, self._context.settings.panel_url)
        if site in ("same", "unknown"):  # unknown: no browser sends a form to another site without saying so
            return True
        secret = request.cookies.get(cookie.LOGIN_NAME)
        return site == "hidden" and secret is not None and csrf.matches(csrf.token_of(secret), form.get(csrf.FIELD))

    def _welcome(self, request: Request, token: str, target: str | None) -> Response:
        address = Address(request.scope.get("root_path", ""))
        answer = RedirectResponse(local_path(target, address.root) or address.to(), status_code=HTTPStatus.SEE_OTHER)
        settings = self._context.settings
        cookie.put(answer, request, settings, cookie.name(request, settings), token)
        cookie.drop(answer, request, settings, cookie.LOGIN_NAME)
        return answer

    def _page(
        self,
        request: Request,
        status: HTTPStatus,
        refusal: Refusal | None = None,
        username: str = "",
        next: str | None = None,
    ) -> Response:
        address = Address(request.scope.get("root_path", ""))
        secret = request.cookies.get(cookie.LOGIN_NAME) or secrets.token_urlsafe(32)
        answer = self._alone(
            request,
            "login.html",
            status,
            title="Log in",
            action=address.to("login"),
            next=local_path(next, address.root),
            problem=_PROBLEMS[refusal] if refusal else None,
            username=username[:100],
            csrf_token=csrf.token_of(secret),
        )
        cookie.put(answer, request, self._context.settings, cookie.LOGIN_NAME, secret)
        return answer

    def _closed(self, request: Request) -> Response:
        lines = ["Nobody has an account here yet. Create the first one in a terminal of this application:"]
        if self._context.settings.panel_auth is not None:
            lines = ["This panel lets people in whom the application vouches for: log in there first."]
        command = None if self._context.settings.panel_auth is not None else CREATE_USER
        return self._alone(
            request, "closed.html", HTTPStatus.NOT_FOUND, title="The panel is closed", lines=lines, command=command
        )

    def _not_ready(self, request: Request, error: Exception) -> Response:
        command = "turntrace db upgrade" if isinstance(error, SchemaOutOfDate) else None
        lines = ["Logging in needs the database.", *([] if command is None else ["Its tables are made by:"])]
        return self._alone(
            request,
            "closed.html",
            HTTPStatus.SERVICE_UNAVAILABLE,
            title="The panel is not ready",
            lines=lines,
            command=command,
        )

    def _alone(self, request: Request, template: str, status: HTTPStatus, **values: object) -> Response:
        theme = request.cookies.get(THEME_COOKIE, "system")
        shared: dict[str, object] = {
            "theme": theme if theme in THEMES else "system",
            "panel_title": self._context.settings.panel_title,
            "static": f"{request.scope.get('root_path', '')}/static/{release()}",
            "wide": template == "closed.html",
            "href": None,
        }
        text = environment().get_template(template).render({**shared, **values})
        return HTMLResponse(text, status_code=status)
