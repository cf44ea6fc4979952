"""`/prices`: prices of the operator's own, which win over the bundled ones."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api import parameter, shape
from turntrace.api.components import RATE, RATE_NAMES
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.parameter import read_time
from turntrace.api.problem import bad_body
from turntrace.api.schema import Schema, free, integer, listing, nullable, record, reference, text
from turntrace.pipeline.own_price import price_id
from turntrace.pipeline.price_list import read_list, to_langfuse, to_own
from turntrace.records.usage import Price
from turntrace.storage import prices

BODY: Final[Schema] = record(
    {
        "provider": text("as observations show it", minLength=1, maxLength=60),
        "model": text("as observations show it", minLength=1, maxLength=160),
        "effective_from": text("start of validity: observations that start from then on", format="date-time"),
        "rates_per_mtok": {
            **record(dict.fromkeys(RATE_NAMES, RATE), required=()),
            "minProperties": 1,
            "description": "rates by name; a rate that is not given is not charged for",
        },
    }
)


async def _list(call: Call) -> Answer:
    found = await call.read(prices.list_prices)
    return Answer({"data": [shape.price_of(price) for price in found], "next_cursor": None})


async def _add(call: Call) -> Answer:
    price = _to_price(await call.body())
    is_new = await call.run(call.context.database.transact, _store, price)
    return Answer(shape.price_of(price), 201 if is_new else 200)


def _store(c: Connection, price: Price) -> bool:
    return prices.add(c, price)


def _to_price(body: Mapping[str, Any]) -> Price:
    try:
        starts = read_time(body["effective_from"])
    except ValueError as error:
        raise bad_body("$.effective_from", f"$.effective_from: {error}.") from None
    if not body["rates_per_mtok"]:
        raise bad_body("$.rates_per_mtok", f"Give at least one rate of {', '.join(RATE_NAMES)}.")
    _check_tiers(body["rates_per_mtok"])
    return Price(
        id=price_id(body["provider"], body["model"], starts),
        provider=body["provider"],
        model=body["model"],
        effective_from_us=starts,
        rates_per_mtok=body["rates_per_mtok"],
        created_at_us=time.time_ns() // 1000,
    )


def _check_tiers(rates: Mapping[str, Any]) -> None:
    for name, rate in rates.items():
        steps = [tier["above_tokens"] for tier in rate["tiers"]] if isinstance(rate, Mapping) else []
        if steps != sorted(set(steps)):
            raise bad_body(f"$.rates_per_mtok.{name}.tiers", "Tiers stand in ascending order of `above_tokens`.")


async def _import(call: Call) -> Answer:
    body = await call.body()
    found = read_list(json.dumps(body["data"], indent=0), now_us=time.time_ns() // 1000)
    new = await call.run(call.context.database.transact, _store_all, found)
    return Answer({"stored": new, "replaced": len(found) - new})


def _store_all(c: Connection, found: Sequence[Price]) -> int:
    return sum(prices.add(c, price) for price in found)


async def _export(call: Call) -> Answer:
    found = await call.read(prices.list_prices)
    if call.values.get("shape") == "langfuse":
        models, left_out = to_langfuse(found)
        return Answer({"data": models, "left_out": list(left_out)})
    return Answer({"data": to_own(found), "left_out": []})


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="POST",
        path="/prices/import",
        name="importPrices",
        summary="Store a list of prices, ours or Langfuse's models: all of them or none",
        handle=_import,
        scopes=("write",),
        body=record({"data": listing(free("a price, or a model as Langfuse exports it"))}),
        answers={200: ("counts", record({"stored": integer(), "replaced": integer()}))},
    ),
    Endpoint(
        method="GET",
        path="/prices/export",
        name="exportPrices",
        summary="Every price as `POST /prices/import` takes it",
        handle=_export,
        parameters=(parameter.choice("shape", "whose list it is to be", ("turntrace", "langfuse")),),
        answers={200: ("the list", record({"data": listing(free()), "left_out": listing(text("has tiers"))}))},
    ),
    Endpoint(
        method="GET",
        path="/prices",
        name="listPrices",
        summary="Prices of the operator's own",
        handle=_list,
        answers={200: ("all of them", record({"data": listing(reference("Price")), "next_cursor": nullable(text())}))},
    ),
    Endpoint(
        method="POST",
        path="/prices",
        name="putPrice",
        summary="Add a price from a moment on; the same model and moment again replaces",
        handle=_add,
        scopes=("write",),
        body=BODY,
        answers={200: ("replaced", reference("Price")), 201: ("stored", reference("Price"))},
    ),
)
