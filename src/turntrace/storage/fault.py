"""What a driver's error means: unreachable, to be tried again, schema missing, or the statement's own fault."""

import sqlite3
from typing import Final

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    TimeoutError,
)

# SQLSTATE of PostgreSQL: deadlock, serialization failure, lock not available.
_RETRIED_STATES: Final = frozenset({"40P01", "40001", "55P03"})
# MariaDB: lock wait timeout, deadlock, record changed since last read.
_RETRIED_CODES: Final = frozenset({1205, 1213, 1020})
_MISSING_STATES: Final = frozenset({"42P01", "42703", "3F000"})  # table, column, schema
_MISSING_CODES: Final = frozenset({1146, 1054})
_GONE_STATES: Final = ("08", "57P", "53", "58")  # connection, shutdown, resources (disk full), system
# MariaDB's own: too many connections, disk full, read-only, access denied, unknown database.
_GONE_CODES: Final = frozenset({1040, 1041, 1021, 1114, 1290, 1044, 1045, 1049, 1053, 1317, 1927, 1969})
_SQLITE_MISSING: Final = ("no such table", "no such column", "has no column named")
_SQLITE_LOCKED: Final = ("database is locked", "database table is locked", "database schema is locked")


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""


def _code(error: DBAPIError) -> int:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def is_retried(error: BaseException) -> bool:
    """A deadlock or serialization failure: the same transaction may succeed when run again."""
    if not isinstance(error, DBAPIError):
        return False
    return _state(error) in _RETRIED_STATES or _code(error) in _RETRIED_CODES


def is_schema_missing(error: BaseException) -> bool:
    """A table or column that this release expects is not there."""
    if not isinstance(error, (OperationalError, ProgrammingError)):
        return False
    if _state(error) in _MISSING_STATES or _code(error) in _MISSING_CODES:
        return True
    return any(part in str(error.orig) for part in _SQLITE_MISSING)


def is_locked(error: BaseException) -> bool:
    """SQLite: somebody else holds the write lock."""
    return isinstance(error, OperationalError) and any(part in str(error.orig) for part in _SQLITE_LOCKED)


def is_unavailable(error: BaseException) -> bool:
    """The database is away, full, read-only or refuses us: trying later may help, other data would not."""
    if isinstance(error, TimeoutError):  # of the connection pool
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or _state(error).startswith(_GONE_STATES) or _code(error) in _GONE_CODES:
        return True
    # A connection that is closed already is an error of the interface; SQLite's means a value it cannot take.
    is_closed = isinstance(error, InterfaceError) and not isinstance(error.orig, sqlite3.InterfaceError)
    return isinstance(error, OperationalError) or is_closed


def is_refusal(error: BaseException) -> bool:
    """The database refuses the statement, and not for a value in it."""
    return isinstance(error, DBAPIError) and not isinstance(error, (DataError, IntegrityError))
