"""The database as a guest: lazy, forkable, brief in other people's files, and silent about secrets."""

import os
import sqlite3
import threading
import time
import traceback
from pathlib import Path

import pytest
import stored as s
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from turntrace.errors import DatabaseUnavailable, DriverMissing, SchemaOutOfDate, SettingsError
from turntrace.settings import Secret
from turntrace.storage import address, migrate, tables
from turntrace.storage.database import Database


def _put(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(tables.setting.insert().values(name=name, value="1", updated_at_us=1))


def _names(database: Database) -> list[str]:
    return sorted(row["name"] for row in s.rows(database, "setting"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+psycopg://u:***@h/d?sslmode=require"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
        ("sqlite+aiosqlite:///x.db", "sqlite:///x.db"),
        ("sqlite+pysqlite:///x.db", "sqlite:///x.db"),
        ("mysql+aiomysql://h/d", "mysql+pymysql://h/d"),
        ("mysql+asyncmy://h/d", "mysql+pymysql://h/d"),
        ("mariadb://h/d", "mariadb+pymysql://h/d"),
    ],
)
def test_a_hosts_url_gets_the_sync_driver_that_matches(given: str, expected: str) -> None:
    assert str(address.sync_url(given)) == expected


@pytest.mark.parametrize("given", ["oracle://h/d", "not a url", "mssql+pyodbc://h/d"])
def test_an_unusable_url_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(SettingsError, match="database_url") as caught:
        Database(given)
    assert "not a url" not in str(caught.value)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DriverMissing, match=r"turntrace\[postgres\]"):
        Database("postgresql://h/d")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:hunter2secret@127.0.0.1:1/d?sslpassword=hunter2secret",
        "mysql+pymysql://anna:hunter2secret@127.0.0.1:1/d",
    ],
)
def test_an_unreachable_database_is_one_clear_line_without_secrets(url: str) -> None:
    database = Database(Secret(url))
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/d") as caught, database.read():
        pass
    shown = f"{caught.value} {database!r} {database.name}"
    assert "hunter2secret" not in shown + "".join(traceback.format_exception_only(caught.value))


def test_missing_tables_are_an_outdated_schema(blank_database: Database) -> None:
    with pytest.raises(SchemaOutOfDate), blank_database.read() as connection:
        connection.execute(tables.trace.select())


def test_errors_of_statements_do_not_show_what_was_written(database: Database) -> None:
    _put(database, "canary-text")
    again = tables.setting.insert().values(name="canary-text", value="private-words", updated_at_us=1)
    with database.write() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(again)
    assert "private-words" not in str(caught.value)


def test_nothing_is_kept_of_a_transaction_that_fails(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(tables.setting.insert().values(name="a", value="1", updated_at_us=1))
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert _names(database) == []


def test_a_deadlock_is_run_again_and_nothing_else_is(database: Database) -> None:
    deadlocks = database.dialect != "sqlite"  # SQLite has one writer: the other waits
    for name in ("a", "b"):
        _put(database, name)
    barrier = threading.Barrier(2, timeout=10)
    attempts: list[str] = []

    def both(connection: object, first: str, second: str) -> None:
        attempts.append(first)
        t = tables.setting
        connection.execute(t.update().where(t.c.name == first).values(updated_at_us=2))  # type: ignore[attr-defined]
        if deadlocks and len(attempts) <= 2:
            barrier.wait()
        connection.execute(t.update().where(t.c.name == second).values(updated_at_us=3))  # type: ignore[attr-defined]

    threads = [threading.Thread(target=database.transact, args=(both, *pair)) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(attempts) >= 3 if deadlocks else len(attempts) == 2
    assert {row["updated_at_us"] for row in s.rows(database, "setting")} <= {2, 3}


def test_a_forked_child_opens_its_own_connections_and_leaves_the_parents_alone(database: Database) -> None:
    _put(database, "before")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _put(database, "child")
            database.close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    _put(database, "after")
    assert _names(database) == ["after", "before", "child"]


def test_the_hosts_engine_is_used_through_a_pool_of_our_own(database: Database) -> None:
    engine = create_engine(database.url)
    begun: list[int] = []
    event.listen(engine, "begin", lambda connection: begun.append(1))
    ours = Database(engine=engine)
    _put(ours, "x")
    ours.close()
    assert begun == []
    assert engine.pool.status() == engine.pool.recreate().status()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM turntrace_setting")).scalar() == 1
    engine.dispose()


def test_a_database_in_memory_is_shared_by_threads_in_turns() -> None:
    database = Database("sqlite://")
    migrate.ensure_schema(database)
    threads = [threading.Thread(target=_put, args=(database, f"n{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_names(database)) == 8
    database.close()


def test_an_in_memory_engine_of_the_host_is_shared_as_it_is() -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    database = Database(engine=engine)
    migrate.ensure_schema(database)
    _put(database, "x")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM turntrace_setting")).scalar() == 1
    database.close()
    engine.dispose()


def _host_file(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()
    return f"sqlite:///{path}"


def test_the_journal_mode_of_a_hosts_file_stays(tmp_path: Path) -> None:
    database = Database(_host_file(tmp_path / "host.db"))
    migrate.upgrade(database)
    assert database.is_guest
    s.write(database, s.end(s.trace(1)))
    with database.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "delete"
    assert database.checkpoint()
    database.close()


def test_our_own_file_is_in_write_ahead_mode_and_overwrites_what_is_deleted(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.ensure_schema(database)
    assert not database.is_guest
    with database.read() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "secure_delete")]
    assert pragmas == ["wal", 1]
    s.write(database, s.end(s.trace(1, input_preview="canary-of-anna")))
    with database.write() as connection:
        connection.execute(tables.trace.delete())
    assert database.checkpoint()
    assert b"canary-of-anna" not in (tmp_path / "turntrace.db").read_bytes()
    database.close()


def test_a_busy_reader_only_postpones_the_checkpoint(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.ensure_schema(database)
    with database.read() as reader:
        reader.execute(tables.setting.select()).all()
        _put(database, "x")
        began = time.monotonic()
        assert not database.checkpoint(tries=2)
        assert time.monotonic() - began < 1
    assert database.checkpoint()
    database.close()


def test_the_write_lock_of_a_hosts_file_is_held_briefly(tmp_path: Path) -> None:
    """A large batch is split, so that the host's own writers get in between."""
    url = _host_file(tmp_path / "host.db")
    database = Database(url)
    migrate.upgrade(database)
    s.write(database, s.end(s.trace(0)))  # caches are warm
    held: list[float] = []

    def begun(connection: object) -> None:
        held.append(-time.monotonic())

    def committed(connection: object) -> None:
        held[-1] += time.monotonic()

    event.listen(database.engine, "begin", begun)
    event.listen(database.engine, "commit", committed)
    s.write(database, *(s.end(s.trace(n)) for n in range(1, 200)))
    assert len(s.rows(database, "trace")) == 200
    spans = sorted(span for span in held if span > 0)
    assert len(spans) > 3
    assert spans[len(spans) // 2] < 0.02
    database.close()


def test_a_locked_file_is_unavailable_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turntrace.storage.database.BUSY_MILLISECONDS", 50)
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.ensure_schema(database)
    blocker = sqlite3.connect(tmp_path / "turntrace.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        _put(database, "x")
    blocker.execute("ROLLBACK")
    blocker.close()
    _put(database, "x")
    database.close()


def test_nothing_is_opened_before_first_use(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    assert list(tmp_path.iterdir()) == []
