"""Progress of writers, the loss balance, leases and runs of jobs."""

from typing import Final

from sqlalchemy import String, UniqueConstraint

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    PREFIX,
    Count,
    Flag,
    Instant,
    LongText,
    Serial,
    Word,
    column,
    fixed,
    index,
    optional,
    table,
)

# How far one spool segment is stored: frames up to `through_sequence` are in.
segment: Final = table(
    "segment",
    column("id", fixed(64), primary_key=True),
    column("through_sequence", Count),
    column("updated_at_us", Instant),
)

# Turns by what became of them: `stored`, `sampled`, `erased`, and `dropped:<reason>` that the worker counted.
# Append-only deltas by reason and batch, merged by the compactor: readers sum.
loss: Final = table(
    "loss",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("reason", String(100)),
    column("n", Count),
    column("at_us", Instant),
    index("loss_reason", "reason"),
)

# Absolute counters of one capturing process, and how far its turns are accounted for. `dropped` and `faults` are JSON
# objects of counts by name.
process: Final = table(
    "process",
    column("id", fixed(64), primary_key=True),
    column("accepted", Count),
    column("turns", Count),
    column("overhead_us", Count),
    column("bytes_written", Count),
    optional("dropped", LongText),
    optional("faults", LongText),
    column("seen_at_us", Instant),
    column("is_dead", Flag),
    column("read_through", Count),  # turns, counted from its first one, that are stored or counted as lost
    column("lost_after", Count),  # the last that were lost because what held them was gone: those after this one
    column("lost_through", Count),  # and through this one
    index("process_seen", "seen_at_us"),
)

# Who may do a thing that one only does, until when by the database's clock. `epoch` grows with every owner.
lease: Final = table(
    "lease",
    column("name", fixed(64), primary_key=True),
    column("owner", fixed(128)),
    column("epoch", Count),
    column("expires_at_us", Instant),
)

# One run of a job in one slot of time: unique, so that a stalled leader cannot run it twice.
job_run: Final = table(
    "job_run",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("job", fixed(64)),
    column("slot_at_us", Instant),
    column("owner", fixed(128)),
    column("epoch", Count),
    column("status", Word),  # running, done, failed
    column("started_at_us", Instant),
    optional("finished_at_us", Instant),
    optional("details", LongText),  # JSON: counts, error type
    UniqueConstraint("job", "slot_at_us", name=f"uq_{PREFIX}job_run_slot"),
    index("job_run_started", "started_at_us"),
)

# Values that every process polls, such as the kill switch (`enabled`).
setting: Final = table(
    "setting",
    column("name", fixed(64), primary_key=True),
    column("value", LongText),
    optional("author", String(length.NAME)),
    column("updated_at_us", Instant),
)
