"""Erasure: the fence between writers and the eraser, tombstones, receipts."""

from typing import Final

from turntrace.storage.tables.column import (
    Instant,
    LongText,
    Row,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class FenceRow(Row, table=True):
    """One row per fence: writers hold it FOR SHARE while they read tombstones, the eraser FOR UPDATE.

    `digest_key` keys the digests of subjects in tombstones; made at random when the schema is created.
    """

    name: str = column(fixed(32), primary_key=True)
    digest_key: str = column(fixed(64))


class TombstoneRow(Row, table=True):
    """What may not come back: a turn (`key` is its id) or a subject (`key` is a keyed digest of the user id).

    A subject's turns that started at or before `until_us` are refused; NULL refuses later ones too.
    """

    __table_args__ = options(index("tombstone_erasure", "erasure_id"), index("tombstone_created", "created_at_us"))

    kind: str = column(Word, primary_key=True)  # turn, subject
    key: str = column(fixed(64), primary_key=True)
    until_us: int | None = optional(Instant)
    erasure_id: str | None = optional(fixed(32))
    created_at_us: int = column(Instant)


class ErasureRow(Row, table=True):
    """One erasure and its receipt, which names no user and no trace."""

    __table_args__ = options(index("erasure_status", "status"), index("erasure_created", "created_at_us"))

    id: str = column(fixed(32), primary_key=True)
    kind: str = column(Word)  # subject, turn, session
    status: str = column(Word)  # pending, running, done
    subject: str | None = optional(fixed(64))  # digest, while pending
    request: str | None = optional(LongText)  # JSON, what is to be erased; emptied when done
    counts: str | None = optional(LongText)  # JSON, rows by table
    verification: str | None = optional(LongText)  # JSON
    signature: str | None = optional(fixed(255))
    created_at_us: int = column(Instant)
    started_at_us: int | None = optional(Instant)
    finished_at_us: int | None = optional(Instant)


fence: Final = table(FenceRow)
tombstone: Final = table(TombstoneRow)
erasure: Final = table(ErasureRow)
