"""`/repricings`: what history would cost at the prices of now, and the order to change it."""

import time as clock
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api import parameter
from turntrace.api.answer import money, time
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.parameter import read_time
from turntrace.api.problem import bad_body, bad_parameter
from turntrace.api.schema import Schema, boolean, free, integer, listing, moment, nullable, record, text
from turntrace.jobs import reprice, repricing
from turntrace.jobs.reprice import Span
from turntrace.jobs.repricing import Order
from turntrace.storage import audit
from turntrace.storage.reprice import Change

# Calls that a preview looks at before it stops.
LOOKED_AT: Final = 20_000
_CHANGE: Final = {
    "model": text(),
    "calls": integer(),
    "changed": integer(),
    "before": text(),
    "after": text(),
    "unpriced_before": integer(),
    "unpriced_after": integer(),
}
PREVIEW: Final = record(
    {
        "models": listing(record(_CHANGE)),
        "known_by_sums_alone": listing(free("an estimate: sampled out, or past retention")),
        "is_whole": boolean("false: it stopped after 20,000 calls"),
    }
)
ORDER: Final = record(
    {
        "from": moment(),
        "to": moment(),
        "model": nullable(text()),
        "status": text(enum=[repricing.WAITING, repricing.DONE]),
        "asked_at": moment(),
        "finished_at": nullable(moment()),
        "looked_at": integer(),
        "changed": integer(),
    }
)
BODY: Final[Schema] = record(
    {
        "from": text("midnight UTC of the first day", format="date-time"),
        "to": text("midnight UTC after the last day", format="date-time"),
        "model": text("only calls of this model", maxLength=200),
    },
    required=("from", "to"),
)


async def _preview(call: Call) -> Answer:
    values = call.values
    for name in ("from", "to"):
        if name not in values:
            raise bad_parameter(name, f"`{name}` is missing: name whole days (UTC).")
    span = Span(from_us=values["from"], to_us=values["to"], model=values.get("model"))
    pricer = await call.read(call.context.pricer)
    report = await call.run(reprice.preview, call.context.database, pricer, span, most=LOOKED_AT)
    return Answer(
        {
            "models": [_change(model, change) for model, change in sorted(report.models.items())],
            "known_by_sums_alone": [_change(model, change) for model, change in sorted(report.rest.items())],
            "is_whole": report.is_whole,
        }
    )


def _change(model: str, change: Change) -> dict[str, Any]:
    return {
        "model": model,
        "calls": change.calls,
        "changed": change.changed,
        "before": money(change.before_nano),
        "after": money(change.after_nano),
        "unpriced_before": change.unpriced_before,
        "unpriced_after": change.unpriced_after,
    }


async def _ask(call: Call) -> Answer:
    body = await call.body()
    span = Span(from_us=_time(body, "from"), to_us=_time(body, "to"), model=body.get("model"))
    actor = f"key {call.principal.name}" if call.principal else "api"
    order = await call.run(call.context.database.transact, _store, span, actor)
    return Answer(_shape(order), 202)


def _time(body: Mapping[str, Any], name: str) -> int:
    try:
        return read_time(body[name])
    except ValueError as error:
        raise bad_body(f"$.{name}", f"$.{name}: {error}.") from None


def _store(c: Connection, span: Span, actor: str) -> Order:
    now_us = clock.time_ns() // 1000
    order = repricing.ask(c, span, author=actor, now_us=now_us)
    audit.append(c, actor=actor, action="reprice.ask", target=span.model, now_us=now_us)
    return order


async def _last(call: Call) -> Answer:
    order = await call.read(repricing.last)
    return Answer({"data": [] if order is None else [_shape(order)], "next_cursor": None})


def _shape(order: Order) -> dict[str, Any]:
    return {
        "from": time(order.span.from_us),
        "to": time(order.span.to_us),
        "model": order.span.model,
        "status": order.status,
        "asked_at": time(order.asked_at_us),
        "finished_at": None if order.finished_at_us is None else time(order.finished_at_us),
        "looked_at": order.looked_at,
        "changed": order.changed,
    }


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/repricings/preview",
        name="previewRepricing",
        summary="What re-pricing whole days (UTC) would change; nothing is changed",
        handle=_preview,
        parameters=(
            parameter.time("from", "midnight UTC of the first day"),
            parameter.time("to", "midnight UTC after the last day"),
            parameter.text("model", "only calls of this model"),
        ),
        answers={200: ("by model", PREVIEW)},
    ),
    Endpoint(
        method="POST",
        path="/repricings",
        name="askRepricing",
        summary="Have whole days (UTC) priced anew; the worker begins within 10 seconds",
        handle=_ask,
        scopes=("admin",),
        body=BODY,
        answers={202: ("noted", ORDER)},
    ),
    Endpoint(
        method="GET",
        path="/repricings",
        name="listRepricings",
        summary="The latest order, and how far it is",
        handle=_last,
        answers={200: ("the latest", record({"data": listing(ORDER), "next_cursor": nullable(text())}))},
    ),
)
