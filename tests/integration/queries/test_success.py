"""Turns that a score calls successful, alone or with their whole session, each of them once."""

from typing import Any

from tests.integration.turns import START_US, store, turn
from turntrace.records.filter import TraceFilter
from turntrace.records.score import Score
from turntrace.storage import scores
from turntrace.storage.database import Database
from turntrace.storage.queries.success import successes
from turntrace.storage.rollups import DAY_US

DAY = START_US - START_US % DAY_US
MONTH = TraceFilter(from_us=DAY, to_us=DAY + DAY_US)


def _say(database: Database, number: int, value: bool, **target: Any) -> None:
    score = Score(id=f"score-{number}", name="resolved", value=value, data_type="boolean", source="user", **target)
    database.transact(scores.upsert, score, now_us=START_US + 60_000_000)


def test_every_successful_turn_is_counted_once(database: Database) -> None:
    good, bad = [turn(session_id="good") for _ in range(3)], [turn(session_id="bad") for _ in range(2)]
    alone, elsewhere = turn(session_id=None), turn(session_id=None, environment="staging")
    store(database, *good, *bad, alone, elsewhere)
    for number, (target, value) in enumerate(
        [
            ({"session_id": "good"}, True),
            ({"session_id": "bad"}, False),
            ({"turn_id": good[0].id}, True),  # counted with its session
            ({"turn_id": bad[0].id}, True),
            ({"turn_id": alone.id}, True),
            ({"turn_id": elsewhere.id}, True),
        ]
    ):
        _say(database, number, value, **target)
    with database.read() as c:
        assert successes(c, MONTH, "resolved=true") == 6
        assert successes(c, TraceFilter(), "resolved=true") == 6
        assert successes(c, TraceFilter(environment="staging"), "resolved=true") == 1
        assert successes(c, MONTH, "resolved=false") == 2
        assert successes(c, MONTH, "other") == 0
