"""Content that lies in another database: what is to go there (main database), and the one table of such a database."""

from typing import Final

from sqlalchemy import MetaData

from turntrace.storage.tables.column import (
    Blob,
    Count,
    Flag,
    Instant,
    Small,
    TurnId,
    column,
    fixed,
    index,
    optional,
    table,
)

STORE_METADATA: Final = MetaData()  # of the databases that `content_urls` names: no table of it is in the main one

# A blob in a store that no row of the content table points to. `is_staged`: a writer is about to write it and to point
# to it; else it is to be deleted there, and then this row.
stray: Final = table(
    "stray",
    column("blob_id", fixed(32), primary_key=True),
    column("store", fixed(40)),
    column("turn_id", TurnId),
    column("is_staged", Flag),
    column("at_us", Instant),
    index("stray_turn", "turn_id"),
    index("stray_store", "is_staged", "store", "blob_id"),
)

# Blobs never change: content that changes is a new blob, and the old one goes. So a pointer always leads to what its
# transaction meant, whatever other writers do meanwhile.
blob: Final = table(
    "blob",
    column("id", fixed(32), primary_key=True),
    column("turn_id", TurnId),
    column("codec", Small),
    optional("key_id", fixed(8)),
    column("size", Count),
    column("data", Blob),
    index("blob_turn", "turn_id"),
    within=STORE_METADATA,
)
