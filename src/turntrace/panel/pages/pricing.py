"""Lists of prices in and out, and history priced anew: for admins, beside the list of prices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.jobs import reprice, repricing
from turntrace.jobs.reprice import DAY_US, Report, Span
from turntrace.panel.gate.role import Role
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.pipeline.price_list import read_list, to_langfuse, to_own
from turntrace.records.usage import Price
from turntrace.storage import prices
from turntrace.storage.reprice import Change

# Calls that a preview looks at while somebody waits for the page.
LOOKED_AT: Final = 20_000
DONE: Final = {
    "imported": "The prices are stored. They are in force for calls from their dates on.",
    "asked": "History is being priced anew; this page says when it is done.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What re-pricing changes of one model; an estimate where only its sums are known."""

    model: str
    change: Change
    is_estimate: bool = False


def show(request: Request) -> Response:
    """`GET /prices`: with `from` and `to` (dates) also what re-pricing these days would change."""
    visit = _admin(request)
    visit.message = DONE.get(request.query_params.get("done", ""))
    values = {name: request.query_params.get(name, "").strip() for name in ("from", "to", "model")}
    report: Report | None = None
    error: str | None = None
    if values["from"] or values["to"]:
        try:
            report = _preview(visit, _span(values))
        except InvalidInput as wrong:
            error = str(wrong)
    return _page(visit, values, report, error=error, code=400 if error else 200)


def take(request: Request) -> Response:
    """`POST /prices/import`: field `prices`, the text of a list."""
    visit = _admin(request)
    text = visit.form.get("prices", "")
    try:
        found = read_list(text, now_us=visit.now_us)
        if not found:
            raise InvalidInput("there is no price in this list")
    except InvalidInput as wrong:
        return _page(visit, {}, None, text=text, refused=str(wrong), code=400)
    visit.context.database.transact(_store, visit, found)
    return visit.back_to("prices", done="imported")


def give(request: Request) -> Response:
    """`GET /prices.json`: every price, with `shape=langfuse` as Langfuse's models."""
    visit = _admin(request)
    with visit.context.database.read() as connection:
        found = prices.list_prices(connection)
    is_theirs = request.query_params.get("shape") == "langfuse"
    data = to_langfuse(found)[0] if is_theirs else to_own(found)
    headers = {"content-disposition": 'attachment; filename="prices.json"'}
    return Response(json.dumps(data, indent=2), media_type="application/json", headers=headers)


def ask(request: Request) -> Response:
    """`POST /prices/reprice`: fields `from`, `to`, `model`."""
    visit = _admin(request)
    try:
        visit.context.database.transact(_ask, visit, _span(visit.form))
    except InvalidInput as wrong:
        return _page(visit, visit.form, None, error=str(wrong), code=400)
    return visit.back_to("prices", done="asked")


def _admin(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.viewer.may(Role.ADMIN):
        raise HTTPException(403)
    return visit


def _span(values: Mapping[str, str]) -> Span:
    start, end = _day(values.get("from", "")), _day(values.get("to", ""))
    return Span(from_us=start, to_us=end + DAY_US, model=values.get("model", "").strip() or None)


def _day(text: str) -> int:
    try:
        day = datetime.combine(date.fromisoformat(text.strip()), datetime.min.time(), tzinfo=UTC)
    except ValueError:
        raise InvalidInput(f"expected a date such as 2026-11-01, got {text[:40]!r}") from None
    return (day - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _preview(visit: Visit, span: Span) -> Report:
    with visit.context.database.read() as connection:
        pricer = visit.context.pricer(connection)
    return reprice.preview(visit.context.database, pricer, span, most=LOOKED_AT)


def _page(
    visit: Visit,
    values: Mapping[str, str],
    report: Report | None,
    *,
    error: str | None = None,
    text: str = "",
    refused: str | None = None,
    code: int = 200,
) -> Response:
    with visit.context.database.read() as connection:
        order = repricing.last(connection)
    return visit.render(
        "prices.html",
        code=code,
        section="admin/price/list",
        title="Price lists and history",
        values=values,
        report=report,
        lines=[] if report is None else _lines(report),
        order=order,
        order_ends_us=order.span.to_us - DAY_US if order else 0,
        is_waiting=order is not None and order.status == repricing.WAITING,
        error=error,
        text=text,
        refused=refused,
    )


def _lines(report: Report) -> list[Line]:
    found = [Line(model=model, change=change) for model, change in sorted(report.models.items())]
    rest = sorted(report.rest.items())
    return [*found, *(Line(model=model, change=change, is_estimate=True) for model, change in rest)]


def _store(connection: Connection, visit: Visit, found: tuple[Price, ...]) -> None:
    for price in found:
        prices.add(connection, price)
    noted(connection, visit, "price.import", None, count=len(found))


def _ask(connection: Connection, visit: Visit, span: Span) -> None:
    repricing.ask(connection, span, author=visit.viewer.name, now_us=visit.now_us)
    noted(connection, visit, "reprice.ask", span.model, from_us=span.from_us, to_us=span.to_us)
