"""Column types alike on SQLite, PostgreSQL and MariaDB, and how tables of ours are made.

No floats (single precision on MariaDB), no text without a length or an explicit `Text`. Text compares byte by byte on
MariaDB (binary collation), so ids that differ in case are different there too.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Constraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from turntrace.storage.seal import Sealed

PREFIX: Final = "turntrace_"
metadata: Final = MetaData()  # ours, apart from the host's

# InnoDB's default character set and collation are the server's: state ours. Rows of both dialect names.
_OPTIONS: Final[dict[str, Any]] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

Kind = TypeEngine[Any] | type[TypeEngine[Any]]

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


def column(name: str, kind: Kind, **options: Any) -> Column[Any]:
    """A NOT NULL column."""
    return Column(name, kind, nullable=False, **options)


def optional(name: str, kind: Kind) -> Column[Any]:
    """A nullable column."""
    return Column(name, kind, nullable=True)


def index(name: str, *columns: str, unique: bool = False, only: str | None = None) -> Index:
    """An index named `ix_turntrace_<name>`; `only`: of these rows, where the database knows such indexes."""
    rows = text(only) if only is not None else None
    return Index(f"ix_{PREFIX}{name}", *columns, unique=unique, postgresql_where=rows, sqlite_where=rows)


def table(
    name: str, *parts: Column[Any] | Constraint | Index, rowid: bool = True, within: MetaData = metadata
) -> Table:
    """The table `turntrace_<name>`; `rowid`: whether SQLite gives its rows a number besides their key."""
    return Table(PREFIX + name, within, *parts, sqlite_with_rowid=rowid, **_OPTIONS)
