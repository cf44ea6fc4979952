"""Budgets where they met the rest: requests under way, full tables, cancelled waits, personal values."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient
from werkzeug.test import Client

from turntrace import BudgetExceeded, BudgetUnavailable, Turntrace, TurntraceMiddleware, TurntraceWSGIMiddleware
from turntrace.guards import ledger
from turntrace.guards.keeper import Keeper
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import KeyRing
from turntrace.records.budget import Budget
from turntrace.storage import budgets, tables
from turntrace.storage.database import Database

DOLLAR = 1_000_000_000
Make = Callable[..., Turntrace]
pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Iterator[Make]:
    made: list[Turntrace] = []

    def turntrace(**settings: Any) -> Turntrace:
        url = database.url.render_as_string(hide_password=False)
        given = {"worker": "external", "secret_key": "k" * 32, "spool_dir": str(tmp_path / "spool"), **settings}
        made.append(Turntrace(url, budget_wait_ms=20_000, **given))
        return made[-1]

    yield turntrace
    for each in made:
        each.budgets.close(30)
        each.shutdown()


def _rule(database: Database, **fields: Any) -> Budget:
    values = {"name": "daily", "scope": "user", "period": "day", "limit_nano": DOLLAR, "action": "refuse", **fields}
    return database.transact(budgets.put, Budget(id="", **values), now_us=time.time_ns() // 1000)


def _stored(database: Database) -> list[tuple[str, str | None]]:
    with database.read() as connection:
        rows = connection.execute(select(tables.spending.c.value, tables.spending.c.user_id))
        return sorted((row.value, row.user_id) for row in rows)


def _is_refused(tt: Turntrace) -> bool:
    try:
        with tt.budget(estimate_usd="0.6") as hold:
            hold.settle("0.6")
    except BudgetExceeded:
        return True
    return False


def _fastapi(tt: Turntrace) -> Callable[[str, str], bool]:
    app = FastAPI()

    @app.get("/chats/{chat_id}")
    def chat(chat_id: str) -> bool:
        return _is_refused(tt)

    @app.get("/other")
    async def other() -> bool:
        return _is_refused(tt)

    client = TestClient(TurntraceMiddleware(app, turntrace=tt))
    return lambda path, user: bool(client.get(path, headers={"x-user": user}).json())


def _flask(tt: Turntrace) -> Callable[[str, str], bool]:
    app = flask.Flask("budgets")

    @app.get("/chats/<chat_id>")
    def chat(chat_id: str) -> Any:
        return flask.jsonify(_is_refused(tt))

    @app.get("/other")
    def other() -> Any:
        return flask.jsonify(_is_refused(tt))

    client = Client(TurntraceWSGIMiddleware(app, turntrace=tt))
    return lambda path, user: bool(client.get(path, headers={"x-user": user}).json)


def _user(carrier: Any) -> str | None:
    if "headers" in carrier:
        return dict(carrier["headers"]).get(b"x-user", b"").decode() or None
    return carrier.get("HTTP_X_USER") or None


@pytest.mark.parametrize("serve", [_fastapi, _flask])
def test_a_budget_of_each_route_applies_in_a_handler(database: Database, make: Make, serve: Any) -> None:
    _rule(database, scope="route")
    ask = serve(make())
    assert [ask("/chats/1", ""), ask("/chats/2", ""), ask("/other", "")] == [False, True, False]


@pytest.mark.parametrize("serve", [_fastapi, _flask])
def test_a_budget_of_each_user_of_the_setting_applies_in_a_handler(database: Database, make: Make, serve: Any) -> None:
    _rule(database, scope="user")
    ask = serve(make(user_id=_user))
    assert [ask("/other", "anna"), ask("/chats/1", "anna"), ask("/other", "ben")] == [False, True, False]


def test_a_full_table_is_a_database_that_cannot_be_asked(
    database: Database, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_ACCOUNTS", 1)
    _rule(database)
    closed, opened = make(budget_failure="closed"), make(budget_failure="open")
    for tt in (closed, opened):
        with tt.budget(user_id="anna", estimate_usd="0.1"):
            pass
    with pytest.raises(BudgetUnavailable), closed.budget(user_id="ben", estimate_usd="0.1"):
        pytest.fail("it cannot be checked")
    with opened.budget(user_id="ben", estimate_usd="0.1"):
        pass
    for tt in (closed, opened):
        assert tt.recorder.guard.faults() == {"budgets.accounts": 1}


@contextmanager
def _slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    wait_for = Keeper.wait_for

    def slowly(self: Keeper, is_ready: Callable[[], bool], limit: float) -> bool:
        time.sleep(seconds)
        return wait_for(self, is_ready, limit)

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "wait_for", slowly)
        yield


def test_a_cancelled_wait_holds_nothing(database: Database, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _rule(database)
    tt = make()

    async def enter() -> None:
        async with tt.budget(user_id="anna", estimate_usd="0.6"):
            pytest.fail("it was cancelled")

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(enter(), 0.1)
        await asyncio.sleep(1.5)  # the thread comes to its end

    with _slow(monkeypatch, 0.4):
        asyncio.run(cancelled())
    accounts = list(tt.budgets.ledger._accounts.values())
    assert [(account.held, account.is_known) for account in accounts] == [(0, True)]
    with tt.budget(user_id="anna", estimate_usd="0.6") as hold:  # else refused for the rest of the day
        hold.settle("0.6")


@pytest.mark.parametrize(
    ("scope", "value", "is_hidden"),
    [
        ("tenant", "anna@example.com", True),
        ("key", "+49 151 2345678", True),
        ("route", "/users/anna%40example.com", True),
        ("tenant", "acme-2", False),
        ("tenant", "0b5e0c4e-3f1a-4c57-9a55-7c2a6f2f9d10", False),
        ("route", "/chats/{chat_id:path}/v1", False),
        ("feature", "support", False),
    ],
)
def test_a_value_that_may_be_personal_is_stored_as_a_pseudonym(
    database: Database, make: Make, scope: str, value: str, is_hidden: bool
) -> None:
    _rule(database, scope=scope)
    tt = make()
    names: dict[str, Any] = {scope: value}
    with tt.budget(**names, estimate_usd="0.1") as hold:
        hold.settle("0.1")
    tt.budgets.close(30)
    ring = KeyRing.from_settings(tt.settings, None)
    assert _stored(database) == [(stored_ids(ring, value)[1] if is_hidden else value, None)]


def test_an_account_of_nobodys_turns_is_found_by_an_erasure(database: Database, make: Make) -> None:
    _rule(database)
    tt = make(identify="none")
    with tt.budget(user_id="anna", estimate_usd="0.1") as hold:
        hold.settle("0.1")
    tt.budgets.close(30)
    ((value, user_id),) = _stored(database)
    assert user_id == value == stored_ids(KeyRing.from_settings(tt.settings, None), "anna")[1]
