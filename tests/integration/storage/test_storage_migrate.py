"""Migrations: the same tables as the code on three databases, up and down, by one process at a time."""

import threading
from typing import Any

import pytest
import stored
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, inspect, text

from turntrace.errors import SchemaOutOfDate, SchemaTooNew
from turntrace.records.rollup import RollupFact
from turntrace.storage import migrate, rollups, tables
from turntrace.storage.database import Database


def _differences(database: Database) -> list[object]:
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": tables.VERSION_TABLE, "include_object": migrate.is_ours, "compare_type": True},
        )
        return compare_metadata(context, tables.metadata)


def test_the_migrations_build_exactly_the_tables_of_the_code(database: Database) -> None:
    assert _differences(database) == []
    with database.read() as connection:
        assert set(tables.metadata.tables) | {tables.VERSION_TABLE} == set(inspect(connection).get_table_names())


def test_going_down_to_base_leaves_no_table_and_up_again_works(database: Database) -> None:
    assert migrate.downgrade(database, "base") is None
    with database.read() as connection:
        assert inspect(connection).get_table_names() == []
    assert migrate.upgrade(database) == migrate.HEAD
    assert _differences(database) == []


_DDL = ("CREATE", "ALTER", "DROP")


class _Lost(Exception):
    """The connection is lost."""


class _BreaksOff:
    """After so many changes of tables the connection is lost."""

    def __init__(self, database: Database, changes: int) -> None:
        self._engine, self.left = database.engine, changes

    def __enter__(self) -> None:
        event.listen(self._engine, "after_cursor_execute", self._count)

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "after_cursor_execute", self._count)

    def _count(self, connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith(_DDL):
            self.left -= 1
            if self.left == 0:
                raise _Lost


# Changes of tables that 0009 to 0012 make, and that going back makes.
_UP, _DOWN = 13, 11


def test_a_migration_that_broke_off_goes_on(database: Database) -> None:
    """MariaDB has committed every change that was made before."""
    migrate.downgrade(database, "0008")
    for changes in range(1, _UP + 1):
        with pytest.raises(_Lost), _BreaksOff(database, changes):
            migrate.upgrade(database)
        assert migrate.upgrade(database) == migrate.HEAD
        assert _differences(database) == []
        migrate.downgrade(database, "0008")


def test_a_way_back_that_broke_off_goes_on(database: Database) -> None:
    for changes in range(1, _DOWN + 1):
        with pytest.raises(_Lost), _BreaksOff(database, changes):
            migrate.downgrade(database, "0008")
        assert migrate.downgrade(database, "0008") == "0008"
        assert migrate.upgrade(database) == migrate.HEAD
    assert _differences(database) == []


def test_whole_days_of_people_are_summed_of_what_is_merged(database: Database) -> None:
    def append(turns: int) -> None:
        rollup = rollups.Rollup()
        for number in range(turns):
            who: dict[str, Any] = {"at_us": stored.T0, "user_id": f"u{number % 3}", "session_id": f"s{number % 5}"}
            rollup.add(RollupFact(**who, turns=1, errors=number % 2, duration_us=1000, ttft_us=10))
            rollup.add(RollupFact(**who, calls=1, model=f"m{number % 2}", errors=1, duration_us=7, cost_total_nano=5))
        with database.write() as connection:
            rollup.append(connection)

    append(20)
    rollups.compact(database)
    append(4)
    wanted = stored.summed(database)
    assert {key[2] for key in wanted if key[0] == "whole"} == {"user", "session"}
    migrate.downgrade(database, "0011")
    assert "whole" not in {key[0] for key in stored.summed(database)}
    migrate.upgrade(database)
    assert stored.summed(database) == wanted


def test_processes_that_migrate_together_wait_for_each_other(blank_database: Database) -> None:
    ends: list[str | None] = []
    threads = [threading.Thread(target=lambda: ends.append(migrate.upgrade(blank_database))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [migrate.HEAD] * 4
    with blank_database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM turntrace_fence")).scalar() == 2


def test_only_a_blank_sqlite_file_is_created_without_being_asked(blank_database: Database) -> None:
    if blank_database.dialect == "sqlite":
        migrate.ensure_schema(blank_database)
        migrate.check(blank_database)
    else:
        with pytest.raises(SchemaOutOfDate, match="turntrace db upgrade"):
            migrate.ensure_schema(blank_database)
        assert migrate.current(blank_database) is None


def test_a_file_with_tables_of_the_host_is_not_migrated_by_itself(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'host.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customer (id INTEGER)"))
    engine.dispose()
    database = Database(url)
    with pytest.raises(SchemaOutOfDate):
        migrate.ensure_schema(database)
    assert database.is_guest
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["customer"]
    database.close()


def test_a_newer_schema_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    for attempt in (migrate.check, migrate.upgrade, migrate.ensure_schema):
        with pytest.raises(SchemaTooNew):
            attempt(database)


def test_the_newest_script_is_the_one_the_code_expects() -> None:
    scripts = ScriptDirectory.from_config(migrate._config(None))
    assert scripts.get_heads() == [migrate.HEAD]


def test_the_sql_of_the_migrations_can_be_printed(blank_database: Database) -> None:
    printed = migrate.sql(blank_database)
    assert "CREATE TABLE turntrace_trace" in printed
    assert migrate.current(blank_database) is None


def test_tables_of_ours_are_left_out_of_the_hosts_autogenerate(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE customer (id INTEGER)"))
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": migrate.ignore_turntrace_tables, "version_table": "alembic_version"}
        )
        from sqlalchemy import MetaData

        found = compare_metadata(context, MetaData())
    assert [difference[1].name for difference in found] == ["customer"]
