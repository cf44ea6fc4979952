"""Many rows at once, the fastest way each driver has: prepared executemany, COPY, multi-row INSERT."""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Dialect, String, Table, any_, bindparam, delete, insert
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from turntrace.storage import seal

Values = tuple[Any, ...]
T = TypeVar("T")

KEYS_AT_ONCE: Final = 5000  # values of one IN list; SQLite takes 32,766


def add_to_rows(connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Add to numbers of rows: every row has what to add, in the order of `names`, and last the `id`."""
    if rows:
        connection.exec_driver_sql(_growth(connection.dialect, table, names), list(rows))


@cache
def _growth(dialect: Dialect, table: Table, names: tuple[str, ...]) -> str:
    mark = _mark(dialect)
    changes = ", ".join(f"{name} = {name} + {mark}" for name in names)
    return f"UPDATE {table.name} SET {changes} WHERE id = {mark}"  # noqa: S608 (names of ours)


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


@cache
def column_names(table: Table) -> tuple[str, ...]:
    """The columns in the order of rows; numbers that the database gives are left out."""
    return tuple(column.name for column in table.c if column is not table.autoincrement_column)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows whose values are in the order of `column_names`. Nothing is looked up, nothing replaced."""
    if not rows:
        return
    rows = _sealed(connection.dialect, table, rows)
    if connection.dialect.driver == "psycopg":
        _copy(connection, table, rows)
    else:
        _insert_filled(connection, table, rows)


def _sealed(dialect: Dialect, table: Table, rows: Sequence[Values]) -> Sequence[Values]:
    """These rows go past SQLAlchemy's types: what they would seal is sealed here."""
    cipher = seal.cipher_of(dialect)
    places = _sealed_places(table)
    if cipher is None or not cipher.is_writing or not places:
        return rows
    return [
        tuple(seal.sealed_text(dialect, value) if place in places else value for place, value in enumerate(row))
        for row in rows
    ]


@cache
def _sealed_places(table: Table) -> frozenset[int]:
    names = column_names(table)
    kinds = [table.c[name].type for name in names]
    return frozenset(place for place, kind in enumerate(kinds) if isinstance(kind, seal.Sealed) and kind.is_sealing)


def _insert_filled(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Columns that are empty in all rows are left out: half of them, and a third of the time."""
    columns = [
        (name, values)
        for name, values in zip(column_names(table), zip(*rows, strict=True), strict=True)
        if values.count(None) < len(rows)
    ]
    statement = _statement(connection.dialect, table, tuple(name for name, _ in columns))
    connection.exec_driver_sql(statement, list(zip(*(values for _, values in columns), strict=True)))


@lru_cache(maxsize=512)  # by which columns are filled: a handful per table in practice
def _statement(dialect: Dialect, table: Table, names: tuple[str, ...]) -> str:
    quoted = ", ".join(dialect.identifier_preparer.quote(name) for name in names)
    marks = ", ".join([_mark(dialect)] * len(names))
    return f"INSERT INTO {table.name} ({quoted}) VALUES ({marks})"  # noqa: S608 (names of ours)


def _copy(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    if not connection.in_transaction():
        connection.begin()  # COPY goes past SQLAlchemy, which would not see that there is something to commit
    raw: Any = connection.connection.driver_connection
    statement = f"COPY {table.name} ({', '.join(column_names(table))}) FROM STDIN"
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.dbapi.Error as error:  # type: ignore[union-attr]
        # Past SQLAlchemy: wrapped by hand, so that callers see one kind of error.
        base: Any = connection.dialect.dbapi.Error  # type: ignore[union-attr]
        raise DBAPIError.instance(
            statement, None, error, base, hide_parameters=True, connection_invalidated=raw.closed, dialect=None
        ) from error


def delete_keys(connection: Connection, table: Table, column: str, keys: Iterable[Any]) -> int:
    """Delete the rows whose `column` is one of `keys`; answers how many there were."""
    found = list(keys)
    deleted = 0
    for start in range(0, len(found), KEYS_AT_ONCE):
        part = found[start : start + KEYS_AT_ONCE]
        deleted += connection.execute(delete(table).where(among(connection, table.c[column], part))).rowcount
    return deleted


def go_by_index(connection: Connection) -> None:
    """For the rest of this transaction: PostgreSQL would scan a large table of which it has no statistics yet."""
    if connection.dialect.name == "postgresql":
        # What has no index looks expensive now: not worth a compiler.
        connection.exec_driver_sql("SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)")


def go_in_order(connection: Connection) -> None:
    """For the rest of this transaction: PostgreSQL reads the next rows along an index. By statistics older than the
    rows it takes a long stretch for a short one, and gathers and sorts all of it for each portion."""
    if connection.dialect.name == "postgresql":
        off = ", ".join(f"set_config('enable_{how}', 'off', true)" for how in ("seqscan", "bitmapscan", "sort"))
        connection.exec_driver_sql(f"SELECT {off}")


def among(connection: Connection, column: Any, keys: Iterable[Any]) -> ColumnElement[bool]:
    """`column IN (keys)`; on PostgreSQL as one array, since it parses and plans hundreds of parameters slowly."""
    found = list(keys)
    if connection.dialect.name != "postgresql":
        return cast(ColumnElement[bool], column.in_(rounded(found)))
    values = bindparam(None, found, type_=_array(column), unique=True)
    return cast(ColumnElement[bool], column == any_(values))


def rounded(keys: Iterable[T]) -> list[T]:
    """The keys of an IN list, the last one repeated up to a power of two: SQLite's driver keeps what it prepared by the
    text of the statement, and would keep one for every number of keys."""
    found = list(keys)
    return found + found[-1:] * ((1 << max(len(found) - 1, 0).bit_length()) - len(found))


def _array(column: Any) -> Any:
    """PostgreSQL's array of a column's values: with no length and no collation, so that the column's own holds."""
    return postgresql.ARRAY(String() if isinstance(column.type, String) else column.type)


def insert_missing_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """As `insert_rows`, but rows whose key is there already are passed over. For tables without sealed columns."""
    if not rows:
        return
    dialect = connection.dialect
    statement = _missing_statement(dialect, table)
    if dialect.name == "postgresql":  # one statement with an array a column: executemany is a statement a row
        connection.exec_driver_sql(statement, tuple(list(values) for values in zip(*rows, strict=True)))
    else:
        connection.exec_driver_sql(statement, list(rows))


@cache
def _missing_statement(dialect: Dialect, table: Table) -> str:
    names = column_names(table)
    quoted = ", ".join(dialect.identifier_preparer.quote(name) for name in names)
    if dialect.name == "postgresql":
        arrays = ", ".join(f"{_mark(dialect)}::{_array(table.c[name]).compile(dialect)}" for name in names)
        rows = f"SELECT * FROM unnest({arrays})"  # noqa: S608 (names of ours)
        return f"INSERT INTO {table.name} ({quoted}) {rows} ON CONFLICT DO NOTHING"
    marks = ", ".join([_mark(dialect)] * len(names))
    verb = "INSERT OR IGNORE" if dialect.name == "sqlite" else "INSERT IGNORE"
    return f"{verb} INTO {table.name} ({quoted}) VALUES ({marks})"


def upsert(dialect: str, table: Table, changes: Any) -> Any:
    """`INSERT … ON CONFLICT (primary key) DO UPDATE`, or MariaDB's form of it.

    Args:
        changes: function of the row that was to be inserted (its columns as attributes), answering what to set.
    """
    if dialect in ("mysql", "mariadb"):
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(changes(statement.inserted))
    kind: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    wanted = kind(table)
    keys = [column.name for column in table.primary_key.columns]
    return wanted.on_conflict_do_update(index_elements=keys, set_=changes(wanted.excluded))


def insert_missing(dialect: str, table: Table) -> Any:
    """INSERT that passes over rows that are there already; the result's `rowcount` says how many were not."""
    statement: Any
    if dialect in ("mysql", "mariadb"):
        statement = insert(table).prefix_with("IGNORE")
    else:
        kind: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        statement = kind(table).on_conflict_do_nothing()
    # SQLAlchemy forgets the count of an INSERT with the cursor unless told otherwise.
    return statement.execution_options(preserve_rowcount=True)
