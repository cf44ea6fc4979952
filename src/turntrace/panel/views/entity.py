"""What our sqladmin views have in common: read-only lists of named columns, and who may do what."""

from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any, ClassVar, Final

from markupsafe import Markup
from sqladmin import ModelView
from sqlalchemy.orm import InstrumentedAttribute
from starlette.requests import Request
from wtforms import Field, StringField
from wtforms.validators import InputRequired, Length

from turntrace.panel.gate.role import Role
from turntrace.panel.templating import utc
from turntrace.panel.visit import visit_of
from turntrace.panel.wording import ABSENT, iso

ROWS: Final = 50

Labels = dict[str | InstrumentedAttribute[Any], str]
Formatters = dict[str | InstrumentedAttribute[Any], Callable[[Any, Any], Any] | Callable[[Any, Any, Request], Any]]


class EntityView(ModelView):
    """A list, a page of one row, and a form to make one. Changes go through the functions of `storage`."""

    can_edit = False
    can_delete = False
    can_export = False
    page_size = ROWS
    page_size_options: ClassVar[Sequence[int]] = (ROWS,)
    list_template = "admin/list.html"
    details_template = "admin/details.html"
    create_template = "admin/create.html"
    lead: ClassVar[str] = ""
    empty: ClassVar[str] = ""
    links: ClassVar[Sequence[tuple[str, str]]] = ()  # to further pages: label, path below the mount
    messages: ClassVar[dict[str, str]] = {}

    def is_accessible(self, request: Request) -> bool:
        """For people with the role admin."""
        return visit_of(request).viewer.may(Role.ADMIN)

    def message(self, request: Request) -> str | None:
        """What was just done, by the `done` parameter that our forms redirect with."""
        return self.messages.get(request.query_params.get("done", ""))

    async def cells(self, row: Any) -> tuple[str, list[Any]]:
        """The id of a row and its formatted cells."""
        return row.id, [(await self.get_list_value(row, name))[1] for name in self._list_prop_names]

    async def details(self, row: Any) -> list[tuple[str, Any]]:
        """Labels and formatted values of one row."""
        names = self._details_prop_names
        return [(self.label(name), (await self.get_detail_value(row, name))[1]) for name in names]

    def label(self, name: str) -> str:
        """The heading of a column."""
        return str(self._column_labels.get(name, name))


def required(label: str, length: int, description: str = "", autocomplete: str = "off") -> Field:
    """A text field that must be filled in."""
    checks = [InputRequired(), Length(max=length)]
    return StringField(label, checks, description=description, render_kw={"autocomplete": autocomplete})


def when(name: str) -> Callable[[Any, Any], Any]:
    """A formatter for a column of microseconds since the epoch."""

    def formatted(row: Any, _name: Any) -> Any:
        at_us = getattr(row, name)
        if not at_us:
            return ABSENT
        return Markup('<time datetime="{}" data-mode="minute">{}</time>').format(iso(at_us), utc(at_us, "minute"))

    return formatted


def badge(text: str, kind: str = "") -> Markup:
    """A word on a pill."""
    return Markup('<span class="badge {}">{}</span>').format(kind, text)


def now_us() -> int:
    """Microseconds since the epoch."""
    return time_ns() // 1000
