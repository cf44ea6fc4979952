"""The composition of the panel: routes, the gate around them, and what goes past the gate."""

import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turntrace.panel import assets, login
from turntrace.panel.address import below
from turntrace.panel.context import PanelContext
from turntrace.panel.gate import FixRoot, Gate, Isolate, SecurityHeaders
from turntrace.panel.gate.auth import Authenticator
from turntrace.panel.gate.session import Sessions
from turntrace.panel.pages import (
    auditing,
    budgets,
    commenting,
    cost,
    erasures,
    evaluators,
    export,
    overview,
    preference,
    pricing,
    privacy,
    quality,
    queues,
    review,
    scoring,
    sessions,
    system,
    trace,
    traces,
    user,
    users,
    views,
)
from turntrace.panel.problem import HANDLERS
from turntrace.panel.views import add_admin
from turntrace.tracing.guard import own_frame

log = logging.getLogger("turntrace.panel")
Endpoint = Callable[[Request], Response | Awaitable[Response]]


class Unrecorded:
    """Switches recording off for everything inside: we never trace ourselves."""

    def __init__(self, app: ASGIApp, context: PanelContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request unrecorded."""
        with self._context.suspend():
            await self._app(scope, receive, send)


class Shield:
    """Nothing that fails in the panel reaches the host: pages answer errors themselves, this is for the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            # Neither its text nor the traceback: a database's error quotes rows.
            log.error("the panel failed: %s at %s", type(error).__name__, own_frame(error))
            if scope["type"] == "http" and not has_started:
                await PlainTextResponse("This page failed; see the log of the application.", 500)(scope, receive, send)


class Divide:
    """Requests under a prefix go to an application with its own authentication, the others to the panel."""

    def __init__(self, panel: ASGIApp, others: dict[str, ASGIApp]) -> None:
        self._panel = panel
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = below(scope) if scope["type"] in ("http", "websocket") else ""
        for prefix, app in self._others.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                await app({**scope, "root_path": scope.get("root_path", "") + prefix}, receive, send)
                return
        await self._panel(scope, receive, send)


def build(context: PanelContext) -> ASGIApp:
    """The panel with the REST API at `/api/v1` and the OTLP receiver at `/otlp`, never recorded, closed by default.

    Works mounted at any path of an ASGI host, under WSGI hosts by a2wsgi, behind proxies that strip a prefix, and
    beside a sqladmin of the host's own.
    """
    doors = Sessions(context)
    pages = Starlette(exception_handlers=HANDLERS)
    changes = add_admin(pages, context)
    pages.router.routes[:0] = [*_routes(context, doors), *changes]
    guarded = SecurityHeaders(Shield(Gate(pages, context, Authenticator(context, doors))))
    others = {"/api/v1": context.api, "/otlp": context.otlp}
    divided = Divide(guarded, {prefix: app for prefix, app in others.items() if app is not None})
    return Unrecorded(FixRoot(Isolate(divided)), context)


def _routes(context: PanelContext, doors: Sessions) -> list[BaseRoute]:
    enter = login.Login(context, doors)
    get, post = _only("GET"), _only("POST")
    return [
        Route("/static/{release}/{name:path}", assets.serve, methods=["GET"]),
        Route("/login", enter.form, methods=["GET"]),
        Route("/login", enter.submit, methods=["POST"]),
        post("/logout", enter.logout),
        post("/theme", preference.theme),
        get("/", overview.show),
        get("/traces", traces.traces),
        get("/traces.csv", export.as_csv),
        get("/traces.jsonl", export.as_jsonl),
        get("/traces/{trace_id}", trace.trace),
        post("/views", views.save),
        post("/views/remove", views.remove),
        post("/scores", scoring.add),
        post("/comments", commenting.add),
        post("/comments/remove", commenting.remove),
        get("/sessions", sessions.sessions),
        get("/sessions/{session_id:path}", sessions.session),
        get("/users", users.users),
        get("/users/{user_id:path}", user.show),
        post("/subjects/rehearse", user.rehearse),
        post("/subjects/erase", user.carry_out),
        post("/subjects/export", user.export),
        post("/subjects/turn", erasures.erase_turn),
        post("/subjects/session", erasures.erase_session),
        get("/erasures", erasures.show),
        get("/erasures/{erasure_id}.json", erasures.as_json),
        get("/erasures/{erasure_id}", erasures.one),
        get("/cost", cost.cost),
        get("/cost.csv", cost.as_csv),
        get("/prices", pricing.show),
        get("/prices.json", pricing.give),
        post("/prices/import", pricing.take),
        post("/prices/reprice", pricing.ask),
        get("/budgets", budgets.show),
        get("/budgets/edit", budgets.form),
        post("/budgets/save", budgets.save),
        post("/budgets/remove", budgets.remove),
        post("/budgets/free", budgets.free),
        get("/queues", queues.show),
        get("/queues/edit", queues.form),
        post("/queues/save", queues.save),
        get("/queues/fill", queues.filling),
        post("/queues/fill", queues.fill),
        get("/queues/{queue_id}", queues.one),
        post("/queues/{queue_id}/next", review.take),
        get("/queues/{queue_id}/items/{item_id}", review.show),
        post("/queues/{queue_id}/items/{item_id}/save", review.save),
        post("/queues/{queue_id}/items/{item_id}/skip", review.skip),
        get("/quality", quality.show),
        get("/evaluators", evaluators.show),
        get("/evaluators/new", evaluators.form),
        post("/evaluators/save", evaluators.save),
        post("/evaluators/preview", evaluators.preview),
        get("/evaluators/{evaluator_id}", evaluators.one),
        get("/evaluators/{evaluator_id}/edit", evaluators.form),
        post("/evaluators/{evaluator_id}/switch", evaluators.switch),
        post("/evaluators/{evaluator_id}/delete", evaluators.remove),
        post("/evaluators/{evaluator_id}/again", evaluators.again),
        post("/evaluators/{evaluator_id}/backfill", evaluators.backfill),
        post("/evaluators/{evaluator_id}/retry", evaluators.retry),
        get("/system", system.show),
        get("/audit", auditing.show),
        get("/privacy", privacy.show),
        post("/privacy/try", privacy.try_text),
        post("/privacy/windows", privacy.open_window),
        post("/privacy/windows/close", privacy.close_window),
    ]


def _only(method: str) -> Callable[[str, Endpoint], Route]:
    def route(path: str, endpoint: Endpoint) -> Route:
        return Route(path, endpoint, methods=[method])

    return route
