"""Content that lies in another database: what is to go there (main database), and the one table of such a database."""

from typing import Final

from sqlalchemy import Column, Index, MetaData, Table

from turntrace.storage.tables.column import (
    PREFIX,
    Blob,
    Count,
    Flag,
    Instant,
    Row,
    Small,
    TurnId,
    column,
    fixed,
    index,
    options,
    table,
)

STORE_METADATA: Final = MetaData()  # of the databases that `content_urls` names: no table of it is in the main one


class StrayRow(Row, table=True):
    """A blob in a store that no row of the content table points to.

    `is_staged`: a writer is about to write it and to point to it; else it is to be deleted there, and then this row.
    """

    __table_args__ = options(index("stray_turn", "turn_id"), index("stray_store", "is_staged", "store", "blob_id"))

    blob_id: str = column(fixed(32), primary_key=True)
    store: str = column(fixed(40))
    turn_id: str = column(TurnId)
    is_staged: bool = column(Flag)
    at_us: int = column(Instant)


stray: Final = table(StrayRow)

# Blobs never change: content that changes is a new blob, and the old one goes. So a pointer always leads to what its
# transaction meant, whatever other writers do meanwhile.
blob: Final = Table(
    PREFIX + "blob",
    STORE_METADATA,
    Column("id", fixed(32), primary_key=True),
    Column("turn_id", TurnId, nullable=False),
    Column("codec", Small, nullable=False),
    Column("key_id", fixed(8), nullable=True),
    Column("size", Count, nullable=False),
    Column("data", Blob, nullable=False),
    Index(f"ix_{PREFIX}blob_turn", "turn_id"),
    **{name: value for name, value in options()[-1].items() if name != "sqlite_with_rowid"},
)
