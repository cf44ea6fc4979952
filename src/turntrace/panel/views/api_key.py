"""Keys of the REST API: made here (shown once), listed, revoked."""

from typing import Any, ClassVar

from anyio import to_thread
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from wtforms import Form, SelectMultipleField
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput, ListWidget

from turntrace.panel.trail import noted
from turntrace.panel.views.entity import EntityView, Formatters, Labels, badge, now_us, required, when
from turntrace.panel.views.row import ApiKeyRow
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import keys

SCOPES = {
    "read": "read: traces, sessions, scores, costs",
    "write": "write: scores, prices",
    "feedback": "feedback: scores on a known trace, for front ends",
    "ingest": "ingest: OTLP",
    "erase": "erase: delete people's data",
    "admin": "admin: everything",
}


class ApiKeyForm(Form):  # type: ignore[misc]  # wtforms has no types
    """A new key."""

    name = required("Name", keys.MAX_NAME, "Where the key will be used.")
    scopes = SelectMultipleField(
        "Scopes",
        [InputRequired()],
        choices=list(SCOPES.items()),
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )


def _state(row: Any, _name: Any) -> Any:
    if row.revoked_at_us:
        return badge("revoked", "error")
    return badge("expired", "warn") if row.expires_at_us and row.expires_at_us <= now_us() else badge("live", "ok")


class ApiKeyView(EntityView, model=ApiKeyRow):
    """API keys. Their secrets are not in the table."""

    name = "API key"
    name_plural = "API keys"
    lead = "Keys open the REST API and the OTLP receiver. A key is shown once, when it is made."
    empty = "No key yet. The API is closed until there is one."
    form = ApiKeyForm
    column_list: ClassVar[list[str]] = ["name", "id", "scopes", "created_at_us", "revoked_at_us"]
    column_details_list: ClassVar[list[str]] = [*column_list, "expires_at_us"]
    column_searchable_list: ClassVar[list[str]] = ["name", "id"]
    column_default_sort: ClassVar[list[tuple[str, bool]]] = [("created_at_us", True)]
    column_labels: ClassVar[Labels] = {
        "name": "Name",
        "id": "Id",
        "scopes": "Scopes",
        "created_at_us": "Made",
        "revoked_at_us": "State",
        "expires_at_us": "Expires",
    }
    column_formatters: ClassVar[Formatters] = {
        "created_at_us": when("created_at_us"),
        "revoked_at_us": _state,
        "expires_at_us": when("expires_at_us"),
    }
    column_formatters_detail: ClassVar[Formatters] = column_formatters
    messages: ClassVar[dict[str, str]] = {"revoked": "The key is revoked. It is refused within five seconds."}

    async def insert_model(self, request: Request, data: dict[str, Any]) -> Any:
        """Make the key and show it, this once."""
        visit = visit_of(request)
        made = await to_thread.run_sync(visit.context.database.transact, _create, visit, data)
        answer = visit.render("admin/new_key.html", section="admin/api-key/list", title="New key", made=made)
        request.state._sqladmin_after_change_response = answer
        return made


ApiKeyView.identity = "api-key"


def _create(connection: Connection, visit: Visit, data: dict[str, Any]) -> keys.NewKey:
    made = keys.create(connection, name=data["name"].strip(), scopes=tuple(data["scopes"]), now_us=now_us())
    noted(connection, visit, "key.create", made.id, scopes=list(made.scopes))
    return made


def revoke(request: Request) -> Response:
    """`POST /admin/api-key/revoke`: field `id`."""
    visit = visit_of(request)
    visit.context.database.transact(_revoke, visit, visit.form.get("id", ""))
    return visit.back_to("admin/api-key/list", done="revoked")


def _revoke(connection: Connection, visit: Visit, key_id: str) -> None:
    keys.revoke(connection, key_id, now_us=now_us())
    noted(connection, visit, "key.revoke", key_id)
