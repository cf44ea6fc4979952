"""The Cost page: its figures, and that every number leads to the turns behind it."""

import csv
import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.visitor import Visitor
from tests.integration.turns import facts_of, turn
from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost
from turntrace.storage import migrate
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database

DAY_US = 86_400_000_000
LINK = re.compile(r'href="(/llm-admin/(?:traces|users|sessions)\?[^"]*)"')


def _store(database: Database, trace: Trace, **facts: object) -> None:
    counted = tuple(replace(fact, **facts) if fact.calls else fact for fact in facts_of(trace))  # type: ignore[arg-type]
    worked = Worked(kind=FrameKind.END, trace=trace, facts=counted)
    write_batch(database, Batch(worked=(worked,)), now_us=trace.started_at_us)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('cost') / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    now_us = time.time_ns() // 1000
    recent, before = now_us - 3_600_000_000, now_us - 9 * DAY_US
    _store(made, turn(started_at_us=recent, cost_nano=3_000_000_000, feature="search", user_id="=1+1"))
    _store(made, turn(started_at_us=recent, cost_nano=1_000_000_000, user_id="u-2", session_id="s-2"))
    _store(made, turn(started_at_us=before, cost_nano=2_000_000_000))
    _store(made, turn(started_at_us=recent, cost_nano=None, model="ours"), price_version="")
    stated = turn(started_at_us=recent, cost_nano=500_000_000)
    told = Cost(input_nano=0, output_nano=500_000_000, total_nano=500_000_000, source="provider")
    steps = tuple(replace(step, cost=told, provider="openai") if step.model else step for step in stated.observations)
    _store(made, replace(stated, observations=steps), price_version="")
    _store(made, turn(started_at_us=recent, cost_nano=70_000_000, environment="turntrace-evaluation"))
    yield made
    made.close()


@pytest.fixture
def visitor(database: Database) -> Iterator[Visitor]:
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        yield Visitor(client).log_in("admin")


def test_the_figures_of_the_period(visitor: Visitor) -> None:
    page = visitor.get("/cost").text
    for shown in ("$4.50", "4 requests", "$1.12", "2 sessions", "50 %", "about $"):
        assert shown in page, shown
    assert "Evaluators spent $0.07 on judging" in page


def test_models_without_a_price_are_listed_with_their_tokens(visitor: Visitor) -> None:
    page = visitor.get("/cost").text
    (section,) = re.findall(r'aria-label="Without a price">.*?</section>', page, re.DOTALL)
    assert "1 model call is not in these sums" in section
    assert re.search(r">ours</a>.*?>1<.*?>100<.*?>50<.*?>20<", section, re.DOTALL)
    assert "New price" in section


def test_what_changed_most_stands_first(visitor: Visitor) -> None:
    page = visitor.get("/cost?group_by=feature").text
    (section,) = re.findall(r'aria-label="What changed">.*?</section>', page, re.DOTALL)
    found = re.findall(r">(search|support)</a>.*?\$[\d.]+.*?(\+\$3\.00|−\$0\.50)", section, re.DOTALL)
    assert found == [("search", "+$3.00"), ("support", "−$0.50")]


def test_what_providers_state_stands_beside_what_the_prices_say(visitor: Visitor) -> None:
    page = visitor.get("/cost").text
    (section,) = re.findall(r'aria-label="Stated by providers">.*?</section>', page, re.DOTALL)
    # 50 × $0.15 + 50 × $0.075 + 20 × $0.60, each per million
    assert "$0.50" in section
    assert "$0.0000" in section


@pytest.mark.parametrize("group", ["model", "feature", "user", "session", "route", "environment"])
def test_every_number_leads_to_its_turns(visitor: Visitor, group: str) -> None:
    page = visitor.get(f"/cost?group_by={group}&range=30d").text
    links = {link.removeprefix("/llm-admin").replace("&amp;", "&") for link in LINK.findall(page)}
    assert len(links) >= 5
    for link in links:
        answer = visitor.get(link)
        assert answer.status_code == 200, link


def test_the_table_as_csv_is_exact_and_safe_in_spreadsheets(visitor: Visitor) -> None:
    answer = visitor.get("/cost.csv?group_by=user")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"].startswith("text/csv")
    assert {row["user"]: row["cost_usd"] for row in rows} == {
        "'=1+1": "3.000000000",
        "u-1": "0.500000000",
        "u-2": "1.000000000",
    }


def test_costs_are_grouped_by_a_column_of_the_hosts(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS account (id VARCHAR(20), plan VARCHAR(20))"))
        connection.execute(text("INSERT INTO account VALUES ('u-2', '<i>pro')"))
    context = context_of(database, dimensions=("plan=account.id.plan@user", "order=nothing.id.x@user"))
    with TestClient(mounted(context), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("viewer")
        page = visitor.get("/cost?group_by=plan").text
        assert "By plan" in page
        assert "&lt;i&gt;pro" in page
        assert "<i>pro" not in page
        rows = {
            row["plan"]: row["cost_usd"]
            for row in csv.DictReader(io.StringIO(visitor.get("/cost.csv?group_by=plan").text))
        }
        assert rows == {"<i>pro": "1.000000000", "": "3.500000000"}
        assert visitor.get("/cost?group_by=order").status_code == 400


def test_an_empty_period_says_so(visitor: Visitor, tmp_path: Path) -> None:
    assert "Nothing was spent in this period" in visitor.get("/cost?from=2020-01-01&to=2020-01-02").text
