"""Column types alike on SQLite, PostgreSQL and MariaDB, and the registry all tables of ours live in.

No floats (single precision on MariaDB), no text without a length or an explicit `Text`. Text compares byte by byte on
MariaDB (binary collation), so ids that differ in case are different there too.
"""

import re
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import declared_attr, registry
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

from turntrace.storage.seal import Sealed

PREFIX: Final = "turntrace_"

# InnoDB's default character set and collation are the server's: state ours. Rows of both dialect names.
_OPTIONS: Final[dict[str, Any]] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

Instant: Final = BigInteger  # microseconds since the Unix epoch, UTC
Nano: Final = BigInteger  # nano-dollars
Count: Final = BigInteger
Small: Final = SmallInteger
Flag: Final = Boolean
# SQLite numbers rows only in INTEGER PRIMARY KEY columns.
Serial: Final = BigInteger().with_variant(Integer(), "sqlite")
LongText: Final = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
Content: Final = Sealed()  # texts of the host's users outside the blobs: long text, sealed where encryption is on
ContentJson: Final = Sealed(unreadable="{}")
Blob: Final = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text (ids, enumerations): compared byte by byte on PostgreSQL too, which is faster."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


TurnId: Final = fixed(32)
SpanId: Final = fixed(16)
Word: Final = fixed(24)  # values of enumerations


def column(kind: Any, *arguments: Any, **options: Any) -> Any:
    """A NOT NULL column of a SQLModel class."""
    return Field(sa_column=Column(kind, *arguments, **{"nullable": False, **options}))


def optional(kind: Any, *arguments: Any, **options: Any) -> Any:
    """A nullable column of a SQLModel class."""
    return Field(default=None, sa_column=Column(kind, *arguments, nullable=True, **options))


def options(*items: Any, rowid: bool = True) -> Any:
    """`__table_args__`: indexes and constraints, and whether SQLite gives rows a number besides their key."""
    return (*items, {**_OPTIONS, "sqlite_with_rowid": rowid})


def index(name: str, *columns: str, unique: bool = False, only: str | None = None) -> Index:
    """An index named `ix_turntrace_<name>`; `only`: of these rows, where the database knows such indexes."""
    rows = text(only) if only is not None else None
    return Index(f"ix_{PREFIX}{name}", *columns, unique=unique, postgresql_where=rows, sqlite_where=rows)


class Row(SQLModel, registry=registry()):
    """Rows of Turntrace: their own metadata, apart from the host's. `FooBarRow` lives in `turntrace_foo_bar`."""

    __table_args__ = options()

    @declared_attr.directive
    def __tablename__(cls) -> str:
        words = re.findall(r"[A-Z][a-z0-9]*", cls.__name__.removesuffix("Row"))
        return PREFIX + "_".join(words).lower()


metadata: Final = Row.metadata


def table(row: type[Row]) -> Table:
    """The Core table of a row class."""
    return metadata.tables[str(row.__tablename__)]
