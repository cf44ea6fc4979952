"""Tables are found under their own names."""

from sqlalchemy import Table

from turntrace.storage import tables


def test_each_table_is_known_by_the_name_that_it_has_in_the_database() -> None:
    known = {tables.PREFIX + name: table for name, table in vars(tables).items() if isinstance(table, Table)}
    assert known == tables.metadata.tables
