"""Budgets held where a turn ends before its calls do: behind a stream's last event, and in background tasks."""

import gc
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from turntrace import Turntrace
from turntrace.guards.ledger import Ledger
from turntrace.records.budget import Budget, starts_at_us
from turntrace.storage import budgets
from turntrace.storage.database import Database

NANO = 1_000_000_000
COST = int(Decimal("0.75") * NANO)  # 1,000,000 tokens at $0.15, 1,000,000 at $0.60 per million


@pytest.fixture
def tt(database: Database, tmp_path: Any) -> Iterator[Turntrace]:
    url = database.url.render_as_string(hide_password=False)
    settings: dict[str, Any] = {"worker": "external", "secret_key": "k" * 32, "spool_dir": str(tmp_path / "spool")}
    made = Turntrace(url, budget_wait_ms=20_000, **settings)
    made.recorder.guard.reraise = True
    yield made
    made.budgets.close(30)
    made.shutdown()


def _rule(database: Database) -> Budget:
    rule = Budget(id="", name="daily", scope="user", period="day", limit_nano=100 * NANO, action="refuse")
    return database.transact(budgets.put, rule, now_us=time.time_ns() // 1000)


def _spent(database: Database, tt: Turntrace, rule: Budget) -> int:
    tt.budgets.close(30)
    with database.read() as connection:
        place = (rule.id, starts_at_us("day", time.time_ns() // 1000))
        return sum(row.spent_nano for row in budgets.list_spending(connection, [place])[rule.id])


def _call(tt: Turntrace, error: Exception | None = None) -> None:
    with tt.generation("answer", model="gpt-4o-mini", provider="openai") as call:
        call.update(usage={"input_tokens": 1_000_000, "output_tokens": 1_000_000})
    if error is not None:
        raise error


def test_a_call_in_a_background_task_is_charged_what_it_cost(database: Database, tt: Turntrace) -> None:
    rule = _rule(database)
    with tt.turn("ask", user_id="anna") as turn:
        assert turn is not None
        turn.finish()  # the answer is complete
        with tt.budget(estimate_usd="9"):
            _call(tt)
        with pytest.raises(OSError, match="gone"), tt.budget(estimate_usd="9"):
            _call(tt, OSError("gone"))
    assert _spent(database, tt, rule) == 2 * COST


@pytest.mark.parametrize("is_left", [True, False])
def test_a_stream_whose_reader_leaves_at_its_last_event_is_charged(
    database: Database, tt: Turntrace, is_left: bool
) -> None:
    rule = _rule(database)

    def stream() -> Iterator[str]:
        with tt.budget(estimate_usd="9"):
            _call(tt)
            yield "[DONE]"

    with tt.turn("ask", user_id="anna") as turn:
        assert turn is not None
        _call(tt)  # none of the hold's
        steps: Any = stream()
        assert next(steps) == "[DONE]"
        turn.finish()  # the client has all of it
        if is_left:
            steps.close()
        else:
            assert list(steps) == []
    assert _spent(database, tt, rule) == COST


def test_of_holds_in_and_beside_each_other_every_call_is_charged_once(database: Database, tt: Turntrace) -> None:
    rule = _rule(database)
    with tt.turn("ask", user_id="anna") as turn:
        assert turn is not None
        outer, beside = tt.budget(estimate_usd="9"), tt.budget(estimate_usd="9")
        with outer:
            _call(tt)
            beside.__enter__()
            with tt.budget(estimate_usd="9"):
                _call(tt)
            turn.finish()
            _call(tt)
        _call(tt)
        beside.__exit__(None, None, None)
    assert _spent(database, tt, rule) == 4 * COST


@pytest.mark.parametrize("is_call", [True, False])
def test_what_fails_before_a_call_costs_nothing_whatever_else_was_recorded(
    database: Database, tt: Turntrace, is_call: bool
) -> None:
    rule = _rule(database)

    @tt.observe(type="generation" if is_call else "retrieval")
    def answer() -> None:
        raise OSError("no route")

    with tt.turn("ask", user_id="anna"), pytest.raises(OSError, match="no route"), tt.budget(estimate_usd="9"):
        answer()
    # What a call costs that has failed is not known.
    assert _spent(database, tt, rule) == (9 * NANO if is_call else 0)


def test_nothing_of_a_turn_is_kept_for_holds_that_are_left(database: Database, tt: Turntrace) -> None:
    _rule(database)
    with tt.turn("ask", user_id="anna") as turn:
        assert turn is not None
        with tt.budget(estimate_usd="9"):
            _call(tt)
        assert turn.watched is None


def test_a_hold_that_garbage_collection_leaves_while_another_is_entered() -> None:
    ledger = Ledger()
    budget = Budget(id="b", name="daily", scope="user", period="day", limit_nano=NANO, action="refuse")
    account = ledger.open(budget, "anna", 0, None, 0.0)
    assert account is not None
    left = [50]

    class Stream:
        """Dropped in a cycle, and followed by another: whenever objects are made, one is cleared away."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            ledger.settle([(account, 0)], 1)
            if left[0]:
                left[0] -= 1
                Stream()

    def work() -> None:
        gc.disable()
        Stream()
        gc.set_threshold(1, 1, 1)
        gc.enable()
        for _ in range(20):
            ledger.reserve([(account, 1)], 0.0, is_forced=True)
            told = ledger.changes(0.0)
            spent.append(sum(one.told.spend for one in told if one.told is not None))

    spent: list[int] = []
    thresholds, thread = gc.get_threshold(), threading.Thread(target=work, daemon=True)
    try:
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*thresholds)
        settled = 50 - left[0]
        left[0] = 0
        gc.collect()
    assert settled > 0
    assert sum(spent) + account.used in (settled + 1, settled + 2)
