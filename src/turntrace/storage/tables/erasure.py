"""Erasure: the fence between writers and the eraser, tombstones, receipts."""

from typing import Final

from turntrace.storage.tables.column import Instant, LongText, Word, column, fixed, index, optional, table

# One row per fence: writers hold it FOR SHARE while they read tombstones, the eraser FOR UPDATE. `digest_key` keys the
# digests of subjects in tombstones; made at random when the schema is created.
fence: Final = table(
    "fence",
    column("name", fixed(32), primary_key=True),
    column("digest_key", fixed(64)),
)

# What may not come back: a turn (`key` is its id) or a subject (`key` is a keyed digest of the user id). A subject's
# turns that started at or before `until_us` are refused; NULL refuses later ones too.
tombstone: Final = table(
    "tombstone",
    column("kind", Word, primary_key=True),  # turn, subject
    column("key", fixed(64), primary_key=True),
    optional("until_us", Instant),
    optional("erasure_id", fixed(32)),
    column("created_at_us", Instant),
    index("tombstone_erasure", "erasure_id"),
    index("tombstone_created", "created_at_us"),
)

# One erasure and its receipt, which names no user and no trace.
erasure: Final = table(
    "erasure",
    column("id", fixed(32), primary_key=True),
    column("kind", Word),  # subject, turn, session
    column("status", Word),  # pending, running, done
    optional("subject", fixed(64)),  # digest, while pending
    optional("request", LongText),  # JSON, what is to be erased; emptied when done
    optional("counts", LongText),  # JSON, rows by table
    optional("verification", LongText),  # JSON
    optional("signature", fixed(255)),
    column("created_at_us", Instant),
    optional("started_at_us", Instant),
    optional("finished_at_us", Instant),
    index("erasure_status", "status"),
    index("erasure_created", "created_at_us"),
)
