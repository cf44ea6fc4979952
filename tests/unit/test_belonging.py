"""No table that holds something of a turn or a person can be forgotten by erasure."""

import pytest
from sqlalchemy import Table

from turntrace.storage import tables
from turntrace.storage.belonging import KEPT, TURN_TABLES, USER_TABLES

# What these hold of a person goes in another way: with the turn, as a session, as a roll-up's name, or it is emptied.
OTHERWISE = {"trace", "observation", "session", "rollup", "alert", "spending_rule"}
# Columns with another name that lead to a turn or a person, and where they are cleared.
CLEARED = {("evaluation", "judge_turn_id"), ("probe", "last_turn_id"), ("outbound", "turn_id")}


def _short(table: Table) -> str:
    return table.name.removeprefix(tables.PREFIX)


@pytest.mark.parametrize("table", tables.metadata.tables.values(), ids=_short)
def test_a_row_of_a_turn_or_person_is_reached(table: Table) -> None:
    if "turn_id" in table.c:
        assert table in TURN_TABLES or table.name in KEPT
    if "user_id" in table.c:
        assert table in USER_TABLES or _short(table) in OTHERWISE
    others = {column.name for column in table.c if column.name.endswith(("_turn_id", "_user_id"))}
    assert {(_short(table), name) for name in others} <= CLEARED


@pytest.mark.parametrize("table", TURN_TABLES, ids=_short)
def test_turns_are_found_by_an_index(table: Table) -> None:
    assert "turn_id" in _leading(table)


@pytest.mark.parametrize("table", USER_TABLES, ids=_short)
def test_people_are_found_by_an_index(table: Table) -> None:
    assert "user_id" in _leading(table)


def _leading(table: Table) -> set[str]:
    keys = [list(index.columns) for index in table.indexes] + [list(table.primary_key.columns)]
    return {columns[0].name for columns in keys if columns}
