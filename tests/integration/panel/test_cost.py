"""The Cost page: its figures, and that every number leads to the turns behind it."""

import csv
import html
import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.visitor import Visitor
from tests.integration.turns import facts_of, turn
from turntrace.panel.narrowing import narrowing
from turntrace.panel.wording import money
from turntrace.records.batch import Batch, Worked
from turntrace.records.filter import TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import PromptLink
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost
from turntrace.storage import migrate, scores
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import list_traces

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


def test_others_are_people_too(tmp_path: Path) -> None:
    made = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    recent = time.time_ns() // 1000 - 3_600_000_000
    _store(made, turn(started_at_us=recent, cost_nano=1_000_000_000, user_id="u-1"))
    _store(made, turn(started_at_us=recent, cost_nano=1_000_000_000, user_id=None))
    with TestClient(mounted(context_of(made)), follow_redirects=False) as client:
        page = Visitor(client).log_in("admin").get("/cost?group_by=user")
    made.close()
    assert "u-1" in page.text
    assert "others" not in page.text


def test_an_empty_period_says_so(visitor: Visitor, tmp_path: Path) -> None:
    assert "Nothing was spent in this period" in visitor.get("/cost?from=2020-01-01&to=2020-01-02").text


ROW = re.compile(
    r'<tr><td class="key-cell"><a class="row-link" href="/llm-admin/(traces\?[^"]*)">.*?'
    r'data-label="(?:Requests|Calls|Steps)" class="right"><a href="[^"]*">([\d,]+)</a>.*?'
    r'data-label="Cost" class="right nowrap">([^<]*)',
)
SHOWN = ("model", "provider", "feature", "user", "session", "route", "release", "experiment", "prompt", "environment")


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Turns with two calls of several models, over three days, whose values differ in every group."""
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('varied') / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    now_us = time.time_ns() // 1000
    for number in range(40):
        trace = turn(
            started_at_us=now_us - (number + 1) * 2 * 3_600_000_000,
            cost_nano=10_000_000 * (number + 1),
            model=f"model-{number % 3}",
            feature=f"feature {number % 4}&x=1",
            user_id=f"user-{number % 5}",
            session_id=f"session-{number % 6}",
            route=f"/route/{number % 2}",
            release=f"1.{number % 3}",
            experiment=f"e{number % 2}",
            environment="production" if number % 3 else "staging",
            tags=(f"tenant:t{number % 3}",),
        )
        of_prompt = PromptLink(name="support", version=number % 2 + 1)
        steps = tuple(replace(step, prompt=of_prompt) if step.model else step for step in trace.observations)
        _store(made, replace(trace, observations=steps))
    yield made
    made.close()


@pytest.mark.parametrize("group", [*SHOWN, "tag:tenant", "step"])
@pytest.mark.parametrize("period", ["range=24h", "range=7d"])
def test_the_turns_behind_a_number_add_up_to_it(varied: Database, group: str, period: str) -> None:
    with TestClient(mounted(context_of(varied, rollup_tags=("tenant",))), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get(f"/cost?group_by={group}&{period}").text
    rows = ROW.findall(page)
    assert len(rows) >= 1
    for link, number, cost in rows:
        query = dict(parse_qsl(html.unescape(link).partition("?")[2]))
        wanted = narrowing(query, now_us=time.time_ns() // 1000).filter
        with varied.read() as connection:
            found = list_traces(connection, wanted, limit=1000).items
        assert len(found) == int(number.replace(",", "")), (link, number)
        spent = sum(each.cost_total_nano or 0 for each in found)
        # Steps that are no calls cost nothing, their turns do.
        assert money(spent) == cost.strip() or "retrieval" in link, (link, cost)


def test_where_the_time_and_the_money_of_a_turn_go(varied: Database) -> None:
    with TestClient(mounted(context_of(varied)), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get("/cost?range=7d").text
    (section,) = re.findall(r'aria-label="Steps">.*?</section>', page, re.DOTALL)
    cells = re.findall(
        r'data-label="(Times|A turn|Time itself|Share of time)" class="right(?: nowrap)?">([^<]*)', section
    )
    # of 800 ms a turn the call takes 700; the retrieval's 20 ms are its own, since the call goes on after it
    assert cells[:4] == [("Times", "40"), ("A turn", "1.00"), ("Time itself", "700 ms"), ("Share of time", "88 %")]
    assert cells[4:6] == [("Times", "40"), ("A turn", "1.00")]


def test_the_cost_of_a_successful_turn_counts_turns_and_sessions_that_a_score_calls_so(varied: Database) -> None:
    with varied.read() as connection:
        turns = list_traces(connection, limit=1000).items
    total = sum(each.cost_total_nano or 0 for each in turns)
    (in_session,) = (each for each in turns if each.cost_total_nano == 10_000_000)  # of session-0, as six others
    (alone,) = (each for each in turns if each.cost_total_nano == 20_000_000)
    (refused,) = (each for each in turns if each.cost_total_nano == 30_000_000)
    now_us = time.time_ns() // 1000
    common = {"name": "resolved", "data_type": "boolean", "source": "user", "created_at_us": now_us}
    with varied.write() as connection:
        for number, fields in enumerate(
            [
                {"turn_id": alone.id, "value": True},
                {"turn_id": in_session.id, "value": True},  # its session has succeeded: not twice
                {"turn_id": refused.id, "value": False},
                {"session_id": "session-0", "value": True},
            ]
        ):
            scores.upsert(connection, Score(id=f"score-{number}", **common, **fields), now_us=now_us)
    context = context_of(varied, success_score="resolved=true")
    with TestClient(mounted(context), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get("/cost?range=7d").text
    (tile,) = re.findall(r'<span class="label">Per successful turn</span>.*?</a>', page)
    assert "8 with resolved=true" in tile
    assert money(total // 8) in tile


def test_pages_link_into_the_hosts_own_admin(varied: Database) -> None:
    links = ("Shop@user=https://shop.example/admin/users/{value}?from=llm", "tag:tenant=/tenants/{value}")
    with varied.read() as connection:
        found = list_traces(connection, limit=1).items[0]
    for identify, is_linked in (("plain", True), ("hash", False)):
        context = context_of(varied, host_links=links, identify=identify)
        with TestClient(mounted(context), follow_redirects=False) as client:
            page = Visitor(client).log_in("viewer").get(f"/traces/{found.id}").text
        expected = f'href="https://shop.example/admin/users/{found.user_id}?from=llm" rel="noreferrer"'
        assert (expected in page) is is_linked
        assert f'href="/tenants/{found.tags[0].partition(":")[2]}"' in page


TILE = re.compile(
    r'<a class="tile" href="/llm-admin/([a-z]+)\?([^"]*)"><span class="label">([^<]*)</span>'
    r'<span class="value">([^<]*)</span><span class="sub">([^<]*)<'
)
MOVER = re.compile(
    r'<tr><td class="key-cell"><a class="row-link" href="/llm-admin/traces\?([^"]*)">[^<]*</a></td>'
    r'<td data-label="Before" class="right nowrap">(.*?)</td><td data-label="Now" class="right nowrap">([^<]*)</td>'
)


def _turns(database: Database, query: str) -> list[Trace]:
    """What the list of turns shows under an address that stands in a page."""
    wanted = narrowing(dict(parse_qsl(html.unescape(query))), now_us=time.time_ns() // 1000).filter
    with database.read() as connection:
        return list(list_traces(connection, wanted, limit=1000).items)


@pytest.mark.parametrize("query", ["range=24h", "range=7d", "range=7d&environment=staging"])
def test_the_tiles_lead_to_what_they_count(varied: Database, query: str) -> None:
    with TestClient(mounted(context_of(varied)), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get(f"/cost?{query}").text
    tiles = {label: (to, link, value, sub) for to, link, label, value, sub in TILE.findall(page)}
    assert len(tiles) == 8
    turns = _turns(varied, tiles["Spent"][1])
    assert 1 < len(turns) <= 40
    spent = sum(each.cost_total_nano or 0 for each in turns)
    given = sum(each.usage.input_tokens for each in turns if each.usage)
    cached = sum(each.usage.cache_read_tokens for each in turns if each.usage)
    assert tiles["Spent"][2] == money(spent)
    assert (tiles["Per request"][2], tiles["Per request"][3].split(",")[0]) == (
        money(spent // len(turns)),
        f"{len(turns)} requests",
    )
    assert tiles["Per successful request"][3] == f"{len(_turns(varied, tiles['Per successful request'][1]))} failed"
    assert tiles["Cache hit rate"][2] == f"{100 * cached / given:.0f} %"
    for label in ("Per request", "Cache hit rate", "Output per input token"):
        assert [each.id for each in _turns(varied, tiles[label][1])] == [each.id for each in turns], label


def test_the_forecast_leads_to_the_turns_of_this_month(varied: Database) -> None:
    with TestClient(mounted(context_of(varied)), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get("/cost?range=24h&environment=staging").text
    (link,) = (link for _, link, label, _, _ in TILE.findall(page) if label == "This month, at this rate")
    first = datetime.now(tz=UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert dict(parse_qsl(html.unescape(link))) == {"environment": "staging", "from": f"{first:%Y-%m-%dT%H:%M}"}
    with varied.read() as connection:
        stored = list_traces(connection, TraceFilter(environment="staging"), limit=1000).items
    wanted = {each.id for each in stored if each.started_at_us >= first.timestamp() * 1_000_000}
    assert {each.id for each in _turns(varied, link)} == wanted


@pytest.mark.parametrize("query", ["range=24h", "range=7d", "range=7d&environment=staging"])
def test_the_tiles_of_people_lead_to_as_many(varied: Database, query: str) -> None:
    with TestClient(mounted(context_of(varied)), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("viewer")
        tiles = {label: (to, link, sub) for to, link, label, _, sub in TILE.findall(visitor.get(f"/cost?{query}").text)}
        for label, page, of in (("Per active user", "users", "user"), ("Per session", "sessions", "session")):
            to, link, sub = tiles[label]
            assert to == page
            listed = visitor.get(f"/{to}?{html.unescape(link)}").text
            shown = set(re.findall(rf">({of}-\d)<", listed))
            assert len(shown) == int(sub.split()[0]), label


@pytest.mark.parametrize("group", ["model", "feature", "user", "session", "route"])
def test_what_changed_leads_to_the_turns_of_now(varied: Database, group: str) -> None:
    with TestClient(mounted(context_of(varied)), follow_redirects=False) as client:
        page = Visitor(client).log_in("viewer").get(f"/cost?group_by={group}&range=24h").text
    (section,) = re.findall(r'aria-label="What changed">.*?</section>', page, re.DOTALL)
    found = MOVER.findall(section)
    assert len(found) >= 2
    for link, _, now in found:
        assert money(sum(each.cost_total_nano or 0 for each in _turns(varied, link))) == now.strip(), link
