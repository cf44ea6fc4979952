"""The Budgets page: who may see and who may change, what is refused, and what is written down."""

import re
import time

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.integration.panel.visitor import Visitor
from turntrace.records.budget import Budget, starts_at_us
from turntrace.storage import audit, budgets
from turntrace.storage.budgets import Change
from turntrace.storage.database import Database

FIELDS = {"name": "Daily", "scope": "user", "period": "day", "limit": "1.50", "action": "refuse", "is_enabled": "1"}


@pytest.fixture
def operator(host: Starlette, filled: Database) -> Visitor:
    for rule in _rules(filled):
        filled.transact(budgets.remove, rule.id)
    with TestClient(host, follow_redirects=False) as client:
        return Visitor(client).log_in("operator")


def _rules(database: Database) -> tuple[Budget, ...]:
    with database.read() as connection:
        return budgets.list_rules(connection)


def test_an_operator_makes_changes_and_removes_a_budget(operator: Visitor, filled: Database) -> None:
    assert operator.post("/budgets/save", **FIELDS).status_code == 303
    (rule,) = _rules(filled)
    assert (rule.name, rule.limit_nano, rule.action) == ("Daily", 1_500_000_000, "refuse")
    page = operator.get(f"/budgets/edit?id={rule.id}").text
    assert 'value="1.5"' in page
    changed = {**FIELDS, "limit": "2", "action": "downgrade", "downgrade_to": "gpt-4o-mini", "id": rule.id}
    assert operator.post("/budgets/save", **changed).status_code == 303
    (rule,) = _rules(filled)
    assert (rule.limit_nano, rule.action, rule.downgrade_to) == (2_000_000_000, "downgrade", "gpt-4o-mini")
    assert operator.post("/budgets/remove", id=rule.id).status_code == 303
    assert _rules(filled) == ()
    with filled.read() as connection:
        entries = audit.list_entries(connection, limit=20)
    actions = [entry.action for entry in entries if entry.action.startswith("budget.")][:3]
    assert actions == ["budget.remove", "budget.save", "budget.save"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("limit", "lots", "limit: expected US dollars"),
        ("limit", "-1", "limit: expected 0 to"),
        ("limit", "NaN", "limit: expected 0 to"),
        ("name", " ", "name: expected"),
        ("scope", "planet", "scope: expected"),
        ("downgrade_to", "gpt-4o-mini", "downgrade_to"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_stored(
    operator: Visitor, filled: Database, field: str, value: str, said: str
) -> None:
    answer = operator.post("/budgets/save", **{**FIELDS, field: value})
    assert answer.status_code == 400
    assert said in answer.text
    assert _rules(filled) == ()


def test_the_fullest_accounts_lead_to_their_turns(operator: Visitor, filled: Database) -> None:
    operator.post("/budgets/save", **FIELDS)
    (rule,) = _rules(filled)
    now_us = time.time_ns() // 1000
    for value, spend in (("user-1", 100), ("<b>anna", 1_500_000_000)):
        change = Change(
            budget_id=rule.id, value=value, period_at_us=starts_at_us("day", now_us), spend=spend, calls=1, refused=2
        )
        filled.transact(budgets.exchange, [change], now_us=now_us)
    page = operator.get("/budgets").text
    assert "<b>anna" not in page
    assert "100 %" in page
    links = re.findall(r'class="row-link" href="/llm-admin(/traces[^"]*)"', page)
    assert len(links) == 2
    for link in links:
        assert operator.get(link.replace("&amp;", "&")).status_code == 200


def test_only_operators_change_budgets(anyone: Visitor, filled: Database) -> None:
    before = _rules(filled)
    assert anyone.get("/budgets").status_code == 200
    may = anyone.get("/budgets/edit").status_code == 200
    assert may == ("New budget" in anyone.get("/budgets").text)
    for path in ("/budgets/save", "/budgets/remove", "/budgets/free"):
        assert anyone.post(path, token="0" * 64, id="x").status_code == 403
        if not may:
            assert anyone.post(path, **FIELDS, id="x").status_code == 403
    assert _rules(filled) == before


def test_viewers_readers_and_annotators_may_not(host: Starlette) -> None:
    for role, expected in (("viewer", 403), ("reader", 403), ("annotator", 403), ("operator", 200), ("admin", 200)):
        with TestClient(host, follow_redirects=False) as client:
            assert Visitor(client).log_in(role).get("/budgets/edit").status_code == expected
