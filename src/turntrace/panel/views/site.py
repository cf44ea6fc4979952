"""sqladmin fitted into the panel: our templates instead of its own, only the routes we use, sessions made when needed.

sqladmin brings lists, search, sorting and forms. What it would do by GET or DELETE (actions, deletion) and its login
are not routed at all; changes of ours are POST forms that the gate has checked.
"""

from typing import Any, Final

from sqladmin import Admin
from sqlalchemy.orm import Session, sessionmaker
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from turntrace.panel.context import PanelContext
from turntrace.panel.problem import HANDLERS
from turntrace.panel.views import account, api_key, price
from turntrace.panel.views.entity import EntityView
from turntrace.panel.visit import visit_of
from turntrace.storage.database import Database

_ROUTES: Final = frozenset({"list", "details", "create"})
_VIEWS: Final[tuple[type[EntityView], ...]] = (api_key.ApiKeyView, account.AccountView, price.PriceView)


class LazySessions(sessionmaker[Session]):
    """Sessions on the engine of the moment: nothing is opened at build time, nothing is kept across a fork."""

    def __init__(self, database: Database) -> None:
        super().__init__(class_=Session)
        self._database = database

    def __call__(self, **local: Any) -> Session:
        """A new session."""
        return super().__call__(bind=self._database.engine, **local)


class PanelTemplates:
    """Renders sqladmin's pages by our templates: the name chooses the page, the context is sqladmin's."""

    async def TemplateResponse(
        self, request: Request, name: str, context: dict[str, Any] | None = None, status_code: int = 200
    ) -> Response:
        """One page."""
        given = dict(context or {})
        if name == "sqladmin/error.html":
            raise HTTPException(given.get("status_code", 400))
        visit = visit_of(request)
        view: EntityView = given["model_view"]
        visit.message = visit.message or view.message(request)
        values = {
            "section": f"admin/{view.identity}/list",
            "title": view.name_plural,
            "view": view,
            "error": None,
            **{key: value for key, value in given.items() if key not in ("request", "model_view", "title")},
        }
        if "pagination" in given:
            values["rows"] = [await view.cells(row) for row in given["pagination"].rows]
        if "model" in given:
            values["cells"] = await view.details(given["model"])
            values["row_id"] = given["model"].id
        return visit.render(name, code=status_code, **values)


class Site(Admin):
    """sqladmin's application with our templates and few routes."""

    def init_templating_engine(self) -> Any:
        """Our renderer in place of sqladmin's."""
        return PanelTemplates()


def add_admin(pages: Starlette, context: PanelContext) -> list[BaseRoute]:
    """Mount sqladmin at `/admin` of the pages; answers the routes of the POST forms that belong to it."""
    site = Site(pages, session_maker=LazySessions(context.database), base_url="/admin", templates_dir="")
    for view in _VIEWS:
        site.add_view(view)
    site.admin.router.routes = [route for route in site.admin.router.routes if getattr(route, "name", "") in _ROUTES]
    site.admin.exception_handlers = dict(HANDLERS)
    return [
        Route("/admin/api-key/revoke", api_key.revoke, methods=["POST"]),
        Route("/admin/account/disable", account.disable, methods=["POST"]),
        Route("/admin/account/role", account.change_role, methods=["POST"]),
        Route("/admin/account/password", account.change_password, methods=["POST"]),
        Route("/admin/price/remove", price.remove, methods=["POST"]),
    ]
