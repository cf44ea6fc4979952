"""Bringing a database to this release: Alembic on the shipped `migrations`, one process at a time.

Only our own blank SQLite file is ever created without being asked; a host's database is migrated by command.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, String, column, inspect, select, table, text
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from turntrace.errors import SchemaOutOfDate, SchemaTooNew, TurntraceError
from turntrace.storage import residence
from turntrace.storage.database import Database
from turntrace.storage.deadline import patient
from turntrace.storage.tables import PREFIX, VERSION_TABLE
from turntrace.storage.tables.residence import STORE_METADATA

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0012"  # the newest revision; a test compares it with the scripts
_LOCK_NAME: Final = "turntrace_migrate"
_LOCK_NUMBER: Final = 0x7475726E74726163  # "turntrac": PostgreSQL's advisory locks are numbers
_LOCK_SECONDS: Final = 120
_VERSION: Final = table(VERSION_TABLE, column("version_num", String))


def upgrade(database: Database, revision: str = "head") -> str | None:
    """Migrate up and return the revision reached, the stores of `content_urls` before the database that points there.

    Processes that start together wait for each other.

    Raises:
        SchemaTooNew: the database was made by a newer release. DatabaseUnavailable: it is away, or a store.
    """
    make_stores(database)
    return _upgrade(database, revision)


def _upgrade(database: Database, revision: str = "head") -> str | None:
    from alembic import command  # 0.7 s: not paid by processes that only check

    with _known_revision(), _alone(database) as connection:
        _refuse_newer(_current(connection))
        command.upgrade(_config(connection), revision)
        return _current(connection)


def downgrade(database: Database, revision: str) -> str | None:
    """Migrate down and return the revision reached; `base` drops every table of ours, in stores too, and returns None.

    Raises:
        TurntraceError: stores of `content_urls` hold content that the older revision would know nothing of.
    """
    from alembic import command  # as above

    with _known_revision(), _alone(database) as connection:
        _refuse_newer(_current(connection))
        config = _config(connection)
        config.attributes["is_dropping_all"] = revision == "base"
        command.downgrade(config, revision)
        found = _current(connection)
        if found is None and inspect(connection).has_table(VERSION_TABLE):
            connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    for store in database.stores.values() if found is None else ():
        residence.drop_table(store)
    return found


def make_stores(database: Database, *, only_own: bool = False) -> None:
    """Make the table of every store of `content_urls` where it is not there.

    Args:
        only_own: only in SQLite files of our own.

    Raises:
        DatabaseUnavailable: a store is away.
    """
    for store in database.stores.values():
        if not only_own or (store.dialect == "sqlite" and not store.is_guest):
            residence.make_table(store)


def current(database: Database) -> str | None:
    """The revision of the database; None where there are no tables of ours."""
    with database.read() as connection:
        return _current(connection)


def check(database: Database) -> None:
    """Nothing when the schema is of this release.

    Raises:
        SchemaOutOfDate, SchemaTooNew, DatabaseUnavailable: otherwise.
    """
    found = current(database)
    _refuse_newer(found)
    if found is None:
        raise SchemaOutOfDate(f"{database.name} has no Turntrace tables: run `turntrace db upgrade`")
    if found != HEAD:
        raise SchemaOutOfDate(f"the schema of {database.name} is {found}, not {HEAD}: run `turntrace db upgrade`")


def sql(database: Database, revision: str = "head") -> str:
    """The SQL that `upgrade` of a blank database would run; as comments, what it would run in stores."""
    from alembic import command  # as above

    output = io.StringIO()
    config = _config(None, output_buffer=output)
    config.attributes["dialect"] = database.url.get_backend_name()
    with _known_revision():
        command.upgrade(config, revision, sql=True)
    return output.getvalue() + "".join(_store_sql(name, store) for name, store in sorted(database.stores.items()))


def _store_sql(name: str, store: Database) -> str:
    """Comments: whoever feeds the text to the main database makes no table of a store there."""
    made: list[DDLElement] = []
    for each in STORE_METADATA.sorted_tables:
        made += (CreateTable(each), *map(CreateIndex, each.indexes))
    text = "\n".join(f"{str(part.compile(store.engine)).strip()};" for part in made)
    return "".join(f"-- {line}\n" for line in ("", f"In the database of content_urls for {name}:", *text.splitlines()))


def ensure_schema(database: Database) -> None:
    """Create the tables in blank SQLite files of our own, or in memory; otherwise only `check`.

    Raises:
        SchemaOutOfDate, SchemaTooNew, DatabaseUnavailable: the tables cannot be used.
    """
    make_stores(database, only_own=True)
    if database.dialect == "sqlite" and not database.is_guest and current(database) is None:
        _upgrade(database)
        return
    check(database)


def ignore_turntrace_tables(
    item: Any, name: str | None, kind: str, is_reflected: bool = False, compare_to: Any = None
) -> bool:
    """`include_object` for the host's Alembic `env.py`: its autogenerate then leaves our tables alone."""
    return not is_ours(item, name, kind)


def is_ours(item: Any, name: str | None, kind: str, is_reflected: bool = False, compare_to: Any = None) -> bool:
    """Whether a table, or what belongs to one, is Turntrace's."""
    owner = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return owner is not None and owner.startswith(PREFIX)


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > HEAD:
        raise SchemaTooNew(f"the schema is {found}, this release knows {HEAD}: upgrade the turntrace package")


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    return found


def _home() -> Path:
    """The migrations: inside the package in a wheel, at the root of a checkout."""
    package = Path(__file__).parent.parent
    for home in (package / "migrations", package.parent.parent / "migrations"):
        if (home / "env.py").exists():
            return home
    raise TurntraceError("the migrations are missing from this installation: install turntrace again")


def _config(connection: Connection | None, **options: Any) -> "Config":
    from alembic.config import Config  # as above

    config = Config(**options)
    config.set_main_option("script_location", str(_home()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _known_revision() -> Iterator[None]:
    """What Alembic says of a revision that there is not, or not in that direction, as an error of ours."""
    from alembic.util import CommandError  # as above

    try:
        yield
    except CommandError as error:
        raise TurntraceError(" ".join(str(error).split())) from None


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """A write transaction in which no other process migrates."""
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            with patient(connection):
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
                yield connection
        elif database.dialect == "mariadb":
            with patient(connection), _named_lock(connection):
                yield connection
        else:
            yield connection  # BEGIN IMMEDIATE is the lock


@contextmanager
def _named_lock(connection: Connection) -> Iterator[None]:
    """MariaDB commits at every DDL statement: only a lock of the session outlives that."""
    arguments = {"name": _LOCK_NAME, "seconds": _LOCK_SECONDS}
    # Waits in the server for as long as another process migrates.
    if not connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), arguments).scalar():
        raise TurntraceError("another process is migrating this database: try again later")
    try:
        yield
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK_NAME})
