"""A server that hangs is given up after a while; a migration waits as long as it takes."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, create_engine, text

from tests.acceptance.faults.proxy import DatabaseProxy, database_proxy
from turntrace.errors import DatabaseUnavailable
from turntrace.storage import database as storage
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.storage.deadline import patient


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.fixture
def proxy(blank_url: URL) -> Iterator[DatabaseProxy]:
    with database_proxy(blank_url.host or "127.0.0.1", blank_url.port or 5432) as made:
        yield made


@pytest.fixture
def database(blank_url: URL, proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(storage, "STATEMENT_SECONDS", -4)  # and five on top: one second
    made = Database(blank_url.set(host="127.0.0.1", port=proxy.port))
    monkeypatch.setattr(storage, "_begin_postgresql", lambda connection: None)
    yield made
    made.close()


def test_an_answer_that_never_comes_is_given_up(database: Database, proxy: DatabaseProxy) -> None:
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
        proxy.switch("hung")
        started = time.monotonic()
        with pytest.raises(Exception, match="no answer within 1 s"):
            connection.execute(text("SELECT 2"))
        assert 0.9 < time.monotonic() - started < 5
    proxy.switch("pass")
    with database.read() as connection:
        assert connection.execute(text("SELECT 3")).scalar() == 3


def test_a_hung_server_is_an_unavailable_database(database: Database, proxy: DatabaseProxy) -> None:
    proxy.switch("hung")
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.execute(text("SELECT 1"))


def test_whoever_has_patience_waits(database: Database) -> None:
    with database.read() as connection, patient(connection):
        assert connection.execute(text("SELECT pg_sleep(1.5)")).scalar() == ""


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_a_statement_of_a_migration_may_take_longer_than_any_other(
    blank_url: URL, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "STATEMENT_SECONDS", -4)
    monkeypatch.setattr(storage, "_begin_postgresql", lambda connection: None)
    made = Database(blank_url)
    slow = "SELECT pg_sleep(1.5)" if dialect == "postgresql" else "SELECT SLEEP(1.5)"
    with migrate._alone(made) as connection:
        assert connection.execute(text(slow)).scalar() in ("", 0)
    with pytest.raises(DatabaseUnavailable), made.read() as connection:
        connection.execute(text(slow))
    made.close()


def test_a_driver_without_a_limit_of_its_own_is_left_as_it_is() -> None:
    """As psycopg2's, whose connections take no attributes either: SQLite's are the same in this."""
    with create_engine("sqlite://").connect() as connection, patient(connection):
        assert connection.execute(text("SELECT 1")).scalar() == 1
