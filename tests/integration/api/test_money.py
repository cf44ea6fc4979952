"""Budgets, price lists and re-pricing over the API."""

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.integration.api.conftest import client_of, context_of, make_key
from tests.integration.turns import store, turn
from turntrace import api
from turntrace.api.budgets import BUDGET
from turntrace.api.components import COMPONENTS
from turntrace.api.repricing import ORDER, PREVIEW
from turntrace.api.schema import check
from turntrace.jobs import repricing
from turntrace.pipeline.price import Pricer
from turntrace.records.budget import starts_at_us
from turntrace.settings import Settings
from turntrace.storage import budgets, prices
from turntrace.storage.budgets import Change
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs

pytestmark = pytest.mark.anyio

DAILY = {"name": "Daily", "scope": "user", "period": "day", "limit": "1.50", "action": "refuse"}
PRICE = {
    "provider": "*",
    "model": "gpt-4o-mini",
    "effective_from": "2026-11-01T00:00:00Z",
    "rates_per_mtok": {"input_mtok": "2", "output_mtok": "4"},
}


async def test_a_budget_is_made_read_changed_and_removed(small: Database) -> None:
    async with client_of(small, **make_key(small, "admin")) as client:
        made = (await client.post("/budgets", json=DAILY)).json()
        check(made, BUDGET, COMPONENTS)
        change = Change(
            budget_id=made["id"],
            value="anna",
            period_at_us=starts_at_us("day", time.time_ns() // 1000),
            spend=250_000_000,
            calls=3,
        )
        small.transact(budgets.exchange, [change], now_us=1)
        (found,) = (await client.get("/budgets")).json()["data"]
        check(found, BUDGET, COMPONENTS)
        assert (found["limit"], found["accounts"][0]["spent"]) == ("1.5", "0.25")
        changed = await client.post("/budgets", json={**DAILY, "id": made["id"], "limit": "2", "is_enabled": False})
        assert (changed.status_code, changed.json()["limit"]) == (200, "2")
        assert (await client.delete(f"/budgets/{made['id']}")).status_code == 200
        assert (await client.delete(f"/budgets/{made['id']}")).status_code == 404
        assert (await client.post("/budgets", json={**DAILY, "id": "nothing"})).status_code == 404


@pytest.mark.parametrize(
    "change", [{"limit": "-1"}, {"limit": 1}, {"scope": "planet"}, {"name": ""}, {"downgrade_to": "x"}, {"more": 1}]
)
async def test_a_wrong_budget_is_refused(small: Database, change: dict[str, Any]) -> None:
    async with client_of(small, **make_key(small, "admin")) as client:
        assert (await client.post("/budgets", json={**DAILY, **change})).status_code == 400


async def test_changing_budgets_and_history_needs_an_admins_key(client: httpx.AsyncClient) -> None:
    span = {"from": "2026-11-20", "to": "2026-11-21"}
    assert (await client.post("/budgets", json=DAILY)).status_code == 403
    assert (await client.post("/repricings", json=span)).status_code == 403
    assert (await client.get("/budgets")).status_code == 200


async def test_price_lists_come_in_whole_or_not_at_all(client: httpx.AsyncClient) -> None:
    refused = await client.post("/prices/import", json={"data": [PRICE, {**PRICE, "model": ""}]})
    assert refused.status_code == 400
    assert "line" in refused.json()["detail"]
    assert (await client.get("/prices")).json()["data"] == []
    answer = await client.post("/prices/import", json={"data": [PRICE]})
    assert answer.json() == {"stored": 1, "replaced": 0}
    assert (await client.post("/prices/import", json={"data": [PRICE]})).json() == {"stored": 0, "replaced": 1}
    exported = (await client.get("/prices/export")).json()
    assert exported["data"] == [PRICE]
    models = (await client.get("/prices/export", params={"shape": "langfuse"})).json()
    assert models["data"][0]["modelName"] == "gpt-4o-mini"
    assert (await client.post("/prices/import", json={"data": models["data"]})).json()["replaced"] == 1


async def test_history_is_previewed_then_ordered_then_changed_by_the_worker(small: Database) -> None:
    made = turn(cost_nano=700)
    steps = tuple(
        replace(step, cost=replace(step.cost, price_version="test")) if step.cost else step
        for step in made.observations
    )
    store(small, replace(made, observations=steps))

    def pricer(connection: Any) -> Pricer:
        return Pricer(prices.list_prices(connection))

    span = {"from": "2026-11-20", "to": "2026-11-21"}
    async with client_of(small, **make_key(small, "admin")) as client:
        assert (await client.get("/repricings/preview", params={"from": "2026-11-20"})).status_code == 400
        half = {"from": "2026-11-20T10:00:00Z", "to": "2026-11-21"}
        assert (await client.get("/repricings/preview", params=half)).status_code == 400
        preview = (await client.get("/repricings/preview", params=span)).json()
        check(preview, PREVIEW, COMPONENTS)
        assert preview["models"][0]["before"] == "0.0000007"
        assert not repricing.is_asked(small)
        await client.post("/prices/import", json={"data": [PRICE]})
        asked = await client.post("/repricings", json=span)
        assert asked.status_code == 202
        check(asked.json(), ORDER, COMPONENTS)
        assert (await client.post("/repricings", json=span)).status_code == 400
        assert repricing.is_asked(small)
        assert repricing.run(small, open_pricer=pricer)["changed"] == 1
        (done,) = (await client.get("/repricings")).json()["data"]
    assert (done["status"], done["changed"]) == ("done", 1)
    assert repricing.run(small, open_pricer=pricer)["changed"] == 0
    with small.read() as connection:
        assert costs(connection)[0].cost_total_nano == 100 * 2000 + 20 * 4000


async def test_costs_by_a_column_of_the_hosts(small: Database) -> None:
    store(small, turn(user_id="1", cost_nano=5), turn(user_id="9", cost_nano=7))
    with small.write() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER, plan VARCHAR(20))"))
        connection.execute(text("INSERT INTO account VALUES (1, 'pro')"))
    settings = Settings(dimensions=("plan=account.id.plan@user",))
    app = api.build(replace(context_of(small), settings=settings))
    transport = httpx.ASGITransport(app)
    headers = make_key(small, "read")
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
        rows = (await client.get("/costs/plan")).json()["data"]
        assert [(row["plan"], row["cost"]) for row in rows] == [(None, "0.000000007"), ("pro", "0.000000005")]
        assert (await client.get("/costs/size")).status_code == 404
