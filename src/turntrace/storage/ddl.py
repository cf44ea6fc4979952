"""Changes of tables that can be run again: each does only what is still to be done. For migrations.

MariaDB commits every one of them by itself, and a connection may be lost between two: a migration that broke off must
go on where it was. (Migrations printed as SQL know no database: everything is still to be done.)
"""

from typing import Any

from alembic import context, op
from sqlalchemy import Column, Inspector, inspect
from sqlalchemy.schema import SchemaItem


def create_table(name: str, *items: SchemaItem, **options: Any) -> None:
    """Create a table where there is none of this name."""
    if not has_table(name, otherwise=False):
        op.create_table(name, *items, **options)


def drop_table(name: str) -> None:
    """Drop a table where it is there."""
    if has_table(name, otherwise=True):
        op.drop_table(name)


def create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    """Create an index where its table has none of this name."""
    if not _has_index(table, name, otherwise=False):
        op.create_index(name, table, columns, **options)


def drop_index(name: str, table: str) -> None:
    """Drop an index where it is there."""
    if _has_index(table, name, otherwise=True):
        op.drop_index(name, table)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column where its table has none of this name."""
    if not has_column(table, column.name, otherwise=False):
        op.add_column(table, column)


def drop_column(table: str, name: str) -> None:
    """Drop a column where it is there."""
    if has_column(table, name, otherwise=True):
        op.drop_column(table, name)


def has_table(name: str, *, otherwise: bool) -> bool:
    """Whether there is such a table; `otherwise` where nobody knows."""
    there = _there()
    return otherwise if there is None else there.has_table(name)


def has_column(table: str, name: str, *, otherwise: bool) -> bool:
    """Whether a table has a column of this name; `otherwise` where nobody knows."""
    there = _there()
    return otherwise if there is None else any(each["name"] == name for each in there.get_columns(table))


def _has_index(table: str, name: str, *, otherwise: bool) -> bool:
    there = _there()
    return otherwise if there is None else any(each["name"] == name for each in there.get_indexes(table))


def _there() -> Inspector | None:
    return None if context.is_offline_mode() else inspect(op.get_bind())
