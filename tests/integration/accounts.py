"""A table of the host's, to report by its columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import text

from turntrace.records.dimension import parse
from turntrace.storage.database import Database

PLAN: Final = parse("plan=account.id.plan@user")
TIER: Final = parse("tier=account.code.tier@tag:tenant")


@contextmanager
def accounts(database: Database) -> Iterator[Database]:
    """The table for as long as the block runs; one of its keys stands there twice."""
    with database.write() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER, code VARCHAR(20), plan VARCHAR(20), tier INTEGER)"))
        for row in ("1, 'acme', 'pro', 2", "2, 'blue', 'free', 1", "3, 'cash', 'pro', 2", "3, 'cash', 'pro', 2"):
            connection.execute(text(f"INSERT INTO account VALUES ({row})"))
    yield database
    with database.write() as connection:
        connection.execute(text("DROP TABLE account"))
