"""Costs by a column of the host's own table, in the same database."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.accounts import PLAN, TIER, accounts
from tests.integration.turns import START_US, store, turn
from turntrace.errors import InvalidInput, SettingsError
from turntrace.records.dimension import Dimension, parse
from turntrace.records.filter import TraceFilter
from turntrace.settings import Settings
from turntrace.storage import rollups
from turntrace.storage.database import Database
from turntrace.storage.queries.hosted import costs_by
from turntrace.storage.queries.rollups import DAY_US

DAY = START_US - START_US % DAY_US


@pytest.fixture
def host(database: Database) -> Iterator[Database]:
    with accounts(database) as found:
        yield found


def _by(database: Database, dimension: Dimension, **filter: Any) -> dict[str, tuple[int | None, int]]:
    with database.read() as connection:
        rows = costs_by(connection, dimension, TraceFilter(**filter))
    return {row.keys[dimension.name]: (row.cost_total_nano, row.requests) for row in rows}


def test_costs_are_summed_by_the_hosts_column_and_no_key_counts_twice(host: Database) -> None:
    store(host, turn(user_id="1", cost_nano=5), turn(user_id="3", cost_nano=7), turn(user_id="2", cost_nano=11))
    store(host, turn(user_id="nobody", cost_nano=13), turn(user_id="1", cost_nano=1, environment="staging"))
    wanted = {"": (13, 1), "pro": (13, 3), "free": (11, 1)}
    for _ in range(2):
        assert _by(host, PLAN) == wanted
        assert _by(host, PLAN, from_us=DAY, to_us=DAY + DAY_US) == wanted
        assert _by(host, PLAN, environment="staging") == {"pro": (1, 1)}
        assert _by(host, PLAN, from_us=DAY + DAY_US) == {}
        rollups.compact(host)


def test_tags_are_looked_up_without_their_key(host: Database) -> None:
    store(host, turn(tags=("tenant:acme",), cost_nano=5), turn(tags=("tenant:blue", "x:acme"), cost_nano=7))
    assert _by(host, TIER) == {"2": (5, 1), "1": (7, 1)}


@pytest.mark.parametrize(
    "stated",
    ["plan", "plan=account.plan@user", "plan=account.id.plan", "plan=a.b.c.d.e@user", "p;=a.b.c@user", "p=a.b.c@team"],
)
def test_other_forms_are_refused(stated: str) -> None:
    with pytest.raises(SettingsError, match="dimensions"):
        Settings(dimensions=(stated,))


def test_a_table_that_is_not_there_is_said(database: Database) -> None:
    with pytest.raises(InvalidInput, match="plan: the table 'account' cannot be read"), database.read() as connection:
        costs_by(connection, PLAN, TraceFilter())


def test_a_schema_may_be_named() -> None:
    assert parse("tier=shop.client.code.tier@tag:tenant") == Dimension(
        name="tier", schema="shop", table="client", key="code", shown="tier", by="tag:tenant"
    )
