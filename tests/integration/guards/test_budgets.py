"""Budgets: what a call may spend, over threads and processes, on three databases."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from statistics import median
from typing import Any

import pytest

from tests.integration.turns import store, turn
from turntrace import BudgetExceeded, BudgetUnavailable, Turntrace
from turntrace.errors import InvalidInput, NotFound
from turntrace.guards.keeper import Breach
from turntrace.jobs.compact import compact
from turntrace.records.budget import Budget, Spending, renews_at_us, starts_at_us
from turntrace.storage import budgets
from turntrace.storage.budgets import Change, Outcome
from turntrace.storage.database import Database

NANO = 1_000_000_000
DOLLAR = 1 * NANO
SECONDS = 60.0
IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))


def _rule(database: Database, **fields: Any) -> Budget:
    values = {"name": "daily", "scope": "user", "period": "day", "limit_nano": DOLLAR, "action": "refuse", **fields}
    return database.transact(budgets.put, Budget(id="", **values), now_us=_now_us())


def _now_us() -> int:
    return time.time_ns() // 1000


def _account(database: Database, rule: Budget) -> Spending:
    with database.read() as connection:
        (found,) = budgets.list_spending(connection, [(rule.id, starts_at_us(rule.period, _now_us()))])[rule.id]
    return found


@pytest.fixture
def tt(database: Database, tmp_path: Any) -> Iterator[Turntrace]:
    made = _turntrace(database, tmp_path)
    made.recorder.guard.reraise = True
    yield made
    made.budgets.close(30)
    made.shutdown()


def _turntrace(database: Database, tmp_path: Any, **settings: Any) -> Turntrace:
    url = database.url.render_as_string(hide_password=False)
    given = {"worker": "external", "secret_key": "k" * 32, "spool_dir": str(tmp_path / "spool"), **settings}
    return Turntrace(url, budget_wait_ms=20_000, **given)


def _until(holds: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_user_is_refused_when_the_budget_is_used_up_and_told_when_it_renews(
    database: Database, tt: Turntrace
) -> None:
    rule = _rule(database)
    for _ in range(4):
        with tt.budget(user_id="anna", estimate_usd="0.25") as hold:
            hold.settle("0.25")
    with pytest.raises(BudgetExceeded) as refused, tt.budget(user_id="anna", estimate_usd="0.25"):
        pytest.fail("the fifth call must not be made")
    ends = renews_at_us("day", _now_us())
    assert refused.value.renews_at_us == ends
    assert 0 < refused.value.retry_after_seconds <= 86_400
    with tt.budget(user_id="ben", estimate_usd="0.25") as hold:
        hold.settle("0.1")
    tt.budgets.close(30)
    with database.read() as connection:
        found = budgets.list_spending(connection, [(rule.id, starts_at_us("day", _now_us()))])[rule.id]
    by_user = {row.value: (row.spent_nano, row.reserved_nano, row.calls, row.refused) for row in found}
    assert by_user == {"anna": (DOLLAR, 0, 4, 1), "ben": (DOLLAR // 10, 0, 1, 0)}


def test_a_call_that_fails_before_it_is_made_costs_nothing(database: Database, tt: Turntrace) -> None:
    rule = _rule(database)
    with pytest.raises(OSError, match="no route"), tt.budget(user_id="anna", estimate_usd="0.9"):
        raise OSError("no route")
    with tt.budget(user_id="anna", estimate_usd="0.9") as hold:
        hold.settle("0.2")
    tt.budgets.close(30)
    assert (_account(database, rule).spent_nano, _account(database, rule).calls) == (DOLLAR // 5, 1)


def test_the_cost_is_that_of_the_model_calls_recorded_inside(database: Database, tt: Turntrace) -> None:
    rule = _rule(database, scope="feature")
    with (
        tt.turn("ask", feature="support"),
        tt.budget(model="gpt-4o-mini", provider="openai", input_tokens=1000, max_output_tokens=1000),
        tt.generation("answer", model="gpt-4o-mini", provider="openai") as call,
    ):
        call.update(usage={"input_tokens": 1_000_000, "output_tokens": 100_000, "cache_read_tokens": 400_000})
    tt.budgets.close(30)
    # 600,000 at $0.15, 400,000 at $0.075, 100,000 at $0.60, each per million
    assert _account(database, rule).spent_nano == int(Decimal("0.18") * NANO)


def test_a_new_budget_counts_what_the_period_has_cost_so_far(database: Database, tt: Turntrace) -> None:
    store(database, turn(started_at_us=starts_at_us("day", _now_us()), user_id="anna", cost_nano=DOLLAR))
    _rule(database)
    with pytest.raises(BudgetExceeded), tt.budget(user_id="anna", estimate_usd="0.01"):
        pytest.fail("the budget was used up before it was made")


def test_a_budget_over_its_limit_downgrades_observes_and_alerts_once(database: Database, tt: Turntrace) -> None:
    _rule(database, name="cheaper", scope="application", action="downgrade", limit_nano=DOLLAR // 10)
    _rule(database, name="watched", scope="route", value="/chat", action="alert", limit_nano=DOLLAR // 10)
    told: list[Breach] = []
    tt.budgets.on_breach(told.append)
    tt.budgets.downgrade(lambda model, budget: f"{model}-mini")
    with tt.budget(model="gpt-4o", route="/chat", estimate_usd="0.2") as hold:
        assert (hold.model, hold.is_over) == ("gpt-4o", True) or hold.model == "gpt-4o-mini"
        hold.settle("0.2")
    _until(lambda: len(told) == 2)
    with tt.budget(model="gpt-4o", route="/chat", estimate_usd="0") as hold:
        assert (hold.model, hold.is_over) == ("gpt-4o-mini", True)
        hold.settle("0.2")
    tt.budgets.close(30)
    assert sorted(breach.budget.name for breach in told) == ["cheaper", "watched"]
    assert all(breach.spent_nano == DOLLAR // 5 for breach in told)


def test_tags_of_the_turn_name_tenant_and_key(database: Database, tt: Turntrace) -> None:
    _rule(database, name="acme", scope="tenant", value="acme", limit_nano=0)
    _rule(database, name="one key", scope="key", value="front", limit_nano=0)
    with tt.turn("ask") as current:
        with tt.budget(estimate_usd="0.01"):
            pass
        current.update(tags=["tenant:acme"])
        with pytest.raises(BudgetExceeded, match="acme"), tt.budget(estimate_usd="0.01"):
            pytest.fail("acme has no money")
    with pytest.raises(BudgetExceeded, match="one key"), tt.budget(key="front", estimate_usd="0.01"):
        pytest.fail("front has no money")


@pytest.mark.anyio
async def test_async_code_waits_without_blocking(database: Database, tt: Turntrace) -> None:
    _rule(database, limit_nano=DOLLAR // 10)
    async with tt.budget(user_id="anna", estimate_usd="0.1") as hold:
        hold.settle("0.1")
    with pytest.raises(BudgetExceeded):
        async with tt.budget(user_id="anna", estimate_usd="0.1"):
            pytest.fail("it is used up")


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mariadb"] if IS_LONG else ["postgresql"], indirect=True)
@pytest.mark.parametrize(("estimate", "cost"), [("0.02", "0.02"), ("0.004", "0.012")])
def test_sixty_four_calls_at_once_in_four_processes_keep_to_one_dollar(
    database: Database, tmp_path: Any, estimate: str, cost: str
) -> None:
    rule = _rule(database)
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.integration.guards.spender", url, "16", estimate, cost]
    environment = {**os.environ, "TURNTRACE_SPOOL_DIR": str(tmp_path / "spool")}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) for _ in range(4)
    ]
    answers = [process.communicate(timeout=150) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, answers
    spent = sum(int(out) for out, _ in answers)
    # Stated: what calls cost beyond their reservations, the 64 under way and those that 4 processes hold money for.
    beyond = int((Decimal(cost) - Decimal(estimate)) * NANO)
    granted = int(DOLLAR / 32 / float(Decimal(estimate) * NANO)) + 1
    assert spent <= DOLLAR + beyond * (64 + 4 * granted)
    assert spent >= DOLLAR * 0.7
    account = _account(database, rule)
    assert (account.spent_nano, account.reserved_nano) == (spent, 0)
    assert account.refused == 64


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_check_is_a_look_into_memory(database: Database, tt: Turntrace) -> None:
    _rule(database, limit_nano=10_000 * DOLLAR)
    took: list[float] = []
    for _ in range(3000):
        hold = tt.budget(user_id="anna", estimate_usd="0.001")
        began = time.perf_counter()
        hold.__enter__()
        took.append(time.perf_counter() - began)
        hold.settle("0.001")
        hold.__exit__(None, None, None)
    # 50 µs on an idle machine (`benchmarks/budget.py`); here others use the processors, too.
    assert median(took) < 0.000_5


def test_what_becomes_of_calls_while_the_database_is_away(tmp_path: Any) -> None:
    missing = f"sqlite:///{tmp_path / 'nowhere' / 'file.db'}"
    common: dict[str, Any] = {"worker": "external", "secret_key": "k" * 32, "spool_dir": str(tmp_path / "spool")}
    opened = Turntrace(missing, budget_failure="open", budget_wait_ms=200, **common)
    with opened.budget(user_id="anna", estimate_usd="5"):
        pass
    closed = Turntrace(missing, budget_failure="closed", budget_wait_ms=200, **common)
    with pytest.raises(BudgetUnavailable), closed.budget(user_id="anna"):
        pytest.fail("it cannot be checked")
    for each in (opened, closed):
        assert each.budgets.close(30)
        assert each.recorder.guard.faults() == {}


def test_an_idle_process_gives_back_what_it_holds(database: Database, tt: Turntrace) -> None:
    rule = _rule(database)
    with tt.budget(user_id="anna", estimate_usd="0.5") as hold:
        hold.settle("0.1")
    _until(lambda: _account(database, rule).reserved_nano == 0)
    assert _account(database, rule).spent_nano == DOLLAR // 10


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_what_a_killed_process_held_comes_back_and_a_living_one_keeps_it(database: Database, tmp_path: Any) -> None:
    _rule(database)
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.integration.guards.holder", url, "2", "0.9"]
    environment = {**os.environ, "TURNTRACE_SPOOL_DIR": str(tmp_path / "spool")}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    tt = _turntrace(database, tmp_path / "mine", budget_lease_seconds=2)
    ends = time.monotonic() + 3.0  # longer than the lease: the call is under way, and its process prolongs it
    while time.monotonic() < ends:
        with pytest.raises(BudgetExceeded), tt.budget(user_id="anna", estimate_usd="0.9"):
            pytest.fail("another process holds it")
        time.sleep(0.2)
    process.kill()
    process.communicate(timeout=30)

    def is_free() -> bool:
        try:
            with tt.budget(user_id="anna", estimate_usd="0.9") as hold:
                hold.settle("0.9")
        except BudgetExceeded:
            return False
        return True

    _until(is_free)
    assert tt.budgets.close(30)
    tt.shutdown()


def test_a_grant_whose_lease_ran_out_is_anothers_and_cannot_be_given_back_twice(database: Database) -> None:
    rule = _rule(database)

    def ask(holder: str, **fields: Any) -> Outcome:
        at_us = starts_at_us("day", _now_us())
        change = Change(budget_id=rule.id, value="anna", period_at_us=at_us, holder=holder, **fields)
        (outcome,) = database.transact(budgets.exchange, [change], now_us=_now_us())
        return outcome

    assert ask("dead", need=DOLLAR, wish=DOLLAR, lease_us=-1).held == DOLLAR
    heir = ask("heir", need=DOLLAR, wish=DOLLAR)
    assert (heir.granted, heir.reserved) == (DOLLAR, DOLLAR)
    # It was not dead after all: what it spent counts, what it held is not its own any more.
    back = ask("dead", spend=7, release=DOLLAR, calls=1)
    assert (back.held, back.granted, back.spent, back.reserved) == (0, 0, 7, DOLLAR)
    assert ask("heir", release=DOLLAR).reserved == 0


def test_grants_never_exceed_the_limit_whoever_asks(database: Database) -> None:
    rule = _rule(database)
    granted: list[int] = []

    def ask(each: int) -> None:
        for _ in range(10):
            change = Change(
                budget_id=rule.id, value="anna", period_at_us=starts_at_us("day", _now_us()), need=each, wish=3 * each
            )
            (outcome,) = database.transact(budgets.exchange, [change], now_us=_now_us())
            granted.append(outcome.granted)

    threads = [threading.Thread(target=ask, args=(DOLLAR // 50 + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == _account(database, rule).reserved_nano
    assert DOLLAR * 0.9 < sum(granted) <= DOLLAR


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "planet"}, "scope"),
        ({"period": "week"}, "period"),
        ({"action": "explode"}, "action"),
        ({"limit_nano": -1}, "limit"),
        ({"name": " "}, "name"),
        ({"scope": "application", "value": "x"}, "value"),
        ({"downgrade_to": "gpt-4o-mini"}, "downgrade_to"),
    ],
)
def test_an_unusable_budget_is_refused(database: Database, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        _rule(database, **fields)
    assert refused.value.field == field


def test_rules_can_be_changed_and_removed_with_their_counters(database: Database, tt: Turntrace) -> None:
    rule = _rule(database)
    with tt.budget(user_id="anna", estimate_usd="0.5") as hold:
        hold.settle("0.5")
    tt.budgets.close(30)
    with pytest.raises(InvalidInput, match="named"):
        _rule(database)
    with database.read() as connection:
        assert budgets.get(connection, rule.id) == rule
    assert database.transact(budgets.remove, rule.id)
    with database.read() as connection, pytest.raises(NotFound):
        budgets.get(connection, rule.id)
    with database.read() as connection:
        assert budgets.list_spending(connection, [(rule.id, starts_at_us("day", _now_us()))]) == {rule.id: []}


def test_counters_of_past_periods_are_forgotten_and_those_in_force_stay(database: Database) -> None:
    rule = _rule(database)
    now_us = _now_us()
    for age_days in (0, 40, 90):
        at_us = starts_at_us("day", now_us - age_days * 86_400_000_000)
        change = Change(budget_id=rule.id, value="anna", period_at_us=at_us, spend=1, calls=1)
        database.transact(budgets.exchange, [change], now_us=now_us)
    assert compact(database)["budgets"] == 1
    assert _account(database, rule).spent_nano == 1
