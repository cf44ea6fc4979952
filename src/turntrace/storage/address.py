"""Database URLs: the sync driver that serves a host's URL, and what of a URL may be shown."""

import importlib.util
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from turntrace.errors import DriverMissing, SettingsError

OWN_FILE: Final = "sqlite:///turntrace.db"

_FAMILY: Final = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mariadb"}
# Drivers that can serve a family, best first: SQLAlchemy's name and the module.
_DRIVERS: Final = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb"), ("mysqlconnector", "mysql.connector")),
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb"), ("mysqlconnector", "mysql.connector")),
}
_EXTRA: Final = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
# Query arguments that only an async driver understands, and what the sync one calls them (None: drop).
_RENAMED: Final = {"asyncpg": {"ssl": "sslmode", "prepared_statement_cache_size": None, "timeout": "connect_timeout"}}


def sync_url(text: str | URL, setting: str = "database_url") -> URL:
    """The URL with a sync driver: `postgresql+asyncpg` becomes `postgresql+psycopg`, `sqlite+aiosqlite` `sqlite`.

    Args:
        setting: where it was stated, for messages.

    Raises:
        SettingsError: not a URL, or no database that we support. DriverMissing: no driver is installed.
    """
    url = _parsed(text, setting)
    family, _, driver = url.drivername.partition("+")
    if family == "sqlite":
        return url.set(drivername="sqlite")
    if family not in _FAMILY:
        raise SettingsError(f"{setting}: {family} is not supported; use sqlite, postgresql or mariadb")
    family = _FAMILY[family]
    return url.set(drivername=f"{family}+{_driver(family, driver)}", query=_query(url, driver))


def _parsed(text: str | URL, setting: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password: it is not shown.
        raise SettingsError(f"{setting}: not a SQLAlchemy URL such as postgresql://user@host/name") from None


def _driver(family: str, wanted: str) -> str:
    """The wanted driver where it is a sync one that is installed, else the best that is."""
    known = _DRIVERS[family]
    for name, module in sorted(known, key=lambda item: item[0] != wanted):
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return name
    raise DriverMissing(f"no driver for {family} is installed: pip install 'turntrace[{_EXTRA[family]}]'")


def _query(url: URL, driver: str) -> dict[str, tuple[str, ...] | str]:
    names = _RENAMED.get(driver, {})
    renamed = {names.get(name, name): value for name, value in url.query.items()}
    return {name: value for name, value in renamed.items() if name is not None}


def shown(url: URL) -> str:
    """Where the database is, without user, password and arguments: all three may hold secrets."""
    if url.drivername.startswith("sqlite"):
        return f"sqlite:///{url.database or ':memory:'}"
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or 'local'}{port}/{url.database or ''}"


def is_memory(url: URL) -> bool:
    """Whether this is SQLite in memory."""
    return url.drivername.startswith("sqlite") and url.database in (None, "", ":memory:")
