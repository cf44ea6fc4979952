"""The documented SQL views: the same on three databases, exact in money, and without text of the host's users."""

from decimal import Decimal
from typing import Any

from sqlalchemy import text

from tests.integration.turns import START_US, failed, store, turn
from turntrace.storage import rollups
from turntrace.storage.database import Database
from turntrace.storage.queries.rollups import DAY_US, HOUR_US

VIEWS = ("turns", "calls", "scores", "costs", "user_costs")


def _rows(database: Database, view: str) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM turntrace_v_{view}")).mappings()]


def _dollars(value: Any) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.000000001"))


def test_turns_and_calls_carry_exact_money_and_the_names_to_join_by(database: Database) -> None:
    store(database, turn(cost_nano=123_456_789, user_id="u-7", feature="search"))
    (row,) = _rows(database, "turns")
    assert (row["user_id"], row["feature"], row["cost_total_nano"]) == ("u-7", "search", 123_456_789)
    assert _dollars(row["cost_total_usd"]) == Decimal("0.123456789")
    (call,) = _rows(database, "calls")
    assert (call["turn_id"], call["user_id"], call["model"]) == (row["turn_id"], "u-7", "gpt-4o-mini")
    assert _dollars(call["cost_total_usd"]) == Decimal("0.123456789")


def test_instants_read_as_utc(database: Database) -> None:
    store(database, turn(started_at_us=START_US + 250_000))
    (row,) = _rows(database, "turns")
    shown = row["started_at"] if isinstance(row["started_at"], str) else row["started_at"].isoformat()
    assert shown.startswith("2026-11-20T10:00:00.25")


def test_costs_are_those_of_the_roll_ups_compacted_or_not(database: Database) -> None:
    store(database, turn(cost_nano=5), turn(cost_nano=7, user_id="u-2"), failed(cost_nano=1))
    for _ in range(2):
        costs = _rows(database, "costs")
        assert sum(int(row["cost_total_nano"]) for row in costs) == 13
        assert (sum(int(row["turns"]) for row in costs), sum(int(row["errors"]) for row in costs)) == (3, 1)
        assert {int(row["hour_at_us"]) for row in costs} == {START_US - START_US % HOUR_US}
        users = {row["user_id"]: int(row["cost_total_nano"]) for row in _rows(database, "user_costs") if row["model"]}
        assert users == {"u-1": 6, "u-2": 7}
        assert {int(row["day_at_us"]) for row in _rows(database, "user_costs")} == {START_US - START_US % DAY_US}
        rollups.compact(database)


def test_no_view_shows_text_of_the_hosts_users(database: Database) -> None:
    store(database, turn(input="kettle secret", output="vinegar secret", input_preview="kettle secret"))
    for view in VIEWS:
        assert "secret" not in repr(_rows(database, view))
