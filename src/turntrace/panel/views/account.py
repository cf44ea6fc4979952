"""People who may log in to the panel."""

from collections.abc import Callable
from typing import Any, ClassVar

from anyio import to_thread
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from wtforms import Form, PasswordField, SelectField
from wtforms.validators import InputRequired, Length

from turntrace.errors import InvalidInput
from turntrace.panel.trail import noted
from turntrace.panel.views.entity import EntityView, Formatters, Labels, badge, now_us, required, when
from turntrace.panel.views.row import AccountRow
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import people

ROLES = {
    "reviewer": "reviewer: their review queues, nothing else",
    "viewer": "viewer: numbers, no texts",
    "reader": "reader: texts too",
    "annotator": "annotator: may add scores",
    "operator": "operator: for those who run it",
    "admin": "admin: keys, people, prices",
}


class AccountForm(Form):  # type: ignore[misc]  # wtforms has no types
    """A new account."""

    name = required("Name", people.MAX_NAME, "What they type to log in.", "username")
    role = SelectField("Role", choices=list(ROLES.items()), default="reader")
    password = PasswordField(
        "Password",
        [InputRequired(), Length(min=people.MIN_PASSWORD, max=people.MAX_PASSWORD)],
        description=f"{people.MIN_PASSWORD} characters or more.",
        render_kw={"autocomplete": "new-password"},
    )


class AccountView(EntityView, model=AccountRow):
    """Accounts. Password hashes are never shown."""

    name = "Person"
    name_plural = "People"
    lead = "Accounts of this panel. A change of role or password ends the sessions of the person."
    empty = "No account yet: people come in by the settings or the application's own login."
    form = AccountForm
    column_list: ClassVar[list[str]] = ["name", "role", "is_enabled", "last_login_at_us", "created_at_us"]
    column_details_list = column_list
    column_searchable_list: ClassVar[list[str]] = ["name"]
    column_default_sort: ClassVar[list[tuple[str, bool]]] = [("name", False)]
    column_labels: ClassVar[Labels] = {
        "name": "Name",
        "role": "Role",
        "is_enabled": "State",
        "last_login_at_us": "Last login",
        "created_at_us": "Made",
    }
    column_formatters: ClassVar[Formatters] = {
        "is_enabled": lambda row, _: badge("open", "ok") if row.is_enabled else badge("closed", "error"),
        "last_login_at_us": when("last_login_at_us"),
        "created_at_us": when("created_at_us"),
    }
    column_formatters_detail: ClassVar[Formatters] = column_formatters
    messages: ClassVar[dict[str, str]] = {
        "created": "The account is open.",
        "disabled": "The account is closed and its sessions have ended.",
        "changed": "Changed. The person has to log in again.",
    }
    roles = ROLES

    async def insert_model(self, request: Request, data: dict[str, Any]) -> Any:
        """Make the account: argon2 off the event loop."""
        visit = visit_of(request)
        made = await to_thread.run_sync(visit.context.database.transact, _create, visit, data)
        request.state._sqladmin_after_change_response = visit.back_to("admin/account/list", done="created")
        return made


AccountView.identity = "account"


def _create(connection: Connection, visit: Visit, data: dict[str, Any]) -> people.Account:
    made = people.create(
        connection, data["name"].strip(), role=data["role"], password=data["password"], now_us=now_us()
    )
    noted(connection, visit, "account.create", made.name, role=made.role)
    return made


def disable(request: Request) -> Response:
    """`POST /admin/account/disable`: field `name`."""
    return _changed(request, "account.disable", "disabled", _disable)


def change_role(request: Request) -> Response:
    """`POST /admin/account/role`: fields `name`, `role`."""
    return _changed(request, "account.role", "changed", _change_role)


def change_password(request: Request) -> Response:
    """`POST /admin/account/password`: fields `name`, `password`."""
    return _changed(request, "account.password", "changed", _change_password)


def _changed(request: Request, action: str, done: str, change: Callable[[Connection, Visit], None]) -> Response:
    visit = visit_of(request)
    visit.context.database.transact(_change, visit, action, change)
    return visit.back_to("admin/account/list", done=done)


def _change(connection: Connection, visit: Visit, action: str, change: Callable[[Connection, Visit], None]) -> None:
    change(connection, visit)
    noted(connection, visit, action, visit.form.get("name", ""))


def _disable(connection: Connection, visit: Visit) -> None:
    if visit.form.get("name") == visit.viewer.name:
        raise InvalidInput("Nobody closes the account they are logged in with.", field="name")
    people.disable(connection, visit.form.get("name", ""), now_us=now_us())


def _change_role(connection: Connection, visit: Visit) -> None:
    people.change_role(connection, visit.form.get("name", ""), visit.form.get("role", ""), now_us=now_us())


def _change_password(connection: Connection, visit: Visit) -> None:
    people.change_password(connection, visit.form.get("name", ""), visit.form.get("password", ""), now_us=now_us())
