"""Ten times the turns do not make a month's report ten times as slow: it reads sums, not turns."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from turntrace.jobs.spending import summarise
from turntrace.pipeline.price import Pricer
from turntrace.records.filter import TraceFilter
from turntrace.records.rollup import RollupFact
from turntrace.storage import rollups
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs
from turntrace.storage.rollups import DAY_US, Rollup

DAYS = 30
START = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
MONTH = TraceFilter(from_us=START, to_us=START + DAYS * DAY_US)
TURNS = 1_500
ROUNDS = 7


def _add(database: Database, turns: int, seed: int) -> None:
    """Sums of turns of the same few users, models and features, in one minute of each day: all keys come in early."""
    dice, rollup = random.Random(seed), Rollup()
    for _ in range(turns):
        shared: dict[str, Any] = {
            "at_us": START + dice.randrange(DAYS) * DAY_US,
            "feature": f"feature-{dice.randrange(2)}",
            "user_id": f"user-{dice.randrange(5)}",
            "session_id": f"session-{dice.randrange(5)}",
            "route": f"/{dice.randrange(2)}",
        }
        rollup.add(RollupFact(**shared, turns=1, duration_us=dice.randrange(10**6)))
        model = f"model-{dice.randrange(2)}"
        rollup.add(RollupFact(**shared, calls=1, model=model, provider="p", input_tokens=100, cost_total_nano=7))
    with database.write() as connection:
        rollup.append(connection)
    while rollups.compact(database):
        pass


def _report(database: Database) -> None:
    with database.read() as connection:
        summarise(connection, Pricer(), MONTH, group="feature", now_us=START + DAYS * DAY_US)
        costs(connection, group_by=("model",), interval="day", filter=MONTH)


def _seconds(work: Callable[[], None]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)
def test_a_months_report_hardly_grows_with_its_turns(database: Database) -> None:
    _add(database, TURNS, 1)
    few = _seconds(lambda: _report(database))
    _add(database, 9 * TURNS, 2)
    many = _seconds(lambda: _report(database))
    # 1.3 is aimed at for 10,000 and 100,000 turns on an idle machine; turned into rows, this would be ten.
    assert many < 3 * few
