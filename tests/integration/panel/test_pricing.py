"""Lists of prices in and out, and history priced anew, on the panel."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.visitor import Visitor
from tests.integration.turns import store, turn
from turntrace.jobs import repricing
from turntrace.pipeline.price import Pricer
from turntrace.storage import migrate, prices
from turntrace.storage.database import Database

PRICE = {
    "provider": "*",
    "model": "gpt-4o-mini",
    "effective_from": "2020-01-01T00:00:00Z",
    "rates_per_mtok": {"input_mtok": "2", "output_mtok": "4"},
}


def _pricer(connection: Any) -> Pricer:
    return Pricer(prices.list_prices(connection))


@pytest.fixture
def database(tmp_path: Any) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    yield made
    made.close()


@pytest.fixture
def admin(database: Database) -> Iterator[Visitor]:
    context = replace(context_of(database), pricer=_pricer)
    with TestClient(mounted(context), follow_redirects=False) as client:
        yield Visitor(client).log_in("admin")


def test_a_list_comes_in_whole_or_its_bad_line_is_named(admin: Visitor, database: Database) -> None:
    wrong = json.dumps([PRICE, {**PRICE, "model": "</textarea><b>"}, {**PRICE, "model": ""}], indent=1)
    answer = admin.post("/prices/import", prices=wrong)
    assert answer.status_code == 400
    assert "line 20: model" in answer.text
    assert "</textarea><b>" not in answer.text
    assert admin.post("/prices/import", prices="[]").status_code == 400
    assert admin.post("/prices/import", prices=json.dumps([PRICE])).status_code == 303
    with database.read() as connection:
        assert [price.model for price in prices.list_prices(connection)] == ["gpt-4o-mini"]
    assert admin.get("/prices.json").json() == [PRICE]
    assert admin.get("/prices.json?shape=langfuse").json()[0]["modelName"] == "gpt-4o-mini"
    assert 'href="/llm-admin/prices"' in admin.get("/admin/price/list").text


def test_history_is_previewed_ordered_and_reported(admin: Visitor, database: Database) -> None:
    now_us = time.time_ns() // 1000
    today = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    made = turn(cost_nano=2_000_000_000, started_at_us=now_us)
    steps = tuple(
        replace(step, cost=replace(step.cost, price_version="test")) if step.cost else step
        for step in made.observations
    )
    store(database, replace(made, observations=steps))
    admin.post("/prices/import", prices=json.dumps([PRICE]))
    page = admin.get(f"/prices?from={today}&to={today}").text
    assert "$2.00" in page
    assert "$0.00028" in page
    assert not repricing.is_asked(database)
    assert admin.post("/prices/reprice", **{"from": today, "to": today, "model": ""}).status_code == 303
    assert "Being priced anew" in admin.get("/prices").text
    assert admin.post("/prices/reprice", **{"from": today, "to": today}).status_code == 400
    assert repricing.run(database, open_pricer=_pricer)["changed"] == 1
    assert "1 of 1 calls changed" in admin.get("/prices").text


@pytest.mark.parametrize("query", ["from=soon&to=2026-11-01", "from=2026-11-02&to=2026-10-01", "from=2026-11-02"])
def test_days_that_cannot_be_read_are_said(admin: Visitor, query: str) -> None:
    answer = admin.get(f"/prices?{query}")
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_only_admins_may(database: Database) -> None:
    for role in ("viewer", "reader", "annotator", "operator"):
        with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
            visitor = Visitor(client).log_in(role)
            assert [visitor.get(path).status_code for path in ("/prices", "/prices.json")] == [403, 403]
            sent = [visitor.post(path, prices="[]").status_code for path in ("/prices/import", "/prices/reprice")]
            assert sent == [403, 403]
