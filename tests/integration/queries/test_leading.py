"""The users and sessions that cost most: what the database ranks is what all sums would say."""

import random

import pytest

from turntrace.jobs.spending import movers
from turntrace.records.filter import Except, TraceFilter
from turntrace.records.rollup import RollupFact
from turntrace.storage import rollups
from turntrace.storage.database import Database
from turntrace.storage.queries import spending
from turntrace.storage.queries.costs import costs
from turntrace.storage.queries.leading import leading
from turntrace.storage.rollups import DAY_US, HOUR_US, Rollup

START = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z


def _fill(database: Database) -> None:
    """Eighty users over eight days, half of them compacted; some of them cost nothing, and one judge costs most."""
    dice = random.Random(7)
    for half in range(2):
        rollup = Rollup()
        for _ in range(400):
            number = dice.randrange(80)
            who = {
                "at_us": START + dice.randrange(8 * 24) * HOUR_US,
                "user_id": f"user-{number}",
                "session_id": f"session-{number % 7}",
                "environment": "judges" if number == 3 else "production",
            }
            rollup.add(RollupFact(**who, turns=1))  # type: ignore[arg-type]
            if number % 5:
                spent = dice.randrange(10**12) * (100 if number == 3 else 1)
                rollup.add(RollupFact(**who, calls=1, model=f"m-{number % 3}", cost_total_nano=spent))  # type: ignore[arg-type]
        with database.write() as connection:
            rollup.append(connection)
        if not half:
            while rollups.compact(database):
                pass


@pytest.mark.parametrize("dimension", ["user", "session"])
@pytest.mark.parametrize("environment", [None, "production", Except("judges")])
def test_what_is_ranked_is_what_all_sums_say(
    database: Database, dimension: str, environment: str | Except | None
) -> None:
    _fill(database)
    # From a noon to a noon: the day between the periods belongs to both, since people are kept by the day.
    now = TraceFilter(from_us=START + 4 * DAY_US + 43_200_000_000, to_us=START + 8 * DAY_US, environment=environment)
    before = TraceFilter(from_us=START + DAY_US, to_us=now.from_us, environment=environment)
    with database.read() as c:
        every = costs(c, group_by=(dimension,), filter=now)
        earlier = costs(c, group_by=(dimension,), filter=before)
        found = leading(c, dimension, now, before, limit=5, moves=6)
        alone = leading(c, dimension, now, None, limit=5, moves=6)
        rows = costs(c, group_by=(dimension,), filter=now, values=found.values)
    assert len(every) > 5
    assert rows == every[:5]
    assert found.values == [row.keys[dimension] for row in rows]
    assert found.count == len(every)
    wanted = [(each.value, each.before_nano, each.now_nano) for each in movers(dimension, every, earlier)]
    assert [(each.value, each.before_nano, each.now_nano) for each in found.moved] == wanted
    assert len(wanted) >= 5
    assert (alone.values, alone.count, alone.moved) == (found.values, found.count, [])
    with database.read() as c:
        assert found.active == alone.active == spending.count_values(c, dimension, now) == len(every)


def test_nobody_leads_an_empty_period(database: Database) -> None:
    with database.read() as c:
        found = leading(c, "user", TraceFilter(from_us=START, to_us=START + DAY_US), None, limit=5, moves=6)
    assert (found.values, found.moved, found.count) == ([], [], 0)


@pytest.mark.parametrize("dimension", ["user", "session"])
def test_what_all_of_them_spent_leaves_out_turns_of_nobody(database: Database, dimension: str) -> None:
    _fill(database)
    rollup = Rollup()
    rollup.add(
        RollupFact(at_us=START + 5 * DAY_US, environment="production", calls=1, model="m", cost_total_nano=10**15)
    )
    with database.write() as connection:
        rollup.append(connection)
    period = TraceFilter(from_us=START + 4 * DAY_US + 43_200_000_000, to_us=START + 8 * DAY_US)
    sums: dict[int | None, int] = {}
    with database.read() as c:
        for row in costs(c, group_by=(dimension,), interval="day", filter=period):
            sums[row.start_at_us] = sums.get(row.start_at_us, 0) + (row.cost_total_nano or 0)
        found = costs(c, interval="day", filter=period, dimension=dimension)
    assert {row.start_at_us: row.cost_total_nano for row in found} == sums
    assert len(sums) == 4
