"""Prices of the operator's own, effective from a day on."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from anyio import to_thread
from markupsafe import Markup
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from wtforms import DateField, Form, StringField
from wtforms.validators import InputRequired, Optional, Regexp

from turntrace.panel.trail import noted
from turntrace.panel.views.entity import EntityView, Formatters, Labels, now_us, required, when
from turntrace.panel.views.row import PriceRow
from turntrace.panel.visit import Visit, visit_of
from turntrace.pipeline import own_price
from turntrace.records.usage import Price
from turntrace.storage import prices

RATES: Final = {
    "input_mtok": "Input",
    "output_mtok": "Output",
    "cache_read_mtok": "Input read from cache",
    "cache_write_mtok": "Input written to cache",
}
MAX_PROVIDER: Final = 60
MAX_MODEL: Final = 160
_DECIMAL: Final = Regexp(r"\d{1,9}(\.\d{1,12})?\Z", message="A number such as 0.15.")


def _rate(name: str, *validators: Any) -> StringField:
    return StringField(
        RATES[name], [*validators, _DECIMAL], description="$ per million tokens", render_kw={"inputmode": "decimal"}
    )


class PriceForm(Form):  # type: ignore[misc]  # wtforms has no types
    """A new price."""

    provider = required("Provider", MAX_PROVIDER, "As traces name it: openai, anthropic, …")
    model = required("Model", MAX_MODEL, "As traces name it.")
    effective_from = DateField("From", [InputRequired()], description="Midnight UTC.")
    input_mtok = _rate("input_mtok", InputRequired())
    output_mtok = _rate("output_mtok", Optional())
    cache_read_mtok = _rate("cache_read_mtok", Optional())
    cache_write_mtok = _rate("cache_write_mtok", Optional())


def _rates(row: Any, _name: Any) -> Any:
    rates = json.loads(row.rates)
    plain = [(RATES.get(name, name), rate) for name, rate in rates.items()]
    return Markup("<br>").join(
        Markup('{} <span class="num">${}</span>').format(label, rate if isinstance(rate, str) else json.dumps(rate))
        for label, rate in plain
    )


class PriceView(EntityView, model=PriceRow):
    """Own prices."""

    name = "Price"
    name_plural = "Prices"
    lead = "Your own prices go before the built-in table. A price counts for model calls from its day on."
    empty = "No price of your own. The built-in table covers the public list prices of more than 2,000 models."
    links: ClassVar[Sequence[tuple[str, str]]] = (("Lists and history", "prices"),)
    form = PriceForm
    column_list: ClassVar[list[str]] = ["provider", "model", "effective_from_us", "rates", "created_at_us"]
    column_details_list = column_list
    column_searchable_list: ClassVar[list[str]] = ["provider", "model"]
    column_sortable_list: ClassVar[list[str]] = ["provider", "model", "effective_from_us"]
    column_default_sort: ClassVar[list[tuple[str, bool]]] = [("provider", False), ("model", False)]
    column_labels: ClassVar[Labels] = {
        "provider": "Provider",
        "model": "Model",
        "effective_from_us": "From",
        "rates": "$ per million tokens",
        "created_at_us": "Made",
    }
    column_formatters: ClassVar[Formatters] = {
        "effective_from_us": when("effective_from_us"),
        "rates": _rates,
        "created_at_us": when("created_at_us"),
    }
    column_formatters_detail: ClassVar[Formatters] = column_formatters
    messages: ClassVar[dict[str, str]] = {
        "created": "The price is in force for calls from its day on.",
        "removed": "The price is removed. Costs computed with it stay, until their days are priced anew.",
    }

    async def insert_model(self, request: Request, data: dict[str, Any]) -> Any:
        """Store the price."""
        visit = visit_of(request)
        made = own_price.parse(_stated(data), now_us=now_us())
        await to_thread.run_sync(visit.context.database.transact, _add, visit, made)
        request.state._sqladmin_after_change_response = visit.back_to("admin/price/list", done="created")
        return made


PriceView.identity = "price"


def _stated(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "provider": data["provider"],
        "model": data["model"],
        "effective_from": f"{data['effective_from'].isoformat()}T00:00:00+00:00",
        "rates_per_mtok": {name: data[name] for name in RATES if data.get(name)},
    }


def _add(connection: Connection, visit: Visit, made: Price) -> None:
    prices.add(connection, made)
    noted(connection, visit, "price.create", made.id, provider=made.provider, model=made.model)


def remove(request: Request) -> Response:
    """`POST /admin/price/remove`: field `id`."""
    visit = visit_of(request)
    visit.context.database.transact(_remove, visit, visit.form.get("id", ""))
    return visit.back_to("admin/price/list", done="removed")


def _remove(connection: Connection, visit: Visit, price_id: str) -> None:
    if prices.remove(connection, price_id):
        noted(connection, visit, "price.remove", price_id)
